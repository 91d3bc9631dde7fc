"""Tables of the costs of networks on tiles."""

from collections.abc import Iterable

from analogmed.tables.table import Columns, Table

MEANS = {
    "utilisation_per_tile": "utilisation\nby tile",
    "utilisation_per_layer": "utilisation\nby layer",
    "utilisation_per_leaf_module": "utilisation\nby module",
    "reuse_factor_per_tile": "reuse\nby tile",
    "reuse_factor_per_layer": "reuse\nby layer",
    "reuse_factor_per_leaf_module": "reuse\nby module",
}
"""Columns of mean utilisation and reuse, with their heads in the terminal."""

SUMMARY = Table("summary", Columns(names=("model", "input"), texts=("tile_size",)))
LAYERS = Table(
    "layers", Columns(names=("layer",), numbers=("tiles", "utilisation", "reuse_factor"))
)
_TILE = ("tile", "row", "col", "rows", "cols", "tile_rows", "tile_cols")
TILES = Table("tiles", Columns(names=("layer",), numbers=_TILE), order=("layer", *_TILE))
SKIP_BUFFERS = Table(
    "skip_buffers",
    Columns(
        names=("made_by", "read_by"), numbers=("kept_ms", "copies", "bytes"), can_be_empty=True
    ),
    order=("made_by", "read_by", "kept_ms", "copies", "bytes", "profile", "level"),
)
TIMELINE = Table(
    "timeline",
    Columns(
        names=("layer", "profile", "level"),
        numbers=("slice", "start_ms", "end_ms"),
        can_be_empty=True,
    ),
)
DEVICE = ("device", "threads", "runtime")
"""Columns that identify the processor of measured times."""
_OPERATION = (
    *("operation", "kernel", "dilation", "in_channels", "out_channels", "spatial", "norm"),
    *("activation", "dtype", "arguments"),
)
_OPERATIONS = (*DEVICE, *_OPERATION, "median_ms", "low_ms", "high_ms", "repetitions")
OPERATIONS = Table("operations", Columns(texts=_OPERATIONS), order=_OPERATIONS)
"""Measured operations; all cells are text, so that operations read are equal to those written."""
NETWORKS = Table(
    "networks",
    Columns(
        names=("network",),
        texts=DEVICE,
        numbers=("predicted_ms", "measured_ms", "low_ms", "high_ms", "repetitions", "error"),
    ),
)
"""Held-out networks: predicted and measured latency."""


def item_of(inputs: Iterable[str]) -> str:
    """Return the word for one input of a network: ``slice`` of two dimensions, ``input`` of others.

    Args:
        inputs: sizes as in the column ``input``, such as ``3 x 256 x 256``.
    """
    return "slice" if all(size.count(" x ") == 2 for size in inputs) else "input"
