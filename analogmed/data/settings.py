"""Settings of the data."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.forms import checks_arguments

if TYPE_CHECKING:
    from analogmed.data.case import Task


@checks_arguments
@dataclass(frozen=True)
class TaskConfig:
    """Data set and its split by patient.

    Attributes:
        name: data set, such as lgg, spleen or mitbih; nifti for a folder of your own scans. One of
            phantom_brain, phantom_spleen, phantom_nuclei, phantom_chest or phantom_ecg (generated),
            lgg, dsb2018, brats, nifti, msd, a Decathlon task such as Task09_Spleen or spleen,
            medmnist or chestxray14 (images with classes), mitbih (heartbeats with classes),
            cinc2021 or cpsc2018 (ECGs with diagnoses), or the name of a plugin. Own data (nifti,
            brats, msd, medmnist) get a name in tables by options.name.
        root: folder of the data set, or file of medmnist; by default phantoms are generated in the
            cache folder, and other data sets require it.
        size: spatial size to which every image is resampled; by default that of the data set.
        spatial_dims: number of spatial dimensions; by default that of the data set.
        split_seed: seed of the split by patient. Adding or removing a patient moves others between
            the splits; use split_file for data sets that grow.
        shares: shares of patients for training, validation and test.
        split_file: JSON or YAML file with the patients of each split; replaces shares.
        options: further arguments of the loader of the data set.
    """

    name: str = "phantom_brain"
    root: Path | None = None
    size: tuple[int, ...] | None = None
    spatial_dims: Literal[1, 2, 3] | None = None
    split_seed: int = 0
    shares: tuple[float, float, float] = (0.6, 0.1, 0.3)
    split_file: Path | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name != TaskConfig.name:
            # imports the readers of all data sets, which the default does not need
            from analogmed.data.tasks import spelled_task

            object.__setattr__(self, "name", spelled_task(self.name))
        own = {f.name for f in dataclasses.fields(self)}
        for name in self.options:
            if name in own and name != "name":
                raise ConfigError(f"task.options.{name}: write task.{name} instead")

    @property
    def own_name(self) -> str:
        """Name of the data in tables, which may be given in ``options``."""
        return str(self.options.get("name", self.name))

    def check(self) -> None:
        """Raise an error if the data set does not have a setting or an option; nothing is read.

        Raises:
            MissingSettingError: a required option is missing.
            ConfigError: a name is unknown.
        """
        from analogmed.data.tasks import check_task

        check_task(self.name, self._settings, self.options)

    def load(self) -> "Task":
        """Return the task itself."""
        from analogmed.data.tasks import load_task

        return load_task(self.name, self.root, **self._settings, **self.options)

    @property
    def _settings(self) -> dict[str, Any]:
        names = ("split_seed", "shares", "split_file", "size", "spatial_dims")
        return {name: getattr(self, name) for name in names}
