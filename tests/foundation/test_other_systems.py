"""Systems other than POSIX: file locks and the CPU affinity of a process are optional."""

import os
import subprocess
import sys

from analogmed.foundation.process import available_cores

WITHOUT_FCNTL = """
import sys
sys.modules["fcntl"] = None  # importing it raises ImportError
from pathlib import Path
from analogmed.foundation.files import write_folder_atomically, write_text_atomically
from analogmed.foundation.locks import FileLock

here = Path(sys.argv[1])
write_text_atomically(here / "text", "content")
with write_folder_atomically(here / "folder") as part:
    (part / "file").write_text("content")
print(sorted(path.relative_to(here).as_posix() for path in here.rglob("*")))
try:
    FileLock(here / "lock").acquire()
except OSError as error:
    print(error.strerror)
"""


def test_files_are_written_where_the_system_has_no_locks(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_FCNTL, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    files, error = done.stdout.splitlines()
    assert files == "['folder', 'folder/file', 'text']"
    assert error == "this operating system has no fcntl.flock"


def test_cores_are_counted_where_the_system_has_no_affinity(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert available_cores() == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores() == 1
