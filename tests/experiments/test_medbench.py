import pandas as pd
import pytest

from analogmed.search.benchmark.table import TIMES_S, load
from analogmed.search.objectives import METRICS

pytestmark = pytest.mark.slow

TINY = ["--networks", "1", "--repeats", "1", "--epochs", "1", "--hwa-epochs", "1"]
TINY += ["--chips", "2", "--patients", "10"]


@pytest.fixture(scope="module")
def experiment(program):
    return program("experiments", "medbench")


@pytest.fixture(scope="module")
def out(experiment, tmp_path_factory):
    out = tmp_path_factory.mktemp("medbench")
    experiment.main([*TINY, "--out", str(out)])
    return out


def test_the_space_is_small_and_enumerable(experiment):
    networks = list(experiment.SPACE.enumerate())
    assert 60 <= len(networks) == len(set(networks)) <= 150


def test_repeats_come_after_enough_networks_of_the_first_task(experiment):
    plan = experiment.planned(None, 30)
    first = [work for work in plan if (work.task, work.seed) == ("phantom_brain", 0)]
    assert plan[: experiment.FIRST] == first[: experiment.FIRST]
    assert len(plan) == len(first) + 60
    again = {work.genotype for work in plan if work.seed == 1}
    assert again == {work.genotype for work in plan if work.task == "phantom_nuclei"}
    assert again == {work.genotype for work in first[:30]}


def test_a_network_is_there_digitally_and_on_every_chip_at_every_time(out):
    rows = load(out / "medbench.parquet").rows
    assert set(rows["task"]) == {"phantom_brain", "phantom_nuclei"}
    for _, network in rows.groupby(["task", "seed", "training"]):
        digital = network[network["chip"].isna()]
        assert (len(digital), set(digital["hardware"])) == (1, {"digital"})
        on_chips = network[network["chip"].notna()]
        assert sorted(zip(on_chips["chip"], on_chips["time_s"], strict=True)) == [
            (chip, time_s) for chip in range(2) for time_s in TIMES_S
        ]
        assert on_chips.groupby("chip")["dice"].nunique().max() > 1  # drift and read noise
        assert network["dice"].between(0, 1).all()
    assert rows["provenance"].str.contains("torch").all()


def test_the_table_answers_as_an_evaluator(experiment, out):
    bench = load(out / "medbench.parquet")
    genotype = experiment.planned(1, 0)[0].genotype
    metrics = bench.evaluate(genotype, task="phantom_brain", seed=0)
    assert set(metrics) == set(METRICS) - {"uncertainty"}
    assert metrics["tiles"] >= 3
    assert bench.count(genotype).items() <= metrics.items()
    assert bench.space == experiment.SPACE


def test_only_what_is_missing_is_trained_again_and_gives_the_same(experiment, out):
    before = load(out / "medbench.parquet").rows
    lost, *others = sorted((out / "networks").iterdir())
    kept = {path: path.stat().st_mtime_ns for path in others}
    lost.unlink()
    experiment.main([*TINY, "--out", str(out)])
    assert {path: path.stat().st_mtime_ns for path in others} == kept
    again = load(out / "medbench.parquet").rows
    measured = ["task", "seed", "key", "training", "chip", "time_s", "dice"]
    pd.testing.assert_frame_equal(before[measured], again[measured])


def test_a_part_of_the_networks_makes_a_table(experiment, out, tmp_path, capsys):
    (tmp_path / "networks").mkdir()
    first = min((out / "networks").iterdir())
    (tmp_path / "networks" / first.name).write_bytes(first.read_bytes())
    experiment.main([*TINY, "--out", str(tmp_path), "--collect"])
    assert "1 of 3 networks" in capsys.readouterr().out
    assert load(tmp_path / "medbench.parquet").tasks == ("phantom_brain",)


def test_networks_of_other_settings_are_not_mixed(experiment, out):
    with pytest.raises(SystemExit, match="has other settings"):
        experiment.main([*TINY, "--out", str(out), "--chips", "3"])


def test_nothing_finished_is_no_table(experiment, tmp_path):
    with pytest.raises(SystemExit, match="no finished network"):
        experiment.main([*TINY, "--out", str(tmp_path), "--collect"])
