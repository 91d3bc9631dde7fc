"""Figure of the README: masks of a digitally and a hardware-aware trained U-Net on a ReRAM chip.

    python experiments/heads.py [--preset NAME] [--times SECONDS ...] [--out FILE]

The heads are the first test patients of the brain phantom that neither network has seen, each in
the slice with the largest tumour. The chip has the seed 0. Takes half a minute of a core.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import analogmed as am
from analogmed.data import Task
from analogmed.evaluation.preparation import shipped_folder
from analogmed.foundation.files import write_atomically
from analogmed.foundation.time_constants import time_label
from analogmed.metrics.case import mean_dice
from analogmed.report.figures.style import DPI, publication_style
from analogmed.report.names import hardware_name

SHIPPED = shipped_folder("phantom_brain")
NETWORKS = {"unet-digital": "trained digitally", "unet-hwa": "hardware-aware training (for PCM)"}
CHANNEL = 1  # FLAIR


@dataclass(frozen=True)
class Head:
    """One slice: image, shape (channels, height, width), and reference mask."""

    image: np.ndarray
    reference: np.ndarray


def heads_of(task: Task, seen: set[str], number: int) -> list[Head]:
    """Return the largest slice of each of the first patients that no network has seen."""
    heads = []
    for case in [case for case in task.test if case.patient_id not in seen][:number]:
        sample = task.read(case)
        best = int(sample.label.reshape(len(sample.label), -1).sum(1).argmax())
        heads.append(Head(sample.image[best], sample.label[best] > 0))
    return heads


def masks_on_chip(
    file: Path, preset: str, training: torch.Tensor, images: torch.Tensor, times_s: Sequence[float]
) -> list[np.ndarray]:
    """Return the masks of all images on one chip, an array (images, height, width) per time."""
    trained = am.load_checkpoint(file)
    analog = am.convert(trained.network, preset, digital_layers=trained.info.digital_layers or ())
    if not am.load_input_ranges(analog, trained.input_ranges):
        am.calibrate(analog, [training])
    chip = am.Chip(analog, seed=0)
    return [(chip.at(time_s, read=0)(images)[:, 0] > 0).numpy() for time_s in times_s]


def draw(
    heads: Sequence[Head],
    masks: dict[str, list[np.ndarray]],
    times_s: Sequence[float],
    caption: str,
) -> Figure:
    """Draw a row per head, and for each network a column per time."""
    columns = len(masks) * len(times_s)
    with publication_style():
        figure = Figure(figsize=(8, 8 / columns * len(heads) + 0.75), dpi=DPI, layout="constrained")
        blocks = figure.subfigures(1, len(masks))
        for block, (name, of_times) in zip(np.atleast_1d(blocks), masks.items(), strict=True):
            block.suptitle(f"U-Net, {NETWORKS[name]}", fontsize="medium")
            axes = block.subplots(len(heads), len(times_s), squeeze=False)
            for (row, column), panel in np.ndenumerate(axes):
                _draw_panel(panel, heads[row], of_times[column][row])
            for panel, time_s in zip(axes[0], times_s, strict=True):
                panel.set_title(time_label(time_s), fontsize="small")
        figure.supxlabel(caption, fontsize="x-small", color="0.35")
    return figure


def _draw_panel(panel: Axes, head: Head, mask: np.ndarray) -> None:
    panel.imshow(head.image[CHANNEL], cmap="gray", interpolation="bilinear")
    shown = np.ma.masked_equal(mask.astype(float), 0)
    panel.imshow(shown, cmap="autumn", vmin=0, vmax=2, alpha=0.55, interpolation="nearest")
    panel.contour(head.reference, [0.5], colors="#56B4E9", linewidths=1.2)
    dice = mean_dice(mask[None], head.reference[None], 1)
    panel.set_xlabel(f"Dice {dice:.2f}", fontsize="x-small", labelpad=2)
    panel.set(xticks=[], yticks=[])


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate both networks on one chip and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="reram_cmo", help="hardware preset of the chip")
    parser.add_argument("--times", type=float, nargs="+", default=[0.0, 86_400.0, 2_592_000.0])
    parser.add_argument("--heads", type=int, default=3, help="number of patients")
    parser.add_argument("--patients", type=int, default=40, help="size of the phantom")
    parser.add_argument("--out", type=Path, default=Path("docs/images/heads.png"))
    given = parser.parse_args(arguments)
    task = am.load_task("phantom_brain", phantom_patients=given.patients)
    files = {name: SHIPPED / f"{name}.safetensors" for name in NETWORKS}
    seen = {name for file in files.values() for name in am.load_checkpoint(file).info.patients}
    heads = heads_of(task, seen, given.heads)
    training = torch.from_numpy(
        np.concatenate([task.read(case).image for case in task.train if case.patient_id in seen])
    )
    images = torch.from_numpy(np.stack([head.image for head in heads]))
    masks = {
        name: masks_on_chip(file, given.preset, training, images, given.times)
        for name, file in files.items()
    }
    caption = (
        f"Synthetic heads, one {hardware_name(given.preset)} chip, time since programming. "
        "Blue: reference; orange: prediction."
    )
    figure = draw(heads, masks, given.times, caption)
    write_atomically(given.out, lambda path: figure.savefig(path, metadata={"Software": None}))
    print(given.out)


if __name__ == "__main__":
    main()
