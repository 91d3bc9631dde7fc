"""Example cases on a page: images once, contours and uncertainty for every stop."""

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import Any, TypeAlias

import matplotlib
import numpy as np
from contourpy import contour_generator
from PIL import Image

from analogmed.foundation.time_constants import DAY_S, time_label
from analogmed.report.examples import ExampleCase, ExampleSlice
from analogmed.report.names import (
    capitalised,
    case_name,
    is_synthetic,
    model_name,
    network_name,
    training_name,
)
from analogmed.report.text import format_fixed

View: TypeAlias = dict[str, Any]

MOST_PIXELS = 256
"""Largest side length in pixels; larger images are downscaled, contours keep their resolution."""
COLORS = "magma"
_LEVELS = 48
_DIGITAL = "run digitally"


def case_view(examples: Sequence[ExampleCase]) -> View:
    """Return the data with which the page's script displays the cases of a run.

    Args:
        examples: cases of one run, with the same networks and times.

    Returns:
        plain lists, numbers and text: ``networks`` and ``trainings`` (names of each network),
        ``models`` with ``groups`` (indices of the networks of each model, shown side by side),
        ``stops`` (digital run, then the times), ``classes``, ``planes``, ``pictures``, ``start``
        (initial selection: the model and time with the largest drop), ``highest`` (standard
        deviation with the lightest color; 0 without uncertainty) and ``cases``. Each plane of a
        case has the images, their size, the contours of the reference by class, and, by network and
        stop, the contours of the prediction by class and an image of the uncertainty.
    """
    first = examples[0]
    shown = [case for case in examples if case.networks == first.networks]
    shown = [case for case in shown if case.times_s == first.times_s]
    stops = [_DIGITAL, *map(time_label, first.times_s)]
    n_classes = max(len(case.classes) for case in shown)
    highest = _highest(shown)
    network, stop = _largest_drop(shown)
    models = list(dict.fromkeys(model for model, _ in first.networks))
    return {
        "networks": [capitalised(network_name(*network)) for network in first.networks],
        "trainings": [capitalised(training_name(training)) for _, training in first.networks],
        "models": [model_name(model) for model in models],
        "groups": [
            [n for n, (model, _) in enumerate(first.networks) if model == name] for name in models
        ],
        "stops": stops,
        "classes": list(next(c.classes for c in shown if len(c.classes) == n_classes)),
        "planes": list(first.slices),
        "pictures": list(first.pictures),
        "start": {
            "model": models.index(first.networks[network][0]),
            "stop": stop,
            "picture": _first_picture(first),
        },
        "highest": highest,
        "pred_of": first.pred_of,
        "has_dice": any(np.isfinite(case.dice).any() for case in shown),
        "is_synthetic": any(is_synthetic(case.task, case.case) for case in shown),
        "cases": [_case(case, n_classes, highest) for case in shown],
    }


def without_pictures(view: View) -> View:
    """Return a view without images, for the script; the images are already in the page."""
    cases = [
        case
        | {
            "planes": {
                name: {key: value for key, value in plane.items() if key != "images"}
                for name, plane in case["planes"].items()
            }
        }
        for case in view["cases"]
    ]
    return view | {"cases": cases}


def color_scale() -> list[str]:
    """Return the colors of the uncertainty from lowest to highest, for a legend."""
    return ["#" + bytes(color).hex() for color in _lookup()[:: _LEVELS // 8]]


def contour_path(mask: np.ndarray) -> str:
    """Return the outline of a mask as SVG path data, in half pixels from its upper left corner.

    Args:
        mask: bool, shape (H, W).

    Returns:
        closed lines; empty for an empty mask.

    Example:
        >>> contour_path(np.array([[True]]))
        'M1 0l-1 1l1 1l1 -1z'
    """
    if not mask.any():
        return ""
    padded = np.pad(mask.astype(np.float64), 1)
    lines = contour_generator(z=padded).lines(0.5)
    closed = [_outline(np.round(2 * (np.asarray(line) - 0.5)).astype(int)) for line in lines]
    return "".join(sorted(closed))


def _outline(points: np.ndarray) -> str:
    """Return relative steps, with consecutive steps of one direction merged."""
    points = points[:-1]
    start = int(np.lexsort((points[:, 0], points[:, 1]))[0])
    steps = np.diff(np.roll(points, -start, axis=0), axis=0)
    joined: list[np.ndarray] = []
    for step in steps:
        if (
            joined
            and np.array_equal(np.sign(joined[-1]), np.sign(step))
            and _parallel(joined[-1], step)
        ):
            joined[-1] = joined[-1] + step
        else:
            joined.append(step)
    x, y = points[start]
    return f"M{x} {y}" + "".join(f"l{dx} {dy}" for dx, dy in joined) + "z"


def _parallel(one: np.ndarray, other: np.ndarray) -> bool:
    return int(one[0] * other[1] - one[1] * other[0]) == 0


def _largest_drop(cases: Sequence[ExampleCase]) -> tuple[int, int]:
    """Return the network and the stop with the largest mean drop of the cases.

    Without a known drop: the first network, after a day or else at the last time.
    """
    drops = [case.dice_digital[:, None] - case.dice for case in cases]
    means = np.ma.masked_invalid(drops).mean(axis=0)
    if means.count():
        network, time = np.unravel_index(int(means.filled(-np.inf).argmax()), means.shape)
        return int(network), 1 + int(time)
    times_s = list(cases[0].times_s)
    return 0, 1 + (times_s.index(DAY_S) if DAY_S in times_s else len(times_s) - 1)


def _first_picture(case: ExampleCase) -> int:
    """Return the index of the initial image; FLAIR shows most lesions."""
    names = [name.upper() for name in case.pictures]
    return names.index("FLAIR") if "FLAIR" in names else 0


def _highest(cases: Sequence[ExampleCase]) -> float:
    variances = [p.variance for case in cases for p in case.slices.values()]
    known = [float(np.sqrt(v.max())) for v in variances if v is not None and v.size]
    return float(np.ceil(round(20 * max(known), 3)) / 20) if known and max(known) > 0 else 0.0


def _case(case: ExampleCase, n_classes: int, highest: float) -> View:
    dice = np.column_stack([case.dice_digital, case.dice])
    return {
        "place": case.place,
        "case": case_name(case.task, case.case),
        "dice": [["" if np.isnan(v) else format_fixed(v, 2) for v in row] for row in dice],
        "planes": {name: _plane(part, n_classes, highest) for name, part in case.slices.items()},
    }


def _plane(part: ExampleSlice, n_classes: int, highest: float) -> View:
    height, width = part.label.shape
    rows, columns = part.spacing
    least = min(rows, columns)
    return {
        "width": width,
        "height": height,
        "stretch": [round(columns / least, 4), round(rows / least, 4)],
        "images": [_picture(_smaller(Image.fromarray(image))) for image in part.images],
        "reference": _contours(part.label, n_classes),
        "prediction": [
            [_contours(mask, n_classes) for mask in (digital, *masks)]
            for digital, masks in zip(part.digital, part.pred, strict=True)
        ],
        "uncertainty": _uncertainty(part.variance, highest),
    }


def _contours(labels: np.ndarray, n_classes: int) -> list[str]:
    return [contour_path(labels == index) for index in range(1, n_classes + 1)]


def _uncertainty(variance: np.ndarray | None, highest: float) -> list[list[str]]:
    """Return the standard deviation as colors by network and stop; empty for digital runs."""
    if variance is None or not highest:
        return []
    return [["", *(_shades(np.sqrt(v) / highest) for v in times)] for times in variance]


def _shades(share: np.ndarray) -> str:
    levels = np.round((_LEVELS - 1) * np.clip(share, 0.0, 1.0)).astype(np.uint8)
    picture = _smaller(Image.fromarray(levels))
    picture.putpalette(_lookup().tobytes())
    return _picture(picture)


def _lookup() -> np.ndarray:
    """Return the RGB bytes of the color scale, shape (levels, 3)."""
    colors = matplotlib.colormaps[COLORS](np.linspace(0.0, 1.0, _LEVELS))[:, :3]
    return np.round(255 * colors).astype(np.uint8)


def _smaller(picture: Image.Image) -> Image.Image:
    longest = max(picture.size)
    if longest <= MOST_PIXELS:
        return picture
    width, height = (max(1, round(side * MOST_PIXELS / longest)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BOX)


def _picture(picture: Image.Image) -> str:
    data = BytesIO()
    picture.save(data, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode("ascii")
