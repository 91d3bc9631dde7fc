"""Settings of the commands that call a library function directly: report, hardware and data."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from analogmed.analog.description.presets import spelled_preset
from analogmed.cli.named_networks import DEFAULT_INPUT, NamedNetwork, StoredNetwork, parse_network
from analogmed.data.datasets.options import one_text, some_texts
from analogmed.data.phantoms.ranges import PhantomKind, check_phantom
from analogmed.data.settings import TaskConfig
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.checks import require_at_least_one, require_number
from analogmed.foundation.settings.fields import may_be_empty, positional
from analogmed.foundation.settings.forms import checks_arguments
from analogmed.foundation.text import known_name
from analogmed.hardware.profiles import Level, Profile, load_profile, profile_names
from analogmed.models.settings import ModelConfig
from analogmed.network.tiling import RowSplit


@checks_arguments
@dataclass(frozen=True)
class ReportConfig:
    """One page with the results of run folders, as HTML, Markdown and LaTeX.

    Attributes:
        runs: run folders.
        out: folder of the page; by default the first RUN.
    """

    runs: tuple[Path, ...] = positional("RUN")
    out: Path | None = None


@checks_arguments
@dataclass(frozen=True)
class PresetsConfig:
    """Hardware presets; with names, the value and the meaning of each argument.

    Attributes:
        names: presets; without any, all are listed.
        differences: whether only arguments that differ from the preset pcm are shown.
    """

    names: tuple[str, ...] = positional("PRESET", default=())
    differences: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(map(spelled_preset, self.names)))


NO_PROFILE = "none"
"""Name in place of a profile for tiles without time and energy."""


@checks_arguments
@dataclass(frozen=True)
class MapConfig:
    """Tiles, utilisation, latency and energy of networks; nothing is trained or simulated.

    Attributes:
        model: networks, each as NAME or "NAME(option=value, ...)"; NAME is one of those of
            analogmed train, or package.module:factory. By default unet, or none with checkpoints.
        input: channels and size of one input, C H W, or C D H W for 3D; by default 3 256 256, and
            for a checkpoint its channels and window.
        out_channels: number of classes; for a checkpoint that of its network.
        profile: tile type: alpine, hermes-1-phase, hermes-4-phase, hermes-core, a YAML file, or
            none for tiles without time and energy.
        level: accounting level. mvm_only covers MVM and converters; measured_layer was measured on
            a layer, including links and digital units.
        tile_size: rows and columns of a tile, one number for a square; by default those of the
            profile, and 512 without a profile.
        row_split: even cuts the rows of a layer evenly, as aihwkit does; channels cuts them between
            input channels.
        row_copies: largest number of times that each weight is stored on rows of its tile that
            would be idle otherwise.
        transposed: analog maps transposed convolutions onto tiles; digital leaves them digital.
        digital_layers: names or patterns of layers that stay digital; for a checkpoint by default
            those of its training.
        packing: none places each part of a layer on a tile of its own; first_fit places several
            small layers on one tile, which take turns.
        tile_budget: total number of tiles, which is filled by replicating slow layers; by default
            no layer is replicated.
        table: folder of a table that analogmed hardware measure has written; adds the latency of
            the networks on its machine, without a chip.
        slices: number of slices of the stack that the estimates cover.
        drawn_slices: number of slices in the figure of the pipeline.
        out: folder for tables (CSV) and figures (PNG); by default none are written.
        checkpoints: trained networks, as files or run folders of train.
        factories: code of your own networks that checkpoints may import, each as
            package.module:factory, as in --model of train and models import; other code is refused.
    """

    model: tuple[str, ...] = ()
    input: tuple[int, ...] | None = None
    out_channels: int = 1
    profile: str = "hermes-1-phase"
    level: Level = "mvm_only"
    tile_size: tuple[int, ...] | None = None
    row_split: RowSplit = "even"
    row_copies: int = 1
    transposed: Literal["analog", "digital"] = "analog"
    digital_layers: tuple[str, ...] = ()
    packing: Literal["none", "first_fit"] = "none"
    tile_budget: int | None = None
    table: Path | None = None
    slices: int = 100
    drawn_slices: int = 4
    out: Path | None = None
    checkpoints: tuple[Path, ...] = positional("CHECKPOINT", default=())
    factories: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", self.model or (() if self.checkpoints else ("unet",)))
        if self.input is None and not self.checkpoints:
            object.__setattr__(self, "input", DEFAULT_INPUT)
        _check_networks(self.model, self.input or DEFAULT_INPUT, self.out_channels)
        known = (*profile_names(), NO_PROFILE)
        object.__setattr__(self, "profile", known_name(self.profile, known))
        for name in ("slices", "drawn_slices"):
            require_at_least_one(f"--{name}", getattr(self, name))
        if self.tile_budget is not None:
            require_at_least_one("--tile_budget", self.tile_budget)
            if self.profile == NO_PROFILE:
                raise ConfigError(
                    "--tile_budget needs the times of a profile; --profile none has none"
                )
        size = self.tile_size
        if size is not None and (len(size) not in (1, 2) or min(size) < 1):
            raise ConfigError(
                f"--tile_size: expected rows and columns, 1 or more, got {_words(size)}. Give one "
                "number for a square tile"
            )
        if (profile := self.load_profile()) is not None:
            profile.figures(self.level)

    def networks(self) -> list[NamedNetwork | StoredNetwork]:
        """Return the networks, those of checkpoints first."""
        stored = [StoredNetwork(path, self.factories) for path in self.checkpoints]
        return [*stored, *map(parse_network, self.model)]

    def load_profile(self) -> Profile | None:
        """Return the profile, or ``None`` without one."""
        return None if self.profile == NO_PROFILE else load_profile(self.profile)


_HELD_OUT = (
    "unet(features=4)",
    "unet(features=12)",
    "unet(features=16)",
    "unetpp(features=[8, 8, 16, 32, 64, 8])",
    "attention_unet(channels=[8, 16, 32], strides=[2, 2])",
    "swin_unetr(feature_size=12)",
)


@checks_arguments
@dataclass(frozen=True)
class MeasureConfig:
    """Timing of the operations of networks on this machine, one by one, as a look-up table.

    The latency of held-out networks is predicted as the sum of their operations and compared with
    their measured latency, which is not in the table.

    Attributes:
        model: networks whose operations are timed, each as NAME or "NAME(option=value, ...)"; NAME
            is one of those of analogmed train, or package.module:factory.
        input: channels and size of one input, C H W, or C D H W for 3D.
        out_channels: number of classes.
        held_out: networks that are predicted and timed as a whole; their operations are also timed
            one by one. Without a value, none.
        repetitions: number of timed runs of each operation and network; the median is used.
        threads: number of threads of torch.
        device_name: name of this machine in the table; by default that of the board or processor.
        out: folder for operations.csv, provenance.yaml and networks.csv.
    """

    model: tuple[str, ...] = ("unet",)
    input: tuple[int, ...] = (1, 64, 64)
    out_channels: int = 1
    held_out: tuple[str, ...] = may_be_empty(_HELD_OUT)
    repetitions: int = 30
    threads: int = 1
    device_name: str | None = None
    out: Path = Path("runs/measure")

    @property
    def folder(self) -> Path:
        """Run folder."""
        return self.out

    def __post_init__(self) -> None:
        if not self.model:
            raise ConfigError("--model: expected at least one network, got none")
        _check_networks(self.model, self.input, self.out_channels)
        for text in self.held_out:
            parse_network(text, "--held_out")
        for name in ("threads", "repetitions"):
            require_at_least_one(f"--{name}", getattr(self, name))


@checks_arguments
@dataclass(frozen=True)
class ImportConfig:
    """Checkpoint of a network that was trained elsewhere, for eval, train --init and hardware.

    Weights are read without executing anything from the file. A prefix that all their names have,
    such as module. or model., does not matter. The network runs once, to check its output.

    Attributes:
        weights: state dict of torch (.pt, .pth, .ckpt), .safetensors, or folder of a MONAI bundle.
        out: checkpoint file to write, .safetensors.
        model: network that the weights are for; not for a bundle, which describes its own.
        task: data; channels, classes, axes and window are those of the network.
        patients: patients that training or selection has seen; without a value, none. By default
            those under train and validation in the split of the task.
        expected_score: digital score on the test patients by the primary metric of the task (dice
            for most), as computed elsewhere; eval warns if its digital run differs.
    """

    takes_files_of_other_commands: ClassVar[bool] = True

    out: Path
    weights: Path = positional("WEIGHTS")
    model: ModelConfig = ModelConfig()
    task: TaskConfig = TaskConfig()
    patients: tuple[str, ...] | None = may_be_empty(None)
    expected_score: float | None = None

    def __post_init__(self) -> None:
        if self.out.suffix != ".safetensors":
            raise ConfigError(f"--out: expected a file with .safetensors, got {self.out}")
        if self.expected_score is not None:
            require_number("--expected_score", self.expected_score)


@checks_arguments
@dataclass(frozen=True)
class ExportConfig:
    """Weights of a checkpoint in a file for other programs, without analogmed.

    Learned output scales are multiplied into the weights; input ranges of converters are left out.

    Attributes:
        checkpoint: checkpoint file, or run folder of train.
        out: file to write: .safetensors or .pt with the state dict of the plain torch network;
            .pt2 with the network itself, as torch.export writes it, for images of its window.
        factories: code of your own networks that the checkpoint may import, each as
            package.module:factory, as in --model of train and models import; other code is refused.
    """

    out: Path
    checkpoint: Path = positional("CHECKPOINT")
    factories: tuple[str, ...] = ()


@checks_arguments
@dataclass(frozen=True)
class VerifyConfig:
    """Check of a data set, whose layout is recognised.

    Layouts are those of LGG, DSB 2018, Decathlon, BraTS, MedMNIST, ChestX-ray14, and folders of
    NIfTI files. Every file is read to its end. Checksums, headers, geometry, pairs of image and
    label, label values and duplicates are checked, and all problems are listed. With the settings
    of a task, its split file (unknown patients, patients in no split or in several) and its classes
    (values in no label file, values in no class) are checked, too.

    Attributes:
        path: folder of the data set, the folder above it, or file of MedMNIST; by default
            task.root.
        images: file patterns of NIfTI files, one per channel; by default those of task.options, and
            without any, the layout is recognised.
        label: file pattern of the labels; by default that of task.options. Both are required, or
            none; with task brats, each has a default.
        task: data set as in the settings file of eval or train, whose other settings have no
            effect.
    """

    takes_files_of_other_commands: ClassVar[bool] = True

    path: Path | None = positional("FOLDER", default=None)
    images: tuple[str, ...] = ()
    label: str = ""
    task: TaskConfig = TaskConfig()

    def __post_init__(self) -> None:
        if self.folder is None:
            raise ConfigError(
                "missing FOLDER; expected analogmed data verify FOLDER, or --config FILE with "
                "task.root"
            )

    @property
    def folder(self) -> Path | None:
        """Folder to verify: FOLDER, or that of the task."""
        return self.path or self.task.root

    @property
    def data(self) -> TaskConfig | None:
        """Settings of the task, with the file patterns to verify; ``None`` if none are given."""
        if self.task == TaskConfig(root=self.task.root):
            return None
        given = {"images": list(self.images), "label": self.label}
        if self.task.name.startswith("phantom_"):  # recognised without patterns
            return self.task
        options = {**self.task.options, **{name: text for name, text in given.items() if text}}
        return replace(self.task, options=options)

    @property
    def patterns(self) -> tuple[tuple[str, ...], str]:
        """File patterns of the channels and of the labels; empty for a recognised layout.

        Raises:
            ConfigError: a pattern of the task is not a text.
        """
        images, label, options = self.images, self.label, self.task.options
        if not images and "images" in options:
            images = some_texts("task.options.images", options["images"])
        if not label and "label" in options:
            label = one_text("task.options.label", options["label"])
        if self.task.name == "brats" and bool(images) != bool(label):
            # imports the readers of volumes, which other commands do not need
            from analogmed.data.datasets.nifti_folder import BRATS_IMAGES, BRATS_LABEL

            images, label = images or BRATS_IMAGES, label or BRATS_LABEL
        return images, label


@checks_arguments
@dataclass(frozen=True)
class PhantomConfig:
    """Generated data set in the layout of a real one; the same seed yields the same bytes.

    Attributes:
        kind: brain, spleen, nuclei, chest or ecg.
        root: folder below which the data set is written; created if missing.
        seed: root seed of all random draws.
        patients: number of patients, or of fields of nuclei; by default 24 for brain, 12 for
            spleen, 60 for nuclei, 480 for chest and 80 for ecg.
        size: number of pixels along both in-plane axes, or seconds of an ECG, 32 to 512; by default
            64 for brain and chest, 96 for spleen, 128 for nuclei and 60 for ecg.
    """

    kind: PhantomKind = positional("KIND")
    root: Path = positional("FOLDER")
    seed: int = 0
    patients: int | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        check_phantom(self.seed, self.patients, self.size)


@checks_arguments
@dataclass(frozen=True)
class DownloadConfig:
    """Download of a task of the Medical Segmentation Decathlon.

    The checksum is verified before the archive is unpacked. Existing data is left unchanged.

    Attributes:
        task: Task01_BrainTumour to Task10_Colon.
        root: parent folder of the data set; created if missing.
    """

    task: str = positional("TASK")
    root: Path = positional("FOLDER")

    def __post_init__(self) -> None:
        # imports the readers of volumes, which other commands do not need
        from analogmed.data.datasets.msd_tasks import MSD_TASKS

        known = [task.folder for task in MSD_TASKS]
        object.__setattr__(self, "task", known_name(self.task, known))
        if self.task not in known:
            raise ConfigError(f"Decathlon task {self.task!r}; expected one of {', '.join(known)}")


def _check_networks(models: tuple[str, ...], sizes: tuple[int, ...], out_channels: int) -> None:
    for text in models:
        parse_network(text)
    if not 2 <= len(sizes) <= 4 or min(sizes) < 1:
        raise ConfigError(
            f"--input: expected channels and 1 to 3 sizes above 0, such as 3 256 256, got "
            f"{_words(sizes)}"
        )
    require_at_least_one("--out_channels", out_channels)


def _words(numbers: tuple[int, ...]) -> str:
    return " ".join(map(str, numbers)) or "none"
