"""Tables of the costs of networks on tiles."""

from analogmed.tables.table import Columns, Table

SUMMARY = Table("summary", Columns(names=("model", "input"), texts=("tile_size",)))
LAYERS = Table(
    "layers", Columns(names=("layer",), numbers=("tiles", "utilisation", "reuse_factor"))
)
TILES = Table(
    "tiles",
    Columns(
        names=("layer",),
        numbers=("tile", "row", "col", "rows", "cols", "tile_rows", "tile_cols"),
    ),
)
SKIP_BUFFERS = Table(
    "skip_buffers",
    Columns(
        names=("made_by", "read_by"), numbers=("kept_ms", "copies", "bytes"), can_be_empty=True
    ),
)
TIMELINE = Table(
    "timeline",
    Columns(
        names=("layer", "profile", "level"),
        numbers=("slice", "start_ms", "end_ms"),
        can_be_empty=True,
    ),
)
