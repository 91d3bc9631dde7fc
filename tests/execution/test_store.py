import os
import resource
import signal
import tempfile
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analogmed.execution.store import Store, UnitResult
from analogmed.execution.unit import canonical, key_of
from analogmed.foundation.errors import ConfigError
from analogmed.tables.results import to_table

DESCRIPTION = {"chip": 3, "seed": 0, "times_s": [0.0, 86_400.0]}
KEY = key_of(DESCRIPTION)
ROW = {"task": "t", "model": "unet", "training": "hwa", "hardware": "pcm", "chip": 3}
ROWS = [
    ROW | {"time_s": t, "read": 0, "case": "c", "metric": "dice", "value": 0.1 + t, "note": ""}
    for t in (0.0, 86_400.0)
]
TABLE = to_table(ROWS)
RESULT = UnitResult(TABLE)


@pytest.fixture(params=["folder", "file URL", "memory"])
def store(request, tmp_path):
    urls = {
        "folder": tmp_path / "deep" / "store",
        "file URL": f"file://{tmp_path}/store",
        "memory": f"memory://{uuid.uuid4().hex}",
    }
    return Store(urls[request.param])


@contextmanager
def largest_file(n_bytes):
    """Writes beyond this size fail, as they do on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@contextmanager
def without_rights_of_root():
    user = os.geteuid()
    if user == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(user)


def file_of(folder):
    return folder / "units" / f"{KEY}.parquet"


def test_what_is_written_is_read_back_exactly(store):
    assert store.keys() == set()
    assert store.read(KEY) is None
    store.ensure_writable()
    assert store.write(DESCRIPTION, RESULT) == KEY
    assert store.keys() == {KEY}
    pd.testing.assert_frame_equal(store.read(KEY).table, TABLE)


def test_further_tables_of_any_types_are_read_back_exactly(store):
    counts = pd.DataFrame(
        {
            "time_s": [float("nan"), 0.0],
            "counts": [np.arange(3), np.arange(2)],
            "data": [b"\x00", b""],
            "chip": [0, 1],
            "trivial": [True, False],
        }
    )
    empty = pd.DataFrame([], columns=["case", "value"]).astype({"value": float})
    store.write(DESCRIPTION, UnitResult(counts, {"empty": empty, "results": TABLE}))
    assert store.keys() == {KEY}
    found = store.read(KEY)
    pd.testing.assert_frame_equal(found.table, counts)
    assert list(found.parts) == ["empty", "results"]
    pd.testing.assert_frame_equal(found.parts["empty"], empty)
    pd.testing.assert_frame_equal(found.parts["results"], TABLE)


def test_a_unit_without_one_of_its_tables_is_not_finished(tmp_path):
    store = Store(tmp_path)
    result = UnitResult(TABLE, {"more": TABLE})
    store.write(DESCRIPTION, result)
    part = tmp_path / "units" / f"{KEY}-more.parquet"
    part.write_bytes(part.read_bytes()[:-5])
    with pytest.warns(UserWarning, match=rf"{KEY}-more.parquet is damaged .*quarantine.*again"):
        assert store.read(KEY) is None
    assert store.read(KEY) is None
    store.write(DESCRIPTION, result)
    pd.testing.assert_frame_equal(store.read(KEY).parts["more"], TABLE)


def test_the_file_says_what_it_is(tmp_path):
    Store(tmp_path).write(DESCRIPTION, UnitResult(TABLE, batch_size=2))
    metadata = pq.read_metadata(file_of(tmp_path)).metadata
    assert metadata[b"analogmed.unit"].decode() == canonical(DESCRIPTION)
    assert metadata[b"analogmed.batch_size"] == b"2"


def test_two_writers_of_a_unit_write_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        Store(tmp_path / name).write(
            dict(reversed(DESCRIPTION.items())), UnitResult(to_table(ROWS))
        )
    assert file_of(tmp_path / "one").read_bytes() == file_of(tmp_path / "two").read_bytes()


def test_files_that_are_no_units_are_left_alone(tmp_path):
    store = Store(tmp_path)
    store.write(DESCRIPTION, RESULT)
    for name in (f".{KEY}-x1.parquet", "notes.txt", f"{KEY}.parquet-aside"):
        (tmp_path / "units" / name).write_text("x")
    assert store.keys() == {KEY}


def test_a_damaged_file_goes_to_quarantine_and_its_unit_is_not_finished(store):
    store.write(DESCRIPTION, RESULT)
    files, root = fsspec.core.url_to_fs(store.url)
    path = f"{root}/units/{KEY}.parquet"
    damaged = files.cat_file(path)[:-5]
    files.pipe_file(path, damaged)
    with pytest.warns(UserWarning, match=rf"{KEY}.parquet is damaged .*quarantine.*again"):
        assert store.read(KEY) is None
    assert store.keys() == set()
    (aside,) = files.ls(f"{root}/quarantine", detail=False)
    assert files.cat_file(aside) == damaged
    store.write(DESCRIPTION, RESULT)
    pd.testing.assert_frame_equal(store.read(KEY).table, TABLE)


def test_a_result_under_the_name_of_another_unit_is_damaged(tmp_path):
    store = Store(tmp_path)
    store.write(DESCRIPTION, RESULT)
    other = key_of(DESCRIPTION | {"chip": 4})
    file_of(tmp_path).rename(tmp_path / "units" / f"{other}.parquet")
    with pytest.warns(UserWarning, match="its description is not that of its name"):
        assert store.read(other) is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*is damaged")
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(place=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_no_changed_byte_changes_a_result_unnoticed(place, mask):
    with tempfile.TemporaryDirectory() as name:
        store = Store(name)
        store.write(DESCRIPTION, RESULT)
        content = bytearray(file_of(Path(name)).read_bytes())
        content[int(place * len(content))] ^= mask
        file_of(Path(name)).write_bytes(content)
        found = store.read(KEY)
    if found is not None:
        pd.testing.assert_frame_equal(found.table, TABLE)


def test_a_full_disk_leaves_no_part_of_a_result(tmp_path):
    store = Store(tmp_path)
    store.ensure_writable()
    with largest_file(1024), pytest.raises(ConfigError, match=rf"cannot write.*{tmp_path}"):
        store.write(DESCRIPTION, RESULT)
    assert list((tmp_path / "units").iterdir()) == []


def test_a_full_disk_is_noticed_before_any_work(tmp_path):
    with largest_file(1024), pytest.raises(ConfigError, match=r"cannot write to .*File too large"):
        Store(tmp_path).ensure_writable()


def test_a_read_only_store_is_noticed_before_any_work():
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        with without_rights_of_root(), pytest.raises(ConfigError, match="Permission denied"):
            Store(name).ensure_writable()


def test_a_file_system_that_is_no_object_store_gets_files_aside_and_renamed(tmp_path):
    seen = []

    class Watched(DirFileSystem):
        protocol = "watched"
        cachable = False

        def __init__(self, **_):
            super().__init__(path=str(tmp_path), fs=fsspec.filesystem("file"))

        def pipe_file(self, path, value, **options):
            seen.append(("write", path.rpartition("/")[2]))
            return super().pipe_file(path, value, **options)

        def mv(self, path1, path2, **options):
            seen.append(("move to", path2.rpartition("/")[2]))
            return super().mv(path1, path2, **options)

    fsspec.register_implementation("watched", Watched, clobber=True)
    store = Store("watched://runs")
    store.write(DESCRIPTION, RESULT)
    assert [what for what, _ in seen] == ["write", "move to"]
    assert seen[0][1] != seen[1][1] == f"{KEY}.parquet"
    pd.testing.assert_frame_equal(store.read(KEY).table, TABLE)
    assert store.keys() == {KEY}


@pytest.mark.parametrize("url", ["nowhere://bucket/run", "chained::nowhere://x"])
def test_an_unknown_kind_of_store_is_told(url):
    with pytest.raises(ConfigError, match=r"store (nowhere|chained)"):
        Store(url)


def test_credentials_of_a_store_reach_no_message():
    with pytest.raises(ConfigError) as raised:
        Store("nosuch://KEY:SECRET@bucket/sweep")
    assert "SECRET" not in str(raised.value)
    assert "nosuch://***@bucket/sweep" in str(raised.value)
    with pytest.raises(ConfigError, match="are masked, as settings of a run folder are"):
        Store("s3://***@bucket/sweep")
    assert str(Store("memory://a:b@x")) == "memory://***@x"


def test_a_unit_is_dated_and_removed(tmp_path):
    store = Store(tmp_path)
    before = datetime.now(UTC) - timedelta(seconds=2)
    key = store.write(DESCRIPTION, RESULT)
    assert before < store.written_at(key) < datetime.now(UTC) + timedelta(seconds=2)
    store.remove(key)
    store.remove(key)
    assert store.keys() == set()
    assert store.written_at(key) is None
