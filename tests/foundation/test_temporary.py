import signal
import subprocess
import sys

import pytest

from analogmed.foundation.temporary import temporary_folder

HOLD = """
import os, signal, sys, time
from pathlib import Path
from analogmed.foundation.temporary import temporary_folder
with temporary_folder(Path(sys.argv[1]), "download") as folder:
    (folder / "part").write_text("half")
    print(folder, flush=True)
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def started(folder, what):
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_it_is_there_and_gone(tmp_path):
    with temporary_folder(tmp_path, "x") as folder:
        assert folder.is_dir()
        assert folder.parent == tmp_path
    with pytest.raises(RuntimeError), temporary_folder(tmp_path, "x") as folder:
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_others_use_or_own_stays(tmp_path):
    killed = started(tmp_path, "die")
    left = killed.stdout.readline().strip()
    assert killed.wait() == -signal.SIGKILL
    killed.communicate()
    living = started(tmp_path, "live")
    used = living.stdout.readline().strip()
    of_user = [tmp_path / name for name in (".download-mine", ".other-0123456789abcdef")]
    for folder in of_user:
        folder.mkdir()
    with temporary_folder(tmp_path, "download") as own:
        names = {str(path) for path in tmp_path.iterdir()}
        assert names == {used, str(own), *map(str, of_user)}
        assert left not in names
    living.communicate("")
    assert set(tmp_path.iterdir()) == set(of_user)
