"""Simulated chips: one programmed instance of a model, read at any time and any number of times."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from weakref import WeakSet

import torch
from torch import Tensor, nn

from analogmed.analog.aihwkit_backend.layers import AihwkitTiles, aihwkit_tiles
from analogmed.analog.calibration import check_calibrated
from analogmed.analog.devices.programming import ProgrammedModel
from analogmed.analog.engines.layout import CHANNELS_LAST
from analogmed.analog.engines.select import may_compile
from analogmed.analog.layers.base import AnalogLayer
from analogmed.analog.tile.rows import LayerSnapshot
from analogmed.foundation.errors import CoverageError, NonFiniteError
from analogmed.foundation.seeds import derive_seed
from analogmed.network.walk import evaluating

_COMPILED = "_orig_mod."  # prefix that torch.compile adds to names, which seed the noise


class Chip:
    """One programmed instance of an analog model.

    Programming noise and drift exponents are sampled once, on construction. Each call of ``at``
    starts from the programmed state, so that times may be in any order. Read noise is sampled for
    each read. The same seed gives the same chip, independent of earlier computations.

    Args:
        model: calibrated analog model. Each call runs in evaluation mode and leaves the weights
            unchanged.
        seed: random seed of this chip.

    Raises:
        CoverageError: the model has no analog layer.
        ConfigError: the input ranges of the model were never set.
        NonFiniteError: a weight is NaN or Inf; names the layer.
    """

    def __init__(self, model: nn.Module, *, seed: int = 0) -> None:
        self.model = model
        self.seed = seed
        own = {
            name.replace(_COMPILED, ""): layer
            for name, layer in model.named_modules()
            if isinstance(layer, AnalogLayer)
        }
        self._programmed = ProgrammedModel(own, derive_seed(seed, "program"))
        self._aihwkit = {
            name: AihwkitTiles(tiles, derive_seed(seed, "program", name))
            for name, tiles in aihwkit_tiles(model)
        }
        self._layers: dict[str, AnalogLayer | AihwkitTiles] = {**own, **self._aihwkit}
        if not self._layers:
            raise CoverageError(
                f"{type(model).__name__} has no analog layer, so nothing would drift; "
                "convert() it first"
            )
        check_calibrated(model)

    def at(self, t_inference_s: float, read: int = 0) -> "ChipSnapshot":
        """Return the chip at a time after programming.

        Args:
            t_inference_s: seconds since the end of programming; 0 is right after it. (aihwkit's PCM
                model counts drift from 20 s after programming, so that 1 s shows almost none.)
            read: number of the read, 0 or more; each read has its own read noise.

        Returns:
            Callable that maps images (B, C, *spatial) to logits.

        Raises:
            ValueError: the time is negative or not finite, or the read number is negative.
            ConfigError: the noise model does not support this time.
            NonFiniteError: the noise model returns NaN or Inf; names the layer.
        """
        if not math.isfinite(t_inference_s) or t_inference_s < 0:
            raise ValueError(
                f"time after programming must be 0 s or more and finite, got {t_inference_s!r} s"
            )
        if read < 0:
            raise ValueError(f"read number must be 0 or more, got {read}")
        seed = derive_seed(self.seed, "time", float(t_inference_s), "read", int(read))
        readings = self._programmed.read(float(t_inference_s), derive_seed(seed, "devices"))
        for name, tiles in self._aihwkit.items():
            readings[name] = tiles.read(float(t_inference_s), derive_seed(seed, name))
        return ChipSnapshot(self.model, self._layers, readings, seed).restart()


_NO_VIEW = "view size is not compatible"  # part of torch's message
_VIEWING: WeakSet[nn.Module] = WeakSet()
"""Networks that call ``view`` on feature maps, which torch does not support in channels_last."""


@dataclass(frozen=True)
class ChipSnapshot:
    """Snapshot of a chip at one time and read, callable with images.

    The weights are fixed. Output noise is sampled in each call, from a stream that starts at
    ``restart``. With the compiled engine, the noise of an image depends on the number of images
    since ``restart``, not on the batch. This holds in layers whose first axis is the batch (not in
    a Transformer with ``batch_first=False``). Two snapshots of one chip are independent of each
    other.
    """

    model: nn.Module
    layers: dict[str, AnalogLayer | AihwkitTiles]
    readings: dict[str, LayerSnapshot]
    seed: int

    def restart(self, *address: object) -> "ChipSnapshot":
        """Restart the noise stream at an address, so that results do not depend on the order.

        Args:
            *address: parts of the address, for example the name of the case.
        """
        for name, reading in self.readings.items():
            reading.stream.restart(derive_seed(self.seed, "output", name, *address))
        return self

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits of a batch of images, which are left unchanged.

        Args:
            images: shape (B, C, *spatial).

        Raises:
            ValueError: the batch is empty.
            NonFiniteError: the images contain NaN or Inf.
        """
        check_images(images)
        for reading in self.readings.values():
            reading.stream.next_batch(len(images))
        with self._installed():
            if not self._computes_channels_last(images):
                return self.model(images.clone())  # a network may change it in place
            streams = [reading.stream for reading in self.readings.values()]
            positions = [stream.position() for stream in streams]
            try:
                last = images.to(memory_format=CHANNELS_LAST[images.ndim])
                return self.model(images.clone() if last is images else last)
            except RuntimeError as error:
                if _NO_VIEW not in str(error):
                    raise
            _VIEWING.add(self.model)
            for stream, position in zip(streams, positions, strict=True):
                stream.return_to(position)
            return self.model(images.clone())

    def _computes_channels_last(self, images: Tensor) -> bool:
        """Return whether to try the memory format in which compiled layers are fastest."""
        if images.ndim not in CHANNELS_LAST or images.device.type != "cpu":
            return False
        if self.model in _VIEWING:
            return False
        return any(isinstance(m, AnalogLayer) and may_compile(m) for m in self.model.modules())

    @contextmanager
    def _installed(self) -> Iterator[None]:
        with ExitStack() as stack:
            for name, layer in self.layers.items():
                stack.enter_context(layer.use_snapshot(self.readings[name]))
            stack.enter_context(evaluating(self.model))
            yield


def check_images(images: Tensor) -> None:
    """Raise an error for an empty batch, or for images with NaN or Inf."""
    if images.numel() == 0:
        raise ValueError(f"the batch of images is empty: shape {tuple(images.shape)}")
    if not torch.isfinite(images).all():
        bad = int((~torch.isfinite(images)).sum())
        raise NonFiniteError(
            f"the images hold {bad} NaN or Inf values; clean them before inference"
        )
