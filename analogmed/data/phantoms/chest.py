"""Chest X-rays with findings that are drawn as objects, in the layout of ChestX-ray14."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage, special

from analogmed.data.phantoms.fields import Grid, ellipsoid, paint
from analogmed.data.phantoms.ranges import CHEST_FINDINGS
from analogmed.foundation.seeds import derive_seed

TABLE = "Data_Entry_2017_v2020.csv"
TRAIN_LIST, TEST_LIST = "train_val_list.txt", "test_list.txt"
TEST_EVERY = 4
"""One of this number of patients is in the list of test images."""

_HEAD = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
_SHARES = dict(zip(CHEST_FINDINGS, (0.22, 0.26, 0.28, 0.18, 0.22, 0.18), strict=True))
"""Share of patients with each finding."""
_PERSISTS = 0.8
"""Probability that a finding of a patient is on an image; an enlarged heart is on all images."""
_WITH_LARGE_HEART = 0.45
"""Probability of an effusion in a patient with an enlarged heart."""
_DETECTOR_MM = 357.0
_SOFT = 0.03
"""Width of a blended border, where an image has the width 2."""


@dataclass(frozen=True)
class _Anatomy:
    """Form of a patient in units of half an image; the origin is its centre, and y points down."""

    lung_height: float
    lung_width: float
    lung_apart: float
    heart_half_width: float
    diaphragm: float
    vessels: float
    ribs: float


@dataclass
class _Film:
    """Image into whose density findings are drawn.

    Attributes:
        density: density of each pixel, float (rows, columns), changed in place.
        rng: random number generator.
        grid: positions of the pixels in the frame of the image.
        y, x: positions of the pixels in the frame of the patient.
    """

    density: np.ndarray
    rng: np.random.Generator
    grid: Grid
    y: np.ndarray
    x: np.ndarray


def write_chest(folder: Path, seed: int, n_patients: int, size: int) -> None:
    """Write ``images_001/images/*.png``, the table of findings, and the two official lists.

    Args:
        folder: existing empty folder, which corresponds to the folder of the real data.
        seed: root seed of all draws.
        n_patients: number of patients, of one to six images each.
        size: number of pixels along both axes.
    """
    images = folder / "images_001" / "images"
    images.mkdir(parents=True)
    rows: list[str] = []
    listed: dict[str, list[str]] = {TRAIN_LIST: [], TEST_LIST: []}
    for index in range(n_patients):
        rng = np.random.default_rng(derive_seed(seed, "chest", index))
        person = f"{rng.integers(18, 90)},{rng.choice(['F', 'M'])}"
        is_test = index % TEST_EVERY == TEST_EVERY - 1
        for number, (pixels, findings, view) in enumerate(_draw_patient(rng, size)):
            name = f"{index + 1:08}_{number:03}.png"
            Image.fromarray(pixels).save(images / name, format="PNG")
            labels = "|".join(findings) or "No Finding"
            pitch = f"{_DETECTOR_MM / size:.3f}"
            rows.append(
                f"{name},{labels},{number},{index + 1},{person},{view},"
                f"{size},{size},{pitch},{pitch}"
            )
            listed[TEST_LIST if is_test else TRAIN_LIST].append(name)
    for name, lines in {TABLE: [_HEAD, *rows], **listed}.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _draw_patient(
    rng: np.random.Generator, size: int
) -> Iterable[tuple[np.ndarray, list[str], str]]:
    """Yield pixels, findings and view position of each image of a patient."""
    shares = dict(_SHARES)
    drawn = {"Cardiomegaly"} if rng.random() < shares.pop("Cardiomegaly") else set()
    if drawn:
        shares["Effusion"] = _WITH_LARGE_HEART
    drawn |= {finding for finding, share in shares.items() if rng.random() < share}
    anatomy = _draw_anatomy(rng, large_heart="Cardiomegaly" in drawn)
    for _ in range(1 + min(rng.poisson(1.5), 5)):
        found = [
            finding
            for finding in _SHARES
            if finding in drawn and (rng.random() < _PERSISTS or finding == "Cardiomegaly")
        ]
        view = "AP" if rng.random() < 0.4 else "PA"
        yield draw_chest(rng, size, anatomy, found, magnified=view == "AP"), found, view


def _draw_anatomy(rng: np.random.Generator, *, large_heart: bool) -> _Anatomy:
    half_width = rng.normal(0.41, 0.045) if large_heart else rng.normal(0.32, 0.035)
    return _Anatomy(
        lung_height=rng.normal(0.66, 0.04),
        lung_width=rng.normal(0.34, 0.025),
        lung_apart=rng.normal(0.42, 0.02),
        heart_half_width=half_width,
        diaphragm=rng.normal(0.5, 0.05),
        vessels=float(np.exp(rng.normal(np.log(0.02), 0.4))),
        ribs=rng.uniform(0.03, 0.08),
    )


def draw_chest(
    rng: np.random.Generator,
    size: int,
    anatomy: _Anatomy,
    findings: Iterable[str],
    *,
    magnified: bool,
) -> np.ndarray:
    """Return one image, uint8 (size, size).

    Args:
        rng: random number generator.
        size: number of pixels along both axes.
        anatomy: form of the patient.
        findings: findings to draw.
        magnified: whether the heart is far from the detector (anteroposterior view).
    """
    grid = Grid((size, size), (2 / size, 2 / size))
    y, x = _positions(rng, grid)
    density = np.full(grid.shape, 0.05, dtype=np.float32)
    film = _Film(density, rng, grid, y, x)
    draw = partial(paint, density, softness=_SOFT)
    draw(ellipsoid((y, x), (0.25, 0), (1.35, 0.95)), 0.6)
    lungs = {
        side: ellipsoid(
            (y, x), (-0.1, side * anatomy.lung_apart), (anatomy.lung_height, anatomy.lung_width)
        )
        for side in (-1, 1)
    }
    near_hilum = np.exp(-3 * (np.abs(x) - 0.15).clip(0))
    vessels = anatomy.vessels * grid.noise(rng, 0.14) * (0.4 + 1.2 * near_hilum)
    for lung in lungs.values():
        draw(lung, 0.22 + vessels)
    for finding in findings:
        if finding in _IN_LUNGS:
            _IN_LUNGS[finding](film, lungs[_side(rng)])
    for side in (-1, 1):
        dome = (anatomy.diaphragm + 0.45 + 0.03 * side, side * anatomy.lung_apart)
        draw(ellipsoid((y, x), dome, (0.5, 0.5)), 0.66)
    if "Effusion" in findings:
        _effusion(film, anatomy, lungs)
    draw(np.abs(x) - np.float32(0.13), 0.7)
    scale = rng.uniform(1.04, 1.14) if magnified else 1.0
    half_width = anatomy.heart_half_width * scale * rng.normal(1, 0.03)
    draw(ellipsoid((y, x), (0.24, 0.1), (0.33, half_width)), 0.72)
    wave = np.cos(2 * np.pi * (y + 0.3 * x**2) / rng.uniform(0.19, 0.23) + rng.uniform(0, 6))
    density += anatomy.ribs * wave.clip(0) ** 2 * special.expit((0.6 - density) / 0.1)
    return _exposed(density, rng)


def _positions(rng: np.random.Generator, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Return y and x of each pixel: the patient is not always centred and upright."""
    rows, columns = grid.coordinates()
    angle, zoom = np.float32(np.radians(rng.normal(0, 2.5))), np.float32(rng.normal(1, 0.04))
    down, right = rows - np.float32(rng.normal(0, 0.04)), columns - np.float32(rng.normal(0, 0.04))
    return zoom * (down + angle * right), zoom * (right - angle * down)


def _exposed(density: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return bytes of an image with scatter, an exposure of its own, and noise."""
    blurred = ndimage.gaussian_filter(density, rng.uniform(0.2, 0.6))
    contrast, offset = rng.normal(1, 0.12), rng.normal(0, 0.05)
    image = (0.45 + contrast * (blurred - 0.45) + offset).clip(0, 1) ** rng.uniform(0.8, 1.25)
    image += rng.normal(0, rng.uniform(0.008, 0.025), density.shape)
    return np.round(255 * image.clip(0, 1)).astype(np.uint8)


def _side(rng: np.random.Generator) -> int:
    return int(rng.choice([-1, 1]))


def _place(film: _Film, lung: np.ndarray) -> tuple[float, float]:
    """Return y and x of a point inside a lung, in the frame of the image."""
    places = np.flatnonzero(lung < -0.06)
    row, column = np.unravel_index(film.rng.choice(places), film.grid.shape)
    rows, columns = film.grid.coordinates()
    return float(rows[row, 0]), float(columns[0, column])


def _disc(film: _Film, lung: np.ndarray, radius: float, contrast: float) -> None:
    radii = radius * film.rng.uniform(0.85, 1.2, size=2)
    distance = ellipsoid(film.grid.coordinates(), _place(film, lung), radii)
    film.density += contrast * special.expit(-distance / np.float32(_SOFT / 2))


def _nodule(film: _Film, lung: np.ndarray) -> None:
    """Draw one to three small discs."""
    for _number in range(film.rng.integers(1, 4)):
        _disc(film, lung, film.rng.uniform(0.05, 0.09), film.rng.uniform(0.2, 0.55))


def _mass(film: _Film, lung: np.ndarray) -> None:
    """Draw a large disc."""
    _disc(film, lung, film.rng.uniform(0.12, 0.22), film.rng.uniform(0.16, 0.42))


def _infiltration(film: _Film, lung: np.ndarray) -> None:
    """Draw diffuse, patchy opacity in part of a lung."""
    rows, columns = film.grid.coordinates()
    y, x = _place(film, lung)
    reach = film.rng.uniform(0.2, 0.45)
    envelope = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * reach**2))
    patches = (0.55 + 0.6 * film.grid.noise(film.rng, 0.12)).clip(0)
    film.density += film.rng.uniform(0.1, 0.32) * envelope * patches * special.expit(-lung / _SOFT)


def _pneumothorax(film: _Film, lung: np.ndarray) -> None:
    """Draw a dark crescent without vessels at the apex, and the line of the pleura."""
    depth = film.rng.uniform(0.1, 0.4)
    edge = film.y - (film.y[lung < 0].min() + depth) - 0.4 * lung
    apex = special.expit(-lung / _SOFT) * special.expit(-edge / np.float32(_SOFT))
    film.density += apex * (film.rng.uniform(0.06, 0.15) - film.density)
    line = np.exp(-((edge / 0.03) ** 2)) * special.expit(-lung / _SOFT)
    film.density += film.rng.uniform(0.08, 0.25) * line


def _effusion(film: _Film, anatomy: _Anatomy, lungs: dict[int, np.ndarray]) -> None:
    """Draw opacity with a meniscus above the diaphragm of one side."""
    side = _side(film.rng)
    height = film.rng.uniform(0.08, 0.45)
    outwards = (side * film.x - anatomy.lung_apart) / anatomy.lung_width
    level = anatomy.diaphragm - height * (0.7 + 0.6 * outwards.clip(-0.8, 1)) - 0.02
    below = special.expit((film.y - level) / np.float32(_SOFT))
    covered = below * special.expit(-lungs[side] / _SOFT)
    film.density += covered * (film.rng.uniform(0.52, 0.66) - film.density)


_IN_LUNGS = {
    "Infiltration": _infiltration,
    "Mass": _mass,
    "Nodule": _nodule,
    "Pneumothorax": _pneumothorax,
}
