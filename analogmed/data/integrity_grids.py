"""Consistency of orientation and voxel size across the cases of a data set."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from analogmed.data.datasets.listing import Finding
from analogmed.data.readers.nifti import Volume
from analogmed.data.readers.orientation import axis_codes, to_ras

_MAX_SPACING_RATIO = 2.0


def grid_differences(folder: Path, volumes: Mapping[str, Volume]) -> Iterator[Finding]:
    """Yield a finding if the orientation, and one if the voxel size differs between cases.

    Args:
        folder: folder of the data set.
        volumes: one volume per case, by case id; their voxels are not used.
    """
    yield from _orientations(folder, volumes)
    yield from _spacings(folder, volumes)


def _orientations(folder: Path, volumes: Mapping[str, Volume]) -> Iterator[Finding]:
    cases_of: dict[str, list[str]] = {}
    for case_id, volume in volumes.items():
        cases_of.setdefault(axis_codes(volume.affine), []).append(case_id)
    if len(cases_of) < 2:
        return
    (usual, cases), *others = sorted(cases_of.items(), key=lambda item: -len(item[1]))
    listed = [f"{usual} ({_counted(cases)})"] + [
        f"{codes} ({_counted(cases)}, for instance {cases[0]})" for codes, cases in others
    ]
    yield Finding(
        folder,
        f"the orientation differs between cases: {', '.join(listed)}",
        "the loaders turn all to RAS; with the option orientation: file they mix them",
    )


def _counted(cases: Sequence[str]) -> str:
    return f"{len(cases)} case{'s' if len(cases) > 1 else ''}"


def _spacings(folder: Path, volumes: Mapping[str, Volume]) -> Iterator[Finding]:
    """Compare voxel sizes along the body axes instead of the file axes."""
    spacings = {case_id: to_ras(volume).spacing_mm for case_id, volume in volumes.items()}
    for axis in range(3):
        by_size = sorted(spacings, key=lambda case_id: spacings[case_id][axis])
        if not by_size:
            return
        fine, coarse = by_size[0], by_size[-1]
        if spacings[coarse][axis] > _MAX_SPACING_RATIO * spacings[fine][axis]:
            both = " to ".join(
                f"{' x '.join(f'{size:.3g}' for size in spacings[one])} mm (case {one})"
                for one in (fine, coarse)
            )
            yield Finding(
                folder,
                f"the voxel size differs by more than a factor of {_MAX_SPACING_RATIO:g} between "
                f"cases: {both}",
                "nothing is resampled to one voxel size; resample the files first",
            )
            return
