import os
import subprocess
import sys

import pytest

from analogmed.foundation.process import available_cores

LIMITED = """
import resource
from analogmed.foundation.process import free_bytes
free = free_bytes()
used = next(
    1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")
)
resource.setrlimit(resource.RLIMIT_DATA, (used + 2**26, used + 2**26))
print(free, free_bytes())
"""


@pytest.mark.parametrize(("counted", "cores"), [(6, 6), (None, 1)])
def test_cores_are_counted_on_systems_without_affinity(counted, cores, monkeypatch):
    """macOS and Windows have no ``os.sched_getaffinity``."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: counted)
    assert available_cores() == cores


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel reports memory in /proc")
def test_the_limit_of_a_process_counts_as_the_memory_of_the_machine_does():
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], capture_output=True, text=True, check=True
    )
    machine, limited = map(int, done.stdout.split())
    assert machine > 2**28
    assert 2**25 < limited <= 2**26
