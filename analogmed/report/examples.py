"""Example cases of a run folder: slices of image, reference and predictions, as ``.npz`` files."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analogmed.foundation.errors import DataError
from analogmed.report.figures.maps import DAMAGED_ARCHIVE, read_archive, read_examples

FORMAT = 1
"""Format of the files of an evaluation, which ``analogmed.evaluation.examples`` describes."""
MOST_PICTURES = 4
"""Maximum number of channels whose pictures are shown."""
_WINDOW_PERCENT = (0.5, 99.5)
_WRONG_CONTENT = (LookupError, ValueError, TypeError, RecursionError)
"""Errors for inconsistent arrays and descriptions."""


@dataclass(frozen=True)
class ExampleSlice:
    """A slice of a case.

    Attributes:
        images: uint8, shape (pictures, H, W) or (pictures, H, W, 3).
        label: class indices, shape (H, W).
        spacing: size of a pixel along rows and columns.
        digital: class indices predicted by each network on digital hardware, (networks, H, W).
        pred: class indices predicted on a chip, shape (networks, times, H, W).
        variance: variance of the probability over passes, same shape as ``pred``; ``None`` if not
            measured.
    """

    images: np.ndarray
    label: np.ndarray
    spacing: tuple[float, float]
    digital: np.ndarray
    pred: np.ndarray
    variance: np.ndarray | None


@dataclass(frozen=True)
class ExampleCase:
    """A case stored by ``analogmed.evaluation.examples``.

    Attributes:
        case, patient, task, hardware: origin of the case.
        place: worst, median, best, or a rank.
        classes: names of the foreground classes.
        pictures: names of the images of a slice.
        networks: model and training of each network.
        times_s: times since programming in s.
        pred_of: origin of the on-chip predictions, such as "the first chip".
        slices: slices by name of the plane.
        dice_digital: digital Dice of the whole case, shape (networks,).
        dice: on-chip Dice of the whole case, shape (networks, times).
    """

    case: str
    patient: str
    task: str
    hardware: str
    place: str
    classes: tuple[str, ...]
    pictures: tuple[str, ...]
    networks: tuple[tuple[str, str], ...]
    times_s: tuple[float, ...]
    pred_of: str
    slices: dict[str, ExampleSlice]
    dice_digital: np.ndarray
    dice: np.ndarray


def read_example_cases(folder: Path) -> tuple[ExampleCase, ...]:
    """Return all example cases of a run folder; empty if it has none.

    An evaluation stores them in ``examples/``, one file each; an uncertainty run stores them in
    ``examples.npz``, with ``examples.csv`` as its index.

    Raises:
        DataError: a file is damaged, or contains pickled objects or inconsistent arrays.
    """
    if (folder / "examples.npz").is_file():
        return _of_uncertainty(folder)
    return tuple(read_example(path) for path in sorted((folder / "examples").glob("*.npz")))


def read_example(path: Path) -> ExampleCase:
    """Return one example case.

    Raises:
        DataError: the file is damaged, or contains pickled objects or inconsistent arrays.
    """
    try:
        arrays = read_archive(path)
    except DAMAGED_ARCHIVE as error:
        raise _no_case(path, error) from error
    try:
        return _of_arrays(arrays)
    except _WRONG_CONTENT as error:
        raise _no_case(path, error) from error


def _no_case(path: Path, error: BaseException) -> DataError:
    return DataError(f"{path} is no example case: {error}; remove it, or run the evaluation again")


def _of_arrays(arrays: dict[str, np.ndarray]) -> ExampleCase:
    about = json.loads(str(arrays["about"]))
    if about["format"] != FORMAT:
        raise ValueError(f"format {about['format']}, expected {FORMAT}")
    example = ExampleCase(
        **{name: str(about[name]) for name in ("case", "patient", "task", "hardware", "place")},
        classes=tuple(map(str, about["classes"])),
        pictures=tuple(map(str, about["pictures"])),
        networks=tuple((str(model), str(training)) for model, training in about["networks"]),
        times_s=tuple(map(float, about["times_s"])),
        pred_of="the first chip",
        slices={str(plane): _slice(arrays, plane) for plane in about["planes"]},
        dice_digital=arrays["dice_digital"],
        dice=arrays["dice"],
    )
    _check_shapes(example)
    return example


def _of_uncertainty(folder: Path) -> tuple[ExampleCase, ...]:
    """Return cases of an uncertainty run: mean masks and variance over all chips and reads."""
    arrays, index = read_examples(folder)
    try:
        cases = [
            _of_rank(str(rank), rows, arrays) for rank, rows in index.groupby("rank", sort=False)
        ]
        order = ("worst", "median", "best")
        return tuple(sorted(cases, key=lambda case: order.index(case.place)))
    except _WRONG_CONTENT as error:
        raise DataError(
            f"{folder}/examples.npz and examples.csv do not fit each other: {error}; run again"
        ) from error


def _of_rank(rank: str, rows: pd.DataFrame, arrays: dict[str, np.ndarray]) -> ExampleCase:
    chips = rows[rows["source"] == "chips"]
    networks = list(dict.fromkeys(zip(chips["model"], chips["training"], strict=True)))
    times_s = sorted(set(chips["time_s"]))
    places = ["model", "training", "source", "time_s"]
    names = {
        tuple(place): name
        for *place, name in rows[[*places, "name"]].fillna({"time_s": -1.0}).itertuples(index=False)
    }

    def maps(what: str) -> np.ndarray:
        return np.array(
            [[arrays[f"{names[*n, 'chips', t]}_{what}"] for t in times_s] for n in networks]
        )

    label = arrays[f"{rank}_reference"]
    pictures = np.moveaxis(arrays[f"{rank}_image"], -1, 0)[:MOST_PICTURES]
    digital = [names.get((*network, "deterministic", -1.0)) for network in networks]
    unknown = np.zeros_like(label)
    part = ExampleSlice(
        images=np.stack([to_bytes(picture) for picture in pictures]),
        label=label,
        spacing=(1.0, 1.0),
        digital=np.array([arrays[f"{name}_prediction"] if name else unknown for name in digital]),
        pred=maps("prediction"),
        variance=np.nan_to_num(maps("variance")),
    )
    example = ExampleCase(
        case=str(rows["case"].iloc[0]),
        patient="",
        task=str(rows["task"].iloc[0]),
        hardware="",
        place=rank,
        classes=tuple(f"class {index}" for index in range(1, int(label.max()) + 1)),
        pictures=tuple(f"channel {index + 1}" for index in range(len(pictures))),
        networks=tuple((str(model), str(training)) for model, training in networks),
        times_s=tuple(map(float, times_s)),
        pred_of="the mean over all chips and reads",
        slices={"slice": part},
        dice_digital=np.full(len(networks), np.nan),
        dice=np.full((len(networks), len(times_s)), np.nan),
    )
    _check_shapes(example)
    return example


def to_bytes(image: np.ndarray) -> np.ndarray:
    """Scale an image to bytes, black to white, between two percentiles; colours share them.

    Args:
        image: shape (H, W), or (H, W, 3).

    Returns:
        uint8, same shape.
    """
    low, high = np.percentile(image, _WINDOW_PERCENT)
    scaled = np.clip((image - low) / max(float(high - low), 1e-12), 0.0, 1.0)
    return np.round(255 * scaled).astype(np.uint8)


def _slice(arrays: dict[str, np.ndarray], plane: str) -> ExampleSlice:
    rows, columns = map(float, arrays[f"spacing_{plane}"])
    return ExampleSlice(
        images=arrays[f"image_{plane}"],
        label=arrays[f"label_{plane}"],
        spacing=(rows, columns),
        digital=arrays[f"digital_{plane}"],
        pred=arrays[f"pred_{plane}"],
        variance=arrays.get(f"variance_{plane}"),
    )


def _check_shapes(example: ExampleCase) -> None:
    n_networks, n_times = len(example.networks), len(example.times_s)
    expected = {"dice_digital": (n_networks,), "dice": (n_networks, n_times)}
    found = {"dice_digital": example.dice_digital.shape, "dice": example.dice.shape}
    for plane, part in example.slices.items():
        size = part.label.shape
        expected |= {
            f"image_{plane}": (len(example.pictures), *size, *part.images.shape[3:]),
            f"digital_{plane}": (n_networks, *size),
            f"pred_{plane}": (n_networks, n_times, *size),
        }
        found |= {
            f"image_{plane}": part.images.shape,
            f"digital_{plane}": part.digital.shape,
            f"pred_{plane}": part.pred.shape,
        }
        if part.variance is not None:
            expected[f"variance_{plane}"] = expected[f"pred_{plane}"]
            found[f"variance_{plane}"] = part.variance.shape
    for name, shape in expected.items():
        if found[name] != shape:
            raise ValueError(f"{name} has shape {found[name]}, expected {shape}")
