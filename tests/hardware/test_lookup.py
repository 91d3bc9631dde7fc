import math
import time
from collections import Counter

import pytest
import torch
import yaml
from scipy.stats import kendalltau
from torch import nn

from analogmed.foundation.errors import ConfigError, DataError
from analogmed.hardware import (
    LookupTable,
    agreement,
    describe_machine,
    measure_networks,
    measure_operations,
    read_table,
    record,
)
from analogmed.hardware.operations import KEY
from analogmed.tables.hardware import DEVICE, OPERATIONS

SHAPE = (1, 2, 16, 16)


@pytest.fixture(scope="module")
def model():
    return nn.Sequential(nn.Conv2d(2, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 2, 1))


@pytest.fixture(scope="module")
def table(model):
    timings = measure_operations([record(model, SHAPE)], repetitions=5)
    return LookupTable(timings, describe_machine() | {"repetitions": 5})


def test_the_table_has_a_column_for_each_part_of_the_key_of_an_operation():
    first = len(DEVICE)
    assert OPERATIONS.order[first : first + len(KEY)] == KEY


def test_each_operation_is_measured_and_a_network_is_their_sum(model, table):
    counts = record(model, SHAPE).counts
    assert table.timings.keys() == counts.keys()
    for timing in table.timings.values():
        assert 0 < timing.low_s <= timing.median_s <= timing.high_s
        assert timing.repetitions == 5
    assert table.predict_s(counts) == sum(timing.median_s for timing in table.timings.values())
    doubled = Counter({operation: 2 * count for operation, count in counts.items()})
    assert table.predict_s(doubled) == pytest.approx(2 * table.predict_s(counts))


class Sleeping(nn.Module):
    """Takes the processor for a known time."""

    def __init__(self, busy_s):
        super().__init__()
        self.busy_s = busy_s

    def forward(self, x):
        end = time.process_time() + self.busy_s
        while time.process_time() < end:
            pass
        return x + 1


def test_measured_times_are_those_that_a_network_takes():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = measure_networks([Sleeping(0.002), Sleeping(0.006)], SHAPE, repetitions=5)
        (timing,) = measure_operations([record(Sleeping(0.004), SHAPE)], repetitions=5).values()
    finally:
        torch.set_num_threads(threads)
    assert [round(1e3 * timing.median_s) for timing in found] == [2, 6]
    assert round(1e3 * timing.median_s) == 4


def test_a_table_is_read_back_as_it_was_written(table, tmp_path):
    table.write(tmp_path)
    read = read_table(tmp_path)
    assert read.provenance == table.provenance
    assert read.timings.keys() == table.timings.keys()
    for operation, timing in table.timings.items():
        assert read.timings[operation].median_s == pytest.approx(timing.median_s, rel=1e-12)
        assert read.timings[operation].repetitions == timing.repetitions


def test_a_table_says_where_it_was_measured(table):
    assert {"device", "threads", "runtime", "clock", "system", "python", "time"} <= set(
        table.provenance
    )
    assert table.provenance["runtime"] == f"torch {torch.__version__}"


def test_an_operation_that_was_not_measured_is_named(table):
    named = r"lacks 1 of 1 operations \(Conv2d 5x5 on [^;]*1x2x16x16[^;]*\): measure"
    with pytest.raises(DataError, match=named):
        table.predict_s(record(nn.Conv2d(2, 1, 5), SHAPE).counts)


def test_a_missing_table_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match=r"operations\.csv: no table .*hardware measure"):
        read_table(tmp_path)


def edit(folder, name, old, new):
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("median_ms", "median", "lacks the columns median_ms"),
        (",5\n", ",five\n", "invalid literal"),
        (",1,torch", ",2,torch", "expected one device, number of threads and runtime"),
    ],
)
def test_a_damaged_table_is_named(table, tmp_path, old, new, message):
    one_thread = LookupTable(table.timings, {**table.provenance, "threads": 1})
    one_thread.write(tmp_path)
    edit(tmp_path, "operations.csv", old, new)
    with pytest.raises(DataError, match=rf"operations\.csv.*{message}"):
        read_table(tmp_path)


def test_a_table_beside_another_devices_provenance_is_refused(table, tmp_path):
    table.write(tmp_path)
    other = dict(table.provenance) | {"device": "another"}
    (tmp_path / "provenance.yaml").write_text(yaml.safe_dump(other))
    with pytest.raises(DataError, match="device differs"):
        read_table(tmp_path)


def test_agreement_is_mape_and_kendalls_tau():
    predicted, measured = [1.0, 2.2, 2.7, 5.0], [1.0, 2.0, 3.0, 4.0]
    found = agreement(predicted, measured)
    assert found.mape == pytest.approx((0 + 0.1 + 0.1 + 0.25) / 4)
    assert found.kendall_tau == 1.0
    swapped = agreement([2.0, 1.0, 3.0], [1.0, 2.0, 3.0])
    assert swapped.kendall_tau == pytest.approx(kendalltau([2, 1, 3], [1, 2, 3]).statistic)
    assert swapped.kendall_tau == pytest.approx(1 / 3)  # two of three pairs in order


def test_one_network_has_no_rank_correlation():
    assert math.isnan(agreement([1.0], [2.0]).kendall_tau)


@pytest.mark.parametrize(("predicted", "measured"), [([], []), ([1.0], [1.0, 2.0])])
def test_agreement_needs_pairs(predicted, measured):
    with pytest.raises(ConfigError, match="as many predictions as measurements"):
        agreement(predicted, measured)
