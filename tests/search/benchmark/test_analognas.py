import math
import random

import numpy as np
import pytest

from analogmed.foundation.errors import ConfigError, NonFiniteError
from analogmed.search.benchmark.analognas import (
    AnalogNASEvaluator,
    AnalogNASSpace,
    to_architecture,
    to_genotype,
)
from analogmed.search.space.space import Space

SPACE = Space(
    depths=(1, 2, 3), blocks=("identity", *"ABC"), places=("analog", "digital"), widths=(4, 8, 16)
)


class Cheap:
    """Evaluates without training: wide networks are good, deep ones vary more over the month."""

    def __init__(self):
        self.folders = []

    def evaluate(self, genotype, folder):
        self.folders.append(folder)
        if genotype.levels[0].block == "B":
            raise NonFiniteError("the training diverged")
        return {"dice_1d": genotype.levels[0].channels / 20, "avm_drop": genotype.depth * 0.04}

    def count(self, genotype):
        return {"parameters": 1.0}


class Optimizer:
    """Calls an evaluator as the EAOptimizer of analog-nas does.

    Without batches it starts from one architecture for the whole population, queries the population
    to replace those beyond ``t_avm``, then queries the mutants one by one, and returns the last
    mutant of the best iteration with the best score. With batches it queries whole populations of
    plain architectures, each boxed in a list, and sorts them together with their scores.

    Args:
        surrogate: the evaluator.
        batched: whether it queries whole populations.
    """

    def __init__(self, surrogate, *, nb_iter, population_size, t_avm, batched):
        self.surrogate = surrogate
        self.nb_iter, self.size, self.t_avm = nb_iter, population_size // 10, t_avm
        self.batched = batched
        self.random = random.Random(0)

    def run(self, cs):
        return self.by_population(cs) if self.batched else self.one_by_one(cs)

    def violators(self, population):
        _, slopes = self.surrogate.query_pop(population)
        return [number for number, slope in enumerate(slopes) if slope > self.t_avm]

    def one_by_one(self, cs):
        population = [cs.sample_arch_uniformly(1)] * self.size
        violators = self.violators(population)
        while self.violators(population):
            for number in violators:  # those of the first query, whatever replaced them since
                population[number] = cs.sample_arch_uniformly(1)
        best_score, best = 0.0, None
        for _ in range(self.nb_iter):
            mutants = [
                cs.sample_arch_uniformly(1) if self.random.random() < 0.76 else boxed
                for boxed in population
            ]
            score = max([self.surrogate.query(boxed)[0] for boxed in mutants])
            if score > best_score:
                best_score, best = score, mutants[-1][0]
            population = mutants
        return best, best_score

    def by_population(self, cs):
        population = cs.sample_arch_uniformly(self.size)
        best_score, best = -math.inf, None
        for _ in range(self.nb_iter):
            mutants = []
            for architecture in population:
                (mutant,) = cs.sample_arch_uniformly(1)
                for name in architecture:
                    if self.random.random() < 0.5:
                        mutant[name] = architecture[name]
                mutants.append(mutant)
            scores, _ = self.surrogate.query_pop(
                [[mutant] for mutant in mutants],
                should_bypass_eval=True,
                bypass_threshold=best_score,
            )
            pairs = sorted(zip(scores, mutants, strict=True), reverse=True)
            if pairs[0][0] > best_score:
                best_score, best = pairs[0]
            population = [pairs[0][1], *(mutant for _, mutant in pairs[:-1])]
        return best, best_score


@pytest.fixture
def evaluator(tmp_path):
    return AnalogNASEvaluator(Cheap(), SPACE, tmp_path)


def architecture_of(**genes):
    first = to_architecture(SPACE.random(np.random.default_rng(0)), SPACE)
    return first | {"block_0": 0, "depth": 2, "width": 8} | genes


@pytest.mark.parametrize("batched", [False, True])
def test_the_best_is_known_whatever_the_optimizer_returns(evaluator, batched):
    optimizer = Optimizer(evaluator, nb_iter=30, population_size=60, t_avm=10, batched=batched)
    returned, score = optimizer.run(AnalogNASSpace(SPACE, seed=1))
    best, best_score, variation = evaluator.best()
    assert best_score == score == pytest.approx(100 * 16 / 20)
    assert evaluator.query([best]) == (best_score, variation)
    assert to_genotype(best, SPACE).levels[0].channels == 16
    assert to_genotype(returned, SPACE) in SPACE


def test_the_best_within_a_bound_is_not_the_best_of_all(evaluator):
    evaluator.query_pop([[architecture_of(width=16, depth=3)], [architecture_of(width=8, depth=1)]])
    assert evaluator.best()[1:] == pytest.approx((80.0, 12.0))
    assert evaluator.best(t_avm=10.0)[1:] == pytest.approx((40.0, 4.0))
    with pytest.raises(ConfigError, match="none of the 2 architectures measured has a variation"):
        evaluator.best(t_avm=1.0)


def test_there_is_no_best_before_the_first_query(evaluator):
    with pytest.raises(ConfigError, match="none of the 0 architectures"):
        evaluator.best()
    evaluator.query([architecture_of(block_0=1)])  # diverges
    with pytest.raises(ConfigError, match="none of the 1 architectures"):
        evaluator.best()


def test_dice_and_its_loss_within_a_month_are_in_per_cent(evaluator):
    assert evaluator.query([architecture_of(width=8, depth=3)]) == pytest.approx((40.0, 12.0))


def test_a_population_is_answered_with_arrays(evaluator):
    population = [[architecture_of(width=width, depth=1)] for width in (16, 4)]
    scores, variations = evaluator.query_pop(population)
    assert scores.tolist() == pytest.approx([80.0, 20.0])
    assert variations.tolist() == pytest.approx([4.0, 4.0])
    assert [len(array) for array in evaluator.query_pop([])] == [0, 0]


def test_each_network_is_measured_once_in_a_folder_of_its_own(evaluator, tmp_path):
    architecture = architecture_of(depth=1, width=4)
    same = architecture | {"block_2": 3, "growth": 1}  # of a level that does not exist
    evaluator.query_pop([[architecture], [same], [architecture]])
    assert evaluator.evaluator.folders == [tmp_path / to_genotype(same, SPACE).key]


def test_a_network_whose_training_diverges_is_the_last_of_all(evaluator):
    assert evaluator.query([architecture_of(block_0=1)]) == (-math.inf, math.inf)


def test_architectures_are_numbers_in_the_order_of_the_genes():
    generator = np.random.default_rng(0)
    for genotype in [SPACE.random(generator) for _ in range(50)]:
        architecture = to_architecture(genotype, SPACE)
        assert list(architecture) == list(SPACE.genes)
        assert all(type(value) is int for value in architecture.values())
        assert to_genotype(architecture, SPACE) == genotype
        numpy_numbers = {name: np.int64(value) for name, value in architecture.items()}
        assert to_genotype(numpy_numbers, SPACE) == genotype


def test_sampled_architectures_are_of_the_space_and_follow_from_the_seed():
    spaces = [AnalogNASSpace(SPACE, seed) for seed in (0, 0, 1)]
    once, again, other = (space.sample_arch_uniformly(30) for space in spaces)
    assert once == again != other
    assert all(to_genotype(architecture, SPACE) in SPACE for architecture in once)
    assert spaces[0].compute_cs_size() == SPACE.size


@pytest.mark.parametrize(
    ("genes", "message"),
    [
        ({"block_1": 4}, "gene 'block_1': expected 0 to 3, found 4"),
        ({"width": 5}, r"gene 'width': 5 is none of \(4, 8, 16\)"),
        ({"widenfact1": 1}, "unknown gene 'widenfact1'"),
    ],
)
def test_an_architecture_of_another_space_is_refused(evaluator, genes, message):
    with pytest.raises(ConfigError, match=message):
        evaluator.query([architecture_of(**genes)])


def test_an_architecture_without_its_list_or_a_gene_is_refused(evaluator):
    architecture = architecture_of()
    with pytest.raises(ConfigError, match="expected a list of one architecture"):
        evaluator.query([architecture, architecture])
    del architecture["depth"]
    with pytest.raises(ConfigError, match="gene 'depth' is missing"):
        evaluator.query([architecture])


def test_an_evaluator_that_does_not_measure_the_month_is_refused(evaluator, monkeypatch):
    monkeypatch.setattr(evaluator.evaluator, "evaluate", lambda *_: {"dice_1d": 0.5, "tiles": 3.0})
    with pytest.raises(ConfigError, match=r"needs 'avm_drop' .* measured dice_1d, tiles"):
        evaluator.query([architecture_of()])
