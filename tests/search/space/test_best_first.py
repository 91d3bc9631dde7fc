import itertools

import numpy as np
import pytest

from analogmed.search.space.best_first import best_first_networks
from analogmed.search.space.space import Space

SPACES = {
    "2d": Space(depths=(1, 2), blocks=("identity", "A", "B"), widths=(2, 4), kernels=(3, 5)),
    "both places": Space(
        depths=(1, 2), blocks=("A", "B"), widths=(2,), kernels=(3,), places=("analog", "digital")
    ),
    "classification": Space(
        purpose="classification", depths=(2,), blocks=("identity", "B"), widths=(2,), growths=(1, 2)
    ),
}


def _matters(genotype, space):
    """Genes of a network that something depends on, by the definition of the space."""
    names = ["depth", "width", *(["growth"] if genotype.depth > 1 else [])]
    for number, level in enumerate(genotype.levels[: genotype.depth]):
        names.append(f"block_{number}")
        if level.block == "B":
            names.append(f"kernel_{number}")
        if level.block != "identity":
            names.append(f"down_{number}")
            if number + 1 < genotype.depth and space.purpose == "segmentation":
                names.append(f"up_{number}")
    return names


@pytest.mark.parametrize("name", SPACES)
def test_networks_come_in_the_order_of_all_sums(name):
    space, generator = SPACES[name], np.random.default_rng(4)
    scores = {
        (gene, option): generator.random()
        for gene, options in space.genes.items()
        for option in options
    }
    best = {
        gene: max(scores[gene, option] for option in options)
        for gene, options in space.genes.items()
    }
    losses = {}
    for values in itertools.product(*space.genes.values()):
        genes = dict(zip(space.genes, values, strict=True))
        genotype = space.decode(genes)
        loss = sum(best[gene] - scores[gene, genes[gene]] for gene in _matters(genotype, space))
        losses[genotype] = min(loss, losses.get(genotype, np.inf))
    found = list(best_first_networks(space, space.genes, scores))
    assert len(found) == len(set(found)) and set(found) == set(losses)
    np.testing.assert_allclose([losses[one] for one in found], sorted(losses.values()), atol=1e-12)


def test_options_that_are_left_out_are_in_no_network():
    space = SPACES["2d"]
    options = dict(space.genes) | {"block_0": ("A",), "depth": (2,)}
    found = list(
        best_first_networks(space, options, {("block_1", "B"): 1.0, ("block_1", "A"): 0.5})
    )
    assert {one.levels[0].block for one in found} == {"A"} and {one.depth for one in found} == {2}
    # A gene's options without a score are indifferent: identity is as good as the best.
    assert {one.levels[1].block for one in found[:3]} <= {"identity", "B"}


def test_the_first_networks_of_a_large_space_come_at_once():
    space = Space()
    assert space.size > 10**7
    scores = {("depth", depth): float(depth) for depth in space.depths}
    first = list(itertools.islice(best_first_networks(space, space.genes, scores), 5))
    assert [one.depth for one in first] == [5] * 5 and len(set(first)) == 5
