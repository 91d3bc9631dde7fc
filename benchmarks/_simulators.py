"""Other simulators with the same weights, input ranges, converters and noise."""

import contextlib
import copy
import io
from dataclasses import fields

import torch
from _workloads import Setup
from aihwkit.nn import AnalogConv2d, AnalogLinear
from aihwkit.simulator.configs import InferenceRPUConfig
from aihwkit.simulator.parameters.enums import NoiseManagementType
from torch import nn

from analogmed.analog import to_aihwkit
from analogmed.analog.layers.base import analog_layers

AIHWKIT_LAYERS = (AnalogConv2d, AnalogLinear)


class SkippedError(Exception):
    """A contender cannot run on this machine; the message gives the reason."""


def aihwkit_torch(setup: Setup) -> nn.Module:
    """Return a network of aihwkit's torch tiles (``TorchInferenceRPUConfig``)."""
    if setup.workload.w_noise:
        raise SkippedError("the torch tile ignores w_noise")
    return to_aihwkit(setup.calibrated)


def aihwkit_compiled(setup: Setup) -> nn.Module:
    """Return a network of aihwkit's compiled tiles (``InferenceRPUConfig``), if they run."""
    if setup.images.device.type != "cpu":
        raise SkippedError("the wheel's compiled tile computes on the CPU")
    config = setup.workload.rpu_config()
    shared = {
        name: getattr(config, name)
        for name in _names(InferenceRPUConfig) & _names(type(config))
        if name not in {"tile_class", "tile_array_class"}
    }
    analog = copy.deepcopy(setup.calibrated)
    for layer in analog_layers(analog).values():
        layer.rpu_config = InferenceRPUConfig(**shared)
    try:
        return to_aihwkit(analog)
    except RuntimeError as error:
        raise SkippedError(
            f"aihwkit's compiled tile does not work with torch {torch.__version__} ({error}); "
            "aihwkit 1.2.0 on Python 3.12 or later does with torch 2.13"
        ) from error


def lightning(setup: Setup) -> nn.Module:
    """Return a network of aihwkit-lightning, if installed.

    In evaluation it adds no output noise and simulates no chip.
    """
    if setup.workload.w_noise:
        raise SkippedError("aihwkit-lightning has no w_noise")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            from aihwkit_lightning.nn.conversion import convert_to_analog
    except ImportError as error:
        raise SkippedError(
            "not installed: pip install --no-deps aihwkit-lightning==2.1.0"
        ) from error
    model = convert_to_analog(setup.digital, _lightning_config(setup))
    with torch.no_grad():
        for name, layer in setup.calibrated.named_modules():
            ranges = getattr(layer, "input_range", None)
            twin = model.get_submodule(name)
            if ranges is not None and getattr(twin, "input_range", None) is not None:
                twin.input_range.copy_(ranges.reshape(twin.input_range.shape))
    return model


def _names(config: type) -> set[str]:
    return {field.name for field in fields(config) if field.init}


def _lightning_config(setup: Setup) -> object:
    from aihwkit_lightning.simulator.configs import (
        TorchInferenceRPUConfig,
        WeightNoiseInjectionType,
    )

    ours, config = setup.workload.rpu_config(), TorchInferenceRPUConfig()
    for name in ("inp_res", "out_res", "out_bound", "out_noise"):
        setattr(config.forward, name, getattr(ours.forward, name))
    config.mapping.max_input_size = ours.mapping.max_input_size
    config.modifier.noise_type = WeightNoiseInjectionType.ADD_NORMAL
    config.modifier.std_dev = ours.modifier.std_dev
    ranges, own = config.pre_post.input_range, ours.pre_post.input_range
    ranges.enable, ranges.init_from_data = True, 0
    ranges.decay, ranges.input_min_percentage = own.decay, own.input_min_percentage
    ranges.dynamic = ours.forward.noise_management is NoiseManagementType.ABS_MAX
    ranges.learn_input_range = not ranges.dynamic
    return config
