"""Tables and figures of results and costs, independent of torch and of simulated chips."""

from typing import TYPE_CHECKING

from analogmed.foundation.exports import lazy_exports

if TYPE_CHECKING:
    from analogmed.report.figures.hardware import reuse_per_layer as reuse_per_layer
    from analogmed.report.figures.hardware import slice_timeline as slice_timeline
    from analogmed.report.figures.hardware import tile_occupancy as tile_occupancy
    from analogmed.report.figures.over_time import drop_per_model as drop_per_model
    from analogmed.report.figures.over_time import metric_over_time as metric_over_time
    from analogmed.report.figures.sensitivity import placement_curve as placement_curve
    from analogmed.report.figures.sensitivity import sensitivity_heat_map as sensitivity_heat_map
    from analogmed.report.figures.sensitivity import source_bars as source_bars
    from analogmed.report.figures.training import training_curves as training_curves
    from analogmed.report.tables.evaluation import render_summary as render_summary
    from analogmed.report.tables.evaluation import to_markdown as to_markdown
    from analogmed.report.tables.hardware import render_costs as render_costs
    from analogmed.report.tables.hardware import render_digital as render_digital
    from analogmed.report.tables.hardware import render_layers as render_layers
    from analogmed.report.tables.hardware import render_tiles as render_tiles
    from analogmed.report.tables.sensitivity import render_placement as render_placement
    from analogmed.report.tables.sensitivity import render_sensitivity as render_sensitivity
    from analogmed.report.tables.terminal import render_evaluation as render_evaluation
    from analogmed.report.writer import write_report as write_report

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "metric_over_time": "figures.over_time",
        "drop_per_model": "figures.over_time",
        "placement_curve": "figures.sensitivity",
        "render_costs": "tables.hardware",
        "render_digital": "tables.hardware",
        "render_evaluation": "tables.terminal",
        "render_layers": "tables.hardware",
        "render_placement": "tables.sensitivity",
        "render_sensitivity": "tables.sensitivity",
        "render_summary": "tables.evaluation",
        "render_tiles": "tables.hardware",
        "reuse_per_layer": "figures.hardware",
        "sensitivity_heat_map": "figures.sensitivity",
        "slice_timeline": "figures.hardware",
        "source_bars": "figures.sensitivity",
        "tile_occupancy": "figures.hardware",
        "to_markdown": "tables.evaluation",
        "training_curves": "figures.training",
        "write_report": "writer",
    },
    deprecated={"dice_over_time": "metric_over_time"},
)
