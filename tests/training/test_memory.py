import copy
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from torch import nn

from analogmed import create_rpu_config
from analogmed.analog import Chip, calibrate, convert
from analogmed.foundation.errors import ConfigError
from analogmed.models import build_model
from analogmed.network.probe import is_out_of_memory
from analogmed.training.memory import _readable, checkpoint_activations, explain_out_of_memory

NETWORKS = {
    "swin_unetr": {"feature_size": 12, "window_size": 4, "attn_drop_rate": 0.2},
    "unet": {"features": 2, "dropout": 0.2},
    "unetpp": {"features": (4, 4, 4, 4, 8, 4), "deep_supervision": True, "norm": "batch"},
    "dynunet": {"window": 32, "filters": (4, 4, 4, 4), "deep_supervision": True},
    "attention_unet": {"channels": (4, 8), "strides": (2,), "dropout": 0.2},
}
SETTING = {"batch_size": 16, "window": (96, 64), "weights": 10**6, "checkpointing": False}


def build(name):
    torch.manual_seed(0)
    return build_model(name, in_channels=1, out_channels=1, **NETWORKS[name])


def step(model, images):
    """Outputs, gradients and buffers of two steps of training, with the noise of one seed."""
    torch.manual_seed(5)
    model.train().zero_grad()
    outputs = []
    for _ in range(2):
        given = model(images)
        heads = (given,) if isinstance(given, torch.Tensor) else given
        sum(head.square().mean() for head in heads).backward()
        outputs += heads
    values = {f"output {number}": output.detach() for number, output in enumerate(outputs)}
    values |= {f"gradient of {name}": p.grad for name, p in model.named_parameters()}
    return values | {name: buffer.clone() for name, buffer in model.named_buffers()}


def differing(values, others):
    assert values.keys() == others.keys()
    return [
        name
        for name, value in values.items()
        if not (value is others[name] is None or torch.equal(value, others[name]))
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_and_statistics_are_those_without_checkpointing(name):
    size = 64 if name == "swin_unetr" else 32
    model, images = build(name), torch.rand(2, 1, size, size)
    checkpointed = copy.deepcopy(model)
    checkpoint_activations(checkpointed)
    assert not differing(step(model, images), step(checkpointed, images))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("name", ["swin_unetr", "unet"])
def test_gradients_of_noisy_tiles_are_those_without_checkpointing(name, backend):
    size = 64 if name == "swin_unetr" else 32
    images = torch.rand(2, 1, size, size)
    hardware = create_rpu_config()
    assert hardware.forward.out_noise > 0
    model = calibrate(convert(build(name), hardware, backend=backend), [images])
    checkpointed = copy.deepcopy(model)
    checkpoint_activations(checkpointed)
    values = step(model, images)
    assert not differing(values, step(checkpointed, images))
    torch.manual_seed(6)
    model.train()
    other, another = model(images), model(images)
    assert not torch.equal(other, another)  # there is noise


def test_noise_goes_on_after_a_step_as_without_checkpointing():
    images = torch.rand(2, 1, 32, 32)
    model = calibrate(convert(build("unet"), create_rpu_config()), [images])
    states = []
    for each in (model, copy.deepcopy(model)):
        if each is not model:
            checkpoint_activations(each)
        step(each, images)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_blocks_of_swin_use_monais_switch_and_its_decoder_is_computed_again_too():
    model = build("swin_unetr")
    blocks = checkpoint_activations(model)
    switched = [m for m in model.modules() if getattr(m, "use_checkpoint", False)]
    transformer = sum(type(m).__name__ == "SwinTransformerBlock" for m in switched)
    assert transformer == 8  # four stages of two
    assert "forward" not in vars(switched[0])
    assert "forward" in vars(model.decoder1.conv_block)
    assert blocks > 8


def test_evaluation_and_names_of_weights_are_not_touched():
    images = torch.rand(2, 1, 32, 32)
    plain = calibrate(convert(build("unet"), create_rpu_config()), [images])
    checkpointed = copy.deepcopy(plain)
    checkpoint_activations(checkpointed)
    assert plain.state_dict().keys() == checkpointed.state_dict().keys()
    readings = [Chip(model, seed=1).at(3600.0)(images) for model in (plain, checkpointed)]
    assert torch.equal(*readings)


def test_a_copy_computes_with_its_own_weights():
    model = build("unet")
    checkpoint_activations(model)
    other = copy.deepcopy(model).train()
    other(torch.rand(2, 1, 32, 32)).sum().backward()
    assert all(p.grad is None for p in model.parameters())
    assert all(p.grad is not None for p in other.parameters())


def test_network_without_blocks_is_refused_by_name():
    with pytest.raises(ConfigError, match="Sequential has no block"):
        checkpoint_activations(nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU()))


@pytest.mark.exhaustive
def test_checkpointing_lowers_the_peak_of_memory():
    program = """
        import torch
        from pathlib import Path
        from analogmed.foundation.process import bytes_by_name
        from analogmed.models import build_model
        from analogmed.training.memory import checkpoint_activations
        torch.set_num_threads(1)

        def step(images, checkpointing):
            model = build_model("unet", in_channels=1, out_channels=1, features=8)
            if checkpointing:
                checkpoint_activations(model)
            before = bytes_by_name("/proc/self/status")["VmRSS"]
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
            model(images).mean().backward()
            return bytes_by_name("/proc/self/status")["VmHWM"] - before

        for checkpointing in (True, False):  # torch loads what it needs for these
            step(torch.rand(2, 1, 32, 32), checkpointing)
        images = torch.rand(4, 1, 256, 256)
        print(step(images, True), step(images, False))
    """
    freed_at_once = {"MALLOC_MMAP_THRESHOLD_": "65536"}
    checkpointed, plain = map(int, _run(program, **freed_at_once).stdout.split())
    assert checkpointed < 0.75 * plain


def _run(program, **environment):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )


def provoked(allocate):
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        allocate()
    return caught.value


def test_torchs_failure_to_allocate_is_explained_with_the_bytes_asked_for():
    error = provoked(lambda: torch.empty(2**58, dtype=torch.uint8))
    assert is_out_of_memory(error)
    assert "(256.0 PiB more were asked for)" in str(explain_out_of_memory(error, **SETTING))


def test_numpys_failure_to_allocate_is_explained_with_the_bytes_asked_for():
    error = provoked(lambda: np.empty(2**50, dtype=np.uint8))
    assert is_out_of_memory(error)
    assert "(1.0 PiB more were asked for)" in str(explain_out_of_memory(error, **SETTING))


def test_failure_of_a_gpu_is_explained_with_the_bytes_asked_for():
    text = (  # of torch's CUDACachingAllocator
        "CUDA out of memory. Tried to allocate 20.25 GiB. GPU 0 has a total capacity of 139.80 GiB "
        "of which 5.00 GiB is free."
    )
    error = torch.OutOfMemoryError(text)
    assert is_out_of_memory(error)
    message = str(explain_out_of_memory(error, **SETTING))
    assert "(20.2 GiB more were asked for)" in message
    assert text in message


@pytest.mark.slow
def test_a_step_that_does_not_fit_the_process_is_explained():
    program = """
        import resource, torch
        from analogmed.models import build_model
        from analogmed.network.probe import is_out_of_memory
        from analogmed.training.memory import explain_out_of_memory
        model = build_model("unet", in_channels=1, out_channels=1, features=8)
        size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + 2**28, resource.RLIM_INFINITY))
        try:
            model(torch.rand(16, 1, 512, 512)).mean().backward()
        except (RuntimeError, MemoryError) as error:
            assert is_out_of_memory(error), error
            print(explain_out_of_memory(
                error, batch_size=16, window=(512, 512), weights=1, checkpointing=True
            ))
    """
    message = _run(program).stdout
    assert message.startswith("out of memory (")
    assert "batches of 16 patches of 512x512" in message


def test_only_a_want_of_memory_is_one():
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(ValueError("out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
    error = provoked(lambda: torch.ones(2) @ torch.ones(3))
    assert not is_out_of_memory(error)


def test_advice_names_each_setting_with_its_numbers():
    message = str(explain_out_of_memory(MemoryError(), divisor=(16, 16), **SETTING))
    assert "activation_checkpointing: true" in message
    assert "batch_size: 8 takes 50%" in message
    assert "optimizer.accumulate: 2" in message
    assert "task.options.window: [64, 32] instead of [96, 64] has 33%" in message
    assert "take 15.3 MiB" in message  # 16 bytes for each of a million weights


def test_advice_leaves_out_what_cannot_be_made_smaller():
    message = str(
        explain_out_of_memory(
            MemoryError(),
            batch_size=1,
            window=(16, 16),
            weights=1,
            checkpointing=True,
            divisor=(16, 16),
        )
    )
    assert "batch_size:" not in message
    assert "window:" not in message
    assert "take a smaller network" in message


def test_odd_batches_are_halved_so_that_a_step_has_no_fewer_patches():
    message = str(explain_out_of_memory(MemoryError(), **{**SETTING, "batch_size": 3}))
    assert "batch_size: 1 takes 33%" in message
    assert "optimizer.accumulate: 3" in message


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1, "1 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (5 * 2**20, "5.0 MiB"),
        (1024**7, "1024.0 EiB"),
    ],
)
def test_sizes_have_the_largest_unit_that_they_reach(count, text):
    assert _readable(count) == text
