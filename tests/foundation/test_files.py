import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.files import ensure_writable, write_atomically, write_text_atomically


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


def test_a_new_file_appears_whole_with_its_folder(tmp_path):
    path = tmp_path / "deep" / "er" / "text.txt"
    assert write_text_atomically(path, "größe") == path
    assert path.read_bytes() == "größe".encode()
    assert [p.name for p in path.parent.iterdir()] == ["text.txt"]


def test_the_file_has_the_rights_of_an_ordinary_new_file(tmp_path):
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    path = write_text_atomically(tmp_path / "text", "x")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)


def test_the_writer_sees_the_suffix(tmp_path):
    seen = []
    write_atomically(tmp_path / "a.parquet", lambda path: seen.append(path.suffix))
    assert seen == [".parquet"]


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = write_text_atomically(tmp_path / "text", "old")

    def half(temporary):
        temporary.write_text("new, but ha")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_atomically(path, half)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    path = write_text_atomically(tmp_path / "text", "old")
    with largest_file(4096), pytest.raises(OSError, match="File too large"):
        write_text_atomically(path, "x" * 10_000)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_process_killed_in_the_middle_leaves_the_old_file(tmp_path):
    path = write_text_atomically(tmp_path / "text", "old")
    code = (
        "import os, signal, sys\n"
        "from analogmed.foundation.files import write_atomically\n"
        "def half(temporary):\n"
        "    temporary.write_text('new, but ha')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomically(sys.argv[1], half)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_a_writable_folder_is_made_and_left_empty(tmp_path):
    folder = ensure_writable(tmp_path / "deep" / "er")
    assert list(folder.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("precious")
    for folder in (tmp_path / "run", tmp_path / "run" / "below"):
        with pytest.raises(ConfigError, match=r"cannot write to .*run.*--out"):
            ensure_writable(folder)
    assert (tmp_path / "run").read_text() == "precious"


def test_a_read_only_folder_is_refused():
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        with (
            without_rights_of_root(),
            pytest.raises(ConfigError, match=rf"cannot write to {name}.*Permission denied"),
        ):
            ensure_writable(name)


def test_a_full_disk_is_noticed_before_any_work(tmp_path):
    with largest_file(1024), pytest.raises(ConfigError, match="File too large"):
        ensure_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []
