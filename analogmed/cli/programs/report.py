"""`python -m analogmed.report`: one page with the results of run folders."""

import argparse
from pathlib import Path

from analogmed.cli.exit_status import log_traceback
from analogmed.foundation.errors import DataError
from analogmed.foundation.files import ensure_writable, require_folder
from analogmed.report.writer import InconsistentRunError, write_report

EPILOG = """examples:
  python -m analogmed.report runs/eval
      the page of an evaluation, written into its folder as report.html, report.md and report.tex
  python -m analogmed.report runs/eval runs/uncertainty runs/sensitivity --out runs/page
      several runs on one page

The page holds everything it shows and opens without a network.
"""


def main(arguments: list[str]) -> None:
    """Write the page and print its files."""
    options = _parser().parse_args(arguments)
    for folder in options.runs:
        require_folder(folder)
    ensure_writable(options.out or options.runs[0])
    try:
        written = write_report(options.runs, options.out)
    except InconsistentRunError as error:
        raise DataError(
            f"{error}. If the error persists, report it with its traceback{log_traceback(error)}"
        ) from error
    for path in written:
        print(f"{path}  {path.stat().st_size / 1e6:.2f} MB")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="analogmed.report",
        description="Show what run folders hold, as one page, Markdown and LaTeX.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where to write (default: the first RUN)"
    )
    return parser
