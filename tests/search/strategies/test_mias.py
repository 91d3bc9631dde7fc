import itertools
import math
import os
from dataclasses import replace
from functools import partial

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState
from PIL import Image

from analogmed.analog import Hardware
from analogmed.cli.main import run_command
from analogmed.config import TaskConfig
from analogmed.foundation.errors import CheckpointError, ConfigError, ShapeError
from analogmed.hardware import load_profile
from analogmed.models import Genotype, Level
from analogmed.models.subnet import Subnet
from analogmed.search.evaluator import ChipEvaluator
from analogmed.search.objectives import Constraint, Goal
from analogmed.search.space.sizes import operation_sizes
from analogmed.search.space.space import Space
from analogmed.search.strategies.mias import option_scores
from analogmed.search.strategies.ranking import feasible_first
from analogmed.search.strategy import (
    ERROR_ATTRIBUTE,
    METRICS_ATTRIBUTE,
    Context,
    Evaluated,
    distributions,
    find_strategy,
)
from analogmed.search.supernet.operations import importance_table, write_importance
from analogmed.search.supernet.run import train_supernet
from analogmed.search.supernet.settings import PruningConfig, SupernetConfig
from analogmed.search.supernet.weights import SharedWeights, load_weights

main = partial(run_command, "search")

SPACE = Space(depths=(1, 2), blocks=("identity", "A", "C"), widths=(2, 4), kernels=(3,))


def _task(name, folder):
    return TaskConfig(
        name=name,
        root=folder,
        size=(16, 16),
        shares=(0.5, 0.25, 0.25),
        options={"phantom_patients": 4, "phantom_size": 32},
    )


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    """Supernetworks of two tasks, trained for one epoch."""
    folder = tmp_path_factory.mktemp("supernets")
    configs = {
        name: SupernetConfig(
            task=_task(name, folder / "data" / name),
            space=SPACE,
            epochs=1,
            batch_size=8,
            probes=1,
            out=folder / name,
        )
        for name in ("phantom_brain", "phantom_nuclei")
    }
    for config in configs.values():
        train_supernet(config)
    return configs


@pytest.fixture(scope="module")
def context(configs):
    evaluator = ChipEvaluator(configs["phantom_brain"].task, hardware=Hardware())
    return Context(
        space=SPACE,
        goal=Goal(("dice_1d",)),
        budget=8,
        seed=0,
        count=evaluator.count,
        supernets={name: config.folder for name, config in configs.items()},
    )


def _proposals(sampler, number):
    """Networks that are proposed to a search which evaluates each before it asks for the next."""
    generator = np.random.default_rng(0)
    history = []
    for trial in range(number):
        history.append(Evaluated(trial, sampler.propose(history, trial, generator), {}))
    return [one.genotype for one in history]


def test_mias_takes_the_best_option_of_each_gene_first(context):
    sampler = find_strategy("mias")(context, task="phantom_brain", n=3)
    worth = option_scores(sampler.table)
    first = _proposals(sampler, 1)[0]
    genes = SPACE.encode(first)
    for gene in ("depth", "width", "block_0", *(["block_1"] if first.depth == 2 else [])):
        assert worth[gene, genes[gene]] == 1.0, gene


def test_the_next_networks_follow_by_the_product_of_their_worth(context):
    sampler = find_strategy("mias")(context, task="phantom_brain", n=3)
    worth = option_scores(sampler.table)

    def product(genotype):
        genes = SPACE.encode(genotype)
        names = ["depth", "width", "block_0"]
        names += ["growth", "block_1"] if genotype.depth == 2 else []
        return math.prod(worth[name, genes[name]] for name in names)

    networks = list(SPACE.enumerate())
    found = _proposals(sampler, len(networks))
    assert set(found) == set(networks)
    products = [product(one) for one in found]
    # Where an identity makes the growth indifferent, encode() gives the first, not the best.
    sure = [
        value
        for one, value in zip(found, products, strict=True)
        if one.levels[1].block != "identity"
    ]
    assert sure == sorted(sure, reverse=True)
    assert _proposals(sampler, len(networks) + 1)[-1] == found[0]  # there are no more


def test_a_study_gets_the_ranked_networks_whatever_it_is_told(context):
    sampler = find_strategy("mias")(context, task="phantom_brain", n=2)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    asked = []
    for dice in (0.1, 0.9, 0.5):
        trial = study.ask(distributions(SPACE))
        trial.set_user_attr(METRICS_ATTRIBUTE, {"dice_1d": dice})
        study.tell(trial, dice)
        asked.append(SPACE.decode(trial.params))
    again = find_strategy("mias")(context, task="phantom_brain", n=2)
    assert asked == _proposals(again, 3) and len(set(asked)) == 3


def test_a_network_that_was_lost_with_its_process_is_proposed_again(context):
    expected = _proposals(find_strategy("mias")(context, task="phantom_brain", n=2), 3)
    sampler = find_strategy("mias")(context, task="phantom_brain", n=2)
    study = optuna.create_study(direction="maximize", sampler=sampler)

    def ask():
        trial = study.ask(distributions(SPACE))
        return trial, SPACE.decode(trial.params)

    lost, first = ask()
    study.tell(lost, state=TrialState.FAIL)
    failed, again = ask()
    assert first == again == expected[0]
    failed.set_user_attr(ERROR_ATTRIBUTE, "diverged")
    study.tell(failed, state=TrialState.FAIL)
    assert [ask()[1], ask()[1]] == expected[1:]  # also while others are in work


def test_networks_that_keep_the_constraints_come_first(context):
    counts = {network: context.count(network)["parameters"] for network in SPACE.enumerate()}
    bound = float(np.median(list(counts.values())))
    goal = Goal(
        ("dice_1d",), (Constraint("parameters", "<=", bound), Constraint("dice_t0", ">=", 0.9))
    )
    sampler = find_strategy("mias")(replace(context, goal=goal), task="phantom_brain", n=2)
    kept = [counts[network] <= bound for network in _proposals(sampler, len(counts))]
    assert kept == sorted(kept, reverse=True) and 0 < sum(kept) < len(kept)


def test_a_constraint_that_nothing_keeps_gives_the_nearest_and_ends(context):
    goal = Goal(("dice_1d",), (Constraint("parameters", "<=", 0),))
    found = list(feasible_first(replace(context, goal=goal), SPACE.enumerate()))
    counts = [context.count(network)["parameters"] for network in found]
    assert counts == sorted(counts) and len(found) == len(set(found))


def test_networks_that_do_not_fit_the_images_come_last(context):
    fits, refused = (Genotype((Level(block, 2, 3),)) for block in "AC")

    def count(network):
        if network == refused:
            raise ShapeError("one position is left")
        return {"tiles": 1.0}

    goal = Goal(("dice_1d",), (Constraint("tiles", "<=", 2),))
    found = feasible_first(replace(context, goal=goal, count=count), [refused, fits])
    assert list(found) == [fits, refused]


def test_networks_behind_many_that_break_a_constraint_are_still_reached(context):
    networks = [Genotype((Level("A", channels),)) for channels in range(1, 1001)]
    looked_at = []

    def count(network):
        looked_at.append(network)
        return {"tiles": -network.levels[0].channels}

    goal = Goal(("dice_1d",), (Constraint("tiles", "<=", -5000),))
    found = feasible_first(replace(context, goal=goal, count=count), networks)
    assert next(found).levels[0].channels == 500 and len(looked_at) == 500
    assert len(set(found)) == len(networks) - 1


def test_mt_mias_adds_worths_and_cosines(context):
    sampler = find_strategy("mt_mias")(context, n=2)
    plain = find_strategy("mt_mias")(context, n=2, cosine=0.0)
    brain, spleen = (option_scores(table) for table in sampler.tables.values())
    for option, score in plain.scores.items():
        assert score == pytest.approx(brain.get(option, 1.0) + spleen.get(option, 1.0))
    gained = {option: sampler.scores[option] - plain.scores[option] for option in plain.scores}
    assert all(-1 <= gain <= 1 for gain in gained.values())
    assert gained["block_1", "identity"] == 0 and gained["width", 2] == 0
    # One epoch leaves the inner level near the weights that both tasks started from.
    assert gained["block_1", "A"] > 0.5
    assert len(set(_proposals(sampler, 6))) == 6


def test_mt_mias_c_proposes_the_smallest_union_first(context):
    sampler = find_strategy("mt_mias_c")(context, n=2, candidates=8, delta=0.05)
    candidates, union = sampler.candidates, sampler.union
    assert list(candidates.scores) == ["phantom_brain", "phantom_nuclei"]
    assert all(loss <= 0.05 + 1e-9 for loss in union.losses.values())
    for task, weights in zip(candidates.scores, load_weights(context), strict=True):
        assert candidates.scores[task] == [weights.score(one) for one in candidates.names]
    chosen = list(dict.fromkeys(candidates.names[one] for one in union.chosen.values()))
    networks = _proposals(sampler, 10)
    assert networks[: len(chosen)] == chosen and len(set(networks)) == 10
    sizes = [one.size for one in sampler.front]
    assert sizes == sorted(sizes) and union.size <= max(sizes)


def test_mt_mias_c_that_cannot_share_so_much_tells_the_nearest(context):
    sampler = find_strategy("mt_mias_c")(context, n=2, candidates=8, delta=0.0, blocks_per_level=1)
    candidates = sampler.candidates
    blocks = [network.levels[0].block for network in candidates.names]
    apart = {"phantom_brain": "A", "phantom_nuclei": "C"}
    scores = {task: [float(block == best) for block in blocks] for task, best in apart.items()}
    sampler.__dict__["candidates"] = replace(candidates, scores=scores)
    with pytest.raises(ConfigError, match=r"at most 1 blocks per level .* loses 1\.000"):
        sampler.union  # noqa: B018


@pytest.mark.parametrize("unit", ["parameters", "tiles"])
def test_sizes_of_operations_add_up_to_the_network_without_its_head(unit):
    genotype = Genotype((Level("C", 40, 5), Level("identity"), Level("F", 8, 3, "digital")))
    network = Subnet(2, 3, genotype=genotype)
    sizes = operation_sizes(network, unit, tile_size=64)
    assert list(sizes) == [(0, "C"), (1, "identity"), (2, "F")]
    if unit == "parameters":
        down, up, join = 40 * 2 * 25 + 40, 48 * 40 * 4 + 40, 40 * 80 * 25 + 40
        assert float(sizes[0, "C"]) == down + up + join + 2 * 80  # norms have scales and shifts
        whole = sum(p.numel() for p in network.parameters()) - 40 * 3 - 3
        assert sum(map(float, sizes.values())) == whole
    else:
        down, up, join = math.ceil(50 / 64), math.ceil(160 / 64), math.ceil(2000 / 64)
        assert float(sizes[0, "C"]) == down + up + join
        assert float(sizes[1, "identity"]) == float(sizes[2, "F"]) == 0  # F is digital


def test_an_unknown_unit_of_size_is_refused():
    network = Subnet(1, 1, genotype=Genotype((Level("A", 2),)))
    with pytest.raises(ConfigError, match=r"size: .*parameters"):
        operation_sizes(network, "parameter")


@pytest.mark.parametrize("name", ["mias", "mt_mias", "mt_mias_c"])
def test_without_a_supernetwork_the_command_that_trains_one_is_told(context, name):
    with pytest.raises(ConfigError, match=r"'analogmed search supernet'"):
        find_strategy(name)(replace(context, supernets={}))


def test_tasks_have_to_be_chosen_or_be_several(context):
    one = dict(itertools.islice(context.supernets.items(), 1))
    with pytest.raises(ConfigError, match="choose by its option task"):
        find_strategy("mias")(context)
    with pytest.raises(ConfigError, match="'spleen' has no supernetwork"):
        find_strategy("mias")(context, task="spleen")
    for name in ("mt_mias", "mt_mias_c"):
        with pytest.raises(ConfigError, match=r"several tasks .* phantom_brain only"):
            find_strategy(name)(replace(context, supernets=one))
    with pytest.raises(ConfigError, match="candidates must be 1 or more"):
        find_strategy("mt_mias_c")(context, candidates=0)


def test_a_supernetwork_of_another_space_or_task_is_refused(context, tmp_path):
    wider = replace(SPACE, widths=(2, 8))
    with pytest.raises(ConfigError, match="is of another space than the search"):
        find_strategy("mt_mias")(replace(context, space=wider))
    folder = context.supernets["phantom_brain"]
    with pytest.raises(ConfigError, match="not trained for task 'liver'"):
        find_strategy("mias")(replace(context, supernets={"liver": folder}))
    with pytest.raises(CheckpointError, match="no trained supernetwork"):
        find_strategy("mias")(replace(context, supernets={"phantom_brain": tmp_path}))


def test_searches_share_a_supernetwork_until_it_is_written_anew(context):
    one, again = (load_weights(context)[0] for _ in range(2))
    assert one is again
    path = one._shared.config.path
    written_ns = path.stat().st_mtime_ns
    os.utime(path, ns=(written_ns + 10**9, written_ns + 10**9))
    assert load_weights(context)[0] is not one


def test_a_part_of_the_space_can_be_searched(context):
    part = replace(SPACE, blocks=("A", "C"), depths=(2,))
    sampler = find_strategy("mias")(replace(context, space=part), task="phantom_brain", n=2)
    found = _proposals(sampler, 8)
    assert all(one in part for one in found)


def test_pruned_operations_are_not_proposed(configs, context, tmp_path):
    config = replace(
        configs["phantom_brain"],
        epochs=2,
        pruning=PruningConfig(every=1, keep=1),
        out=tmp_path / "pruned",
    )
    train_supernet(config)
    shared = SharedWeights.load(config.folder)
    assert any(len(blocks) < 3 for blocks in shared.choices.blocks)
    pruned = replace(context, supernets={"phantom_brain": config.folder})
    sampler = find_strategy("mias")(pruned, n=2)
    for network in _proposals(sampler, 12):
        for level, left in zip(
            network.levels[: network.depth], shared.choices.blocks, strict=False
        ):
            assert level.block in left


def test_latencies_are_those_that_the_supernetwork_was_trained_by(configs, context):
    weights = load_weights(context)[0]
    profile = load_profile(configs["phantom_brain"].latency.profile)
    positions = 16 * 16
    expected_s = positions * profile.figures("mvm_only").time_ns * 1e-9
    down_up_join = weights.latencies.seconds[0, "A"]
    assert down_up_join >= 2 * expected_s  # the block, and the one that joins, at every position


def test_the_importance_of_a_supernetworks_blocks_is_a_table(configs, tmp_path):
    shared = SharedWeights.load(configs["phantom_brain"].folder)
    table = importance_table(shared, n=3)
    assert set(zip(table["level"], table["block"], strict=True)) == {
        (0, "A"), (0, "C"), (1, "identity"), (1, "A"), (1, "C"),
    }  # fmt: skip
    assert table.groupby("level")["importance"].sum().tolist() == pytest.approx([1.0, 1.0])
    assert (table["mean_importance"] > 0).all() and (table["networks"] == 3).all()
    assert table["join"].isna().tolist() == (table["level"] == 1).tolist()
    path = write_importance(table, tmp_path)
    pd.testing.assert_frame_equal(pd.read_csv(path), table, check_dtype=False)


def test_the_program_draws_the_importance_of_several_supernetworks(configs, tmp_path, capsys):
    folders = [str(config.folder) for config in configs.values()]
    assert main(["importance", "--supernets", *folders, "--n", "2", "--out", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "importance.csv")
    assert set(table["task"]) == set(configs)
    with Image.open(tmp_path / "figures" / "importance.png") as figure:
        figure.verify()
    best = table.loc[table["importance"].idxmax(), "block"]
    assert best in capsys.readouterr().out


def test_the_program_without_a_supernetwork_says_how_to_train_one(tmp_path, capsys):
    assert main(["importance", "--out", str(tmp_path)]) != 0
    assert "analogmed search supernet" in capsys.readouterr().err
    assert main(["importance", "--supernets", str(tmp_path), "--out", str(tmp_path)]) != 0
    assert "no trained supernetwork" in capsys.readouterr().err


@pytest.mark.slow
def test_tasks_may_share_one_supernetwork(configs, context, tmp_path):
    brain, nuclei = configs.values()
    shared = replace(brain, more_tasks=(nuclei.task,), out=tmp_path / "shared")
    train_supernet(shared)
    both = replace(context, supernets=dict.fromkeys(configs, shared.folder))
    assert [weights.task for weights in load_weights(both)] == list(configs)
    sampler = find_strategy("mt_mias")(both, n=2)
    plain = find_strategy("mt_mias")(both, n=2, cosine=0.0)
    gained = sampler.scores["block_1", "C"] - plain.scores["block_1", "C"]
    assert 0.5 < gained <= 1.0  # the same weights, by importances that the heads tell apart
