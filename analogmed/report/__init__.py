"""Tables and figures drawn from results and from costs, without torch or a chip."""

from analogmed.report.figures import dice_over_time, drop_per_model
from analogmed.report.hardware_figures import reuse_per_layer, slice_timeline, tile_occupancy
from analogmed.report.hardware_tables import render_costs, render_layers, render_tiles
from analogmed.report.tables import render_summary, to_markdown

__all__ = [
    "dice_over_time",
    "drop_per_model",
    "render_costs",
    "render_layers",
    "render_summary",
    "render_tiles",
    "reuse_per_layer",
    "slice_timeline",
    "tile_occupancy",
    "to_markdown",
]
