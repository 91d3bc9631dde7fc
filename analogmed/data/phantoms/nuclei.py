"""Microscopy images of nuclei, in the layout of the 2018 Data Science Bowl."""

import hashlib
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage, special

from analogmed.data.phantoms.fields import Grid, rotated
from analogmed.foundation.seeds import derive_seed

BRIGHT_FIELD_SHARE = 0.2

_SMALLEST_PX = 12


def write_nuclei(folder: Path, seed: int, n_patients: int, size: int) -> None:
    """Write fields as ``<id>/images/<id>.png`` with one ``masks/*.png`` for each nucleus.

    Args:
        folder: existing empty folder, which corresponds to ``stage1_train`` of the real data.
        seed: root seed of all draws.
        n_patients: number of fields.
        size: number of pixels along both axes.
    """
    for index in range(n_patients):
        image, instances = _draw_labelled_field(seed, index, size)
        name = hash_name(seed, index)
        for part in ("images", "masks"):
            (folder / name / part).mkdir(parents=True)
        opaque = np.full((size, size, 1), 255, dtype=np.uint8)
        _write_png(folder / name / "images" / f"{name}.png", np.dstack([image, opaque]))
        for number in range(1, instances.max() + 1):
            mask = (instances == number).astype(np.uint8) * 255
            _write_png(folder / name / "masks" / f"{hash_name(seed, index, number)}.png", mask)


def _draw_labelled_field(seed: int, index: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a field from the first address that yields a nucleus; small fields may have none."""
    for attempt in itertools.count():
        address = (index, attempt) if attempt else (index,)
        image, instances = draw_field(derive_seed(seed, "nuclei", *address), size)
        if instances.any():
            break
    return image, instances


def draw_field(seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return image uint8 (size, size, 3) and instance numbers int (size, size); 0 is background."""
    rng = np.random.default_rng(seed)
    grid = Grid((size, size), (1.0, 1.0))
    bright_field = rng.random() < BRIGHT_FIELD_SHARE
    style = _draw_style(rng, size)
    nuclei = [_draw_nucleus(rng, grid, style, centre) for centre in _centres(rng, size, style)]
    render = _bright_field if bright_field else _fluorescence
    return render(rng, grid, style, nuclei), _instances(rng, grid, nuclei)


@dataclass(frozen=True)
class _Style:
    """Common properties of the cells of one field."""

    radius_px: float
    elongation: float
    spread: float
    count: int
    clustering: float
    blur_px: float


@dataclass(frozen=True)
class _Nucleus:
    distance: np.ndarray
    brightness: float
    blur_px: float
    annotated: bool


def _draw_style(rng: np.random.Generator, size: int) -> _Style:
    radius = rng.uniform(5.0, 10.5)
    cover = rng.uniform(0.08, 0.42)
    return _Style(
        radius_px=radius,
        elongation=rng.uniform(1.05, 1.7),
        spread=rng.uniform(0.1, 0.3),
        count=max(2, round(cover * size**2 / (np.pi * radius**2))),
        clustering=rng.uniform(0, 0.7),
        blur_px=rng.uniform(0.5, 1.3),
    )


def _centres(rng: np.random.Generator, size: int, style: _Style) -> np.ndarray:
    """Return positions that separate most nuclei and let some touch and overlap."""
    placed: list[np.ndarray] = []
    for _ in range(40 * style.count):
        if len(placed) == style.count:
            break
        point = rng.uniform(-size / 2 - 2, size / 2 + 2, size=2)
        if placed and rng.random() < style.clustering:
            angle = rng.uniform(0, 2 * np.pi)
            step = style.radius_px * rng.uniform(1.4, 2.4)
            neighbour = placed[rng.integers(len(placed))]
            point = neighbour + step * np.array([np.cos(angle), np.sin(angle)])
        nearest = min((float(np.hypot(*(point - other))) for other in placed), default=np.inf)
        if nearest > 1.35 * style.radius_px and np.abs(point).max() < size / 2 + 3:
            placed.append(point)
    return np.array(placed)


def _draw_nucleus(
    rng: np.random.Generator, grid: Grid, style: _Style, centre: np.ndarray
) -> _Nucleus:
    rows, columns = grid.coordinates()
    down, along = rotated(
        rows - np.float32(centre[0]), columns - np.float32(centre[1]), rng.uniform(0, 180)
    )
    stretch = np.sqrt(style.elongation * rng.uniform(0.85, 1.15))
    radius = style.radius_px * np.exp(style.spread * rng.standard_normal())
    angle = np.arctan2(down * stretch, along / stretch)
    outline = np.float32(1.0)
    for order, amplitude in ((2, 0.05), (3, 0.05), (4, 0.03), (5, 0.02)):
        phase = rng.uniform(0, 2 * np.pi)
        outline = outline + amplitude * rng.standard_normal() * np.cos(order * angle + phase)
    distance = np.hypot(down * stretch, along / stretch) - radius * outline
    out_of_focus = rng.random() < 0.2
    brightness = float(np.exp(0.4 * rng.standard_normal())) * (0.5 if out_of_focus else 1.0)
    return _Nucleus(
        distance=distance.astype(np.float32),
        brightness=brightness,
        blur_px=style.blur_px * (rng.uniform(1.8, 3.2) if out_of_focus else 1.0),
        annotated=not (out_of_focus and rng.random() < 0.25),
    )


def _fluorescence(
    rng: np.random.Generator, grid: Grid, style: _Style, nuclei: list[_Nucleus]
) -> np.ndarray:
    """Return a dark field: overlapping nuclei add light, chromatin is grainy, photons are few."""
    light = np.zeros(grid.shape, dtype=np.float32)
    grain = 1 + rng.uniform(0.08, 0.3) * grid.noise(rng, rng.uniform(5, 9))
    for nucleus in nuclei:
        shape = special.expit(-nucleus.distance / (0.7 * nucleus.blur_px))
        rounded = 0.75 + 0.25 * np.minimum(-nucleus.distance / style.radius_px, 1).clip(0)
        light += nucleus.brightness * shape * rounded * grain.clip(0.3)
    halo = ndimage.gaussian_filter(light, 2.2 * style.radius_px)
    light = ndimage.gaussian_filter(light, 0.6 * style.blur_px) + rng.uniform(0.05, 0.3) * halo
    light += _debris(rng, grid, rng.poisson(1.5))
    haze = rng.uniform(0.02, 0.12) * (1 + 0.4 * grid.noise(rng, 120)).clip(0.2)
    vignette = np.exp(0.25 * grid.noise(rng, 200))
    photons = rng.uniform(60, 400)
    counted = rng.poisson((light * vignette + haze).clip(0) * photons) / photons
    exposure = rng.uniform(35, 130)
    grey = exposure * counted + rng.normal(0, 1.0, grid.shape) + 3
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def _debris(rng: np.random.Generator, grid: Grid, count: int) -> np.ndarray:
    """Return small saturated specks that are not nuclei."""
    specks = np.zeros(grid.shape, dtype=np.float32)
    for _ in range(count):
        row, column = rng.integers(0, grid.shape)
        specks[row, column] = rng.uniform(8, 30)
    return ndimage.gaussian_filter(specks, rng.uniform(0.8, 1.6))


def _bright_field(
    rng: np.random.Generator, grid: Grid, style: _Style, nuclei: list[_Nucleus]
) -> np.ndarray:
    """Return stained tissue: nuclei absorb purple (Beer and Lambert), stroma is a paler pink."""
    absorbed = np.zeros(grid.shape, dtype=np.float32)
    chromatin = (1 + 0.3 * grid.noise(rng, 5)).clip(0.3)
    for nucleus in nuclei:
        shape = special.expit(-nucleus.distance / (0.6 * nucleus.blur_px))
        rim = 1 + 0.5 * np.exp(-((nucleus.distance + 1.2) ** 2))
        absorbed = np.maximum(absorbed, (0.5 + 0.4 * nucleus.brightness) * shape * rim * chromatin)
    fibres = 0.25 * np.exp(-np.abs(grid.noise(rng, 30)) * 4) * (1 + 0.3 * grid.noise(rng, 8))
    stroma = (rng.uniform(0.25, 0.55) + 0.12 * grid.noise(rng, 40) + fibres).clip(0.05)
    haematoxylin = np.array([0.85, 1.15, 0.25], dtype=np.float32) * rng.uniform(0.7, 1.1)
    eosin = np.array([0.28, 0.62, 0.2], dtype=np.float32)
    absorbance = absorbed[..., None] * haematoxylin + stroma[..., None] * eosin
    blur = 0.6 * style.blur_px
    colour = 242 * np.exp(-ndimage.gaussian_filter(absorbance, (blur, blur, 0)))
    colour += rng.normal(0, 2.5, colour.shape)
    return colour.clip(0, 255).astype(np.uint8)


def _instances(rng: np.random.Generator, grid: Grid, nuclei: list[_Nucleus]) -> np.ndarray:
    """Return the reference: latent outlines with annotator variation; later ones are on top."""
    numbers = np.zeros(grid.shape, dtype=np.int32)
    for number, nucleus in enumerate((n for n in nuclei if n.annotated), start=1):
        hand = rng.normal(0.1, 0.35) + 0.35 * grid.noise(rng, 8)
        numbers[nucleus.distance + hand < 0] = number
    found, sizes = np.unique(numbers[numbers > 0], return_counts=True)
    kept = np.zeros(len(nuclei) + 1, dtype=np.int32)
    large = found[sizes >= _SMALLEST_PX]
    kept[large] = np.arange(1, len(large) + 1)
    return kept[numbers]


def hash_name(*parts: int) -> str:
    """Return the name of a field (seed, index) or of a mask (seed, index, number)."""
    return hashlib.sha256(repr(("analogmed", *parts)).encode()).hexdigest()


def _write_png(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(path, format="PNG")
