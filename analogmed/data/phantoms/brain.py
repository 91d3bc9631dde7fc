"""FLAIR-like brain slices with a glioma, in the layout of the LGG data set."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from scipy import special

from analogmed.data.phantoms.fields import Grid, ellipsoid, paint, rician, rotated
from analogmed.foundation.seeds import derive_seed

FIELD_OF_VIEW_MM = 214.0
N_SLICES = 8
SLICE_DISTANCE_MM = 9.0
MISSING_SEQUENCE_SHARE = 0.12

_CSV_HEADER = (
    "Patient,RNASeqCluster,MethylationCluster,miRNACluster,CNCluster,RPPACluster,"
    "OncosignCluster,COCCluster,histological_type,neoplasm_histologic_grade,tumor_tissue_site,"
    "laterality,tumor_location,gender,age_at_initial_pathologic,race,ethnicity,death01"
)

# Grey values (pre-contrast T1, FLAIR, post-contrast T1) of an 8-bit image, as in the real slices.
_SCALP = (150.0, 165.0, 150.0)
_SKULL = (10.0, 8.0, 12.0)
_MARROW = (60.0, 48.0, 62.0)
_CSF = (28.0, 17.0, 28.0)
_GREY = (70.0, 92.0, 74.0)
_WHITE = (92.0, 68.0, 92.0)
_VESSEL = (40.0, 30.0, 170.0)


def write_brain(folder: Path, seed: int, n_patients: int, size: int) -> None:
    """Write patients of 8 slices as ``<patient>/<patient>_<n>.tif`` and ``_mask.tif``.

    Args:
        folder: existing empty folder, which corresponds to ``kaggle_3m`` of the real data.
        seed: root seed of all draws.
        n_patients: number of patients, each with one glioma.
        size: number of pixels along both axes of a slice.
    """
    names = [f"TCGA_PH_{index + 1:04d}_20000101" for index in range(n_patients)]
    for index, name in enumerate(names):
        image, mask = draw_patient(derive_seed(seed, "brain", index), size)
        (folder / name).mkdir()
        for number, (slice_, label) in enumerate(zip(image, mask, strict=True), start=1):
            stem = folder / name / f"{name}_{number}"
            tifffile.imwrite(f"{stem}.tif", slice_, photometric="rgb", metadata=None)
            label_8bit = label.astype(np.uint8) * 255
            tifffile.imwrite(f"{stem}_mask.tif", label_8bit, metadata=None)
    rows = [name.rsplit("_", 1)[0] + "," * _CSV_HEADER.count(",") for name in names]
    (folder / "data.csv").write_text("\n".join([_CSV_HEADER, *rows]) + "\n", encoding="utf-8")


def draw_patient(seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return image uint8 (8, size, size, 3) and glioma bool (8, size, size) of one patient."""
    rng = np.random.default_rng(seed)
    pixel_mm = FIELD_OF_VIEW_MM / size
    grid = Grid((N_SLICES, size, size), (SLICE_DISTANCE_MM, pixel_mm, pixel_mm))
    tumour = _draw_tumour(rng)
    head = _draw_head(rng, grid, tumour)
    infiltration = _infiltration_mm(rng, grid, tumour, head)
    image = np.stack(_channels(rng, grid, tumour, head, infiltration), axis=-1)
    annotator = rng.normal(0, 0.7) + 0.95 * grid.noise(rng, 14)
    mask = (infiltration + annotator < 0) & (head.brain < -0.5)
    return image, mask


@dataclass(frozen=True)
class _Tumour:
    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    softness_mm: float
    contrast: float
    t1_drop: float
    cyst_share: float
    enhancement: float


@dataclass(frozen=True)
class _Head:
    """Signed distances in mm, negative inside; coordinates are (up, front, right)."""

    position: tuple[np.ndarray, np.ndarray, np.ndarray]
    brain: np.ndarray
    white: np.ndarray
    sulci: np.ndarray
    ventricles: np.ndarray
    deep_grey: np.ndarray


def _draw_tumour(rng: np.random.Generator) -> _Tumour:
    radius = rng.uniform(14, 29)
    up, front = rng.uniform(0, 38), rng.uniform(-42, 46)
    side = -1 if rng.random() < 0.5 else 1
    height, length, width = radius * rng.uniform(0.75, 1.3, size=3)
    nearly_isointense = rng.random() < 0.12
    return _Tumour(
        centre=(up, front, side * rng.uniform(20, 40)),
        radii=(float(height), float(length), float(width)),
        softness_mm=rng.uniform(1.0, 3.0),
        contrast=rng.uniform(24, 34) if nearly_isointense else rng.uniform(40, 105),
        t1_drop=rng.uniform(6, 24),
        cyst_share=rng.uniform(0.3, 0.5) if rng.random() < 0.25 and not nearly_isointense else 0.0,
        enhancement=rng.uniform(30, 90) if rng.random() < 0.25 else 0.0,
    )


def _draw_head(rng: np.random.Generator, grid: Grid, tumour: _Tumour) -> _Head:
    position = _pushed_aside(_posed(rng, grid), tumour, rng.uniform(0.1, 0.3))
    up, front, right = position
    scale = rng.uniform(0.94, 1.06)
    taper = 1 - 0.0016 * front
    radii = (72 * scale, 83 * scale, 66 * scale * rng.uniform(0.95, 1.05))
    brain = ellipsoid((up, front, right / taper), (0, -2, 0), radii) + 1.6 * grid.noise(rng, 60)
    fold = _distance_to_folds(rng, grid)
    depth = 15 + 4 * grid.noise(rng, 40)
    below_folds = -brain - depth
    opening = rng.uniform(0.3, 0.8) + 0.5 * grid.noise(rng, 35) - 0.03 * (brain + 8)
    fissure = _fissure(rng, grid, position)
    sulci = np.minimum(np.maximum(fold - opening, below_folds), fissure)
    cortex = rng.uniform(3.0, 3.8)
    from_csf = np.minimum(np.minimum(-brain, np.maximum(fold, below_folds)), fissure)
    white = cortex - from_csf
    return _Head(
        position, brain, white, sulci, _ventricles(rng, grid, position), _deep_grey(position)
    )


def _posed(rng: np.random.Generator, grid: Grid) -> list[np.ndarray]:
    """Return patient coordinates (up, front, right) of the grid for a rotated, shifted head."""
    up, down_rows, right = grid.coordinates()
    front, right = rotated(-down_rows, right, rng.normal(0, 5))
    up = up + 24 + rng.uniform(-4, 4)
    return [up + 0 * front, front + rng.normal(0, 3), right + rng.normal(0, 3)]


def _pushed_aside(
    position: list[np.ndarray], tumour: _Tumour, strength: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the undeformed position of the anatomy around a growing tumour (mass effect)."""
    offset = [x - np.float32(c) for x, c in zip(position, tumour.centre, strict=True)]
    reach = 1.3 * max(tumour.radii)
    push = np.float32(strength) * np.exp(-sum(o**2 for o in offset) / np.float32(2 * reach**2))
    up, front, right = (x - push * o for x, o in zip(position, offset, strict=True))
    return up, front, right


def _distance_to_folds(rng: np.random.Generator, grid: Grid) -> np.ndarray:
    """Return the in-slice distance to the zero set of a noise field, where gyri meet."""
    field = grid.noise(rng, 27) + 0.25 * grid.noise(rng, 14)
    along_rows, along_columns = np.gradient(field, *grid.spacing_mm[1:], axis=(1, 2))
    return np.abs(field) / np.maximum(np.hypot(along_rows, along_columns), 0.02)


def _fissure(rng: np.random.Generator, grid: Grid, position: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return the gap between the hemispheres, above and around the corpus callosum."""
    up, front, right = position
    gap = np.abs(right + 0.8 * grid.noise(rng, 30)) - rng.uniform(0.4, 1.1)
    return np.maximum(gap, -ellipsoid((up, front), (0, -3), (34, 42)))


def _ventricles(
    rng: np.random.Generator, grid: Grid, position: tuple[np.ndarray, ...]
) -> np.ndarray:
    """Return two butterfly-shaped lateral ventricles and the third ventricle between them."""
    up, front, right = position
    width = rng.uniform(0.7, 1.35)
    aside = np.sqrt(right**2 + 4)
    horn_x, horn_y = rotated(aside - 9, front - 20, -22)
    back_x, back_y = rotated(aside - 17, front + 27, 20)
    horn = ellipsoid((up, horn_y, horn_x), (12, 0, 0), (17, 20, 5 * width))
    back = ellipsoid((up, back_y, back_x), (9, 0, 0), (15, 22, 5.5 * width))
    body = ellipsoid((up, front, aside), (19, -4, 11), (10, 26, 5 * width))
    third = ellipsoid((up, front, right), (-2, -2, 0), (12, 13, 2.2 * width))
    lateral = np.minimum(np.minimum(horn, back), body)
    return np.minimum(lateral, third) + 0.7 * grid.noise(rng, 18)


def _deep_grey(position: tuple[np.ndarray, ...]) -> np.ndarray:
    up, front, right = position
    aside = np.abs(right)
    thalamus = ellipsoid((up, front, aside), (2, -8, 12), (13, 14, 8))
    lentiform = ellipsoid((up, front, aside), (2, 8, 24), (12, 16, 6))
    caudate = ellipsoid((up, front, aside), (8, 20, 15), (14, 9, 5))
    return np.minimum(np.minimum(thalamus, lentiform), caudate)


def _infiltration_mm(
    rng: np.random.Generator, grid: Grid, tumour: _Tumour, head: _Head
) -> np.ndarray:
    """Return the latent extent of the glioma, which spreads along white matter to the fissure."""
    core = ellipsoid(head.position, tumour.centre, tumour.radii)
    rough = 0.13 * min(tumour.radii) * grid.noise(rng, 32) + 1.25 * grid.noise(rng, 13)
    grey = special.expit(head.white)
    side = 1 if tumour.centre[2] > 0 else -1
    across = -side * head.position[2] - rng.uniform(-2, 4)
    spread = np.maximum(core + rough + 2.5 * grey, across)
    return np.maximum(np.maximum(spread, 1.5 - head.ventricles), head.brain + 1)


def _channels(
    rng: np.random.Generator,
    grid: Grid,
    tumour: _Tumour,
    head: _Head,
    infiltration: np.ndarray,
) -> list[np.ndarray]:
    """Return pre-contrast, FLAIR and post-contrast slices, uint8; FLAIR replaces missing ones."""
    lesions = _lesions(rng, grid, tumour, head, infiltration)
    contrast = rng.uniform(0.8, 1.2)
    bias = np.exp(np.clip(0.13 * grid.noise(rng, 220), -0.35, 0.35))
    gain, sigma = rng.uniform(0.75, 1.25), rng.uniform(2.0, 5.5)
    channels = []
    for channel, lesion in enumerate(lesions):
        signal = (_tissue(grid, head, channel, contrast) + lesion).clip(0)
        channels.append(rician(signal * bias * gain, rng, sigma).clip(0, 255).astype(np.uint8))
    for channel in (0, 2):
        if rng.random() < MISSING_SEQUENCE_SHARE:
            channels[channel] = channels[1]
    return channels


def _lesions(
    rng: np.random.Generator,
    grid: Grid,
    tumour: _Tumour,
    head: _Head,
    infiltration: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the contribution of tumour, gliosis and white-matter lesions to each channel."""
    texture = (1 + 0.16 * grid.noise(rng, 16)).clip(0.3)
    alpha = special.expit(-infiltration / tumour.softness_mm)
    flair = tumour.contrast * alpha * texture
    t1 = -tumour.t1_drop * alpha
    if tumour.cyst_share:
        radii = [radius * tumour.cyst_share for radius in tumour.radii]
        cyst = special.expit(-ellipsoid(head.position, tumour.centre, radii) / 1.2)
        flair -= cyst * (flair + 40)
        t1 -= 35 * cyst * alpha
    rim = np.exp(-(((infiltration + 6) / 2.5) ** 2)) * tumour.enhancement
    mimic = _mimics(rng, grid, head) * (1 - alpha)
    open_brain = special.expit(-(head.brain + 2)) * special.expit(head.ventricles / 0.8)
    pre, post = t1 - 0.3 * mimic, t1 - 0.3 * mimic + rim
    return pre * open_brain, (flair + mimic) * open_brain, post * open_brain


def _mimics(rng: np.random.Generator, grid: Grid, head: _Head) -> np.ndarray:
    """Return FLAIR-bright structures without tumour: ventricle caps, spots, sometimes gliosis."""
    bright = rng.uniform(8, 40) * np.exp(-np.maximum(head.ventricles, 0) / 3.0)
    spots = [(rng.uniform(2, 5), rng.uniform(25, 70)) for _ in range(rng.integers(0, 8))]
    if rng.random() < 0.35:
        spots.append((rng.uniform(7, 12), rng.uniform(35, 75)))
    for radius, contrast in spots:
        centre = rng.uniform((-5, -50, -42), (45, 50, 42))
        shape = ellipsoid(head.position, centre, radius * rng.uniform(0.7, 1.4, size=3))
        ragged = shape + 0.2 * radius * grid.noise(rng, 12)
        bright = np.maximum(bright, contrast * special.expit(-ragged / 1.3))
    return bright * special.expit(-head.white)


def _tissue(grid: Grid, head: _Head, channel: int, contrast: float) -> np.ndarray:
    """Return the noise-free healthy head in one channel, painted from outside to inside."""
    edge = 0.35 * grid.spacing_mm[1]
    mean = (_GREY[channel] + _WHITE[channel]) / 2
    grey, white = (mean + contrast * (v - mean) for v in (_GREY[channel], _WHITE[channel]))
    image = np.zeros(grid.shape, dtype=np.float32)
    scalp = 15 + 2.5 * np.sin(np.float32(0.02) * head.position[1])
    paint(image, head.brain - scalp, _SCALP[channel], edge)
    paint(image, head.brain - 9.5, _SKULL[channel], edge)
    paint(image, np.abs(head.brain - 6.5) - 0.6, _MARROW[channel], edge)
    paint(image, head.brain - 2.5, _CSF[channel], edge)
    paint(image, head.brain, grey, edge)
    paint(image, head.white, white, edge)
    paint(image, head.deep_grey, 0.3 * white + 0.7 * grey, 2 * edge)
    paint(image, np.maximum(head.sulci, head.brain), _CSF[channel], edge)
    paint(image, head.ventricles, _CSF[channel], edge)
    sinus = np.hypot(head.position[2], head.brain - 1) - 3.5
    paint(image, np.maximum(sinus, head.position[1]), _VESSEL[channel], edge)
    return image
