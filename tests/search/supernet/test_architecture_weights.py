from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from analogmed.search.space.space import Space
from analogmed.search.supernet.architecture_weights import ArchitectureWeights
from analogmed.search.supernet.latency import Latencies
from analogmed.search.supernet.path_sampling import ReducedSpace

SPACE = Space(depths=(2,), blocks=("A", "B", "C"), widths=(4,), growths=(1,), kernels=(3,))
CHOICES = ReducedSpace.of(SPACE)
LATENCIES = Latencies(
    {(level, name): float(2**place) for level in (0, 1) for place, name in enumerate("ABC")}
)


def weighted(*logits):
    architecture = ArchitectureWeights(SPACE)
    with torch.no_grad():
        architecture.levels[0].copy_(torch.tensor(logits))
    return architecture


def test_operations_are_drawn_as_likely_as_their_softmax_says():
    architecture, generator = weighted(1.0, 0.0, -1.0), np.random.default_rng(0)
    drawn = Counter(architecture.draw(CHOICES, generator)[0].levels[0].block for _ in range(2000))
    likely = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64).softmax(0)
    found = [drawn[name] for name in "ABC"]
    assert chisquare(found, (2000 * likely).tolist()).pvalue > 0.001


def test_gates_are_one_and_have_the_gradient_of_the_drawn_entry():
    architecture = weighted(0.5, 0.2, -0.1)
    genotype, gates = architecture.draw(CHOICES, np.random.default_rng(4))
    assert [gate.item() for gate in gates] == [1.0, 1.0]
    gates[0].backward()
    place = "ABC".index(genotype.levels[0].block)
    gradient = architecture.levels[0].grad
    assert gradient[place] > 0
    assert gradient.sum() == pytest.approx(0, abs=1e-6)  # a softmax adds up to 1
    assert architecture.levels[1].grad is None


def test_the_expected_latency_is_the_mean_over_operations():
    architecture = weighted(0.0, 0.0, 0.0)
    assert architecture.expected_share(CHOICES, LATENCIES).item() == pytest.approx(
        2 * (1 + 2 + 4) / 3 / 8
    )
    left = CHOICES.without(0, "C")
    expected = ((1 + 2) / 2 + (1 + 2 + 4) / 3) / 8
    assert architecture.expected_share(left, LATENCIES).item() == pytest.approx(expected)


def test_going_down_the_expected_latency_makes_fast_operations_likely():
    architecture = weighted(0.0, 0.0, 3.0)
    optimizer = torch.optim.SGD(architecture.parameters(), lr=2.0)
    for _ in range(100):
        optimizer.zero_grad()
        architecture.expected_share(CHOICES, LATENCIES).backward()
        optimizer.step()
    for level in architecture.levels:
        assert int(level.argmax()) == 0


def test_what_was_pruned_is_not_drawn():
    architecture, left = weighted(0.0, 0.0, 9.0), CHOICES.without(0, "C")
    generator = np.random.default_rng(0)
    assert all(architecture.draw(left, generator)[0] in left for _ in range(20))
