"""Drift compensation: reference read-outs of tiles and the resulting correction factors."""

from dataclasses import dataclass
from functools import cached_property

import torch
from aihwkit.inference.compensation.base import BaseDriftCompensation
from aihwkit.simulator.configs import TorchInferenceRPUConfig
from torch import Tensor

from analogmed.analog.tile.ir_drop import WireModel, is_transient
from analogmed.analog.tile.product import Crossbar, disturbs_sums, read_tile


@dataclass(frozen=True)
class DriftReadout:
    """Reference read-out of several tiles of the same hardware.

    Attributes:
        weights: weights of each tile, shape (columns, rows), in units of the mapping scale.
        config: configuration of converters, output noise and compensation.
        compensation: compensation object of aihwkit.
    """

    weights: list[Tensor]
    config: TorchInferenceRPUConfig
    compensation: BaseDriftCompensation

    def baselines(self, references: list[Tensor]) -> list[Tensor]:
        """Return the baseline of each tile that the compensation stores right after programming.

        Args:
            references: target weights, for a compensation with an exact reference.
        """
        return [
            self.compensation.init_baseline(_TileProbe(self, index, reference))
            for index, reference in enumerate(references)
        ]

    def factors(self, baselines: list[Tensor]) -> list[Tensor]:
        """Return the compensation factor of each column, for each tile."""
        return [
            self.compensation.apply(outputs, baseline).reshape(-1).expand(len(weight))
            for weight, outputs, baseline in zip(self.weights, self.outputs, baselines, strict=True)
        ]

    @cached_property
    def outputs(self) -> list[Tensor]:
        """Outputs of each tile for the read-out vectors, shape (vectors, columns)."""
        if self._reads_weight_by_weight:
            return self._each_weight_apart()
        return [self._read(weight) for weight in self.weights]

    def exact_outputs(self, reference: Tensor) -> Tensor:
        """Return the outputs of a perfect tile."""
        if self._one_hot:
            return reference.T
        return self.vectors(reference) @ reference.T

    def vectors(self, weight: Tensor) -> Tensor:
        """Return the read-out vectors of a tile, shape (vectors, rows)."""
        return self.compensation.get_readout_tensor(weight.shape[1]).to(weight)

    @property
    def _reads_weight_by_weight(self) -> bool:
        io = self.config.forward
        disturbed = io.inp_noise > 0 or (io.inp_sto_round and io.inp_res > 0)
        return self._one_hot and (io.is_perfect or not (disturbed or disturbs_sums(io)))

    @cached_property
    def _one_hot(self) -> bool:
        """Whether each vector selects one row, so that an output depends on one weight only."""
        sizes = {weight.shape[1]: weight for weight in self.weights}
        return all(
            torch.equal(self.vectors(weight), torch.eye(rows).to(weight))
            for rows, weight in sizes.items()
        )

    def _read(self, weight: Tensor) -> Tensor:
        return read_tile(
            self.vectors(weight),
            lambda values: values @ weight.T,
            self.config.forward,
            vector_dim=1,
            crossbar=self._crossbar(weight) if disturbs_sums(self.config.forward) else None,
        )

    def _crossbar(self, weight: Tensor) -> Crossbar:
        whole = ((0, len(weight)),)
        wires = WireModel.of(weight[None], whole, self.config) if self._has_pulses else None
        return Crossbar(
            weight[None],
            lambda values, matrix: values @ matrix[0].T,
            lambda values: values.reshape(1, -1),
            wires,
        )

    @property
    def _has_pulses(self) -> bool:
        return is_transient(self.config.forward) and self.config.forward.ir_drop > 0

    def _each_weight_apart(self) -> list[Tensor]:
        """Return all weights of all tiles as the columns of one tile with one row."""
        flat = torch.cat([weight.flatten() for weight in self.weights])
        outputs = read_tile(
            flat.new_ones(1, 1), lambda one: one * flat, self.config.forward, vector_dim=1
        )
        parts = outputs[0].split([weight.numel() for weight in self.weights])
        return [part.view_as(weight).T for part, weight in zip(parts, self.weights, strict=True)]


@dataclass(frozen=True)
class _TileProbe:
    """Tile interface that aihwkit's drift compensation requires: outputs for read-out vectors."""

    read_out: DriftReadout
    index: int
    reference: Tensor

    def _forward_drift_readout_tensor(
        self, reset_if: bool = False, exact_reference: bool = False
    ) -> Tensor:
        if exact_reference:
            return self.read_out.exact_outputs(self.reference)
        return self.read_out.outputs[self.index]
