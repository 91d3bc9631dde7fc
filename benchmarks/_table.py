"""Tables of results, for the terminal and the documentation."""

from typing import Any

from analogmed.report.text_table import pipe_table

Rows = list[list[str]]


def table_of(benchmark: str, result: dict[str, Any]) -> Rows:
    """Return heading and rows of one workload's result."""
    heading, cells = _COLUMNS[benchmark]
    return [list(heading), *(cells(row) for row in result["rows"])]


def known(benchmark: str) -> bool:
    """Return whether there is a table for this benchmark."""
    return benchmark in _COLUMNS


def caption(name: str, document: dict[str, Any]) -> str:
    """Return a one-line description of a workload."""
    about = document["workloads"][name]["workload"]
    shape = "x".join(map(str, about["shape"]))
    settings = {**about.get("options", {}), "tile": about["tile_size"], **about["hardware"]}
    parts = [f"{about['model']} {shape}", *(f"{key} {value}" for key, value in settings.items())]
    if about["target"]:
        parts.append(f"target {about['target']}")
    if document["quick"]:
        parts.append("quick run: shows that it works, no result")
    return f"{name}: " + ", ".join(parts)


def as_text(rows: Rows) -> str:
    """Return rows as text with aligned columns, all but the first right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def as_markdown(rows: Rows) -> str:
    """Return rows as a GitHub table."""
    return pipe_table(rows[0], rows[1:])


def reasons(result: dict[str, Any]) -> list[str]:
    """Return one line per contender that did not run."""
    return [f"not run: {name}: {why}" for name, why in result.get("skipped", {}).items()]


def show(name: str, document: dict[str, Any]) -> None:
    """Print one workload's result."""
    result = document["workloads"][name]
    table = as_text(table_of(document["benchmark"], result))
    print("\n".join([caption(name, document), table, *reasons(result)]) + "\n", flush=True)


def _timing_cells(row: dict[str, Any]) -> list[str]:
    cells = [row["contender"], str(row["batch"]), str(row["rounds"])]
    for kind in ("wall", "cpu"):
        spread = f"{row[f'{kind}_ratio_lowest']:.2f} to {row[f'{kind}_ratio_highest']:.2f}"
        cells += [f"{row[f'{kind}_s']:.3f}", f"{row[f'{kind}_ratio']:.2f} ({spread})"]
    return [*cells, _share(row["on_tiles"])]


def _memory_cells(row: dict[str, Any]) -> list[str]:
    return [
        row["contender"],
        str(row["batch"]),
        f"{row['step_mb']:.0f}",
        f"{row['ratio']:.2f}",
        f"{row['process_mb']:.0f}",
        _share(row["on_tiles"]),
    ]


def _scaling_cells(row: dict[str, Any]) -> list[str]:
    return [
        str(row["value"]),
        f"{row['digital_s']:.3f}",
        f"{row['forward_s']:.3f}",
        f"{row['ratio']:.2f} ({row['ratio_lowest']:.2f} to {row['ratio_highest']:.2f})",
        f"{row['program_s']:.3f}",
        f"{row['age_s']:.3f}",
    ]


def _programming_cells(row: dict[str, Any]) -> list[str]:
    nanoseconds = 1e9 * (row["program_cpu_s"] + row["read_cpu_s"]) / row["weights"]
    spread = f"{row['share_cpu_lowest']:.4f} to {row['share_cpu_highest']:.4f}"
    return [
        row["contender"],
        f"{row['weights'] / 1e6:.2f} M",
        f"{row['program_cpu_s']:.3f}",
        f"{row['read_cpu_s']:.3f}",
        f"{nanoseconds:.0f}",
        f"{row['pass_cpu_s']:.1f}",
        str(row["images"]),
        f"{row['share_cpu']:.4f} ({spread})",
    ]


def _loading_cells(row: dict[str, Any]) -> list[str]:
    return [
        row["contender"],
        f"{row['peak_mb']:.0f}",
        f"{row['process_mb']:.0f}",
        str(row["reads"]),
        f"{row['cpu_s']:.1f}",
        f"{row['wall_s']:.1f}",
    ]


def _share(on_tiles: float) -> str:
    return f"{on_tiles:.0%}" if on_tiles else "-"


_TIMING = (
    ("contender", "batch", "rounds", "s", "x digital (spread)", "cpu s", "x (spread)", "on tiles"),
    _timing_cells,
)
_PROGRAMMING = (
    "contender",
    "weights on tiles",
    "program s",
    "read s",
    "ns a weight",
    "pass s",
    "measured",
    "program + read / pass (spread)",
)
_COLUMNS = {
    "forward": _TIMING,
    "training": _TIMING,
    "memory": (
        ("contender", "batch", "step MB", "x digital", "process MB", "on tiles"),
        _memory_cells,
    ),
    "loading": (
        ("memory", "peak MB", "process MB", "cases read", "cpu s", "s"),
        _loading_cells,
    ),
    "programming": (_PROGRAMMING, _programming_cells),
    "scaling": (
        ("value", "digital s", "forward s", "x digital (spread)", "program s", "age s"),
        _scaling_cells,
    ),
}
