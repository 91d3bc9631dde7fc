"""The noise of the compiled engine: Philox against its authors' vectors, normals by statistics."""

import itertools
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from analogmed.analog.engines.cpu import kernels as numba_kernels
from analogmed.analog.engines.cpu.kernels.adc import ADC_WORK, convert_outputs
from analogmed.analog.engines.cpu.kernels.noise import BLOCK, philox_words
from analogmed.analog.engines.cpu.ops import NumbaOps
from analogmed.analog.engines.cpu.threads import _run_in_pool, run_threaded

SIZE = 1 << 20


def normals(size=SIZE, *, key=1, sample=0, use=0, row=0, sample_size=None, first=0):
    """Draws of the ADC's noise alone: sums of 0, no rounding, no bound, a scale of 1."""
    sums, total = np.zeros(size, np.float32), np.empty(size, np.float32)
    ones, zeros = np.ones(BLOCK + 1, np.float32), np.zeros(BLOCK + 1, np.float32)
    ticket, work = np.zeros(1, np.int64), np.zeros((), ADC_WORK)
    arrays = {"ticket": ticket, "sums": sums, "total": total, "scale": ones, "bias": zeros}
    for name, array in arrays.items():
        work[name] = array.ctypes.data
    work["size"], work["first"], work["sample_size"] = size, first, sample_size or 1 << 40
    work["columns"] = work["inner"] = 1
    work["key"], work["sample"], work["use"], work["row"] = key, sample, use, row
    work["noise"], work["bound"] = 1.0, np.inf
    run_threaded(convert_outputs.ctypes, work.ctypes.data)
    return total.astype(np.float64)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), 0, "5f6fb709 0d893f64 4f121f81 4f730a48"),
        ((2**32 - 1,) * 4, 2**64 - 1, "5207ddc2 45165e59 4d8ee751 8c52f662"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            0x299F31D0_A4093822,
            "4dfccaba 190a87f0 c47362ba b6b5242a",
        ),
    ],
)
def test_philox_gives_the_known_answers_of_random123(counter, key, expected):
    words = np.empty(BLOCK, np.uint32)
    block, index = divmod(counter[0], BLOCK // 4)
    philox_words(words, block, *map(np.uint32, counter[1:]), np.uint64(key))
    assert " ".join(f"{word:08x}" for word in words[index :: BLOCK // 4]) == expected


def test_moments_are_those_of_the_normal_distribution():
    z = np.concatenate([normals(key=key) for key in range(8)])
    n = len(z)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**power).mean() - moment) < 4 * math.sqrt(variance / n)  # closed forms


def test_the_distribution_is_normal_by_kolmogorov_and_smirnov():
    assert stats.kstest(normals(key=2), "norm").pvalue > 1e-3


def test_tails_up_to_five_sigma_have_their_share():
    z = np.abs(np.concatenate([normals(key=key) for key in range(100, 124)]))
    for sigma in (2.0, 3.0, 4.0, 4.5, 5.0):
        expected = len(z) * 2 * stats.norm.sf(sigma)
        found = int((z > sigma).sum())
        assert 1e-4 < stats.poisson.cdf(found, expected) < 1 - 1e-4, (sigma, found, expected)


def test_draws_at_other_places_are_not_correlated():
    base = normals(key=5)
    pairs = {f"lag {lag}": (base[:-lag], base[lag:]) for lag in (1, 2, 16, 255, 256, 512, 1024)}
    pairs |= {
        "key": (base, normals(key=6)),
        "upper half of the key": (base, normals(key=5 + 2**32)),
        "sample": (base, normals(key=5, sample=1)),
        "use": (base, normals(key=5, use=1)),
        "row": (base, normals(key=5, row=1)),
    }
    for name, (left, right) in pairs.items():
        bound = 4.5 / math.sqrt(len(left))
        assert abs(np.corrcoef(left, right)[0, 1]) < bound, name
        assert abs(np.corrcoef(left**2, right**2)[0, 1]) < bound, name


def test_sine_and_cosine_of_one_radius_are_independent():
    blocks = normals(key=7).reshape(-1, 2, BLOCK // 2)
    left, right = blocks[:, 0].ravel(), blocks[:, 1].ravel()
    angle = np.arctan2(left, right) / (2 * np.pi) + 0.5
    assert stats.kstest(angle, "uniform").pvalue > 1e-3
    assert stats.kstest((left**2 + right**2) / 2, "expon").pvalue > 1e-3


def test_no_words_repeat_within_or_between_addresses():
    seen = []
    for sample, use, row in itertools.product(range(3), repeat=3):
        words = np.empty(BLOCK, np.uint32)
        for block in range(8):
            philox_words(words, block, *map(np.uint32, (sample, use, row)), np.uint64(9))
            seen.append(words.reshape(4, -1).T.copy())
    counters = np.concatenate(seen)
    assert len(np.unique(counters, axis=0)) == len(counters)


def test_threads_do_not_change_a_bit():
    threads = torch.get_num_threads()
    try:
        found = []
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found.append(normals(100_003))
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_threads_of_python_do_the_same_where_torch_has_no_gnu_openmp(monkeypatch):
    expected = normals(100_003)
    monkeypatch.setattr("analogmed.analog.engines.cpu.threads._crew", lambda: _run_in_pool)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert np.array_equal(normals(100_003), expected)


@pytest.mark.parametrize("sample_size", [7, 1000, 1024, 5000])
def test_an_element_gets_the_same_noise_wherever_a_part_of_the_batch_begins(sample_size):
    whole = normals(20_000, sample_size=sample_size)
    for first in (1, 1023, 7001):
        part = normals(5000, sample_size=sample_size, first=first)
        assert np.array_equal(part, whole[first : first + 5000])
    fifth = normals(sample_size, sample=2, sample_size=sample_size)
    start = 2 * sample_size
    assert np.array_equal(fifth[: 20_000 - start], whole[start : start + sample_size])


@pytest.mark.slow
def test_importing_analogmed_does_not_load_numba():
    code = "import sys, analogmed, analogmed.analog; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def run_python(code, *folders):
    """What a fresh interpreter prints that looks for packages in these folders first."""
    path = os.pathsep.join([*map(str, folders), *filter(None, sys.path)])
    environment = os.environ | {"PYTHONPATH": path}
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
    return done.stdout


@pytest.mark.exhaustive
def test_the_kernels_compile_without_a_folder_for_their_machine_code():
    """The package and the home folder are read-only here; root could write to them all the same."""
    run_python(
        "from numba.core import caching\n"
        "caching.CacheImpl._locator_classes = []\n"
        "from analogmed.analog.engines.cpu.kernels.dac import convert_inputs\n"
        "assert convert_inputs.address\n"
    )


@pytest.mark.exhaustive
def test_machine_code_is_kept_until_a_file_that_a_kernel_calls_changes(tmp_path):
    package = tmp_path / "analogmed"
    kernels = package / "analog" / "numba_kernels"
    shutil.copytree(
        Path(numba_kernels.__path__[0]), kernels, ignore=shutil.ignore_patterns("__pycache__")
    )
    for folder in (package, kernels.parent):
        (folder / "__init__.py").touch()
    code = (
        "import numpy as np\n"
        "from analogmed.analog.engines.cpu.kernels.masks import MASK_WORK, mask\n"
        "ticket, work = np.zeros(1, np.int64), np.zeros((), MASK_WORK)\n"
        "work['ticket'] = ticket.ctypes.data\n"
        "mask.ctypes(work.ctypes.data)\n"
        "print(mask.cache_hits, ticket[0])\n"
    )
    assert run_python(code, tmp_path) == "0 1\n"
    assert run_python(code, tmp_path) == "1 1\n"
    helper = kernels / "worker.py"
    helper.write_text(helper.read_text().replace("_I64(1)", "_I64(7)"))
    assert run_python(code, tmp_path) == "0 7\n"


@pytest.mark.parametrize("shape", [(2, 32, 16, 8), (1, 29, 33, 31), (3, 3, 5, 9), (2, 17, 4, 4, 5)])
def test_a_map_changes_its_layout_as_torch_does_it(shape):
    values = torch.randn(shape)
    last = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    expected = values.contiguous(memory_format=last)
    found = NumbaOps().in_layout(values, last)
    assert torch.equal(found, expected)
    assert found.stride() == expected.stride()
    back = NumbaOps().in_layout(expected, torch.contiguous_format)
    assert torch.equal(back, values)
    assert back.is_contiguous()
