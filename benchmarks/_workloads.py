"""Workloads: networks, inputs and hardware, the same for every contender."""

import copy
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from aihwkit.simulator.configs import TorchInferenceRPUConfig
from aihwkit.simulator.parameters.enums import WeightNoiseType
from torch import Tensor, nn

import analogmed as am

W_NOISE = 0.01
_UNET = {"features": 32}
_NARROW = {"unet": {"features": 8}, "swin_unetr": {"feature_size": 12}}
_ABS_MAX = {"noise_management": "abs_max", "input_range": False}


@dataclass(frozen=True)
class Workload:
    """A network, its input and the hardware.

    Attributes:
        model: name of the network.
        shape: shape of the input, (B, C, *spatial).
        tile_size: rows and columns of a tile.
        target: target cost, as a multiple of the digital network's; ``None`` for no target.
        options: options of the network.
        hardware: further arguments of ``create_rpu_config``.
        w_noise: standard deviation of additive weight noise, resampled in every MVM.
    """

    model: str
    shape: tuple[int, ...]
    tile_size: int
    target: float | None = None
    options: dict[str, Any] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=dict)
    w_noise: float = 0.0

    def describe(self) -> dict[str, Any]:
        """Return the description for tables and JSON."""
        return {
            "model": self.model,
            "options": self.options,
            "shape": self.shape,
            "tile_size": self.tile_size,
            "target": self.target,
            "hardware": self.hardware | ({"w_noise": self.w_noise} if self.w_noise else {}),
        }

    def small(self) -> "Workload":
        """Return a small workload: at most 2 images of 64 pixels a side, narrow network."""
        batch, channels, *spatial = self.shape
        shape = min(batch, 2), channels, *(min(side, 64) for side in spatial)
        options = self.options | _NARROW.get(self.model, {})
        return replace(self, shape=shape, options=options)

    def rpu_config(self) -> TorchInferenceRPUConfig:
        """Return hardware with 8-bit converters, output and weight noise, without weight clipping.

        The output noise is 0.04. The weight noise applies in training.
        """
        arguments = {"clip": "none", **self.hardware}
        config = am.create_rpu_config("pcm", tile_size=self.tile_size, **arguments)
        if self.w_noise:
            config.forward.w_noise = self.w_noise
            config.forward.w_noise_type = WeightNoiseType.ADDITIVE_CONSTANT
        return config


FORWARD = {
    "unet-256": Workload("unet", (8, 3, 256, 256), 256, 1.25, _UNET),
    "unet-512": Workload("unet", (8, 3, 256, 256), 512, 1.1, _UNET),
    "unet-abs-max": Workload("unet", (8, 3, 256, 256), 256, 2.5, _UNET, _ABS_MAX),
    "unet-w-noise": Workload("unet", (8, 3, 256, 256), 256, 2.5, _UNET, w_noise=W_NOISE),
    "unetpp": Workload("unetpp", (8, 3, 256, 256), 256, 1.4),
    "swin-2d": Workload("swin_unetr", (8, 3, 256, 256), 256, 1.4),
    "unet-3d": Workload("unet", (1, 1, 64, 64, 64), 256, 2.0, {"spatial_dims": 3, **_UNET}),
    "swin-3d": Workload("swin_unetr", (1, 1, 64, 64, 64), 256, 2.0, {"spatial_dims": 3}),
}
TRAINING = {
    "unet-256": Workload("unet", (8, 3, 256, 256), 256, 1.3, _UNET),
    "unet-512": Workload("unet", (8, 3, 256, 256), 512, 1.3, _UNET),
}


@dataclass(frozen=True)
class Setup:
    """A prepared workload: weights, input ranges and images from which every contender starts.

    Attributes:
        workload: description of the workload.
        digital: plain network.
        calibrated: network on tiles, computed by torch, without weight noise.
        images: images, shape (B, C, *spatial).
    """

    workload: Workload
    digital: nn.Module
    calibrated: nn.Module
    images: Tensor

    @classmethod
    def of(cls, workload: Workload, device: str = "cpu") -> "Setup":
        """Sample weights and images, and calibrate on one image."""
        torch.manual_seed(0)
        shape = workload.shape
        options = {"spatial_dims": len(shape) - 2, **workload.options}
        model = am.build_model(workload.model, in_channels=shape[1], out_channels=1, **options)
        images = torch.randn(shape)
        config = workload.rpu_config()
        config.forward.w_noise, config.forward.w_noise_type = 0.0, WeightNoiseType.NONE
        analog = am.calibrate(am.convert(model, config, backend="torch"), [images[:1]])
        return cls(workload, model.to(device), analog.to(device), images.to(device))

    def with_batch(self, batch: int) -> "Setup":
        """Return the same set-up with fewer images."""
        return Setup(self.workload, self.digital, self.calibrated, self.images[:batch])

    def convert(self, backend: str) -> nn.Module:
        """Return the network on tiles, computed by one of analogmed's backends."""
        model = copy.deepcopy(self.digital).cpu()
        analog = am.convert(model, self.workload.rpu_config(), backend=cast(Any, backend))
        analog.load_state_dict(self.calibrated.state_dict())
        return analog.to(self.images.device)
