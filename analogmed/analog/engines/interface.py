"""What a layer asks of an engine, and what an engine asks of a layer."""

from typing import Literal, Protocol

from aihwkit.simulator.configs import TorchInferenceRPUConfig
from torch import Tensor

from analogmed.analog.engines.vectors import Patch
from analogmed.analog.tile.rows import Reading, TileRow
from analogmed.network.tiling import TileGrid

EngineName = Literal["auto", "torch", "numba", "triton"]


class TiledLayer(Protocol):
    """A layer whose product runs on tiles: its input, its kernel and its linear map.

    What happens on the tiles is the engine's. :class:`analogmed.analog.layers.AnalogLayer` has the
    meaning of each member.
    """

    weight: Tensor
    groups: int
    training: bool
    engine: EngineName
    rpu_config: TorchInferenceRPUConfig
    grid: TileGrid
    reading: Reading | None
    input_range: Tensor | None
    vector_dim: int

    @property
    def patch(self) -> Patch:
        """Pixels of the input that one input vector is taken from."""

    @property
    def channel_rows(self) -> int:
        """Crossbar rows of one input channel."""

    def tile_rows(self) -> tuple[TileRow, ...]:
        """Return the tiles to compute with."""

    def row_channels(self, start: int, stop: int) -> tuple[int, int]:
        """Return the first channel of a group that rows see, and the one after the last."""

    def row_inputs(self, inputs: Tensor, start: int, stop: int, *, vectors: bool) -> Tensor:
        """Return what rows of the crossbar see of the input."""

    def row_kernel(self, weight: Tensor, start: int, stop: int) -> Tensor:
        """Return the weight of rows as ``kernel_product`` takes it."""

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
    """Computes the products of a layer's tiles."""

    def product(self, layer: TiledLayer, inputs: Tensor, bias: Tensor | None) -> Tensor:
        """Return the matrix product of all tiles; partial sums and the bias are added digitally.

        Args:
            layer: tiles, input ranges and the chip that is read, if one is.
            inputs: shape (B, channels, *positions).
            bias: shape (groups * columns,), or ``None``.

        Returns:
            shape (B, groups * columns, *output positions).
        """
