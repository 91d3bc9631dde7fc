"""Programming of a model onto devices, ageing of the devices, and reads."""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from aihwkit.exceptions import ArgumentError
from aihwkit.inference import (
    PCMLikeNoiseModel,
    StateIndependentNoiseModel,
)
from aihwkit.inference.noise.base import BaseNoiseModel
from aihwkit.inference.noise.hermes import HermesNoiseModel
from aihwkit.inference.noise.pcm import CustomDriftPCMLikeNoiseModel
from aihwkit.simulator.configs import TorchInferenceRPUConfig
from torch import Tensor

from analogmed.analog.devices.drift_compensation import DriftReadout
from analogmed.analog.devices.reram import RememberingCMO, RememberingWan2022, with_memory
from analogmed.analog.layers.base import AnalogLayer
from analogmed.analog.tile.copies import mean_of_copies, repeated
from analogmed.analog.tile.noise_stream import NoiseStream
from analogmed.analog.tile.precision import without_autocast
from analogmed.analog.tile.rows import LayerSnapshot, TileRow
from analogmed.foundation.errors import ConfigError, NonFiniteError
from analogmed.network.seeding import seeded

ELEMENTWISE_MODELS: tuple[type[BaseNoiseModel], ...] = (
    PCMLikeNoiseModel,
    CustomDriftPCMLikeNoiseModel,
    HermesNoiseModel,
    StateIndependentNoiseModel,
    RememberingWan2022,
    RememberingCMO,
)
"""Noise models that treat each device independently, so that tiles are processed in batches."""

_WEIGHTS_AT_ONCE = 2**18  # a few such vectors fit in a processor's cache; more take 20 % longer


class ProgrammedModel:
    """Analog layers of a model as programmed onto one chip.

    Tiles of the same hardware are programmed and read together, across layers, in batches.

    Args:
        layers: analog layers by name; their trained weights are the programming target.
        seed: random seed of programming noise, drift exponents and the compensation's baseline.

    Raises:
        NonFiniteError: a weight is NaN or Inf; names the layer.
    """

    @torch.no_grad()
    def __init__(self, layers: Mapping[str, AnalogLayer], seed: int) -> None:
        for name, layer in layers.items():
            if not _is_finite(layer.weight):
                raise NonFiniteError(f"layer '{name}': its weight holds NaN or Inf; not programmed")
        self._layers = dict(layers)
        self._scales: dict[str, list[Tensor]] = {}
        with _repeatable(seed):
            self._batches = [
                ProgrammedTiles.program(weights, config)
                for weights, config in _batches(self._targets())
            ]

    def _targets(self) -> Iterator[tuple[Tensor, TorchInferenceRPUConfig]]:
        """Yield the target weights of the tiles; one layer at a time is in memory."""
        for name, layer in self._layers.items():
            rows = layer.reference_rows()
            self._scales[name] = [row.scale for row in rows]
            for row in rows:
                for tile in _tiles_of(row, layer):
                    yield repeated(tile, layer.copies), layer.rpu_config

    @torch.no_grad()
    def read(self, t_inference_s: float, seed: int) -> dict[str, LayerSnapshot]:
        """Age the devices and read them once.

        Returns:
            Snapshot of each layer, by name.

        Raises:
            ConfigError: the noise model does not support this time.
            NonFiniteError: the noise model returns NaN or Inf; names the layer.
        """
        readings = {}
        for name, read in self.read_tiles(t_inference_s, seed).items():
            rows = tuple(
                TileRow(weight, scale * factor)
                for (weight, factor), scale in zip(read, self._scales[name], strict=True)
            )
            readings[name] = LayerSnapshot(rows, NoiseStream(self._layers[name].weight.device))
        return readings

    @torch.no_grad()
    def read_tiles(self, t_inference_s: float, seed: int) -> dict[str, list[tuple[Tensor, Tensor]]]:
        """Age the devices and read them once, as ``read`` does, but return plain tensors.

        Returns:
            For each row of tiles of a layer, the weights, (groups, columns, rows), and the
            compensation factor of each column, (groups, columns).
        """
        with _repeatable(seed):
            tiles = chain.from_iterable(batch.read(t_inference_s) for batch in self._batches)
            return {name: self._read_layer(name, tiles, t_inference_s) for name in self._layers}

    def _read_layer(
        self, name: str, tiles: Iterator[tuple[Tensor, Tensor]], t_inference_s: float
    ) -> list[tuple[Tensor, Tensor]]:
        layer = self._layers[name]
        try:
            rows = [_read_row(layer, scale.shape, tiles) for scale in self._scales[name]]
        except ArgumentError as error:
            raise ConfigError(
                f"times: the noise model {_model_name(layer)} fails at {t_inference_s:g} s: {error}"
            ) from error
        if not all(_is_finite(weight) for weight, _ in rows):
            raise NonFiniteError(
                f"layer '{name}': the noise model {_model_name(layer)} gives NaN or Inf at "
                f"{t_inference_s:g} s; it does not fit this time, or a tile of equal weights"
            )
        return rows


def _is_finite(values: Tensor) -> bool:
    """Return ``torch.isfinite(values).all()`` in a tenth of the time: NaN reaches both extremes."""
    return all(bool(torch.isfinite(extreme)) for extreme in torch.aminmax(values))


def _tiles_of(row: TileRow, layer: AnalogLayer) -> Iterator[Tensor]:
    for group in row.weight:
        for start, stop in layer.grid.cols:
            yield group[start:stop]


def _batches(
    tiles: Iterable[tuple[Tensor, TorchInferenceRPUConfig]],
) -> Iterator[tuple[list[Tensor], TorchInferenceRPUConfig]]:
    """Yield adjacent tiles of the same configuration, in batches of the fastest size."""
    batch: list[Tensor] = []
    size, hardware = 0, None
    for weight, config in tiles:
        full = size + weight.numel() > _WEIGHTS_AT_ONCE
        if hardware is not None and (full or config is not hardware):
            yield batch, hardware
            batch, size = [], 0
        batch.append(weight)
        size, hardware = size + weight.numel(), config
    if hardware is not None:
        yield batch, hardware


@contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    """Sample from a seed on one thread, since torch's rounding depends on the number of threads.

    aihwkit's Hermes model uses an indexing that torch warns of; its result is correct.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with seeded(seed), without_autocast(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Using a non-tuple sequence", UserWarning)
            yield
    finally:
        torch.set_num_threads(threads)


def _read_row(
    layer: AnalogLayer, shape: torch.Size, tiles: Iterator[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    count = shape[0] * len(layer.grid.cols)
    read = [next(tiles) for _ in range(count)]
    weight = torch.cat([weight for weight, _ in read]).unflatten(0, shape)
    factors = torch.cat([factor for _, factor in read]).view(shape)
    return mean_of_copies(weight, layer.copies), factors


def _model_name(layer: AnalogLayer) -> str:
    return type(layer.rpu_config.noise_model).__name__


@dataclass(frozen=True)
class ProgrammedTiles:
    """Crossbar tiles of the same hardware after programming.

    Attributes:
        config: hardware configuration.
        model: noise model of the hardware; a ReRAM model keeps its programming error.
        shapes: shape (columns, rows) of each tile.
        devices: devices of a unit cell, one object per device, across all tiles. Each drifts
            independently; aihwkit merges a cell's devices into one weight after programming, and
            splits it again.
        cells: parameters for converting the conductances of each tile back to weights.
        baselines: drift-compensation baseline of each tile, read right after programming.
    """

    config: TorchInferenceRPUConfig
    model: BaseNoiseModel
    shapes: list[torch.Size]
    devices: "list[Devices]"
    cells: "list[_Cell]"
    baselines: list[Tensor] | None

    @classmethod
    def program(cls, weights: list[Tensor], config: TorchInferenceRPUConfig) -> "ProgrammedTiles":
        """Sample programming noise and drift parameters for tiles of weights (columns, rows)."""
        model = with_memory(config.noise_model)
        shapes = [weight.shape for weight in weights]
        cells, targets = [], []
        for weight in weights:
            found, parameters = model.g_converter.convert_to_conductances(weight)
            bare = isinstance(found, Tensor)
            cells.append(_Cell(parameters, bare))
            targets.append([found] if bare else found)
        devices = [Devices.program(list(tiles), model) for tiles in zip(*targets, strict=True)]
        compensation = config.drift_compensation
        if compensation is None:
            return cls(config, model, shapes, devices, cells, None)
        programmed = _to_weights(
            [device.conductances_us for device in devices], cells, shapes, model
        )
        baselines = DriftReadout(programmed, config, compensation).baselines(weights)
        return cls(config, model, shapes, devices, cells, baselines)

    def read(self, t_inference_s: float) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each tile's weights (columns, rows) at a time, and its factors per column."""
        model, compensation = self.model, self.config.drift_compensation
        aged = [device.aged(t_inference_s, model) for device in self.devices]
        weights = _to_weights(aged, self.cells, self.shapes, model)
        if compensation is None or self.baselines is None:
            factors = [weight.new_ones(len(weight)) for weight in weights]
        else:
            factors = DriftReadout(weights, self.config, compensation).factors(self.baselines)
        yield from zip(weights, factors, strict=True)


@dataclass(frozen=True)
class Devices:
    """The same device of many unit cells; one call of the noise model processes adjacent devices.

    Attributes:
        conductances_us: conductances after programming, in uS.
        drift: drift parameters that the noise model returned.
    """

    conductances_us: list[Tensor]
    drift: list[Any]

    @classmethod
    def program(cls, targets_us: list[Tensor], model: BaseNoiseModel) -> "Devices":
        """Sample programming noise and drift parameters.

        Args:
            targets_us: target conductances in uS, one tensor per tile.
            model: noise model of aihwkit; a model that is not listed as elementwise gets one tile
                per call.
        """
        conductances, drift = [], []
        for target in _at_once(targets_us, model):
            conductances.append(model.apply_programming_noise_to_conductance(target))
            drift.append(model.generate_drift_coefficients(target))
        return cls(conductances, drift)

    def aged(self, t_inference_s: float, model: BaseNoiseModel) -> list[Tensor]:
        """Return the conductances at a time, with read noise."""
        return [
            model.apply_drift_noise_to_conductance(conductance, drift, t_inference_s)
            for conductance, drift in zip(self.conductances_us, self.drift, strict=True)
        ]


def _at_once(targets_us: list[Tensor], model: BaseNoiseModel) -> list[Tensor]:
    if type(model) in ELEMENTWISE_MODELS and len(targets_us) > 1:
        return [torch.cat([target.flatten() for target in targets_us])]
    return targets_us


@dataclass(frozen=True)
class _Cell:
    """Parameters for converting conductances back to the weights of a tile.

    Attributes:
        parameters: parameters of the converter.
        bare: whether the converter has one device and expects its conductances without a list.
    """

    parameters: dict[str, Any]
    bare: bool


def _to_weights(
    conductances_us: list[list[Tensor]],
    cells: list[_Cell],
    shapes: list[torch.Size],
    model: BaseNoiseModel,
) -> list[Tensor]:
    """Return the weights of each tile (columns, rows) from the conductances of all its devices."""
    sizes = [shape.numel() for shape in shapes]
    by_device = [
        torch.cat([part.flatten() for part in parts]).split(sizes) for parts in conductances_us
    ]
    weights = []
    for cell, shape, *parts in zip(cells, shapes, *by_device, strict=True):
        devices = [part.view(shape) for part in parts]
        back = model.g_converter.convert_back_to_weights
        weights.append(back(devices[0] if cell.bare else devices, cell.parameters))
    return weights
