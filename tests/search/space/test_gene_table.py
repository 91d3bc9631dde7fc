import numpy as np
import pytest

from analogmed.models import Genotype, Level
from analogmed.search.space.gene_table import GeneTable
from analogmed.search.space.space import Space

SPACES = {
    "2d": Space(),
    "3d": Space(spatial_dims=3, places=("analog", "digital")),
    "classification": Space(purpose="classification", places=("digital", "analog")),
    "one depth": Space(depths=(3,), growths=(2, 1), kernels=(5,)),
    "no identity": Space(depths=(2, 1), blocks=("A", "B")),
}
spaces = pytest.mark.parametrize("space", SPACES.values(), ids=list(SPACES))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@spaces
def test_rows_stand_for_the_networks_that_they_are_made_of(space, rng):
    table = GeneTable(space)
    genotypes = [space.random(rng) for _ in range(50)]
    assert [table.genotype(row) for row in table.rows(genotypes)] == genotypes


@spaces
def test_canonical_rows_are_those_of_the_networks(space, rng):
    table = GeneTable(space)
    rows = rng.integers(0, table.sizes, (200, len(table.sizes)))
    genotypes = [table.genotype(row) for row in rows]
    assert np.array_equal(table.canonical(rows), table.rows(genotypes))


@spaces
def test_networks_of_different_features_are_all_that_differ(space, rng):
    table = GeneTable(space)
    rows = table.canonical(rng.integers(0, table.sizes, (300, len(table.sizes))))
    features = table.features(rows)
    assert len(np.unique(features, axis=0)) == len(np.unique(rows, axis=0))


def test_features_say_what_stands_at_each_level():
    space = Space(depths=(1, 2), blocks=("identity", "A", "B"), widths=(4,), growths=(2,))
    table = GeneTable(space)
    genes = {"depth": 2, "width": 4, "growth": 2, "block_0": "B", "kernel_0": 5, "block_1": "A"}
    genes |= {"kernel_1": 3} | {
        f"{way}_{level}": "analog" for way in ("down", "up") for level in (0, 1)
    }
    one_hot = {"A": [1, 0, 0], "B": [0, 1, 0], "identity": [0, 0, 1]}
    (features,) = table.features(table.rows([space.decode(genes)]))
    assert features.tolist() == [2, 4, 2, *one_hot["B"], 4, 5, 0, 0, *one_hot["A"], 8, 0, 0, 0]
    (shallow,) = table.features(table.rows([space.decode(genes | {"depth": 1})]))
    assert shallow.tolist() == [1, 4, 2, *one_hot["B"], 4, 5, 0, 0, *[0] * 7]


def test_every_value_of_a_gene_stands_as_often_in_a_latin_hypercube(rng):
    table = GeneTable(Space())
    rows = table.latin_hypercube(50, rng)
    for column, size in enumerate(table.sizes):
        counts = np.bincount(rows[:, column], minlength=size)
        assert set(counts) <= {50 // size, -(-50 // size)}


def test_genes_change_as_often_as_their_rates_say(rng):
    space = Space(depths=(2,), blocks=("B", "C", "D"), growths=(1, 2))
    table = GeneTable(space)
    rates = table.rates({"width": 0.8, "other": 0.5})
    assert rates.tolist() == [0.5, 0.8, *[0.5] * (len(table.sizes) - 2)]
    rows = np.tile(table.rows([space.random(rng)]), (4000, 1))
    mutants = table.mutate(rows, rates, rng)
    changed = (mutants != rows).mean(axis=0)
    free = table.sizes > 1
    assert changed[free] == pytest.approx(rates[free], abs=0.04)  # 5 standard errors
    assert not changed[~free].any()
    values = np.bincount(mutants[:, 1], minlength=3) / 4000
    expected = np.where(np.arange(3) == rows[0, 1], 0.2, 0.4)
    assert values == pytest.approx(expected, abs=0.04)


def test_genes_that_matter_are_those_of_the_space(rng):
    space = Space(places=("analog", "digital"))
    table = GeneTable(space)
    networks = [space.random(rng) for _ in range(200)]
    for network, matter in zip(networks, table.relevant(table.rows(networks)), strict=True):
        assert {name for name, own in zip(space.genes, matter, strict=True) if own} == (
            space.relevant(network)
        )


def test_a_level_that_a_mutation_adds_has_each_block_as_often(rng):
    space, n = Space(depths=(1, 2)), 8000
    table = GeneTable(space)
    rows = np.tile(table.rows([Genotype((Level("F", 8, 3),))]), (n, 1))
    mutants = table.mutate(rows, table.rates({"depth": 1.0}), rng)
    column = list(space.genes).index("block_1")
    shares = np.bincount(mutants[:, column], minlength=len(space.blocks)) / n
    assert shares == pytest.approx(np.full(len(space.blocks), 1 / len(space.blocks)), abs=0.02)
