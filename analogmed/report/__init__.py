"""Tables and figures drawn from the results of an evaluation, without torch or a chip."""

from analogmed.report.figures import dice_over_time, drop_per_model
from analogmed.report.tables import render_summary, to_markdown

__all__ = ["dice_over_time", "drop_per_model", "render_summary", "to_markdown"]
