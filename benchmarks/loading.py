"""Peak memory and time of an epoch of training, and of an evaluation, with data larger than memory.

    python benchmarks/loading.py [--only training evaluation] [--quick] [--threads 1] [--json FILE]

A folder of NIfTI volumes is generated, 64 cases of 8 slices of 256 x 256 pixels with 4 channels:
570 MB as float32 images with masks. Three quarters of the cases are those of the stage: training
cases, or test cases. The memory allowed is a quarter of the data: what the process may allocate
above its level after the start (RLIMIT_DATA), as the kernel enforces it. Training then keeps a
quarter of it in each of its two caches (training and validation cases).

Each contender runs in a fresh process, after a first run on two small cases, which triggers all
imports and compilation. "peak MB" is the peak of the resident memory above the level before, and
"read" is the number of times that a case was read from disk. Linux only.
"""

import argparse
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from _peak import in_fresh_process, level_mb, status_mb
from _report import Report, parser, prepare
from _table import show

from analogmed.config import Experiment, ModelConfig, SweepConfig, TaskConfig
from analogmed.data import Case, Sample
from analogmed.data.volumes import VolumeReader
from analogmed.evaluation import evaluate
from analogmed.foundation.time_constants import DAY_S
from analogmed.models import build_model
from analogmed.training import CheckpointInfo, TrainConfig, save_checkpoint, train
from analogmed.training.settings import LoadingConfig

ALL, LIMITED, UNBOUNDED = "all in memory", "a quarter of the data", "all, limited to a quarter"
_LIMITED = (LIMITED, UNBOUNDED)
_CASES, _SLICES, _SIDE, _CHANNELS = 64, 8, 256, 4
_QUICK_CASES, _SMALL_CASES = 32, 8
_WINDOW = {"training": 128, "evaluation": _SIDE}
_SHARES = {"training": (0.75, 0.125, 0.125), "evaluation": (0.125, 0.125, 0.75)}
_BATCH = 4
_FEATURES = 4
_BYTES_PER_PIXEL = 4 * _CHANNELS + 1  # float32, and a mask of one byte


@dataclass(frozen=True)
class Data:
    """A folder of volumes.

    Attributes:
        root: folder of the files.
        cases: number of cases.
        side: rows and columns of a slice.
    """

    root: Path
    cases: int = _CASES
    side: int = _SIDE

    @property
    def nbytes(self) -> int:
        """Bytes of all samples in memory."""
        return self.cases * _SLICES * self.side**2 * _BYTES_PER_PIXEL

    def task(self, stage: str) -> TaskConfig:
        """Return the settings of the task of a stage."""
        images = [f"image{channel}.nii" for channel in range(_CHANNELS)]
        files = {"images": images, "label": "label.nii", "classes": {"square": 1}}
        return TaskConfig(
            "nifti",
            root=self.root,
            options={**files, "window": [_WINDOW[stage]] * 2},
            shares=_SHARES[stage],
            spatial_dims=2,
        )

    def write(self) -> None:
        """Write noise with a bright square, which is the mask."""
        rng = np.random.default_rng(0)
        for number in range(self.cases):
            folder = self.root / f"case{number:02d}"
            folder.mkdir(parents=True)
            label = np.zeros((self.side, self.side, _SLICES), np.uint8)
            label[20:60, 20:60] = 1
            volumes = {"label": label}
            for channel in range(_CHANNELS):
                image = rng.integers(0, 100, label.shape, np.int16)
                image[label == 1] += 100
                volumes[f"image{channel}"] = image
            for name, volume in volumes.items():
                nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), folder / f"{name}.nii")


@dataclass(frozen=True)
class Used:
    """Memory and time of a contender; MB of 10^6 bytes."""

    peak_mb: float
    process_mb: float
    reads: int
    cpu_s: float
    wall_s: float


def main() -> None:
    """Measure, print a table of each stage, and write the results as JSON."""
    arguments = _arguments()
    report = Report("loading", arguments)
    with tempfile.TemporaryDirectory() as folder:
        small = Data(Path(folder) / "small", _SMALL_CASES, _SIDE // 2)
        data = Data(Path(folder) / "data", _QUICK_CASES if arguments.quick else _CASES)
        for one in (small, data):
            one.write()
        for stage in arguments.only:
            rows, skipped = [], {}
            for name in (ALL, LIMITED, UNBOUNDED):
                if (stage, name) == ("evaluation", UNBOUNDED):
                    continue  # its cache follows the limit
                used = in_fresh_process(_measure, stage, name, data, small, arguments.threads)
                if isinstance(used, str):
                    skipped[name] = used
                else:
                    rows.append({"contender": name, **used})
            report.add(stage, {"workload": _about(data), "rows": rows, "skipped": skipped})
            show(stage, report.document)


def _about(data: Data) -> dict[str, Any]:
    return {
        "model": "unet",
        "options": {"features": _FEATURES},
        "shape": (data.cases, _SLICES, _CHANNELS, data.side, data.side),
        "tile_size": 512,
        "hardware": {"data": f"{data.nbytes / 1e6:.0f} MB", "limit": f"{_allowed(data):.0f} MB"},
        "target": None,
    }


def _allowed(data: Data) -> float:
    """Return the memory allowed in MB."""
    return data.nbytes / 4 / 1e6


def _measure(stage: str, name: str, data: Data, small: Data, threads: int) -> Used:
    prepare(threads)
    run, reads = _STAGES[stage], _counted_reads()
    work = data.root.parent / "runs"
    shutil.rmtree(work, ignore_errors=True)
    cache = int(1e6 * _allowed(data) / 4) if name == LIMITED else 2**31
    run(small, work / "small", cache)
    before = level_mb()
    if name in _LIMITED:
        most = 1e6 * (status_mb("VmData") + _allowed(data))
        resource.setrlimit(resource.RLIMIT_DATA, (int(most), int(most)))
    reads.clear()
    cpu, wall = time.process_time(), time.monotonic()
    run(data, work / "large", cache)
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    peak = status_mb("VmHWM")
    return Used(peak - before, peak, len(reads), cpu, wall)


def _counted_reads() -> list[str]:
    """Return a list that grows by an entry with each case that is read."""
    reads: list[str] = []
    read = VolumeReader.__call__

    def counted(reader: VolumeReader, case: Case) -> Sample:
        reads.append(case.case_id)
        return read(reader, case)

    VolumeReader.__call__ = counted  # type: ignore[method-assign]
    return reads


def _train(data: Data, out: Path, cache_bytes: int) -> Path:
    config = TrainConfig(
        task=data.task("training"),
        model=ModelConfig("unet", {"features": _FEATURES}),
        loading=LoadingConfig(cache_bytes=cache_bytes, mixed_bytes=cache_bytes),
        epochs=1,
        batch_size=_BATCH,
        out=out,
    )
    return train(config)


def _evaluate(data: Data, out: Path, cache_bytes: int) -> None:
    checkpoint = out.parent / "network.safetensors"
    if not checkpoint.is_file():
        task = data.task("evaluation").load()
        network = build_model("unet", in_channels=_CHANNELS, out_channels=1, features=_FEATURES)
        info = CheckpointInfo.of_task(task, "unet", patients=(), options={"features": _FEATURES})
        save_checkpoint(checkpoint, network, info)
    evaluate(
        Experiment(
            data.task("evaluation"),
            (checkpoint,),
            sweep=SweepConfig(chips=1, times_s=(DAY_S,)),
            batch_size=_BATCH,
            examples=0,
            out=out,
        )
    )


_STAGES: dict[str, Callable[[Data, Path, int], object]] = {
    "training": _train,
    "evaluation": _evaluate,
}


def _arguments() -> argparse.Namespace:
    options = parser(__doc__, _STAGES)
    options.set_defaults(threads=1)
    return options.parse_args()


if __name__ == "__main__":
    main()
