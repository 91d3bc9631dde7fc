"""The GPU kernels on machines without a GPU: interpreted, and compiled to machine code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

triton = pytest.importorskip("triton")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("interpreted kernels do not compile", allow_module_level=True)

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from analogmed.analog import convert, create_rpu_config  # noqa: E402
from analogmed.analog.engines import select as engines  # noqa: E402
from analogmed.analog.engines.direct import DirectEngine  # noqa: E402
from analogmed.analog.engines.gpu import kernels  # noqa: E402
from analogmed.analog.engines.gpu import ops as triton_ops  # noqa: E402
from analogmed.analog.engines.gpu.ops import TritonOps  # noqa: E402
from analogmed.foundation.errors import ConfigError  # noqa: E402


def test_all_tests_of_the_passes_hold_in_tritons_interpreter():
    tests = Path(__file__).with_name("test_gpu_ops.py")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rfE", str(tests)],
        env=os.environ
        | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "", "PYTEST_ADDOPTS": ""},
        cwd=tests.parents[3],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
    assert " passed" in result.stdout


POINTERS = ("sums", "total", "scale", "bias", "spread", "factor", "codes", "source")
UNWANTED = {"spread": None, "factor": None, "fits": None, "codes": None, "clipped": None}
FLAGS = {"NOISY": True, "ROUNDS": True, "ADDS": True}
VARIANTS = {
    "outputs": (kernels.convert_outputs, UNWANTED | FLAGS, {}),
    "outputs of channels last": (kernels.convert_outputs, UNWANTED | FLAGS | {"inner": 1}, {}),
    "the first outputs, exact": (
        kernels.convert_outputs,
        UNWANTED | dict.fromkeys(FLAGS, False),
        {},
    ),
    "outputs of 2**31 elements and more": (
        kernels.convert_outputs,
        UNWANTED | FLAGS,
        dict.fromkeys(("size", "first", "sample_size", "inner"), "i64"),
    ),
    "outputs, recorded": (
        kernels.convert_outputs,
        {"spread": None, "factor": None} | FLAGS,
        {"codes": "*i8"},
    ),
    "outputs by position": (
        kernels.convert_outputs,
        {"fits": None, "codes": None, "clipped": None} | FLAGS,
        {},
    ),
    "inputs": (kernels.convert_inputs, {"WHOLE": True, "ROUNDS": True}, {}),
    "inputs in runs": (kernels.convert_inputs, {"WHOLE": False, "ROUNDS": False}, {}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_compiles_for_a_gpu_without_spilling_registers(variant, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel, constants, types = VARIANTS[variant]
    types = (
        dict.fromkeys(POINTERS, "*fp32")
        | {"fits": "*u8", "clipped": "*i64"}
        | dict.fromkeys(("gain", "bound", "noise"), "fp32")
        | types
    )
    signature = {
        name: "constexpr" if name in constants else types.get(name, "i32")
        for name in kernel.arg_names
    }
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel, signature, places)
    compiled = triton.compile(source, GPUTarget("cuda", 80, 32), triton_ops._OPTIONS)
    assert ".local " not in compiled.asm["ptx"]
    assert len(compiled.asm["cubin"]) > 1000


def test_every_gpu_tensor_goes_to_the_compiled_passes_by_default():
    found = engines._compiled_engine("cuda")
    assert isinstance(found, DirectEngine)
    assert isinstance(found._ops, TritonOps)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_backend_is_refused_where_there_is_no_gpu():
    with pytest.raises(ConfigError, match="GPU, and torch finds none; take backend='auto'"):
        convert(nn.Linear(5, 3), create_rpu_config("pcm"), backend="triton")


@pytest.mark.parametrize("change", [{"noise_management": "abs_max"}, {"inp_noise": 0.01}])
def test_hardware_that_it_does_not_compute_is_refused(change):
    with pytest.raises(ConfigError, match="backend 'triton': not implemented for"):
        convert(nn.Linear(5, 3), create_rpu_config("pcm", **change), backend="triton")


@pytest.mark.parametrize("change", [{"noise_management": "abs_max"}, {}])
def test_each_compiled_backend_computes_on_its_own_device_only(change):
    layer = convert(nn.Sequential(nn.Linear(5, 3)).eval(), create_rpu_config("pcm", **change))[0]
    inputs = torch.randn(4, 5)
    with torch.no_grad():
        assert engines.engine_for(layer, inputs) is not engines._TORCH
        layer.engine = "triton"
        assert engines.engine_for(layer, inputs) is engines._TORCH
