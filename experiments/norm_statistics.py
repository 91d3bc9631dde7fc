"""Deviation of the activations of a network on a chip from the statistics of its batch norms.

    python experiments/norm_statistics.py --task lgg --task.root data/lgg --task.size 64 64 \\
        --checkpoints runs/digital runs/learned-norms runs/frozen-norms

A batch norm divides each channel by a running standard deviation that was learned in training.
Training patches pass through a network digitally, and on chips at several ages. For each, the
standard deviation of the activations is compared with the running one, and so is the mean. The
first network is also evaluated on chips with one noise source at a time. Settings are those of
`python -m analogmed.eval`; sweep.chips sets the number of chips. Writes norm_statistics.md and
norm_statistics.png into the folder of --out.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pandas as pd
import torch
from _programs import markdown
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from analogmed.analog import Chip
from analogmed.cli.parse import parse
from analogmed.config import Experiment
from analogmed.data import Task
from analogmed.evaluation.deploy import make_analog
from analogmed.foundation.files import write_text_atomically
from analogmed.foundation.time_constants import DAY_S, MONTH_S, T0_S, TIME_NAMES
from analogmed.network.copy import copy_network
from analogmed.report.figures.style import publication_style, save_figure
from analogmed.training import TrainConfig, load_checkpoint
from analogmed.training.checkpoint.checkpoint import Checkpoint
from analogmed.training.distributed import Ranks
from analogmed.training.preparation import make_sampler

BATCHES = 24
QUIET = {"prog_noise_scale": 0.0, "read_noise_scale": 0.0, "drift_scale": 0.0, "out_noise": 0.0}
SOURCES = {
    "all": (),
    "programming noise": ("prog_noise_scale",),
    "drift, compensated": ("drift_scale",),
    "read noise": ("read_noise_scale",),
    "output noise": ("out_noise",),
    "converters only": (),
}
Network = Callable[[Tensor], Tensor]


def main() -> None:
    """Measure, then print and write the results."""
    experiment = parse(Experiment, sys.argv[1:], prog="experiments/norm_statistics.py")
    out = experiment.out or Path("runs/norm_statistics")
    task = experiment.task.load()
    images = patches(experiment, task)
    networks = [load_checkpoint(p, factories=experiment.factories) for p in experiment.checkpoints]
    states = pd.concat([of_ages(c, images, experiment, task) for c in networks])
    sources = of_sources(networks[0], images, experiment, task)
    text = f"{_summary(states, ['network', 'run'])}\n{_summary(sources, ['source'])}"
    write_text_atomically(out / "norm_statistics.md", text)
    draw(states, out / "norm_statistics.png")
    print(f"{text}\ntables and figure: {out}/")


def patches(experiment: Experiment, task: Task) -> list[Tensor]:
    """Return batches of training patches, as training samples them."""
    config = TrainConfig(task=experiment.task)
    sampler = make_sampler(config, task, Ranks())
    return [images for images, _ in islice(sampler.epoch(0), BATCHES)]


def of_ages(
    checkpoint: Checkpoint, images: list[Tensor], experiment: Experiment, task: Task
) -> pd.DataFrame:
    """Return statistics of a network digitally and on chips at t0, after one day and one month."""
    digital = copy_network(checkpoint.network)
    tables = [statistics(digital, digital, images).assign(run="digital")]
    analog = make_analog(checkpoint, experiment, task)
    for time_s in (T0_S, DAY_S, MONTH_S):
        rows = on_chips(analog, images, experiment, time_s)
        tables.append(rows.assign(run=TIME_NAMES[time_s]))
    return pd.concat(tables).assign(network=checkpoint.path.parent.name)


def of_sources(
    checkpoint: Checkpoint, images: list[Tensor], experiment: Experiment, task: Task
) -> pd.DataFrame:
    """Return statistics after one day, with one source of noise at a time."""
    tables = []
    for name, kept in SOURCES.items():
        off = {} if name == "all" else {k: v for k, v in QUIET.items() if k not in kept}
        of_source = replace(experiment, hardware=replace(experiment.hardware, **off))
        analog = make_analog(checkpoint, of_source, task)
        rows = on_chips(analog, images, experiment, DAY_S)
        tables.append(rows.assign(source=name))
    return pd.concat(tables)


def on_chips(
    analog: nn.Module, images: list[Tensor], experiment: Experiment, time_s: float
) -> pd.DataFrame:
    """Return statistics on the chips of an experiment at one time after programming."""
    seeds = range(experiment.seed, experiment.seed + experiment.sweep.chips)
    return pd.concat(
        [statistics(Chip(analog, seed=seed).at(time_s), analog, images) for seed in seeds]
    )


@torch.no_grad()
def statistics(network: Network, model: nn.Module, images: list[Tensor]) -> pd.DataFrame:
    """Return statistics of the inputs to each channel of each batch norm.

    Args:
        network: callable that is applied to the images.
        model: model that contains the batch norms.
        images: batches (B, C, *spatial).

    Returns:
        one row per channel: ``norm``; ``deviation``, the ratio of the measured to the running
            standard deviation; ``shift``, the absolute difference between measured and running mean
            in running standard deviations.
    """
    norms = {name: m for name, m in model.named_modules() if isinstance(m, _BatchNorm)}
    if not norms:
        raise SystemExit(f"{type(model).__name__} has no batch norm with running statistics")
    sums = {
        name: [torch.zeros(m.num_features).double() for _ in range(2)] for name, m in norms.items()
    }
    counts = dict.fromkeys(norms, 0)

    def watch(name: str, values: Tensor) -> None:
        values = values.double().transpose(0, 1).flatten(1)
        counts[name] += values.shape[1]
        sums[name][0] += values.sum(1)
        sums[name][1] += values.square().sum(1)

    handles = [
        m.register_forward_pre_hook(lambda _, given, name=name: watch(name, given[0]))
        for name, m in norms.items()
    ]
    try:
        for batch in images:
            network(batch)
    finally:
        for handle in handles:
            handle.remove()
    return pd.concat(list(_rows(norms, sums, counts)))


def _rows(
    norms: dict[str, _BatchNorm], sums: dict[str, list[Tensor]], counts: dict[str, int]
) -> Iterator[pd.DataFrame]:
    for name, norm in norms.items():
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean, square = (total / counts[name] for total in sums[name])
        running = norm.running_var.double().sqrt()
        yield pd.DataFrame(
            {
                "norm": name,
                "deviation": ((square - mean.square()).clamp(min=0).sqrt() / running).numpy(),
                "shift": ((mean - norm.running_mean).abs() / running).numpy(),
            }
        )


def _summary(rows: pd.DataFrame, by: list[str]) -> str:
    """Return the median over all channels, and the median of the norm that is furthest from 1."""
    table = []
    for key, part in rows.groupby(by, sort=False):
        norms = part.groupby("norm", sort=False)["deviation"].median()
        furthest = (norms.map(lambda ratio: max(ratio, 1 / ratio))).idxmax()
        table.append(
            {
                **dict(zip(by, key if isinstance(key, tuple) else (key,), strict=True)),
                "deviation / running": f"{part['deviation'].median():.2f}",
                "5 to 95 % of channels": " to ".join(
                    f"{part['deviation'].quantile(q):.2f}" for q in (0.05, 0.95)
                ),
                "furthest norm": f"{norms[furthest]:.2f} ({furthest})",
                "shift of the mean": f"{part['shift'].median():.2f}",
            }
        )
    return markdown(pd.DataFrame(table))


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Draw one panel per network: the median ratio of each norm, in the order of the layers."""
    networks = list(dict.fromkeys(rows["network"]))
    with publication_style():
        figure = Figure(figsize=(3.2 * len(networks) + 1, 3.4), layout="constrained")
        panels = figure.subplots(1, len(networks), sharey=True, squeeze=False)[0]
        for axes, network in zip(panels, networks, strict=True):
            part = rows[rows["network"] == network]
            for run, of_run in part.groupby("run", sort=False):
                medians = of_run.groupby("norm", sort=False)["deviation"].median().to_numpy()
                axes.plot(range(1, len(medians) + 1), medians, marker="o", markersize=3, label=run)
            axes.axhline(1, color="0.6", linewidth=1, linestyle="--")
            axes.set_title(network, parse_math=False)
            axes.set_xlabel("batch norm, in order of layers")
        panels[0].set_ylabel("standard deviation\n/ that the norm divides by")
        panels[-1].legend(frameon=False, fontsize="small")
        save_figure(figure, path)


if __name__ == "__main__":
    main()
