"""The experiments on the benchmark table, with a table whose results are known."""

import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from analogmed.foundation.errors import LeakageError
from analogmed.search.benchmark.table import COLUMNS, TIMES_S, load, save, space_to_dict
from analogmed.search.space.space import Space
from analogmed.search.supernet.run import train_supernet
from analogmed.search.supernet.settings import SupernetConfig
from analogmed.search.supernet.weights import SharedWeights

pytestmark = pytest.mark.slow

SPACE = Space(depths=(2,), blocks=("A", "C", "F"), widths=(4, 8), growths=(1, 2), kernels=(3,))
CHIPS = 3
TASK = {
    "root": None, "size": [16, 16], "spatial_dims": None, "split_seed": 0, "split_file": None,
    "shares": [0.5, 0.25, 0.25], "options": {"phantom_patients": 4, "phantom_size": 32},
}  # fmt: skip
CANDIDATE = {
    "batch_size": 8,
    "loading": {"augment": False, "patches_per_image": 1},
    "optimizer": {"learning_rate": 0.005},
}
TASKS = ("phantom_brain", "phantom_nuclei")
ABOUT = {
    "space": space_to_dict(SPACE),
    "tasks": {name: {"name": name, **TASK} for name in TASKS},
    "candidates": dict.fromkeys(TASKS, CANDIDATE),
}


@pytest.fixture(scope="module")
def experiment(program):
    """An experiment by name."""
    return partial(program, "experiments")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """On chips the order of the digital networks is reversed, and that of nuclei is of brain."""
    rows = []
    for number, genotype in enumerate(SPACE.enumerate()):
        for (task, seed), training in itertools.product(
            (("phantom_brain", 0), ("phantom_brain", 1), ("phantom_nuclei", 0)), ("digital", "hwa")
        ):
            row = {
                "task": task, "seed": seed, "key": genotype.key, "genotype": genotype.to_json(),
                "training": training, "n_cases": 9, "parameters": 100.0 + number, "tiles": 3.0,
                "latency_ms": 0.1, "energy_mj": 0.01, "training_cpu_s": 1.5, "provenance": "test",
            }  # fmt: skip
            digital = 0.5 + 0.01 * number
            rows.append(row | {"hardware": "digital", "dice": digital})
            for chip, time_s in itertools.product(range(CHIPS), TIMES_S):
                value = 1.2 - digital + 0.004 * (chip - 1)
                rows.append(
                    row | {"hardware": "pcm", "chip": chip, "time_s": time_s, "dice": value}
                )
    path = tmp_path_factory.mktemp("table") / "table.parquet"
    return save(pd.DataFrame(rows).astype(dict(COLUMNS)), ABOUT, path)


@pytest.fixture(scope="module")
def compared(experiment, table, tmp_path_factory):
    out = tmp_path_factory.mktemp("strategies")
    settings = ["--strategies", "evolution", "tpe", "--budget", "8", "--seeds", "4"]
    experiment("compare_strategies").main([*settings, "--table", str(table), "--out", str(out)])
    return out


@pytest.fixture(scope="module")
def by_supernetworks(experiment, table, tmp_path_factory):
    """Searches by supernetworks of both tasks, which the experiment trains for one epoch."""
    out = tmp_path_factory.mktemp("supernetworks")
    settings = ["--strategies", "mias", "mt_mias", "mt_mias_c", "--budget", "6", "--seeds", "2"]
    settings += ["--train", "--epochs", "1", "--n-boot", "20"]
    experiment("compare_strategies").main([*settings, "--table", str(table), "--out", str(out)])
    return out


@pytest.fixture(scope="module")
def ranked(experiment, table, tmp_path_factory):
    out = tmp_path_factory.mktemp("ranking")
    genotypes = list(SPACE.enumerate())
    trace = [
        {"epoch": epoch, "genotype": genotype.to_json(), "score": sign * number}
        for epoch, sign in ((1, -1), (5, 1))
        for number, genotype in enumerate(genotypes)
    ]
    pd.DataFrame(trace).to_csv(out / "trace.csv", index=False)
    settings = ["--table", str(table), "--n-boot", "20", "--out", str(out)]
    experiment("ranking").main([*settings, "--traces", f"FairNAS={out}"])
    return out


def test_every_search_queries_as_many_different_networks(compared):
    searches = pd.read_csv(compared / "searches.csv")
    assert set(searches["strategy"]) == {"random", "evolution", "tpe"}
    counts = searches.groupby(["strategy", "seed"])["queries"].agg(list)
    assert all(queries == list(range(1, 9)) for queries in counts)
    assert (searches["asked"] == 8).all()


def test_a_search_is_worth_what_the_table_says_of_the_network_it_holds_for_the_best(
    compared, table
):
    values = load(table).networks("phantom_brain")["dice_1d"]
    searches = pd.read_csv(compared / "searches.csv")
    known = values.to_numpy()
    assert np.abs(searches["value"].to_numpy()[:, None] - known).min(axis=1).max() < 1e-12
    summary = pd.read_csv(compared / "strategies.csv").set_index("strategy")
    last = searches[searches["queries"] == 8].groupby("strategy")["value"].mean()
    assert summary["mean"].to_dict() == pytest.approx(last.to_dict())
    assert summary["regret"].to_dict() == pytest.approx((values.max() - last).to_dict())


def test_differences_from_random_search_are_paired_by_seed(compared):
    searches = pd.read_csv(compared / "searches.csv")
    last = searches[searches["queries"] == 8].pivot(
        index="seed", columns="strategy", values="value"
    )
    differences = last["tpe"] - last["random"]
    half = 3.182446 * differences.std(ddof=1) / 2  # t of 3 degrees of freedom, 4 searches
    row = pd.read_csv(compared / "strategies.csv").set_index("strategy").loc["tpe"]
    assert row["less_random"] == pytest.approx(differences.mean())
    assert row["less_random_high"] - row["less_random"] == pytest.approx(half, abs=1e-6)


def test_exact_queries_are_never_misled(experiment, table):
    module = experiment("compare_strategies")
    setting = module.Setting(table, "phantom_brain", budget=12, exact=True)
    found = module.search("random", setting, 3)
    assert found["value"].is_monotonic_increasing
    again = module.search("random", setting, 3)
    assert list(again["value"]) == list(found["value"])


def test_all_networks_queried_the_best_is_found(experiment, table):
    module = experiment("compare_strategies")
    n = len(list(SPACE.enumerate()))
    setting = module.Setting(table, "phantom_brain", budget=n, exact=True)
    best = load(table).networks("phantom_brain")["dice_1d"].max()
    assert module.search("evolution", setting, 0)["value"].iloc[-1] == best


def test_strategies_that_read_supernetworks_are_compared_with_the_same_random_searches(
    by_supernetworks, experiment, table
):
    searches = pd.read_csv(by_supernetworks / "searches.csv")
    assert set(searches["strategy"]) == {"random", "mias", "mt_mias", "mt_mias_c"}
    assert (searches["asked"] == 6).all()
    setting = experiment("compare_strategies").Setting(table, budget=6)
    alone = experiment("compare_strategies").search("random", setting, 1)
    same = searches[(searches["strategy"] == "random") & (searches["seed"] == 1)]
    assert same["value"].tolist() == pytest.approx(alone["value"].tolist())


def test_supernetworks_are_of_the_tables_space_and_data(by_supernetworks, experiment):
    folders = {task: by_supernetworks / "supernets" / task for task in TASKS}
    assert all(SharedWeights.load(folder).space == SPACE for folder in folders.values())
    seeds = [SharedWeights.load(folder).config.seed for folder in folders.values()]
    assert len(set(seeds)) == 2
    ranked = pd.read_csv(by_supernetworks / "shared_weights.csv")
    assert list(ranked["task"].unique()) == list(TASKS)
    shared = SharedWeights.load(folders["phantom_brain"])
    scores = [shared.score(genotype) for genotype in SPACE.enumerate()]
    tau = kendalltau(scores, range(len(scores))).statistic  # digitally, later ones are better
    found = ranked[ranked["stand_alone"] == "digital"]["value"].iloc[0]
    assert found == pytest.approx(tau) or np.isnan([found, tau]).all()


def test_a_supernetwork_that_has_seen_test_patients_is_refused(experiment, table, tmp_path):
    other = replace(experiment("_supernets").table_task(load(table), TASKS[0]), split_seed=1)
    config = SupernetConfig(task=other, space=SPACE, epochs=1, probes=1, out=tmp_path / "other")
    train_supernet(config)
    with pytest.raises(LeakageError, match="the supernetwork has seen"):
        settings = ["--budget", "8", "--supernetworks", f"phantom_brain={config.folder}"]
        experiment("compare_strategies").main(["--table", str(table), *settings])


def test_searches_that_were_run_before_join_the_table_if_all_else_was_the_same(
    experiment, compared, table, tmp_path
):
    settings = ["--table", str(table), "--strategies", "evolution", "--seeds", "4"]
    settings += ["--add", str(compared / "searches.csv"), "--out", str(tmp_path)]
    experiment("compare_strategies").main([*settings, "--budget", "8"])
    joined = pd.read_csv(tmp_path / "searches.csv").drop(columns="seconds")
    before = pd.read_csv(compared / "searches.csv").drop(columns="seconds")
    pd.testing.assert_frame_equal(joined, before)
    with pytest.raises(SystemExit, match="its searches by random are others"):
        experiment("compare_strategies").main([*settings, "--budget", "6"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["--strategies", "mt_mias"], "mt_mias searches with supernetworks of 2 or more tasks"),
        (["--supernetworks", "spleen=runs/spleen"], "has no task 'spleen'; choose from"),
    ],
)
def test_missing_and_wrong_supernetworks_are_told(experiment, table, settings, message):
    with pytest.raises(SystemExit, match=message):
        experiment("compare_strategies").main(["--table", str(table), "--budget", "8", *settings])


def test_a_table_that_lacks_networks_is_refused(experiment, table, tmp_path):
    bench = load(table)
    part = bench.rows[bench.rows["key"] != bench.rows["key"].iloc[0]]
    save(part, ABOUT, tmp_path / "part.parquet")
    with pytest.raises(SystemExit, match=r"holds 35 of the 36 networks"):
        experiment("compare_strategies").main(["--table", str(tmp_path / "part.parquet")])


def test_figures_and_tables_are_written(compared, ranked):
    assert {path.name for path in compared.iterdir()} == {
        "curves.csv", "curves.png", "searches.csv", "strategies.csv", "strategies.md"
    }  # fmt: skip
    assert {path.name for path in ranked.iterdir()} == {
        "digital_and_day.png", "ranking.csv", "ranking.md", "tasks.csv", "tasks_tau.png",
        "tasks_top.png", "trace.csv", "training.csv", "training.png",
    }  # fmt: skip


def test_a_reversed_ranking_is_told_as_such(ranked):
    table = pd.read_csv(ranked / "ranking.csv").set_index(["task", "one", "other"])
    row = table.loc[("phantom_brain", "digital", "1 day")]
    assert (row["value"], row["top_overlap_value"]) == (-1.0, 0.0)
    assert table.loc[("phantom_brain", "hardware-aware, digital", "1 day"), "value"] == -1.0
    assert table.loc[("phantom_brain", "1 day", "hardware-aware, 1 month"), "value"] == 1.0


def test_seeds_and_tasks_of_one_order_agree(ranked):
    table = pd.read_csv(ranked / "ranking.csv").set_index("one")
    assert table.loc["1 day, seed 0", "value"] == 1.0
    tasks = pd.read_csv(ranked / "tasks.csv")
    assert (tasks["value"] == 1.0).all()
    assert set(tasks["statistic"]) == {"tau", "top overlap"}


def test_shared_weights_are_compared_epoch_by_epoch(ranked):
    taus = pd.read_csv(ranked / "training.csv")
    digital = taus[taus["score"] == "digital"].set_index("epoch")["value"]
    assert digital.to_dict() == {1: -1.0, 5: 1.0}
