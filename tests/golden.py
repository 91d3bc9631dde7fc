"""Record what every command writes and prints on a tiny task, as hashes; compare two recordings.

    python tests/golden.py record before.json
    python tests/golden.py record after.json
    python tests/golden.py compare before.json after.json

Bytes depend on the machine: record both on one machine, with nothing but the code changed. What
differs between two runs of the same code is left out: times, commits, commands and folders.
Recording takes some minutes. Development needs this only while modules move.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TASK = ["--task.options.phantom_patients=6", "--task.options.phantom_size=32"]
SWEEP = ["--sweep.chips=2", "--sweep.times_s", "0", "86400"]
NETWORK = ["--model.options.features=2"]
NETWORKS = ["out/digital", "out/hwa"]

COMMANDS: dict[str, list[str]] = {
    "data": ["data", "phantom", "brain", "out/data", "--patients", "6", "--size", "32"],
    "verify": ["data", "verify", "out/data"],
    "digital": ["train", *TASK, *NETWORK, "--epochs=2", "--out=out/digital"],
    "hwa": [
        *("train", *TASK, "--training=hwa", "--init=out/digital", "--epochs=2"),
        "--out=out/hwa",
    ],
    "eval": ["eval", *TASK, *SWEEP, "--checkpoints", *NETWORKS, "--out=out/eval"],
    "eval-torch": [
        *("eval", *TASK, "--sweep.chips=1", "--sweep.times_s", "0", "86400", "--backend=torch"),
        *("--checkpoints", *NETWORKS, "--out=out/eval-torch"),
    ],
    "eval-reram": [
        *("eval", *TASK, "--sweep.chips=2", "--hardware.preset=reram", "--sweep.reads=2"),
        *("--sweep.times_s", "1", "86400"),
        *("--checkpoints", *NETWORKS, "--out=out/eval-reram"),
    ],
    "eval-width": [
        *("eval", *TASK, "--sweep.width=0.2", "--sweep.times_s", "0", "86400"),
        *("--checkpoints", "out/digital", "--out=out/eval-width"),
    ],
    "eval-shipped": [
        *("eval", "--sweep.chips=1", "--sweep.times_s", "86400", "--out=out/eval-shipped"),
    ],
    "sensitivity": [
        *("sensitivity", *TASK, *SWEEP, "--checkpoints", "out/hwa", "--out=out/sensitivity"),
    ],
    "placement": [
        *("sensitivity", "placement", *TASK, "--sweep.chips=2", "--sweep.times_s", "86400"),
        *("--checkpoints", "out/hwa", "--digital_gmac_per_s=100", "--out=out/placement"),
    ],
    "uncertainty": [
        *("uncertainty", *TASK, *SWEEP, "--sweep.reads=2", "--checkpoints", *NETWORKS),
        *("--out=out/uncertainty",),
    ],
    "mitigation": [
        *("uncertainty", "mitigation", *TASK, *SWEEP, "--checkpoints", "out/hwa"),
        *("--out=out/mitigation",),
    ],
    "search": [
        *("search", *TASK, "--budget=2", "--candidate.epochs=1", "--candidate.hwa_epochs=1"),
        *("--final_epochs=1", "--space.widths=[2]", "--space.depths=[1]", "--candidate.chips=1"),
        *("--out=out/search",),
    ],
    "supernet": [
        *("search", "supernet", *TASK, "--epochs=2", "--space.widths=[2]", "--space.depths=[1]"),
        "--out=out/supernet",
    ],
    "importance": [
        *("search", "importance", "--supernets", "out/supernet", "--n=4", "--out=out/importance"),
    ],
    "hardware": [
        *("hardware", "--model", "unet(features=4)", "unetpp", "--out", "out/hardware"),
    ],
    "report": [
        *("report", "out/eval", "out/uncertainty", "out/sensitivity", "out/placement"),
        *("out/mitigation", "out/hwa", "--out", "out/page"),
    ],
}

HELP = [
    *(["eval"], ["train"], ["search"], ["search", "supernet"], ["search", "importance"]),
    *(["sensitivity"], ["sensitivity", "placement"], ["uncertainty"]),
    *(["uncertainty", "mitigation"], ["hardware"], ["hardware", "measure"], ["report"]),
    *(["data"], ["data", "verify"], ["data", "phantom"], ["data", "download"]),
]

LEFT_OUT = {"environment.json", "finished.json"}
VARYING = [
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?", "TIME"),
    (r"\b[0-9a-f]{40}\b|\b[0-9a-f]{64}\b", "HASH"),
    (r"\b\d+(\.\d+)? ?(ms|s|min|h)\b", "DURATION"),
    (r"\d+:\d\d(:\d\d)?", "CLOCK"),
    (r"analogmed[-_ ]\d+\.\d+\.\d+\S*", "VERSION"),
]
COLUMNS = ("seconds", "worker", "wall_s", "examples_per_s")


def main() -> int:
    """Record or compare, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("record", "compare"))
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--only", nargs="*", default=list(COMMANDS), choices=list(COMMANDS))
    options = parser.parse_args()
    if options.action == "record":
        options.files[0].write_text(json.dumps(record(options.only), indent=1) + "\n")
        return 0
    before, after = (json.loads(path.read_text()) for path in options.files)
    names = sorted({*before, *after})
    different = [name for name in names if before.get(name) != after.get(name)]
    for name in different:
        print(f"{name}: {before.get(name, 'not there')} before, {after.get(name, 'gone')} after")
    print(f"{len(names) - len(different)} of {len(names)} are equal")
    return int(bool(different))


def record(commands: list[str]) -> dict[str, str]:
    """Return hashes of all that the commands write and print, and of their help."""
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {
            **os.environ,
            **{"OMP_NUM_THREADS": "1", "COLUMNS": "100", "ANALOGMED_CACHE": str(folder / "cache")},
        }
        for words in HELP:
            done = _run([*words, "--help"], folder, environment)
            found["help " + " ".join(words)] = _digest(done.encode())
        for label in commands:
            before = _files(folder)
            printed = _run(COMMANDS[label], folder, environment)
            found[f"{label}: printed"] = _digest(_steady(printed, folder))
            for path in sorted(_files(folder) - before):
                place = path.relative_to(folder / "out").as_posix()
                if not _is_left_out(path):
                    found[f"{label}: {place}"] = _digest(_content(path, folder))
            print(f"{label}: {len(found)} hashes", file=sys.stderr)
    return found


def _run(words: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "analogmed", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=environment,
    )
    return f"{done.returncode}\n{done.stdout}\n{done.stderr}"


def _files(folder: Path) -> set[Path]:
    return {p for p in (folder / "out").rglob("*") if p.is_file()}


def _is_left_out(path: Path) -> bool:
    """Stored units are named by the code's digest; logs of TensorBoard hold times."""
    return path.name in LEFT_OUT or path.name.startswith(("events.", ".")) or "units" in path.parts


def _content(path: Path, folder: Path) -> bytes:
    if path.suffix in (".parquet", ".csv"):
        return _table(path)
    if path.suffix in (".yaml", ".json", ".html", ".md", ".tex", ".txt", ".log"):
        return _steady(path.read_text(), folder)
    if path.suffix == ".safetensors" and path.name != "network.safetensors":
        return _tensors(path)
    return path.read_bytes()


def _table(path: Path) -> bytes:
    import pandas as pd

    frame = (
        pd.read_parquet(path)
        if path.suffix == ".parquet"
        else pd.read_csv(path, dtype=str, keep_default_na=False)
    )
    kept = [name for name in frame.columns if not any(part in name for part in COLUMNS)]
    return frame[kept].to_csv(index=False).encode()


def _tensors(path: Path) -> bytes:
    from safetensors.numpy import load_file

    tensors = load_file(path)
    return b"".join(name.encode() + tensors[name].tobytes() for name in sorted(tensors))


def _steady(text: str, folder: Path) -> bytes:
    text = text.replace(str(folder), "FOLDER").replace(str(Path(__file__).parents[1]), "CHECKOUT")
    for pattern, word in VARYING:
        text = re.sub(pattern, word, text)
    return text.encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main())
