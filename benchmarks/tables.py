"""Write the tables of docs/explanation/performance.md from the JSON files of the benchmarks.

    python benchmarks/tables.py RESULTS_FOLDER [--document docs/explanation/performance.md]

Each pair of markers ``<!-- NAME -->`` and ``<!-- end of NAME -->`` in the document encloses the
tables of the benchmark with this name, which are replaced. Results of several machines or Python
versions follow one another, in the order of their file names.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from _table import as_markdown, caption, known, reasons, table_of

from analogmed.report.text_table import replace_between

DOCUMENT = Path(__file__).parents[1] / "docs" / "explanation" / "performance.md"


def main() -> None:
    """Replace the tables of every benchmark that has a result."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("results", type=Path, help="folder of JSON files")
    options.add_argument("--document", type=Path, default=DOCUMENT)
    arguments = options.parse_args()
    text = arguments.document.read_text()
    for benchmark, documents in _read(arguments.results).items():
        text = replace_between(text, benchmark, "\n\n".join(map(_section, documents)))
    arguments.document.write_text(text)


def _read(folder: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.json")):
        document = json.loads(path.read_text())
        if known(str(document.get("benchmark"))):
            found.setdefault(document["benchmark"], []).append(document)
        else:
            print(f"{path}: no table for this benchmark; left out")
    if not found:
        raise SystemExit(
            f"no results in {folder}: run the benchmarks with --json {folder}/NAME.json"
        )
    return found


def _section(document: dict[str, Any]) -> str:
    parts = [_machine(document)]
    for name, result in document["workloads"].items():
        table = as_markdown(table_of(document["benchmark"], result))
        notes = [f"- {reason}" for reason in reasons(result)]
        parts += [f"**{caption(name, document)}**", table, *(["\n".join(notes)] if notes else [])]
    return "\n\n".join(parts)


def _machine(document: dict[str, Any]) -> str:
    machine, load = document["machine"], document["load_average"]
    packages = ", ".join(f"{name} {v}" for name, v in machine["packages"].items() if v)
    device = machine["gpu"] if document["device"] == "cuda" else machine["processor"]
    threads = "1 thread" if document["threads"] == 1 else f"{document['threads']} threads"
    return (
        f"{device}, {machine['cores']} cores, {threads}; Python {machine['python']}, {packages}; "
        f"load average {load['start'][0]:.1f} at the start, {load['end'][0]:.1f} at the end; "
        f"`{document['command']}`"
    )


if __name__ == "__main__":
    main()
