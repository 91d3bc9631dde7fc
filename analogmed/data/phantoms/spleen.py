"""CT-like abdomens with a labelled spleen, in the layout of Decathlon task 9."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from analogmed.data.phantoms.fields import Grid, ellipsoid, paint, rotated
from analogmed.foundation.seeds import derive_seed

FIELD_OF_VIEW_MM = 336.0
HEIGHT_MM = 120.0

_AIR, _LUNG, _FAT, _WATER, _MUSCLE, _BONE, _CORTEX = -1000, -820, -100, 8, 55, 190, 620


def write_spleen(folder: Path, seed: int, n_patients: int, size: int) -> None:
    """Write volumes as ``imagesTr/spleen_<n>.nii.gz`` with labels and ``dataset.json``.

    Args:
        folder: existing empty folder, which corresponds to ``Task09_Spleen`` of the real data.
        seed: root seed of all draws.
        n_patients: number of volumes.
        size: number of voxels along both in-plane axes; a quarter of it is the number of slices.
    """
    (folder / "imagesTr").mkdir()
    (folder / "labelsTr").mkdir()
    names = [f"spleen_{index + 1}.nii.gz" for index in range(n_patients)]
    for index, name in enumerate(names):
        volume, label, affine = draw_patient(derive_seed(seed, "spleen", index), size)
        _write_nifti(folder / "imagesTr" / name, volume, affine)
        _write_nifti(folder / "labelsTr" / name, label, affine)
    content = json.dumps(_dataset_json(names), indent=2) + "\n"
    (folder / "dataset.json").write_text(content, encoding="utf-8")


def draw_patient(seed: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Hounsfield units int16 and spleen uint8, (size, size, size / 4), and the affine."""
    rng = np.random.default_rng(seed)
    slices = max(4, size // 4)
    spacing = (FIELD_OF_VIEW_MM / size, FIELD_OF_VIEW_MM / size, HEIGHT_MM / slices)
    grid = Grid((size, size, slices), spacing)
    abdomen = _draw_abdomen(rng, grid)
    image = _tissue(rng, grid, abdomen)
    annotator = rng.normal(0, 0.4) + 0.85 * grid.noise(rng, 22)
    label = (abdomen.spleen + annotator < 0) & (abdomen.cavity < 0)
    volume = _scanned(rng, grid, image)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [-FIELD_OF_VIEW_MM / 2, -FIELD_OF_VIEW_MM / 2, rng.integers(-900, -300)]
    return volume, label.astype(np.uint8), affine


@dataclass(frozen=True)
class _Abdomen:
    """Signed distances in mm, negative inside; axes are (right, front, up)."""

    position: tuple[np.ndarray, np.ndarray, np.ndarray]
    body: np.ndarray
    wall: np.ndarray
    cavity: np.ndarray
    lung: np.ndarray
    liver: np.ndarray
    spleen: np.ndarray
    stomach: np.ndarray
    kidneys: np.ndarray


def _draw_abdomen(rng: np.random.Generator, grid: Grid) -> _Abdomen:
    position = _posed(rng, grid)
    right, front, up = position
    girth = rng.uniform(0.9, 1.08)
    body = ellipsoid((right, front), (0, 0), (148 * girth, 108 * girth)) + 3 * grid.noise(rng, 150)
    fat = rng.uniform(7, 22) + 4 * front / 100
    wall = body + fat
    cavity = wall + rng.uniform(11, 15)
    dome = ellipsoid((right, front, up), (0, -8, -85), (138, 108, 162)) + 3 * grid.noise(rng, 90)
    lung = np.maximum(-dome + rng.uniform(0, 8), cavity + 2)
    below = np.maximum(cavity + 2, -lung + 4)
    liver = _liver(rng, grid, position, below)
    stomach = _stomach(rng, grid, position, np.maximum(below, 3 - liver))
    kidneys = _kidneys(rng, position)
    occupied = np.minimum(np.minimum(stomach, kidneys), liver)
    spleen = _spleen(rng, grid, position, np.maximum(below, 2 - occupied))
    return _Abdomen(position, body, wall, cavity, lung, liver, spleen, stomach, kidneys)


def _posed(rng: np.random.Generator, grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    right, front, up = grid.coordinates()
    right, front = rotated(right, front, rng.normal(0, 4))
    return right + rng.normal(0, 4), front + rng.normal(0, 4), up + rng.normal(0, 8)


def _liver(
    rng: np.random.Generator,
    grid: Grid,
    position: tuple[np.ndarray, np.ndarray, np.ndarray],
    room: np.ndarray,
) -> np.ndarray:
    right, front, up = position
    scale = rng.uniform(0.9, 1.12)
    main = ellipsoid((right, front, up), (72, 2, 12), (66 * scale, 84 * scale, 72 * scale))
    left = ellipsoid((right, front, up), (8, 48, 22), (rng.uniform(45, 75), 36, 34))
    return np.maximum(np.minimum(main, left) + 3 * grid.noise(rng, 50), room)


def _stomach(
    rng: np.random.Generator,
    grid: Grid,
    position: tuple[np.ndarray, np.ndarray, np.ndarray],
    room: np.ndarray,
) -> np.ndarray:
    centre = (rng.uniform(-66, -50), rng.uniform(18, 38), rng.uniform(0, 25))
    shape = ellipsoid(position, centre, (rng.uniform(26, 42), rng.uniform(28, 44), 42))
    return np.maximum(shape + 3 * grid.noise(rng, 45), room)


def _kidneys(
    rng: np.random.Generator, position: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> np.ndarray:
    right, front, up = position
    radii = (rng.uniform(23, 28), rng.uniform(25, 31), rng.uniform(44, 54))
    left = ellipsoid((right, front, up), (rng.uniform(-64, -54), -46, -26), radii)
    other = ellipsoid((right, front, up), (rng.uniform(54, 64), -46, -36), radii)
    return np.minimum(left, other)


def _spleen(
    rng: np.random.Generator,
    grid: Grid,
    position: tuple[np.ndarray, np.ndarray, np.ndarray],
    room: np.ndarray,
) -> np.ndarray:
    """Return a crescent along the left wall, concave towards stomach and kidney."""
    right, front, up = position
    along, across = rotated(right + rng.uniform(84, 94), front + rng.uniform(18, 38), 25)
    scale = rng.uniform(0.85, 1.2)
    height = up - rng.uniform(-10, 14)
    outer = ellipsoid((along, across, height), (0, 0, 0), (36 * scale, 54 * scale, 48 * scale))
    hollow = ellipsoid((along, across, height), (38 * scale, 6, -4), (20, 34, 40))
    return np.maximum(np.maximum(outer, 1 - hollow) + 1.8 * grid.noise(rng, 32), room)


def _tissue(rng: np.random.Generator, grid: Grid, abdomen: _Abdomen) -> np.ndarray:
    """Return noise-free Hounsfield units, painted from outside to inside."""
    edge = 0.3 * grid.spacing_mm[0]
    right, front, _ = abdomen.position
    enhancement = rng.uniform(0.75, 1.2)
    image = np.full(grid.shape, _AIR, dtype=np.float32)
    paint(image, abdomen.body, _MUSCLE, edge)
    paint(image, abdomen.body + 2, _FAT, edge)
    paint(image, abdomen.wall, _MUSCLE + 12 * grid.noise(rng, 16), edge)
    _paint_skeleton(rng, image, abdomen, edge)
    paint(image, abdomen.cavity, _FAT + 12 * grid.noise(rng, 40), edge)
    _paint_bowel(rng, grid, image, abdomen, enhancement, edge)
    paint(image, abdomen.liver, enhancement * rng.uniform(92, 122), edge)
    _paint_vessels(rng, image, abdomen, enhancement, edge)
    _paint_stomach(rng, image, abdomen, edge)
    medulla = enhancement * (120 + 12 * grid.noise(rng, 10))
    paint(image, abdomen.kidneys, enhancement * rng.uniform(140, 185), edge)
    paint(image, abdomen.kidneys + 9, medulla, 2.0)
    mottled = rng.uniform(100, 128) + rng.uniform(0, 12) * grid.noise(rng, 12)
    paint(image, abdomen.spleen, enhancement * mottled, edge)
    paint(image, abdomen.lung, _LUNG + 25 * grid.noise(rng, 14), edge)
    spine = _vertebra(right, front)
    paint(image, spine, _CORTEX * 0.6, edge)
    paint(image, spine + 3, _BONE + 25 * grid.noise(rng, 9), edge)
    paint(image, ellipsoid((right, front), (0, -80), (8, 7)), 25, edge)
    return image


def _vertebra(right: np.ndarray, front: np.ndarray) -> np.ndarray:
    column = ellipsoid((right, front), (0, -57), (20, 16))
    arch = ellipsoid((np.abs(right), front), (14, -79), (6, 10))
    spinous = ellipsoid((right, front), (0, -94), (4, 12))
    return np.minimum(np.minimum(column, arch), spinous)


def _paint_skeleton(
    rng: np.random.Generator, image: np.ndarray, abdomen: _Abdomen, edge: float
) -> None:
    """Paint ribs that run obliquely through the wall, from high at the back to low in front."""
    right, front, up = abdomen.position
    back_muscle = ellipsoid((np.abs(right), front), (32, -82), (24, 20))
    paint(image, np.maximum(back_muscle, abdomen.wall + 1), _MUSCLE + 5, edge)
    angle = np.arctan2(front + 60, np.abs(right) + 1)
    level = up + 38 * angle + rng.uniform(0, 26)
    from_rib = (np.abs((level % 27) - 13.5) - 4) * 0.9
    rib = np.maximum(np.maximum(from_rib, np.abs(abdomen.wall + 7) - 4.5), -abdomen.wall - 12)
    rib = np.maximum(rib, angle - 1.0)
    paint(image, rib, _CORTEX * 0.75, edge)
    paint(image, rib + 2.5, _BONE, edge)


def _paint_bowel(
    rng: np.random.Generator,
    grid: Grid,
    image: np.ndarray,
    abdomen: _Abdomen,
    enhancement: float,
    edge: float,
) -> None:
    """Paint bowel loops in the lower front, and the pancreas, whose tail may touch the spleen."""
    right, front, up = abdomen.position
    loops = np.maximum(0.55 - grid.noise(rng, 46), (up + 20) / 20)
    loops = np.maximum(12 * np.maximum(loops, (4 - front) / 30), abdomen.cavity + 3)
    paint(image, loops, enhancement * 75, 2.0)
    filling = float(rng.choice([_WATER, 30.0, 180.0]))
    paint(image, loops + 4, filling + 25 * grid.noise(rng, 30), 2.0)
    colon = ellipsoid((right, front, up), (rng.uniform(-92, -78), 22, -38), (20, 22, 26))
    colon = np.maximum(colon, abdomen.cavity + 3)
    paint(image, colon, 60, edge)
    paint(image, colon + 3, -150 + 200 * grid.noise(rng, 16), edge)
    x, y = rotated(right + 38, front + 4, 28)
    tail = ellipsoid((x, y, up), (0, 0, -2), (rng.uniform(34, 52), 9, 10))
    lobulated = np.maximum(tail + 2 * grid.noise(rng, 10), abdomen.cavity + 3)
    paint(image, lobulated, enhancement * rng.uniform(82, 108), edge)


def _paint_vessels(
    rng: np.random.Generator,
    image: np.ndarray,
    abdomen: _Abdomen,
    enhancement: float,
    edge: float,
) -> None:
    right, front, _ = abdomen.position
    arterial = enhancement * rng.uniform(130, 190)
    paint(image, ellipsoid((right, front), (-9, -30), (10, 10)), arterial, edge)
    paint(image, ellipsoid((right, front), (18, -28), (12, 9)), enhancement * 118, edge)
    portal = ellipsoid(abdomen.position, (40, 6, 5), (26, 7, 8))
    paint(image, np.maximum(portal, abdomen.liver + 2), enhancement * 150, edge)


def _paint_stomach(
    rng: np.random.Generator, image: np.ndarray, abdomen: _Abdomen, edge: float
) -> None:
    """Paint wall, contents (water, food or contrast medium) and the gas above their level."""
    front = abdomen.position[1]
    paint(image, abdomen.stomach, rng.uniform(60, 95), edge)
    contents = float(rng.choice([_WATER, 45.0, 105.0, 230.0]))
    paint(image, abdomen.stomach + 4, contents, edge)
    gas = np.maximum(abdomen.stomach + 4, rng.uniform(25, 50) - front)
    paint(image, gas, _AIR + 20, edge)


def _scanned(rng: np.random.Generator, grid: Grid, image: np.ndarray) -> np.ndarray:
    """Simulate the scanner: thick slices, correlated noise, integer Hounsfield units."""
    blurred = ndimage.gaussian_filter(image, (0.5, 0.5, 0.35))
    noise = rng.standard_normal(grid.shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, (0.6, 0.6, 0)) / 0.47
    sigma = rng.uniform(10, 24)
    return np.rint(blurred + sigma * noise).clip(-1024, 3071).astype(np.int16)


def _write_nifti(path: Path, volume: np.ndarray, affine: np.ndarray) -> None:
    image = nib.nifti1.Nifti1Image(volume, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))


def _dataset_json(names: list[str]) -> dict[str, object]:
    return {
        "name": "Spleen",
        "description": "Spleen phantom, generated; no patient data",
        "reference": "analogmed",
        "licence": "Apache-2.0",
        "release": "1.0",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "spleen"},
        "numTraining": len(names),
        "numTest": 0,
        "training": [
            {"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names
        ],
        "test": [],
    }
