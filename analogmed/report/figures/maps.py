"""Uncertainty maps with image, reference and prediction of the worst, median and best case."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from analogmed.foundation.errors import DataError
from analogmed.foundation.time_constants import time_label
from analogmed.report.figures.style import WIDTH_IN, publication_style, save_figure
from analogmed.report.names import TRAINING_NAMES, model_name
from analogmed.tables.uncertainty import EXAMPLES

_CONTOUR = "#f0e442"
_CELL_IN = WIDTH_IN / 6
DAMAGED_ARCHIVE = (
    OSError, ValueError, KeyError, TypeError, EOFError, AttributeError, IndexError, MemoryError,
    NotImplementedError, RuntimeError, SyntaxError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""Errors that numpy and zipfile raise for damaged archives."""
_MOST_BYTES = 256 * 2**20


def draw_example_maps(folder: Path | str) -> list[Path]:
    """Draw the maps of the example slices on chips: one figure per model and first or last time.

    Args:
        folder: run folder with ``examples.npz`` and ``examples.csv``.

    Returns:
        the files written, ``figures/maps_MODEL_TIME.png``.

    Raises:
        DataError: the examples cannot be read.
    """
    folder = Path(folder)
    arrays, index = read_examples(folder)
    return [
        uncertainty_maps(arrays, rows, folder / name)
        for name, rows in figures_of_examples(index).items()
    ]


def figures_of_examples(index: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows of ``examples.csv`` that each figure of the maps shows.

    Args:
        index: ``examples.csv`` of a run.

    Returns:
        the rows by the name of the figure, relative to the run folder.
    """
    chips = index[index["source"] == "chips"]
    rows_of: dict[str, pd.DataFrame] = {}
    for model, rows in chips.groupby("model", sort=False):
        for time_s in sorted({rows["time_s"].min(), rows["time_s"].max()}):
            name = f"maps_{model}_{time_label(time_s)}.png".replace(" ", "_").replace("/", "_")
            rows_of[f"figures/{name}"] = rows[rows["time_s"] == time_s]
    return rows_of


def read_archive(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an ``.npz`` file without pickled objects.

    Raises:
        DAMAGED_ARCHIVE: the file is damaged.
        ValueError: its arrays take too much memory.
    """
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > _MOST_BYTES:
        raise ValueError(f"{size:,} bytes of arrays, expected at most {_MOST_BYTES:,}")
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def read_examples(folder: Path | str) -> tuple[dict[str, np.ndarray], pd.DataFrame]:
    """Return the arrays of ``examples.npz`` by name, and their index.

    Raises:
        DataError: a file is missing, damaged, or contains pickled objects.
    """
    try:
        return read_archive(Path(folder) / "examples.npz"), EXAMPLES.read(Path(folder))
    except DAMAGED_ARCHIVE as error:
        raise DataError(f"{folder}: the examples cannot be read ({error}); run again") from error


def uncertainty_maps(arrays: dict[str, np.ndarray], index: pd.DataFrame, path: Path | str) -> Path:
    """Draw one model with one row per case: the image, then mask and uncertainty per training.

    The uncertainty is the standard deviation of the probability over passes, on a common scale; the
    contour is the reference.

    Args:
        arrays: images, references and maps by name.
        index: rows of ``examples.csv`` to draw, all of one model and time.
        path: ``.png`` or ``.svg`` file.

    Returns:
        ``path``; identical content yields identical bytes.

    Raises:
        DataError: there are no rows to draw.
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    if index.empty:
        raise DataError("nothing to draw: there is no example slice")
    ranks = [rank for rank in ("worst", "median", "best") if (index["rank"] == rank).any()]
    trainings = [t for t in TRAINING_NAMES if (index["training"] == t).any()]
    names = {(row["rank"], row["training"]): row["name"] for _, row in index.iterrows()}
    spread = {key: np.sqrt(np.nan_to_num(arrays[f"{n}_variance"])) for key, n in names.items()}
    highest = max(float(values.max()) for values in spread.values()) or 1e-3
    n_columns = 2 + 2 * len(trainings)
    with publication_style():
        size = (_CELL_IN * n_columns, (_CELL_IN + 0.05) * len(ranks) + 1.0)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(ranks), n_columns, squeeze=False)
        for axes, rank in zip(grid, ranks, strict=True):
            reference = arrays[f"{rank}_reference"]
            image = _displayed(arrays[f"{rank}_image"])
            _show(axes[0], image, None)
            _show(axes[1], image, reference)
            axes[0].set_ylabel(rank)
            for place, training in enumerate(trainings):
                name = names[rank, training]
                mask, shades = arrays[f"{name}_prediction"] > 0, axes[3 + 2 * place]
                _show(axes[2 + 2 * place], mask, reference)
                drawn = _show(shades, spread[rank, training], reference, highest=highest)
        heads = ["image", "reference"]
        heads += [f"{TRAINING_NAMES[t]}\n{what}" for t in trainings for what in ("mask", "std")]
        for axes_, head in zip(grid[0], heads, strict=True):
            axes_.set_title(head, fontsize="small")
        bar = figure.colorbar(
            drawn, ax=list(grid.ravel()), location="bottom", fraction=0.04, pad=0.02, aspect=40
        )
        first = index.iloc[0]
        bar.set_label(
            f"standard deviation of the probability over passes; {model_name(first['model'])}, "
            f"chips at {time_label(float(first['time_s']))}",
            parse_math=False,
        )
        return save_figure(figure, path)


def _displayed(image: np.ndarray) -> np.ndarray:
    """Return an image (H, W, C) in [0, 1]: three channels as colours, else the first as grey."""
    shown = image if image.shape[-1] == 3 else image[..., 0]
    low, high = np.percentile(shown, [1, 99])
    return np.clip((shown - low) / max(high - low, 1e-6), 0.0, 1.0)


def _show(
    axes: Axes, values: np.ndarray, reference: np.ndarray | None, *, highest: float = 1.0
) -> AxesImage:
    colors = "magma" if highest != 1.0 else "gray"
    drawn = axes.imshow(values, cmap=colors, vmin=0.0, vmax=highest, interpolation="nearest")
    if reference is not None:
        for label in _labels(reference):
            axes.contour(reference == label, [0.5], colors=_CONTOUR, linewidths=0.8)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return drawn


def _labels(reference: np.ndarray) -> Sequence[int]:
    return [int(label) for label in np.unique(reference) if label]
