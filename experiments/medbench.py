"""Generation of the benchmark table: stand-alone training of a small space, evaluated on chips.

    python experiments/medbench.py --out runs/medbench             # about an hour of one core
    python experiments/medbench.py --out runs/medbench --collect   # table of the finished networks

Each network is trained digitally, then hardware-aware from that start. Both are evaluated digitally
and on chips, from right after programming to one month later, on patients that were not used in
training. All networks are trained on the brain phantom; some are trained again with a second seed,
and on the nuclei phantom. Each finished network is stored as a file in OUT/networks; an interrupted
run resumes with the unfinished networks. The table is OUT/medbench.parquet.
"""

import argparse
import os
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _programs import in_processes

from analogmed.config import Experiment, SweepConfig, TaskConfig, to_plain, to_yaml
from analogmed.evaluation.deploy import make_analog
from analogmed.evaluation.session import Cases
from analogmed.evaluation.studies.robustness.sweep import chip_table
from analogmed.execution.run_folder import describe_environment
from analogmed.execution.threads import one_thread
from analogmed.foundation.files import ensure_writable, write_atomically, write_text_atomically
from analogmed.models import Genotype
from analogmed.search.benchmark.table import TIMES_S, save, space_to_dict
from analogmed.search.evaluator import ChipEvaluator
from analogmed.search.settings import CandidateConfig
from analogmed.search.space.space import Space
from analogmed.training import LoadingConfig, OptimizerConfig, load_checkpoint, train

SPACE = Space(depths=(2, 3), blocks=("A", "C", "F"), widths=(4, 8), growths=(1, 2), kernels=(3,))
TASKS = {
    "phantom_brain": TaskConfig(
        "phantom_brain",
        options={"phantom_patients": 32, "phantom_size": 32},
        shares=(0.5, 0.1, 0.4),
    ),
    "phantom_nuclei": TaskConfig(
        "phantom_nuclei",
        options={"phantom_patients": 40, "phantom_size": 64, "window": [32, 32]},
        shares=(0.6, 0.1, 0.3),
    ),
}
PATCHES_PER_IMAGE = {"phantom_brain": 1, "phantom_nuclei": 4}
FIRST = 60  # number of networks of the first task before any is repeated
ORDER_SEED = 0


@dataclass(frozen=True)
class Settings:
    """Training and evaluation settings of the networks."""

    epochs: int = 25
    hwa_epochs: int = 10
    chips: int = 5
    patients: int | None = None

    def task(self, name: str) -> TaskConfig:
        """Return the data of a task."""
        task = TASKS[name]
        if self.patients is None:
            return task
        return replace(task, options={**task.options, "phantom_patients": self.patients})

    def candidate(self, name: str) -> CandidateConfig:
        """Return the training settings of the networks on a task."""
        return CandidateConfig(
            epochs=self.epochs,
            hwa_epochs=self.hwa_epochs,
            batch_size=16,
            optimizer=OptimizerConfig(learning_rate=5e-3),
            loading=LoadingConfig(augment=False, patches_per_image=PATCHES_PER_IMAGE[name]),
            chips=self.chips,
        )

    def about(self) -> dict[str, Any]:
        """Return all settings, for storage in the table."""
        return {
            "space": space_to_dict(SPACE),
            "times_s": list(TIMES_S),
            "settings": asdict(self),
            "tasks": {name: to_plain(self.task(name)) for name in TASKS},
            "candidates": {name: to_plain(self.candidate(name)) for name in TASKS},
            "hardware": to_plain(Experiment().hardware),
        }


@dataclass(frozen=True)
class Work:
    """A network to train, with its task and seed."""

    task: str
    seed: int
    genotype: Genotype

    def file(self, out: Path) -> Path:
        """Return the path of the file with its rows."""
        return out / "networks" / f"{self.task}-{self.seed}-{self.genotype.key}.parquet"


def main(arguments: list[str] | None = None) -> None:
    """Train the missing networks, and write the table of the finished ones."""
    given = _arguments(arguments)
    settings = Settings(given.epochs, given.hwa_epochs, given.chips, given.patients)
    out = ensure_writable(given.out)
    keep_settings(settings, out)
    plan = planned(given.networks, given.repeats)
    if not given.collect:
        run_all(plan, settings, out, given.workers)
    print(collect(plan, settings, out))


def planned(networks: int | None, repeats: int) -> list[Work]:
    """Return all work: ``FIRST`` networks of the first task, then repeated networks, then the rest.

    Args:
        networks: number of networks of the space; all of them by default.
        repeats: number of networks with a second seed and the second task.
    """
    first, second = TASKS
    space = list(SPACE.enumerate())
    order = np.random.default_rng(ORDER_SEED).permutation(len(space))[:networks]
    chosen = [space[number] for number in order]
    repeated = [
        Work(*again, genotype)
        for genotype in chosen[:repeats]
        for again in ((first, 1), (second, 0))
    ]
    once = [Work(first, 0, genotype) for genotype in chosen]
    return [*once[:FIRST], *repeated, *once[FIRST:]]


def run_all(plan: list[Work], settings: Settings, out: Path, workers: int) -> None:
    """Train and evaluate the networks that have no file yet, and print the remaining time."""
    missing = [work for work in plan if not work.file(out).exists()]
    print(f"{len(plan) - len(missing)} of {len(plan)} networks are finished", flush=True)
    start = time.monotonic()
    finished = in_processes(partial(run_one, settings=settings, out=out), missing, workers)
    for done, work in enumerate(finished, start=1):
        left_min = (time.monotonic() - start) / done * (len(missing) - done) / 60
        print(
            f"{done}/{len(missing)} {work.task} seed {work.seed} {work.genotype}, "
            f"{left_min:.0f} min left",
            flush=True,
        )


def run_one(work: Work, settings: Settings, out: Path) -> Work:
    """Train a network and write its rows atomically."""
    with one_thread(), tempfile.TemporaryDirectory(prefix=".training-", dir=out) as folder:
        rows = rows_of(work, settings, Path(folder))
    write_atomically(work.file(out), lambda file: rows.to_parquet(file, index=False))
    return work


def rows_of(work: Work, settings: Settings, folder: Path) -> pd.DataFrame:
    """Return the table rows of one network: two trainings, digitally and on all chips."""
    evaluator = ChipEvaluator(
        settings.task(work.task), candidate=settings.candidate(work.task), seed=work.seed
    )
    address = {
        "task": work.task,
        "seed": work.seed,
        "key": work.genotype.key,
        "genotype": work.genotype.to_json(),
        **evaluator.count(work.genotype),
        "provenance": _provenance(),
    }
    cases, parts, init, spent_s = Cases(evaluator.task), [], None, 0.0
    for training in ("digital", "hwa"):
        start = time.process_time()
        init = train(evaluator.training(work.genotype, folder / training, init=init))
        spent_s += time.process_time() - start
        part = _evaluated(init, evaluator.experiment(init), cases)
        parts.append(part.assign(**address, training=training, training_cpu_s=spent_s))
    return pd.concat(parts, ignore_index=True)


def _evaluated(path: Path, experiment: Experiment, cases: Cases) -> pd.DataFrame:
    """Return the mean Dice over cases: of the digital run, and of each chip at each time."""
    sweep = SweepConfig(chips=experiment.sweep.chips, times_s=TIMES_S)
    experiment = replace(experiment, sweep=sweep, batch_size=64)
    network = load_checkpoint(path, factories=("subnet",))
    table = chip_table(network, make_analog(network, experiment, cases.task), cases, experiment)
    of_run = table.groupby(["hardware", "chip", "time_s"], dropna=False, observed=True)["value"]
    return of_run.agg(dice="mean", n_cases="count").reset_index()


def _provenance() -> str:
    found = describe_environment()
    names = ("analogmed", "torch", "aihwkit", "monai", "numpy")
    versions = ", ".join(f"{name} {found['versions'][name]}" for name in names)
    commit = (found["git"] or {}).get("commit", "unknown")[:12]
    return f"{versions}, commit {commit}, {datetime.now(UTC).date()}"


def keep_settings(settings: Settings, out: Path) -> None:
    """Write the settings next to the networks; exit if the folder has other settings."""
    path, text = out / "settings.yaml", to_yaml(settings.about())
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise SystemExit(f"{path} has other settings than these; give another --out")
    write_text_atomically(path, text)


def collect(plan: list[Work], settings: Settings, out: Path) -> str:
    """Write the table of all finished networks, and return a description of its contents."""
    files = [work.file(out) for work in plan if work.file(out).exists()]
    if not files:
        raise SystemExit(f"{out / 'networks'} holds no finished network yet")
    rows = pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)
    path = save(rows, settings.about(), out / "medbench.parquet")
    return f"{path}: {len(files)} of {len(plan)} networks, {len(rows)} rows"


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/medbench"))
    parser.add_argument("--networks", type=int, help="of the space; all by default")
    parser.add_argument("--repeats", type=int, default=30, help="with another seed, and task")
    parser.add_argument("--epochs", type=int, default=Settings.epochs)
    parser.add_argument("--hwa-epochs", type=int, default=Settings.hwa_epochs)
    parser.add_argument("--chips", type=int, default=Settings.chips)
    parser.add_argument("--patients", type=int, help="of each phantom")
    parser.add_argument("--workers", type=int, default=1, help="processes, of one thread each")
    parser.add_argument("--collect", action="store_true", help="train nothing")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
