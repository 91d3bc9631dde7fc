import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analogmed.foundation.errors import ConfigError
from analogmed.models import Genotype, Level, build_model
from analogmed.search.space.space import Space

SPACES = {
    "default": Space(),
    "3d": Space(spatial_dims=3),
    "classification": Space(purpose="classification"),
    "places": Space(places=("digital", "analog")),
    "all digital": Space(places=("digital",)),
    "small": Space(depths=(1, 2), blocks=("identity", "A", "C"), widths=(2, 4), growths=(1, 2)),
}


def generator(seed=0):
    return np.random.default_rng(seed)


def test_every_gene_of_the_default_space_has_its_choices():
    genes = Space().genes
    assert genes["depth"] == (1, 2, 3, 4, 5)
    assert genes["block_0"] == tuple("ABCDEFG")
    assert genes["block_4"] == ("identity", *"ABCDEFG")
    assert genes["kernel_2"] == (3, 5)
    assert len(genes) == 3 + 4 * 5
    assert Space(spatial_dims=3).genes["block_1"] == ("identity", *"AHIJKLM")


def test_the_size_is_the_product_of_the_choices():
    assert Space().size == 5 * 3 * 2 * 7 * 8**4 * 2**5
    assert SPACES["small"].size == 2 * 2 * 2 * (2 * 3) * 2**2
    assert SPACES["places"].size == Space().size * 2**10


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_genes_decode_to_a_network_that_encodes_to_genes_of_the_same(name, data):
    space = SPACES[name]
    genes = {gene: data.draw(st.sampled_from(choices)) for gene, choices in space.genes.items()}
    genotype = space.decode(genes)
    encoded = space.encode(genotype)
    assert encoded.keys() == space.genes.keys()
    assert space.decode(encoded) == genotype
    assert genotype in space
    assert space.encode(space.decode(encoded)) == encoded
    assert Genotype.of(genotype.to_json()) == genotype


def test_genes_that_do_not_matter_have_their_first_value():
    space = Space(places=("digital", "analog"), kernels=(5, 3), widths=(8, 4), growths=(2, 1))
    levels = (Level("A", 4, down="analog", up="analog"), Level("identity"))
    genes = space.encode(Genotype(levels))
    assert genes["up_0"] == "analog"
    assert genes["growth"] == 2
    assert {genes[gene] for gene in ("down_1", "up_1", "down_4", "up_4")} == {"digital"}
    assert {genes[f"kernel_{level}"] for level in range(5)} == {5}
    assert [genes[f"block_{level}"] for level in range(5)] == ["A", "identity", *["identity"] * 3]


def test_channels_grow_from_level_to_level():
    genes = {name: choices[0] for name, choices in Space().genes.items()}
    for growth, expected in ((1, [8] * 4), (2, [8, 16, 32, 64])):
        genes |= {"depth": 4, "width": 8, "growth": growth}
        genes |= {f"block_{level}": "C" for level in range(5)}
        levels = Space().decode(genes).levels
        assert [level.channels for level in levels[:4]] == expected


@pytest.mark.parametrize("name", SPACES)
def test_random_networks_are_of_the_space_and_the_same_from_the_same_seed(name):
    space = SPACES[name]
    first, second = (
        [space.random(random) for _ in range(20)] for random in (generator(), generator())
    )
    assert first == second
    assert all(genotype in space for genotype in first)
    assert len(set(first)) > 1


@pytest.mark.slow
def test_random_networks_are_built():
    for space, dims in ((SPACES["default"], 2), (SPACES["3d"], 3), (SPACES["places"], 2)):
        random = generator(3)
        for _ in range(5):
            genotype = space.random(random)
            model = build_model(
                "subnet",
                in_channels=1,
                out_channels=2,
                spatial_dims=dims,
                genotype=genotype.to_dict(),
            )
            with torch.no_grad():
                assert model(torch.rand(1, 1, *[32] * dims)).shape == (1, 2, *[32] * dims)


def test_every_value_of_every_gene_is_drawn_evenly():
    space, random, n = SPACES["small"], generator(), 2000
    counts = Counter(space.random(random).levels[0].block for _ in range(n))
    expected = n / 2
    assert counts.keys() == {"A", "C"}
    assert all(abs(count - expected) < 4 * math.sqrt(n / 4) for count in counts.values())


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 7, 8, 12, 100])
@pytest.mark.parametrize("seed", range(5))
def test_a_latin_hypercube_has_each_value_of_each_gene_as_often_as_the_others(n, seed, monkeypatch):
    space = Space(places=("analog", "digital"))
    drawn = []
    monkeypatch.setattr(Space, "decode", lambda _, genes: drawn.append(dict(genes)))
    space.latin_hypercube(n, generator(seed))
    assert len(drawn) == n
    for name, choices in space.genes.items():
        counts = Counter(genes[name] for genes in drawn)
        few, many = n // len(choices), -(-n // len(choices))
        assert {counts[choice] for choice in choices} <= {few, many}


def test_a_latin_hypercube_gives_networks_and_pairs_genes_by_chance():
    networks = Space().latin_hypercube(30, generator())
    assert all(genotype in Space() for genotype in networks)
    assert sorted(genotype.depth for genotype in networks) == sorted([1, 2, 3, 4, 5] * 6)
    assert networks != Space().latin_hypercube(30, generator(1))
    pairs = {(genotype.depth, genotype.levels[0].channels) for genotype in networks}
    assert len(pairs) > 5
    with pytest.raises(ConfigError, match="number of networks must be 0 or more, got -1"):
        Space().latin_hypercube(-1, generator())


FULL = Space(blocks=tuple("BCDE"), depths=(2, 3), places=("analog", "digital"))


def test_genes_change_as_often_as_their_rates_say():
    genes = {name: choices[0] for name, choices in FULL.genes.items()} | {"depth": 3, "growth": 2}
    parent, random, n = FULL.decode(genes), generator(), 1500
    rates = {"depth": 0.8, "width": 0.3, "block": 0.0, "other": 0.5}
    changed: Counter = Counter()
    for _ in range(n):
        mutant = FULL.encode(FULL.mutate(parent, random, rates))
        deep = mutant["depth"] == 3
        changed["depth"] += not deep
        changed["width"] += mutant["width"] != genes["width"]
        changed["block"] += any(mutant[f"block_{level}"] != "B" for level in range(3))
        changed["kernel_0"] += mutant["kernel_0"] != genes["kernel_0"]
        changed["down_0"] += mutant["down_0"] != genes["down_0"]
    for name, rate in (("depth", 0.8), ("width", 0.3), ("kernel_0", 0.5), ("down_0", 0.5)):
        assert abs(changed[name] / n - rate) < 4 * math.sqrt(rate * (1 - rate) / n) + 0.005
    assert changed["block"] == 0


def test_a_changed_gene_takes_each_of_its_other_values_as_often():
    parent = FULL.decode({name: choices[0] for name, choices in FULL.genes.items()})
    random, n = generator(), 600
    blocks = Counter(FULL.mutate(parent, random, {"block": 1.0}).levels[0].block for _ in range(n))
    assert blocks.keys() == {"C", "D", "E"}
    assert all(abs(count - n / 3) < 4 * math.sqrt(n * 2 / 9) for count in blocks.values())


def test_a_level_that_a_mutation_adds_has_each_block_as_often():
    space, n = Space(depths=(1, 2)), 1200
    parent, random = Genotype((Level("F", 8, 3),)), generator()
    assert space.relevant(parent) == {"depth", "width", "block_0", "kernel_0", "down_0"}
    mutants = [space.mutate(parent, random, {"depth": 1.0}) for _ in range(n)]
    assert {mutant.depth for mutant in mutants} == {2}
    counts = Counter(mutant.levels[1].block for mutant in mutants)
    share = 1 / len(space.blocks)
    assert counts.keys() == set(space.blocks)
    for count in counts.values():
        assert abs(count - n * share) < 5 * math.sqrt(n * share * (1 - share))


@pytest.mark.parametrize("name", SPACES)
def test_genes_that_do_not_matter_may_have_any_value(name):
    space, random = SPACES[name], generator()
    for _ in range(30):
        network = space.random(random)
        relevant, genes = space.relevant(network), space.encode(network)
        drawn = space.encode(space.random(random))
        free = {gene: value for gene, value in drawn.items() if gene not in relevant}
        assert space.decode({**genes, **free}) == network
        for gene in relevant - {"width", "growth"}:  # two of these may give the same channels
            for value in space.genes[gene]:
                if value != genes[gene]:
                    assert space.decode({**genes, gene: value}) != network


@pytest.mark.parametrize("rates", [{}, {"other": 0.0}, {"kernel": 1.0}, {"other": 1.0}])
@pytest.mark.parametrize("name", SPACES)
def test_a_mutant_is_of_the_space_and_never_its_parent(name, rates):
    space, random = SPACES[name], generator()
    for _ in range(10):
        parent = space.random(random)
        mutant = space.mutate(parent, random, rates)
        assert mutant != parent
        assert mutant in space


@pytest.mark.parametrize(
    "space",
    [
        Space(depths=(1,), blocks=("A",), widths=(4, 8), kernels=(3, 5)),
        Space(depths=(1, 2), blocks=("A",), widths=(4,), growths=(1,), kernels=(3,)),
        Space(depths=(2,), blocks=("A", "identity"), widths=(4,), growths=(1, 2), kernels=(3, 5)),
    ],
)
def test_the_only_other_network_is_found(space):
    for parent in space.enumerate():
        for seed in range(5):
            assert space.mutate(parent, generator(seed), {"other": 0.0}) != parent


def test_where_there_is_no_other_network_the_same_is_given_back():
    space = Space(depths=(1,), blocks=("A",), widths=(4,), kernels=(3, 5))
    (only,) = space.enumerate()
    assert space.mutate(only, generator(), {"other": 1.0}) == only


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"widht": 0.5}, "mutation rate 'widht': did you mean 'width'"),
        ({"width": 1.5}, "mutation rate 'width': expected .* at least 0 and at most 1, got 1.5"),
        ({"width": -0.1}, "at most 1, got -0.1"),
        ({"width": float("nan")}, "expected a finite number .*, got nan"),
    ],
)
def test_rates_that_mean_nothing_are_refused(rates, message):
    with pytest.raises(ConfigError, match=message):
        Space().mutate(Space().random(generator()), generator(), rates)


def test_a_network_of_another_space_is_not_mutated():
    with pytest.raises(ConfigError, match="not of this search space"):
        SPACES["small"].mutate(Genotype((Level("B", 8, 3),)), generator(), {"other": 0.5})


def test_enumeration_is_distinct_and_complete():
    space = Space(
        depths=(1, 2), blocks=("identity", "A", "C"), widths=(2, 4), growths=(1, 2), kernels=(3, 5)
    )
    found = list(space.enumerate())
    blocks = {"A": 1, "C": 2}  # by the number of kernels that they may have
    one_level = 2 * sum(blocks.values())
    two_levels = 2 * sum(blocks.values()) * (1 + 2 * sum(blocks.values()))
    assert len(found) == len(set(found)) == one_level + two_levels
    names = list(space.genes)
    combinations = itertools.product(*space.genes.values())
    decoded = {space.decode(dict(zip(names, genes, strict=True))) for genes in combinations}
    assert set(found) == decoded
    assert len({genotype.to_json() for genotype in found}) == len(found)


@pytest.mark.parametrize(
    "genotype",
    [
        Genotype((Level("B", 7, 3),)),
        Genotype((Level("B", 4, 7),)),
        Genotype((Level("B", 4, 3), Level("B", 12, 3))),
        Genotype((Level("B", 4, 3, "digital"),)),
        Genotype((Level("identity"), Level("B", 4, 3))),
        Genotype((Level("H", 4, 3),), spatial_dims=3),
        Genotype((Level("B", 4, 3),), purpose="classification"),
    ],
)
def test_a_network_that_the_space_does_not_hold_is_refused(genotype):
    assert genotype not in Space()
    with pytest.raises(ConfigError, match="not of this search space"):
        Space().encode(genotype)


def test_a_network_deeper_than_the_space_is_refused():
    assert Genotype((Level("B", 4, 3),) * 3) not in Space(depths=(1, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 6}, r"gene 'depth': 6 is none of \(1, 2, 3, 4, 5\)"),
        ({"width": "4"}, "gene 'width': '4' is none of"),
        ({"block_0": "identity"}, "gene 'block_0': 'identity' is none of"),
        ({"kernel_3": None}, "gene 'kernel_3': None is none of"),
        ({"down_1": []}, "gene 'down_1'"),
    ],
)
def test_values_that_a_gene_cannot_have_are_refused(change, message):
    genes = Space().encode(Space().random(generator()))
    with pytest.raises(ConfigError, match=message):
        Space().decode({**genes, **change})


def test_a_missing_gene_is_named():
    genes = Space().encode(Space().random(generator()))
    del genes["kernel_1"]
    with pytest.raises(ConfigError, match="gene 'kernel_1' is missing"):
        Space().decode(genes)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"spatial_dims": 1}, "spatial_dims: expected 2 or 3, found 1"),
        ({"spatial_dims": 2.0}, "spatial_dims: expected 2 or 3, found 2.0"),
        ({"purpose": "segment"}, "purpose: unknown value 'segment'; did you mean 'segmentation'"),
        ({"depths": ()}, "depths: expected a list of one or more"),
        ({"depths": 3}, "depths: expected a list of one or more, found 3"),
        ({"depths": (0,)}, "depths: expected 1 to 5, found 0"),
        ({"depths": (1, 6)}, "depths: expected 1 to 5, found 6"),
        ({"widths": (4, 8.5)}, "widths: expected 1 to 1024, found 8.5"),
        ({"widths": (4.0,)}, "widths: expected 1 to 1024, found 4.0"),
        ({"widths": ("8",)}, "widths: expected 1 to 1024, found '8'"),
        ({"widths": (True,)}, "widths: expected 1 to 1024, found True"),
        ({"growths": (1, 5)}, "growths: expected 1 to 4, found 5"),
        ({"widths": (1024,), "growths": (4,)}, "262144 channels and may have 1024; lower"),
        ({"kernels": (3, 4)}, "kernels: expected 3, 5 or 7, found 4"),
        ({"kernels": (1,), "blocks": ("A",)}, "kernels: expected 3, 5 or 7, found 1"),
        ({"places": ("analog", "digtal")}, "places: unknown value 'digtal'; did you mean"),
        ({"blocks": ("A", "zero")}, "zero ends a network; say so with space.depths"),
        ({"blocks": ("B", "H")}, "blocks: H is not a block of 2D"),
        ({"blocks": ("identity",)}, "blocks: none has weights"),
        ({"blocks": ("B", "X")}, "unknown block 'X'; choose from: A, B, .*, G, identity, zero$"),
        ({"blocks": (["B"],)}, r"unknown block \['B'\]"),
        ({"blocks": "BC"}, "blocks: expected a list of one or more, found 'BC'"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        Space(**fields)


def test_values_given_twice_count_once():
    space = Space(widths=(4, 8, 4), blocks=["A", "A", "C"])
    assert (space.widths, space.blocks) == ((4, 8), ("A", "C"))
