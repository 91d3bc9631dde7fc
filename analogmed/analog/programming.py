"""Programming a layer onto devices, ageing the devices, and reading them back."""

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from aihwkit.exceptions import ArgumentError
from aihwkit.inference.compensation.base import BaseDriftCompensation
from aihwkit.inference.noise.base import BaseNoiseModel
from aihwkit.simulator.configs import TorchInferenceRPUConfig
from torch import Tensor

from analogmed.analog.layers import AnalogLayer, Reading, TileRow
from analogmed.analog.noise_stream import NoiseStream
from analogmed.analog.random import drawing_from
from analogmed.analog.tile import read_tile
from analogmed.errors import ConfigError, NonFiniteError


class ProgrammedLayer:
    """An analog layer as one chip holds it.

    Args:
        name: the layer's name, for messages.
        layer: its trained weight is the programming target.
        seed: seed of programming noise, drift exponents and the compensation's baseline.
    """

    def __init__(self, name: str, layer: AnalogLayer, seed: int) -> None:
        if not torch.isfinite(layer.weight).all():
            raise NonFiniteError(f"layer '{name}': its weight holds NaN or Inf; not programmed")
        self._layer = layer
        self._name = name
        with torch.no_grad(), drawing_from(seed), _quiet():
            targets = layer.reference_rows()
            self._scales = [row.scale for row in targets]
            self._tiles = [
                [
                    [
                        ProgrammedTile.program(group[start:stop], layer.rpu_config)
                        for start, stop in layer.grid.cols
                    ]
                    for group in row.weight
                ]
                for row in targets
            ]

    @torch.no_grad()
    def read(self, t_inference_s: float, seed: int) -> Reading:
        """Age the devices and read them once.

        Raises:
            ConfigError: the noise model does not know this time.
            NonFiniteError: the noise model gives NaN or Inf.
        """
        model = type(self._layer.rpu_config.noise_model).__name__
        try:
            with drawing_from(seed), _quiet():
                rows = tuple(
                    self._read_row(scale, tiles, t_inference_s)
                    for scale, tiles in zip(self._scales, self._tiles, strict=True)
                )
        except ArgumentError as error:
            raise ConfigError(
                f"the noise model {model} does not know the time {t_inference_s:g} s: {error}; "
                "give sweep.times_s these only"
            ) from error
        if not all(torch.isfinite(row.weight).all() for row in rows):
            raise NonFiniteError(
                f"layer '{self._name}': the noise model {model} gives NaN or Inf at "
                f"{t_inference_s:g} s; it does not fit this time, or a tile of equal weights"
            )
        return Reading(rows, NoiseStream(self._layer.weight.device))

    def lent(self, reading: Reading) -> AbstractContextManager[None]:
        """Let the layer compute with a reading."""
        return self._layer.lent(reading)

    def _read_row(
        self, scale: Tensor, tiles: list[list["ProgrammedTile"]], t_inference_s: float
    ) -> TileRow:
        config = self._layer.rpu_config
        weights, scales = [], []
        for group_tiles, group_scale in zip(tiles, scale, strict=True):
            read = [tile.read(t_inference_s, config) for tile in group_tiles]
            weights.append(torch.cat([weight for weight, _ in read]))
            scales.append(group_scale * torch.cat([factor for _, factor in read]))
        return TileRow(torch.stack(weights), torch.stack(scales))


@contextmanager
def _quiet() -> Iterator[None]:
    """aihwkit's Hermes model indexes in a way that torch warns of; the result is as meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using a non-tuple sequence", UserWarning)
        yield


@dataclass(frozen=True)
class ProgrammedTile:
    """One crossbar tile after programming.

    Attributes:
        conductances_us: conductance of each device in uS, one tensor (columns, rows) per device of
            a unit cell. Each device drifts by itself; aihwkit folds a cell's devices into one
            weight after programming, and splits it again.
        drift: drift parameters of each device, as the noise model gives them.
        cell: how the converter turns conductances back into weights.
        baseline: what drift compensation read right after programming.
    """

    conductances_us: list[Tensor]
    drift: list[Tensor]
    cell: dict[str, Any]
    baseline: Tensor | None

    @classmethod
    def program(cls, weight: Tensor, config: TorchInferenceRPUConfig) -> "ProgrammedTile":
        """Draw programming noise and drift parameters for a tile of weights (columns, rows)."""
        model = config.noise_model
        targets, cell = model.g_converter.convert_to_conductances(weight)
        conductances, drift = [], []
        for target in targets:
            conductances.append(model.apply_programming_noise_to_conductance(target))
            drift.append(model.generate_drift_coefficients(target))
        compensation, baseline = config.drift_compensation, None
        if compensation is not None:
            programmed = model.g_converter.convert_back_to_weights(conductances, cell)
            probe = _TileProbe(weight, programmed, config, compensation)
            baseline = compensation.init_baseline(probe)
        return cls(conductances, drift, cell, baseline)

    def read(self, t_inference_s: float, config: TorchInferenceRPUConfig) -> tuple[Tensor, Tensor]:
        """The weights at a time (columns, rows), and the compensating factor of each column."""
        weight = self._aged(t_inference_s, config.noise_model)
        compensation = config.drift_compensation
        if compensation is None or self.baseline is None:
            return weight, weight.new_ones(len(weight))
        probe = _TileProbe(weight, weight, config, compensation)
        factor = compensation.apply(probe.read_out(), self.baseline)
        return weight, factor.reshape(-1).expand(len(weight))

    def _aged(self, t_inference_s: float, model: BaseNoiseModel) -> Tensor:
        aged = [
            model.apply_drift_noise_to_conductance(conductance, drift, t_inference_s)
            for conductance, drift in zip(self.conductances_us, self.drift, strict=True)
        ]
        return model.g_converter.convert_back_to_weights(aged, self.cell)


@dataclass(frozen=True)
class _TileProbe:
    """What aihwkit's drift compensation asks of a tile: its output for the read-out vectors."""

    reference: Tensor
    weight: Tensor
    config: TorchInferenceRPUConfig
    compensation: BaseDriftCompensation

    def read_out(self) -> Tensor:
        vectors = self.compensation.get_readout_tensor(self.weight.shape[1]).to(self.weight)
        return read_tile(
            vectors, lambda values: values @ self.weight.T, self.config.forward, vector_dim=1
        )

    def _forward_drift_readout_tensor(
        self, reset_if: bool = False, exact_reference: bool = False
    ) -> Tensor:
        if not exact_reference:
            return self.read_out()
        vectors = self.compensation.get_readout_tensor(self.weight.shape[1]).to(self.weight)
        return vectors @ self.reference.T
