import itertools
import json
import math

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy import stats

from analogmed.foundation.errors import ConfigError, DataError
from analogmed.models import Genotype, Level
from analogmed.search.benchmark.table import COLUMNS, TIMES_S, load, save, space_to_dict
from analogmed.search.objectives import METRICS
from analogmed.search.space.space import Space

SPACE = Space(depths=(2,), blocks=("A", "C"), widths=(4,), growths=(1, 2), kernels=(3,))
CHIPS = 4
DAY = TIMES_S.index(86_400.0)


def dice_of(number, chip, time):
    return 0.5 + 0.02 * number + 0.001 * chip - 0.01 * time


def rows_of(number, genotype, task, seed, training):
    address = {
        "task": task, "seed": seed, "key": genotype.key, "genotype": genotype.to_json(),
        "training": training, "n_cases": 9, "parameters": 100.0 + number, "tiles": 3.0,
        "latency_ms": 0.1, "energy_mj": 0.01, "training_cpu_s": 1.5, "provenance": "a test",
    }  # fmt: skip
    digital = {"hardware": "digital", "chip": None, "time_s": None, "dice": 0.9}
    on_chips = [
        {"hardware": "pcm", "chip": chip, "time_s": time_s, "dice": dice_of(number, chip, time)}
        for chip, (time, time_s) in itertools.product(range(CHIPS), enumerate(TIMES_S))
    ]
    return [address | row for row in (digital, *on_chips)]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    networks = list(SPACE.enumerate())
    rows = []
    for number, genotype in enumerate(networks):
        for training in ("digital", "hwa"):
            rows += rows_of(number, genotype, "phantom_brain", 0, training)
    for number, genotype in enumerate(networks[:2]):
        rows += rows_of(number + 5, genotype, "phantom_brain", 1, "hwa")
        rows += rows_of(number, genotype, "phantom_nuclei", 0, "hwa")
    table = pd.DataFrame(rows).astype(dict(COLUMNS))
    return save(
        table, {"space": space_to_dict(SPACE)}, tmp_path_factory.mktemp("bench") / "t.parquet"
    )


@pytest.fixture(scope="module")
def bench(path):
    return load(path)


def test_a_table_knows_its_space_tasks_and_seeds(bench):
    assert bench.space == SPACE
    assert bench.tasks == ("phantom_brain", "phantom_nuclei")
    assert bench.seeds("phantom_brain") == (0, 1)
    assert set(bench.networks()["genotype"]) == {g.to_json() for g in SPACE.enumerate()}
    assert len(bench.networks("phantom_nuclei")) == 2


def test_metrics_are_means_over_chips_by_their_definitions(bench):
    found = bench.evaluate(list(SPACE.enumerate())[3])
    chips = np.array([[dice_of(3, chip, time) for time in range(5)] for chip in range(CHIPS)])
    assert set(found) <= set(METRICS)
    assert found["dice_1d"] == pytest.approx(chips[:, DAY].mean())
    assert found["dice_1d_std"] == pytest.approx(chips[:, DAY].std(ddof=1))
    assert found["dice_t0"] == pytest.approx(chips[:, 0].mean())
    assert found["avm_drop"] == pytest.approx(chips[:, 1].mean() - chips[:, 4].mean())
    assert (found["dice_digital"], found["parameters"]) == (0.9, 103.0)


def test_the_interval_is_students_over_chips(bench):
    row = bench.networks().iloc[0]
    number = [g.to_json() for g in SPACE.enumerate()].index(row["genotype"])
    values = [dice_of(number, chip, DAY) for chip in range(CHIPS)]
    low, high = stats.t.interval(0.95, CHIPS - 1, np.mean(values), stats.sem(values))
    assert (row["dice_1d_low"], row["dice_1d_high"]) == (pytest.approx(low), pytest.approx(high))


def test_a_noisy_query_is_one_chip_of_one_seed_and_replays(bench):
    genotype = next(SPACE.enumerate())
    found = {bench.evaluate(genotype, noise=noise)["dice_1d"] for noise in range(60)}
    possible = [dice_of(n, chip, DAY) for n, chip in itertools.product((0, 5), range(CHIPS))]
    assert sorted(found) == pytest.approx(sorted(possible))
    assert bench.evaluate(genotype, noise=7) == bench.evaluate(genotype, noise=7)


def test_a_query_of_one_chip_has_no_deviation_over_chips(bench):
    genotype = next(SPACE.enumerate())
    whole, noisy = bench.evaluate(genotype), bench.evaluate(genotype, noise=0)
    assert whole.keys() - noisy.keys() == {"dice_1d_std"}


def test_a_noisy_query_of_a_network_with_one_seed_uses_that(bench):
    genotype = list(SPACE.enumerate())[-1]
    number = len(list(SPACE.enumerate())) - 1
    possible = [dice_of(number, chip, DAY) for chip in range(CHIPS)]
    found = {bench.evaluate(genotype, noise=noise)["dice_1d"] for noise in range(40)}
    assert sorted(found) == pytest.approx(possible)


def test_counting_needs_no_training(bench):
    assert bench.count(next(SPACE.enumerate())) == {
        "parameters": 100.0, "tiles": 3.0, "latency_ms": 0.1, "energy_mj": 0.01
    }  # fmt: skip


def test_a_network_of_another_space_is_refused_with_the_nearest(bench):
    other = Genotype((Level("C", 4, 3), Level("F", 4, 3)))
    with pytest.raises(ConfigError, match=r"not of the table's space; .* in it is 2d:C4-[AC]4$"):
        bench.evaluate(other)


def test_a_network_that_was_not_trained_is_refused(bench):
    with pytest.raises(ConfigError, match="is of the table's space, but was not trained"):
        bench.evaluate(list(SPACE.enumerate())[-1], task="phantom_nuclei")


def test_unknown_tasks_seeds_and_trainings_are_refused(bench):
    with pytest.raises(ConfigError, match="did you mean 'phantom_brain'"):
        bench.networks("phantom_brian")
    with pytest.raises(ConfigError, match=r"no seed 7 of phantom_brain; found \(0, 1\)"):
        bench.networks(seed=7)
    with pytest.raises(ConfigError, match="no training 'hwaa'; did you mean 'hwa'"):
        bench.networks(training="hwaa")


def test_equal_rows_give_equal_bytes(bench, path, tmp_path):
    shuffled = bench.rows.sample(frac=1, random_state=0)
    again = save(shuffled, {"space": space_to_dict(SPACE)}, tmp_path / "again.parquet")
    assert again.read_bytes() == path.read_bytes()


def test_a_missing_table_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"none.parquet: there is no such table"):
        load(tmp_path / "none.parquet")


def test_a_damaged_table_is_refused(path, tmp_path):
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"damaged.parquet: damaged, or no Parquet file"):
        load(damaged)


def test_another_parquet_file_is_refused(tmp_path):
    pd.DataFrame({"dice": [1.0]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(DataError, match="no benchmark table of analogmed"):
        load(tmp_path / "other.parquet")


@pytest.mark.parametrize("name", ["format", "genotype_version"])
def test_a_table_of_another_version_is_refused(path, tmp_path, name):
    def changed(metadata):
        about = json.loads(metadata[b"analogmed.medbench"])
        return {b"analogmed.medbench": json.dumps(about | {name: 99}).encode()}

    rewrite(path, tmp_path / "newer.parquet", changed)
    with pytest.raises(DataError, match=f"its {name} is 99"):
        load(tmp_path / "newer.parquet")


def test_a_table_without_a_column_is_refused(path, tmp_path):
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["dice"]), tmp_path / "less.parquet")
    with pytest.raises(DataError, match="lacks the columns dice"):
        load(tmp_path / "less.parquet")


def rewrite(path, other, changed):
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata(changed(table.schema.metadata)), other)


def test_metrics_of_one_chip_leave_out_the_deviation(tmp_path):
    rows = [
        row
        for row in rows_of(0, next(SPACE.enumerate()), "t", 0, "hwa")
        if row["chip"] in (None, 0)
    ]
    path = save(
        pd.DataFrame(rows).astype(dict(COLUMNS)),
        {"space": space_to_dict(SPACE)},
        tmp_path / "t.parquet",
    )
    found = load(path).evaluate(next(SPACE.enumerate()))
    assert "dice_1d_std" not in found
    assert not any(math.isnan(value) for value in found.values())


def test_the_shipped_table_holds_its_whole_space():
    shipped = load()
    assert set(shipped.networks()["genotype"]) == {g.to_json() for g in shipped.space.enumerate()}
    assert len(shipped.networks()) >= 60
    again = shipped.networks(seed=1)
    assert len(again) >= 20
    assert set(again.index) <= set(shipped.networks().index)
    assert len(shipped.networks("phantom_nuclei")) >= 20


def test_the_shipped_table_is_of_five_chips_at_five_times():
    rows = load().rows
    on_chips = rows[rows["chip"].notna()]
    counts = on_chips.groupby(["task", "seed", "training", "key"]).size()
    assert set(counts) == {25}
    assert rows["dice"].between(0, 1).all()
    assert set(rows["training"]) == {"digital", "hwa"}
