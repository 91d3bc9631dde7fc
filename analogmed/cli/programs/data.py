"""``python -m analogmed.data``: verify a data set, write a phantom, download a Decathlon task."""

import argparse
from pathlib import Path

from analogmed.data.download import download_decathlon
from analogmed.data.integrity import verify
from analogmed.data.phantoms.write import PHANTOM_KINDS, write_phantom

_EXAMPLES = """\
examples:
  # generated brain slices with gliomas, in the layout of the LGG data set
  python -m analogmed.data phantom brain data/
  # the Decathlon's spleen task, 1.6 GB, checked against its checksum
  python -m analogmed.data download Task09_Spleen data/
  # read every file to its end and list all that is wrong
  python -m analogmed.data verify data/Task09_Spleen

exit codes: 0 all well, 1 problems found, 2 wrong usage
"""


def main(arguments: list[str]) -> int:
    """Run one command; return 1 if ``verify`` reports problems."""
    options = _parser().parse_args(arguments)
    return int(options.run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m analogmed.data",
        description="Data sets of the suite: check them, generate them, fetch them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="command", required=True)
    check = commands.add_parser(
        "verify",
        help="read every file to its end and list all problems",
        description="Check a data set: LGG, DSB 2018, Decathlon, BraTS, or folders of NIfTI "
        "files. Checksums, headers, geometry, pairs, label values, duplicates.",
        epilog="example:\n  python -m analogmed.data verify data/kaggle_3m",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("path", type=Path, help="the data set's folder, or the one above it")
    check.set_defaults(run=_verify)
    _add_phantom(commands)
    _add_download(commands)
    return parser


def _add_phantom(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    phantom = commands.add_parser(
        "phantom",
        help="write a generated data set in a real one's layout",
        description="Write a generated data set; the same seed gives the same bytes.",
        epilog="example:\n  python -m analogmed.data phantom spleen data/ --seed 1 --patients 4",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    phantom.add_argument("kind", choices=PHANTOM_KINDS, help="what it shows")
    phantom.add_argument("root", type=Path, help="folder to write below; made if missing")
    phantom.add_argument("--seed", type=int, default=0, help="root of every draw (default 0)")
    phantom.add_argument(
        "--patients",
        type=int,
        metavar="N",
        help="patients, or fields of nuclei (default: brain 24, spleen 12, nuclei 60)",
    )
    phantom.add_argument(
        "--size",
        type=int,
        metavar="PIXELS",
        help="in-plane pixels (default: brain 64, spleen 96, nuclei 128)",
    )
    phantom.set_defaults(run=_phantom)


def _add_download(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    download = commands.add_parser(
        "download",
        help="fetch a task of the Medical Segmentation Decathlon",
        description="Fetch, compare with its checksum, unpack. Old data is never touched.",
        epilog="example:\n  python -m analogmed.data download Task04_Hippocampus data/",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    download.add_argument("task", help="Task01_BrainTumour to Task10_Colon")
    download.add_argument("root", type=Path, help="folder to keep it in; made if missing")
    download.set_defaults(run=_download)


def _verify(options: argparse.Namespace) -> int:
    report = verify(options.path)
    print(report)
    return 0 if report.ok else 1


def _phantom(options: argparse.Namespace) -> int:
    folder = write_phantom(
        options.kind, options.root, options.seed, n_patients=options.patients, size=options.size
    )
    print(folder)
    return 0


def _download(options: argparse.Namespace) -> int:
    print(download_decathlon(options.task, options.root))
    return 0
