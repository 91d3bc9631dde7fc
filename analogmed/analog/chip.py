"""Simulated chips: one programmed instance of a model, read at any time and any number of times."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn
from weakref import WeakSet

import torch
from torch import Tensor, nn

from analogmed.analog.aihwkit_backend.layers import (
    AihwkitTiles,
    aihwkit_tiles,
    configs_of,
    is_analog,
)
from analogmed.analog.calibration import check_calibrated
from analogmed.analog.devices.programming import ProgrammedModel
from analogmed.analog.devices.reram import check_times
from analogmed.analog.engines.layout import CHANNELS_LAST
from analogmed.analog.engines.select import may_compile
from analogmed.analog.layers.base import AnalogLayer, analog_layers
from analogmed.analog.tile.rows import LayerSnapshot
from analogmed.foundation.errors import ConfigError, CoverageError, NonFiniteError
from analogmed.foundation.seeds import derive_seed
from analogmed.foundation.settings.checks import require_whole
from analogmed.foundation.settings.forms import checks_arguments
from analogmed.foundation.text import Rendered
from analogmed.foundation.time_constants import time_label, to_seconds
from analogmed.network.batches import checked_network
from analogmed.network.walk import evaluating

_COMPILED = "_orig_mod."  # prefix that torch.compile adds to names, which seed the noise


@checks_arguments
class Chip(Rendered):
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
        ConfigError: the input ranges of the model were never set, the model is a snapshot of a
            chip, or the seed is not a whole number.
        NonFiniteError: a weight is NaN or Inf; names the layer.
    """

    def __init__(self, model: nn.Module, *, seed: int = 0) -> None:
        require_whole("seed", seed)
        check_programmable(model)
        self.model = model
        self.seed = seed
        own = {name.replace(_COMPILED, ""): layer for name, layer in analog_layers(model).items()}
        self._programmed = ProgrammedModel(own, derive_seed(seed, "program"))
        self._aihwkit = {
            name: AihwkitTiles(tiles, derive_seed(seed, "program", name))
            for name, tiles in aihwkit_tiles(model)
        }
        self._layers: dict[str, AnalogLayer | AihwkitTiles] = {**own, **self._aihwkit}

    @checks_arguments
    def at(self, t_inference_s: str | float, read: int = 0) -> "ChipSnapshot":
        """Return the chip at a time after programming.

        Args:
            t_inference_s: time since the end of programming: seconds, or a text such as
                ``"1 day"``; 0 or ``"t0"`` is right after it. (aihwkit's PCM model counts drift from
                20 s after programming, so that 1 s shows almost none.)
            read: number of the read, 0 or more; each read has its own read noise.

        Returns:
            Network that maps images (B, C, *spatial) to logits.

        Raises:
            ConfigError: the time is no time, negative or not finite, or the noise model does not
                support it; or the read number is negative or not whole.
            NonFiniteError: the noise model returns NaN or Inf; names the layer.
        """
        time_s = to_seconds(t_inference_s)
        require_whole("read number", read, least=0)
        seed = derive_seed(self.seed, "time", time_s, "read", int(read))
        readings = self._programmed.read(time_s, derive_seed(seed, "devices"))
        for name, tiles in self._aihwkit.items():
            readings[name] = tiles.read(time_s, derive_seed(seed, name))
        label = f"chip {self.seed}, {time_label(time_s)}, read {int(read)}"
        return ChipSnapshot(self.model, self._layers, readings, seed, label).restart()

    def facts(self) -> dict[str, object]:
        """Return network, number of layers on tiles, and seed."""
        network = type(self.model).__name__
        return {"network": network, "layers on tiles": len(self._layers), "seed": self.seed}


_NO_VIEW = "view size is not compatible"  # part of torch's message
_VIEWING: WeakSet[nn.Module] = WeakSet()
"""Networks that call ``view`` on feature maps, which torch does not support in channels_last."""


class ChipSnapshot(nn.Module):
    """Snapshot of a chip at one time and read: a network from images to logits.

    The weights are fixed. Output noise is sampled in each call, from a stream that starts at
    ``restart``. With the compiled engine, the noise of an image depends on the number of images
    since ``restart``, not on the batch. This holds in layers whose first axis is the batch (not in
    a Transformer with ``batch_first=False``). Two snapshots of one chip are independent of each
    other.

    A snapshot always computes in evaluation mode and without gradients; ``train()`` and ``eval()``
    change nothing. ``parameters()`` are the trained weights of the model, not those of the chip;
    ``requires_grad_()`` and ``zero_grad()`` change them there.

    Args:
        model: analog model.
        layers: analog layers of the model that are on the chip, by name.
        readings: weights of the tiles of each layer, by name.
        seed: seed of the output noise.
        label: chip, time and read, for ``repr``.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Mapping[str, AnalogLayer | AihwkitTiles],
        readings: Mapping[str, LayerSnapshot],
        seed: int,
        label: str = "",
    ) -> None:
        super().__init__()
        self.model = model
        self.layers, self.readings = dict(layers), dict(readings)
        self.seed, self.label = seed, label
        self.training = False

    def without(self, names: Iterable[str]) -> "ChipSnapshot":
        """Return a snapshot of the same tiles on which some layers are not on the chip."""
        left = set(names)
        layers = {name: layer for name, layer in self.layers.items() if name not in left}
        readings = {name: self.readings[name] for name in layers}
        return ChipSnapshot(self.model, layers, readings, self.seed, self.label)

    def train(self, mode: bool = True) -> "ChipSnapshot":
        """Return the snapshot unchanged: it computes in evaluation mode, whatever ``mode`` is."""
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "ChipSnapshot":
        """Return the snapshot, unless the call would move or convert the weights of its model."""
        for weight in self.model.parameters():
            moved = fn(weight.detach())
            if (moved.device, moved.dtype) != (weight.device, weight.dtype):
                raise ConfigError(
                    f"{self!r}: a programmed chip cannot be moved or converted; expected "
                    f"{weight.dtype} on {weight.device}, got {moved.dtype} on {moved.device}. Move "
                    "the network to the device, then program a Chip."
                )
        return self

    def load_state_dict(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise an error: the weights of a programmed chip are fixed.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"{self!r}: the weights of a programmed chip are fixed. Load them into the network, "
            "then program a Chip."
        )

    def __repr__(self) -> str:
        return f"ChipSnapshot({type(self.model).__name__} on {self.label})"

    def restart(self, *address: object) -> "ChipSnapshot":
        """Restart the noise stream at an address, so that results do not depend on the order.

        Args:
            *address: parts of the address, for example the name of the case.
        """
        for name, reading in self.readings.items():
            reading.stream.restart(derive_seed(self.seed, "output", name, *address))
        return self

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of a batch of images, which are left unchanged.

        Args:
            images: shape (B, C, *spatial).

        Raises:
            ConfigError: the images are no tensor, of another type, or the batch is empty.
            NonFiniteError: the images contain NaN or Inf.
        """
        check_images(images)
        try:
            return self._logits(images)
        except RuntimeError as error:
            weight = next(self.model.parameters())
            if images.dtype == weight.dtype or not _is_about_types(error):
                raise
            raise ConfigError(
                f"images: expected {weight.dtype}, the type of the weights, got {images.dtype}: "
                f"{error}. Convert them with images.to({weight.dtype})."
            ) from error

    def _logits(self, images: Tensor) -> Tensor:
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


def _is_about_types(error: RuntimeError) -> bool:
    """Return whether torch raised an error because inputs and weights are of different types."""
    return any(part in str(error) for part in _OTHER_TYPE)


_OTHER_TYPE = ("expected scalar type", "should be the same", "same dtype")


def check_programmable(model: object, times_s: Collection[float] = ()) -> None:
    """Raise an error for a network that cannot be programmed onto chips, or not read at some time.

    Raises:
        ConfigError: the model is no network, is a snapshot of a chip or was never calibrated; or
            its noise model has no values at one of the times, in s.
        CoverageError: the model has no analog layer.
    """
    network = checked_network(model)
    if isinstance(model, ChipSnapshot):
        raise ConfigError(
            f"network: expected the analog network from convert(), got {model!r}. Pass the network "
            "that the chip was programmed with."
        )
    layers = [layer for layer in network.modules() if is_analog(layer)]
    if not layers:
        raise CoverageError(
            f"{type(model).__name__} has no analog layer, so nothing would drift; "
            "convert() it first"
        )
    check_calibrated(network)
    noise_models = {id(config.noise_model): config.noise_model for config in configs_of(network)}
    for noise_model in noise_models.values():
        check_times(noise_model, times_s)


def check_images(images: object) -> None:
    """Raise an error for anything but a batch of images, and for images with NaN or Inf.

    Raises:
        ConfigError: the images are no tensor, are bytes, or the batch is empty.
        NonFiniteError: the images contain NaN or Inf.
    """
    if not isinstance(images, Tensor):
        raise ConfigError(
            f"images: expected a tensor (B, C, *spatial), got {type(images).__name__}. Pass the "
            "images alone."
        )
    if images.dtype is torch.uint8:
        raise ConfigError(
            "images: expected floating-point numbers, got torch.uint8. Normalise them as in "
            "training."
        )
    if images.numel() == 0:
        raise ConfigError(f"the batch of images is empty: shape {tuple(images.shape)}")
    if not torch.isfinite(images).all():
        bad = int((~torch.isfinite(images)).sum())
        raise NonFiniteError(
            f"the images hold {bad} NaN or Inf values; clean them before inference"
        )
