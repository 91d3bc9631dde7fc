"""Train and evaluate a small U-Net on each real subset, and write the README's table of results.

    python experiments/real_subsets.py DATA [--out runs/real] [--only lgg]

DATA holds lgg/, dsb2018/, Task04_Hippocampus/ and totalsegmentator_example/. Every command that it
runs is printed, and can be run by hand. A checkpoint that is there already is used as it is. About
half an hour on two cores.
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd

from analogmed.atomic import write_text_atomically
from analogmed.report import to_markdown

FOLDERS = {
    "lgg": "lgg",
    "dsb2018": "dsb2018",
    "hippocampus": "Task04_Hippocampus",
    "spleen": "totalsegmentator_example",
}


def main() -> None:
    arguments = _arguments()
    names = arguments.only or list(FOLDERS)
    for name in names:
        run_one(name, arguments.data / FOLDERS[name], arguments.out)
    found = [arguments.out / name / "summary.csv" for name in FOLDERS]
    summary = pd.concat([pd.read_csv(path) for path in found if path.exists()])
    path = write_text_atomically(arguments.out / "results.md", to_markdown(summary))
    print(f"table: {path}")


def run_one(name: str, data: Path, out: Path) -> None:
    """Digital training, hardware-aware training, evaluation of both."""
    training, evaluation = f"configs/{name}-train.yaml", f"configs/{name}-eval.yaml"
    root = [] if name == "spleen" else ["--task.root", str(data)]
    digital, hwa = (out / f"{name}-{kind}.safetensors" for kind in ("digital", "hwa"))
    train = ["analogmed.train", "--config", training, *root]
    if not digital.exists():
        _run([*train, "--out", str(digital)])
    if not hwa.exists():
        aware = ["--training", "hwa", "--init", str(digital)]
        _run([*train, "--out", str(hwa), *aware, "--learning_rate", "5e-4", "--epochs", "15"])
    checkpoints = ["--checkpoints", f"[{digital}, {hwa}]"]
    where = ["--task.root", str(data), "--out", str(out / name)]
    _run(["analogmed.eval", "--config", evaluation, *where, *checkpoints])


def _run(command: list[str]) -> None:
    command = [sys.executable, "-m", *command]
    print("\n$ python", shlex.join(command[1:]), flush=True)
    subprocess.run(command, check=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder that holds the subsets")
    parser.add_argument("--out", type=Path, default=Path("runs/real"))
    parser.add_argument("--only", nargs="*", choices=list(FOLDERS))
    return parser.parse_args()


if __name__ == "__main__":
    main()
