"""Interface between the analog layers and the execution engines."""

from typing import Literal, Protocol

from aihwkit.simulator.configs import TorchInferenceRPUConfig
from aihwkit.simulator.parameters.io import IOParameters
from torch import Tensor

from analogmed.analog.engines.vectors import KernelWindow
from analogmed.analog.tile.rows import LayerSnapshot, TileRow
from analogmed.network.tiling import TileGrid

EngineName = Literal["auto", "torch", "numba", "triton"]


class TiledLayer(Protocol):
    """Interface of a layer whose product runs on tiles: its input, its kernel and its linear map.

    The engine computes the operations of the tiles. :class:`analogmed.analog.layers.AnalogLayer`
    documents each member.
    """

    weight: Tensor
    groups: int
    training: bool
    engine: EngineName
    rpu_config: TorchInferenceRPUConfig
    io: IOParameters
    grid: TileGrid
    reading: LayerSnapshot | None
    input_range: Tensor | None
    vector_dim: int

    @property
    def patch(self) -> KernelWindow:
        """Input pixels that form one input vector."""

    @property
    def channel_rows(self) -> int:
        """Crossbar rows of one input channel."""

    def tile_rows(self) -> tuple[TileRow, ...]:
        """Return the tiles to compute with."""

    def row_channels(self, start: int, stop: int) -> tuple[int, int]:
        """Return the first channel of a group that rows use, and the one after the last."""

    def row_inputs(self, inputs: Tensor, start: int, stop: int, *, vectors: bool) -> Tensor:
        """Return the part of the input that rows of the crossbar use."""

    def row_kernel(self, weight: Tensor, start: int, stop: int) -> Tensor:
        """Return the weight of rows in the shape that ``kernel_product`` accepts."""

    def kernel_product(self, inputs: Tensor, kernel: Tensor, *, padded: bool = False) -> Tensor:
        """Return the product of one row of tiles with a feature map."""

    def kernel_gradients(
        self,
        gradient: Tensor,
        inputs: Tensor,
        kernel: Tensor,
        *,
        by_inputs: bool,
        by_kernel: bool,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of ``kernel_product``."""

    def vector_product(self, inputs: Tensor, weight: Tensor) -> Tensor:
        """Return the product of one row of tiles with input vectors."""

    def merge_groups(self, outputs: Tensor) -> Tensor:
        """Return the columns of all groups in one dimension."""


class Engine(Protocol):
    """Execution engine for the products of a layer's tiles."""

    def product(self, layer: TiledLayer, inputs: Tensor, bias: Tensor | None) -> Tensor:
        """Return the matrix product of all tiles; partial sums and the bias are added digitally.

        Args:
            layer: layer with tiles, input ranges and, during inference on a chip, the chip's
                snapshot.
            inputs: shape (B, channels, *positions).
            bias: shape (groups * columns,), or ``None``.

        Returns:
            Outputs, shape (B, groups * columns, *output positions).
        """
