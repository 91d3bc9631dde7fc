from collections import Counter

import numpy as np
import pytest

from analogmed.data import Case, Sample
from analogmed.foundation.errors import DataError
from analogmed.training.sampling.cache import SampleCache

CASES = tuple(Case(f"case{i}", f"case{i}", (), ()) for i in range(4))
SAMPLE_BYTES = 2 * 8 * 8 * (4 + 1)


class Reader:
    """Two slices of 8 x 8 a case, with class 2 in the last slice of case 3 alone."""

    def __init__(self):
        self.reads = Counter()
        self.rare = 2

    def __call__(self, case):
        self.reads[case.case_id] += 1
        label = np.zeros((2, 8, 8), dtype=np.uint8)
        label[0, 0, 0] = 1
        label[1, 3, 3] = self.rare if case is CASES[3] else 0
        return Sample(np.zeros((2, 1, 8, 8), np.float32), label, (1.0, 1.0), case)


@pytest.fixture
def reader():
    return Reader()


def cache_of(reader, n_samples):
    return SampleCache(reader, CASES, n_classes=2, limit_bytes=n_samples * SAMPLE_BYTES)


def test_what_fits_is_read_once(reader):
    cache = cache_of(reader, 4)
    for index in (0, 3, 0, 1, 2):
        assert cache[index].case is CASES[index]
    assert set(reader.reads.values()) == {1}


def test_beyond_the_limit_the_least_used_is_read_again(reader):
    cache = cache_of(reader, 2)
    reader.reads.clear()
    for index in (0, 1, 0, 2, 0, 1):  # 2 puts out 1, which puts out 2
        cache[index]
    assert reader.reads == {"case1": 1, "case2": 1}


def test_a_sample_beyond_the_limit_is_kept_until_the_next_is_read(reader):
    cache = cache_of(reader, 0)
    reader.reads.clear()
    for index in (0, 0, 1, 1, 0):
        cache[index]
    assert reader.reads == {"case0": 2, "case1": 1}


def test_the_table_tells_which_slice_holds_which_class(reader):
    table = cache_of(reader, 0).table
    assert len(table) == 8
    assert table.case.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert table.position.tolist() == [0, 1] * 4
    assert table.holds[:, 0].tolist() == [True, False] * 4
    assert np.flatnonzero(table.holds[:, 1]).tolist() == [7]


def test_a_case_that_changes_during_the_training_is_refused_by_name(reader):
    cache = cache_of(reader, 0)
    reader.rare = 0
    assert cache[2].case is CASES[2]
    with pytest.raises(DataError, match=r"case case3: .* not those read at the start"):
        cache[3]


def test_processes_divide_the_limit_where_not_all_samples_fit(reader):
    cache = cache_of(reader, 2).divided(2)
    reader.reads.clear()
    for index in (0, 0, 1, 0):
        cache[index]
    assert reader.reads == {"case0": 2, "case1": 1}


def test_processes_share_the_samples_where_all_fit(reader):
    cache = cache_of(reader, 4)
    assert cache.divided(2) is cache
