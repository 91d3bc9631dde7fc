"""Example slices with their maps: worst, median and best case, chosen before the chips run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analogmed.data import Sample, Task
from analogmed.evaluation.planes import choose_planes
from analogmed.evaluation.studies.uncertainty.maps import UncertaintyMaps
from analogmed.evaluation.studies.uncertainty.scores import Address
from analogmed.foundation.files import write_atomically
from analogmed.kinds.segmentation import classes_of
from analogmed.tables.uncertainty import ADDRESS, EXAMPLES


@dataclass
class Examples:
    """Slices of some cases with the maps of all networks, sources and times.

    The slice of a case is the one with the most foreground in the reference; that of a volume is
    axial. It is the first plane of the examples on the page of an evaluation.

    Attributes:
        ranks: rank of each selected case, for instance ``"worst"``.
        arrays: images, references and maps by name, the content of ``examples.npz``.
        rows: description of each name, the content of ``examples.csv``.
    """

    ranks: dict[str, str]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def chosen(cls, dice: Mapping[str, float]) -> "Examples":
        """Choose cases by a Dice that does not depend on any chip.

        Args:
            dice: Dice of each case; cases with an undefined one are excluded.
        """
        ordered = sorted((v, case) for case, v in dice.items() if np.isfinite(v))
        if not ordered:
            return cls({})
        places = {"worst": 0, "best": len(ordered) - 1, "median": len(ordered) // 2}
        ranks: dict[str, str] = {}
        for rank, place in places.items():
            ranks.setdefault(ordered[place][1], rank)
        return cls(ranks)

    def add(self, address: Address, sample: Sample, maps: UncertaintyMaps, task: Task) -> None:
        """Add the maps of a case if it is selected."""
        case = sample.case.case_id
        if case not in self.ranks:
            return
        key = self.ranks[case]
        cut = choose_planes(sample, task)[0].cut
        if f"{key}_image" not in self.arrays:
            channels = [cut(sample.image[:, n]) for n in range(sample.image.shape[1])]
            self.arrays[f"{key}_image"] = np.stack(channels, axis=-1).astype(np.float32)
            self.arrays[f"{key}_reference"] = cut(sample.label)
        name = self._next_name(key)
        self.arrays[f"{name}_prediction"] = cut(classes_of(maps.mean))
        self.arrays[f"{name}_entropy"] = cut(maps.entropy).astype(np.float32)
        self.arrays[f"{name}_variance"] = cut(maps.variance).astype(np.float32)
        self.rows.append(
            {"rank": key, "case": case, "name": name, **dict(zip(ADDRESS, address, strict=True))}
        )

    def merge(self, other: "Examples") -> None:
        """Add the maps of other addresses, for the same selected cases."""
        for row in other.rows:
            rank = str(row["rank"])
            for part in ("image", "reference"):
                self.arrays.setdefault(f"{rank}_{part}", other.arrays[f"{rank}_{part}"])
            name = self._next_name(rank)
            for part in ("prediction", "entropy", "variance"):
                self.arrays[f"{name}_{part}"] = other.arrays[f"{row['name']}_{part}"]
            self.rows.append(row | {"name": name})

    def _next_name(self, rank: str) -> str:
        return f"{rank}_{sum(row['rank'] == rank for row in self.rows)}"

    def write(self, folder: Path) -> None:
        """Write ``examples.npz`` (no pickle) and ``examples.csv``, which lists its arrays."""
        if not self.rows:
            return
        write_atomically(
            folder / "examples.npz",
            lambda path: np.savez_compressed(path, allow_pickle=False, **self.arrays),
        )
        EXAMPLES.write(pd.DataFrame(self.rows), folder)
