"""Tables and figures drawn from results and from costs, without torch or a chip."""

from analogmed.report.figures import dice_over_time, drop_per_model
from analogmed.report.hardware_figures import reuse_per_layer, slice_timeline, tile_occupancy
from analogmed.report.hardware_tables import render_costs, render_layers, render_tiles
from analogmed.report.page import write_report
from analogmed.report.sensitivity_figures import (
    placement_curve,
    sensitivity_heat_map,
    source_bars,
)
from analogmed.report.sensitivity_tables import render_placement, render_sensitivity
from analogmed.report.tables import render_summary, to_markdown
from analogmed.report.training_figures import training_curves

__all__ = [
    "dice_over_time",
    "drop_per_model",
    "placement_curve",
    "render_costs",
    "render_layers",
    "render_placement",
    "render_sensitivity",
    "render_summary",
    "render_tiles",
    "reuse_per_layer",
    "sensitivity_heat_map",
    "slice_timeline",
    "source_bars",
    "tile_occupancy",
    "to_markdown",
    "training_curves",
    "write_report",
]
