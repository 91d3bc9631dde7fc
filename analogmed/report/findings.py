"""Findings of a run as sentences; every value has its confidence interval."""

from analogmed.report.kinds.registry import kind_of
from analogmed.report.run import Run


def findings(run: Run) -> list[str]:
    """Return sentences on one run, the most important one first.

    Args:
        run: run of any kind.

    Returns:
        plain text; empty if the run has no finding.
    """
    return list(kind_of(run.kind).findings(run))
