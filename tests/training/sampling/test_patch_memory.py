import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.slow

_PEAK = """
import ctypes, gc, sys
from pathlib import Path
import numpy as np
from analogmed.data import Case, Sample, Task
from analogmed.foundation.process import bytes_by_name
from analogmed.training.settings import LoadingConfig
from analogmed.training.sampling.patches import PatchSampler

def status_mb(field):
    return bytes_by_name("/proc/self/status")[field] / 1e6

def read(case):
    return Sample(np.load(case.images[0]), np.load(case.labels[0]), (1.0, 1.0), case)

folder = Path(sys.argv[1])
cases = tuple(
    Case(path.stem, path.stem, (path,), (path.with_suffix(".label.npy"),))
    for path in sorted(folder.glob("case?.npy"))
)
task = Task("files", folder, 2, ("a",), ("b",), (64, 64), "px", cases, (), (), read)

def peak_mb(cases, cache_bytes):
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = status_mb("VmRSS")
    loading = LoadingConfig(cache_bytes=cache_bytes, mixed_cases=4)
    sampler = PatchSampler(task, cases, batch_size=8, seed=0, loading=loading)
    for epoch in range(2):
        for images, labels in sampler.epoch(epoch):
            pass
    return status_mb("VmHWM") - before

peak_mb(cases[:1], 0)  # what is loaded at the first use
print(*[peak_mb(cases, int(limit)) for limit in sys.argv[2:]])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_memory_stays_near_the_cache_when_the_data_are_four_times_as_large(tmp_path):
    """Eight cases of 21 MB; the peak is the cache, the sample being read, and little else."""
    for i in range(8):
        np.save(tmp_path / f"case{i}.npy", np.full((16, 1, 512, 512), i, np.float32))
        np.save(tmp_path / f"case{i}.label.npy", np.ones((16, 512, 512), np.uint8))
    sample_mb = 16 * 512 * 512 * (4 + 1) / 1e6
    limits = [str(n * 16 * 512 * 512 * (4 + 1)) for n in (2, 8)]
    command = [sys.executable, "-c", _PEAK, str(tmp_path), *limits]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    limited, unlimited = map(float, run.stdout.split())
    assert limited < (2 + 1 + 0.5) * sample_mb
    assert unlimited > 7.5 * sample_mb  # so the limit is what keeps the other small
