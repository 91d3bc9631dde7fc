import gc
import weakref

import numpy as np
import pandas as pd
import pytest
import torch

from analogmed.foundation.errors import ConfigError, CoverageError
from analogmed.search.space.space import Space
from analogmed.search.supernet.importance import block_importance, mean_of_level
from analogmed.search.supernet.latency import Latencies
from analogmed.search.supernet.network import Supernet
from analogmed.search.supernet.operations import networks_with, operation_scores
from analogmed.search.supernet.similarity import operation_cosines

SPACE = Space(depths=(1, 2, 3), blocks=("identity", "A", "B", "F"), widths=(2, 4), kernels=(3,))
SECONDS = {
    (level, block): 1e-3 * seconds
    for level in range(3)
    for block, seconds in {"identity": 0.0, "A": 1.0, "B": 2.0, "F": 4.0}.items()
    if (level, block) != (0, "identity")
}


class HandMade:
    """A task whose scores are given, with weights drawn from a normal distribution."""

    def __init__(self, score, task="brain", seed=0, space=SPACE):
        self.space, self.task, self.score = space, task, score
        self.genes, self.latencies = space.genes, Latencies(SECONDS)
        self.supernet = Supernet(space, 1, 2)
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.supernet.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def subnet(self, genotype):
        return self.supernet.subnet(genotype)


def _latency(genotype):
    return {"latency_ms": float(genotype.depth)}


def test_networks_of_two_options_differ_in_that_gene_alone():
    sampled = networks_with(SPACE.genes, SPACE, n=8, seed=3)
    for one, other in zip(sampled["block_0", "B"], sampled["block_0", "F"], strict=True):
        assert one.levels[0].block == "B" and other.levels[0].block == "F"
        assert one.levels[1:] == other.levels[1:]
        assert one.levels[0].channels == other.levels[0].channels
    for one, other in zip(sampled["depth", 1], sampled["depth", 3], strict=True):
        assert one.depth == 1 and other.depth == 3 and one.levels[0].block == other.levels[0].block


def test_networks_have_the_level_that_is_looked_at():
    sampled = networks_with(SPACE.genes, SPACE, n=8, seed=3)
    assert {network.levels[2].block for network in sampled["block_2", "A"]} == {"A"}
    assert {network.depth for network in sampled["block_1", "A"]} == {2, 3}
    assert ("kernel_0", 3) not in sampled  # there is no choice


def test_the_same_seed_draws_the_same_networks():
    draws = [networks_with(SPACE.genes, SPACE, n=4, seed=seed) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    with pytest.raises(ConfigError, match="n must be 1 or more"):
        networks_with(SPACE.genes, SPACE, n=0, seed=0)


def test_worth_is_importance_times_mean_score_over_latency():
    given = {"A": 0.2, "B": 0.6, "F": 0.8, "identity": 0.1}
    weights = HandMade(lambda genotype: given[genotype.levels[0].block] * genotype.depth)
    table = operation_scores(weights, _latency, n=6, seed=1).set_index(["gene", "option"])
    sampled = networks_with(SPACE.genes, SPACE, n=6, seed=1)
    worth = {}
    for block in "ABF":
        networks = sampled["block_0", block]
        score = given[block] * np.mean([network.depth for network in networks])
        found = [block_importance(weights.subnet(one)) for one in networks]
        importance = np.mean([mean_of_level(each, 0) for each in found])
        worth[block] = score * importance / SECONDS[0, block]
        assert table.loc[("block_0", block), "score"] == pytest.approx(score)
    for block, value in worth.items():
        expected = value / max(worth.values())
        assert table.loc[("block_0", block), "worth"] == pytest.approx(expected)
    blocks = table.loc["block_0"]
    assert blocks["importance"].sum() == pytest.approx(1.0)
    assert blocks["latency_ms"].to_dict() == {"A": 1.0, "B": 2.0, "F": 4.0}


def test_an_identity_takes_a_hundredth_of_the_median_of_its_level():
    table = operation_scores(HandMade(lambda genotype: 0.5), _latency, n=2)
    of_level = table[table["gene"] == "block_1"].set_index("option")
    assert of_level.loc["identity", "latency_ms"] == pytest.approx(0.01 * 1.5)


def test_other_genes_are_worth_their_mean_score_over_the_latency_of_their_networks():
    weights = HandMade(lambda genotype: 0.9 if genotype.depth == 3 else 0.6)
    table = operation_scores(weights, _latency, n=4).set_index(["gene", "option"])
    assert table.loc["depth"]["latency_ms"].to_dict() == {1: 1.0, 2: 2.0, 3: 3.0}
    worth = table.loc["depth"]["worth"].to_dict()
    assert worth == pytest.approx({1: 1.0, 2: (0.6 / 2) / 0.6, 3: (0.9 / 3) / 0.6})


def test_what_fits_no_chip_has_no_latency_and_is_worth_nothing():
    def count(genotype):
        if genotype.depth == 1:
            raise CoverageError("nothing on a tile")
        return _latency(genotype)

    table = operation_scores(HandMade(lambda genotype: 0.5), count, n=2)
    depths = table[table["gene"] == "depth"].set_index("option")
    assert pd.isna(depths.loc[1, "latency_ms"]) and depths.loc[1, "worth"] == 0
    assert depths.loc[2, "worth"] == 1


def test_scores_that_are_undefined_are_left_out_of_the_mean():
    weights = HandMade(lambda genotype: float("nan") if genotype.depth == 2 else 0.5)
    table = operation_scores(weights, _latency, n=8).set_index(["gene", "option"])
    assert table.loc[("block_0", "A"), "score"] == 0.5
    assert table.loc[("depth", 2), "worth"] == 0.0


def test_equal_weights_have_a_cosine_of_one_and_opposite_ones_of_minus_one():
    brain, same = (HandMade(lambda genotype: 0.5, task) for task in ("brain", "spleen"))
    opposite = HandMade(lambda genotype: 0.5, "spleen")
    for parameter in opposite.supernet.parameters():
        parameter.data = -parameter.data
    alike = operation_cosines([brain, same], SPACE.genes, n=2)
    unlike = operation_cosines([brain, opposite], SPACE.genes, n=2)
    assert set(alike) == {
        option
        for option in networks_with(SPACE.genes, SPACE, n=1, seed=0)
        if option[0].startswith("block")
    }
    for option in alike:
        sign = 0.0 if option[1] == "identity" else 1.0
        assert alike[option] == pytest.approx(sign) and unlike[option] == pytest.approx(-sign)


def test_weights_of_other_seeds_are_hardly_alike():
    brain, other = HandMade(lambda genotype: 0.5), HandMade(lambda genotype: 0.5, "spleen", 7)
    found = operation_cosines([brain, other], SPACE.genes, n=4)
    assert max(abs(cosine) for cosine in found.values()) < 0.7
    assert any(cosine != 0 for cosine in found.values())


def test_importance_of_a_chain_is_that_of_what_follows():
    """Without a way up the blocks of a level feed the same weights: none is more important."""
    space = Space(
        purpose="classification", depths=(2,), blocks=("B", "D"), widths=(2,), kernels=(3,)
    )
    weights = HandMade(lambda genotype: 0.5, space=space)
    sampled = networks_with(space.genes, space, n=4, seed=0)
    means = {
        block: [
            block_importance(weights.subnet(one))[0, "down"] for one in sampled["block_0", block]
        ]
        for block in "BD"
    }
    for one, other in zip(means["B"], means["D"], strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.slow
def test_importances_and_cosines_are_computed_once_for_all_searches(monkeypatch):
    brain, spleen = HandMade(lambda _: 0.5), HandMade(lambda _: 0.5, task="spleen", seed=1)
    first = operation_scores(brain, _latency, n=2), operation_cosines([brain, spleen], SPACE.genes)
    monkeypatch.setattr(HandMade, "subnet", None)
    again = operation_scores(brain, _latency, n=2), operation_cosines([brain, spleen], SPACE.genes)
    pd.testing.assert_frame_equal(first[0], again[0])
    assert first[1] == again[1]


@pytest.mark.slow
def test_a_supernetwork_that_nobody_uses_any_more_leaves_the_memory():
    brain, spleen = HandMade(lambda _: 0.5), HandMade(lambda _: 0.5, task="spleen", seed=1)
    operation_scores(brain, _latency, n=2)
    operation_cosines([brain, spleen], SPACE.genes, n=2)
    used = [weakref.ref(each.supernet) for each in (brain, spleen)]
    del brain, spleen
    gc.collect()
    assert [each() for each in used] == [None, None]
