"""Settings of the data."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from analogmed.foundation.errors import ConfigError

if TYPE_CHECKING:
    from analogmed.data.case import Task


@dataclass(frozen=True)
class TaskConfig:
    """Which data, and how it is split.

    Attributes:
        name: phantom_brain, phantom_spleen, phantom_nuclei (generated), lgg, dsb2018, brats, nifti,
            msd, or a Decathlon task such as Task09_Spleen or spleen.
        root: folder of the data set; phantoms are generated in the cache folder without it.
        size: resample every image to this spatial size, for instance [96, 96].
        spatial_dims: 2 or 3; the data set's own by default.
        split_seed: seed of the split by patient. A patient more or less moves others to another
            part; use split_file where data are added.
        shares: shares of patients for training, validation and test.
        split_file: JSON or YAML with the patients of each part, in place of shares.
        options: further arguments of the data set's loader.
    """

    name: str = "phantom_brain"
    root: Path | None = None
    size: tuple[int, ...] | None = None
    spatial_dims: Literal[2, 3] | None = None
    split_seed: int = 0
    shares: tuple[float, float, float] = (0.6, 0.1, 0.3)
    split_file: Path | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        own = {f.name for f in dataclasses.fields(self)}
        for name in self.options:
            if name in own:
                raise ConfigError(f"task.options.{name}: write task.{name} instead")

    def load(self) -> "Task":
        """Return the task itself."""
        from analogmed.data.tasks import load_task

        return load_task(
            self.name,
            self.root,
            split_seed=self.split_seed,
            shares=self.shares,
            split_file=self.split_file,
            size=self.size,
            spatial_dims=self.spatial_dims,
            **self.options,
        )
