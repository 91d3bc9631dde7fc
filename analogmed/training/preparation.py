"""Setup of a training run before its first step: data, network and starting point."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice

import torch
from torch import nn

from analogmed.analog import calibrate, convert, left_digital, to_aihwkit
from analogmed.analog.description.aihwkit_config import rpu_config_of
from analogmed.analog.engines.converters import layout_of
from analogmed.data import Task
from analogmed.data.plausibility import check_plausible
from analogmed.foundation.errors import ConfigError, DataError
from analogmed.foundation.seeds import derive_seed
from analogmed.foundation.settings.plain import to_plain
from analogmed.models import (
    build_model,
    model_names,
    model_options,
    required_divisor,
)
from analogmed.models.settings import ModelConfig
from analogmed.network.copy import copy_network
from analogmed.network.layers.fitted import fit_to_images
from analogmed.network.probe import is_out_of_memory
from analogmed.training.checkpoint.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_trained_ranges,
)
from analogmed.training.checkpoint.info import CheckpointInfo, check_window, scans_of
from analogmed.training.checkpoint.sources import load_teacher, patients_seen
from analogmed.training.checkpoint.tile_parameters import load_out_scales
from analogmed.training.distributed import Ranks, missing_device
from analogmed.training.memory import checkpoint_activations, explain_out_of_memory
from analogmed.training.sampling.patches import PatchSampler
from analogmed.training.settings import LoadingConfig, TrainConfig


@dataclass(frozen=True)
class Setup:
    """A run before its first step.

    Attributes:
        config: settings of the run; the model is that of ``init``, if there is one.
        ranks: processes that share the run.
        device: device of this process.
        task: data of the run.
        patients: patients that the network has seen after training, in this and earlier runs.
        model: network to train, on tiles if it is hardware-aware.
        teacher: digital network for distillation; ``None`` without distillation.
        sampler: training patches of this process.
        scans: digests of the scans of these patients; empty for separate images.
    """

    config: TrainConfig
    ranks: Ranks
    device: torch.device
    task: Task
    patients: tuple[str, ...]
    model: nn.Module
    teacher: nn.Module | None
    sampler: PatchSampler
    scans: tuple[str, ...] = ()

    def recalibrate(self) -> None:
        """Set the converters' input ranges from the data again, unless they are learned."""
        if self.config.training == "hwa" and self.config.noise.ranges == "calibrated":
            self.calibrate()

    def calibrate(self) -> None:
        """Set the converters' input ranges from training images, the same in all processes."""
        config = self.config
        batches = islice(self.sampler.epoch(0), -(-config.calibration.images // config.batch_size))
        images = (self.ranks.gather(images.to(self.device)) for images, _ in batches)
        own = config.calibration
        calibrate(self.model, images, quantile=own.quantile, fit_outputs=own.fit_outputs)

    def autocast(self) -> torch.autocast:
        """Return the autocast context with the precision of the network's digital parts."""
        lowered = self.config.precision == "bfloat16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=lowered)

    @contextmanager
    def within_memory(self) -> Iterator[None]:
        """Replace an out-of-memory error inside by one that states what to make smaller."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            config, task = self.config, self.task
            raise explain_out_of_memory(
                error,
                batch_size=config.batch_size,
                window=task.window,
                weights=sum(p.numel() for p in self.model.parameters() if p.requires_grad),
                checkpointing=config.activation_checkpointing,
                accumulate=config.optimizer.accumulate,
                divisor=required_divisor(
                    config.model.name, spatial_dims=task.spatial_dims, **config.model.options
                ),
            ) from error

    def checkpoint_info(self, score: float) -> CheckpointInfo:
        """Return the description of the network, with its validation score."""
        config, task = self.config, self.task
        return CheckpointInfo(
            model=config.model.name,
            options=config.model.options,
            in_channels=task.in_channels,
            out_channels=task.out_channels,
            spatial_dims=task.spatial_dims,
            training=config.training,
            task=task.name,
            classes=task.classes,
            channels=task.channels,
            axes=task.axes,
            rate=task.rate,
            patients=self.patients,
            scans=self.scans,
            window=task.window,
            hardware=asdict(config.hardware) if config.training == "hwa" else {},
            score=score,
            seed=config.seed,
        )

    def to_device(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor on this process's device; on tiles, in the fastest memory format."""
        tensor = tensor.to(self.device)
        if self.config.training == "digital":
            return tensor
        return tensor.contiguous(memory_format=layout_of(tensor))


def set_up(config: TrainConfig, ranks: Ranks) -> Setup:
    """Load the data, and build or load the network.

    Raises:
        ConfigError: settings that do not fit each other, the task, or the network of ``init``.
        LeakageError: ``init`` or ``loss.teacher`` was trained on patients that this split keeps for
            testing.
        DataError: the task has no training or validation case.
    """
    start = None
    if config.init is not None:
        start = load_checkpoint(config.init, factories=(config.model.name,))
        config = _with_model_of(start, config)
    ranks.share_of(config.batch_size)  # raises for an uneven batch before the data are read
    device = _device(config, ranks)
    task = _load_task(config)
    if start is None:
        config = replace(config, model=config.model.for_window(task.window))
    teacher = load_teacher(config.loss.teacher, task)
    sources = tuple(source for source in (start, teacher) if source)
    patients = patients_seen(task, sources)
    sampler = make_sampler(config, task, ranks)
    _warn_missing_classes(sampler, task, config.loading.subset)
    if ranks.is_first:
        _tell_repeated_reads(sampler, task, config.loading)
    torch.manual_seed(derive_seed(config.seed, "initial weights"))
    model = _network(config, task, start)
    if start is None:
        fit_to_images(model, sampler.images(), config.seed)
    model = model.to(device)
    scans = {*scans_of(task, (*task.train, *task.validation))}
    scans |= {scan for source in sources for scan in source.info.scans}
    setup = Setup(config, ranks, device, task, patients, model, None, sampler, tuple(sorted(scans)))
    with setup.within_memory():
        _check_network(model, config, task)
    taught_by = None
    if config.loss.distillation:
        taught_by = teacher.network.to(device) if teacher else copy_network(model).eval()
    if config.training == "hwa":
        model, has_ranges = on_tiles(model, config, start)
        _warn_placement_changed(start, model)
    if config.activation_checkpointing:
        checkpoint_activations(model)
    setup = replace(setup, model=model, teacher=taught_by)
    if config.training == "hwa" and config.noise.ranges == "learned" and not has_ranges:
        setup.calibrate()  # others are set before each epoch
    return setup


def make_sampler(config: TrainConfig, task: Task, ranks: Ranks) -> PatchSampler:
    """Return the sampler of the batches that one process receives.

    Args:
        config: settings of the run.
        task: task with the training cases.
        ranks: number of this process, and of all processes.
    """
    return PatchSampler(
        task,
        task.train,
        batch_size=config.batch_size,
        seed=config.seed,
        loading=config.loading,
        rank=ranks.rank,
        world_size=ranks.size,
    )


def with_heads(config: TrainConfig) -> TrainConfig:
    """Return the settings with deep supervision also enabled in the network's options."""
    options = config.model.options
    if config.init is not None or bool(options.get(_HEADS)) == config.loss.deep_supervision:
        return config
    if options.get(_HEADS):
        raise ConfigError(f"model.options.{_HEADS} needs loss.{_HEADS}: true, to train the heads")
    if config.model.name in model_names() and _HEADS not in model_options(config.model.name):
        raise ConfigError(
            f"loss.{_HEADS}: expected unetpp or dynunet, which have heads for it, got "
            f"{config.model.name}. Choose one of them, or leave loss.{_HEADS} out."
        )
    return replace(config, model=ModelConfig(config.model.name, {**options, _HEADS: True}))


def digital_stage(config: TrainConfig) -> TrainConfig | None:
    """Return the digital training that precedes a hardware-aware run without ``init``, if any."""
    if config.training == "digital" or config.init is not None:
        return None
    loss = config.loss if config.loss.teacher else replace(config.loss, distillation=0.0)
    return replace(config, training="digital", loss=loss, out=config.folder / "digital")


_HEADS = "deep_supervision"


def _with_model_of(start: Checkpoint, config: TrainConfig) -> TrainConfig:
    found = ModelConfig(start.info.model, start.info.options)
    if bool(found.options.get(_HEADS)) != config.loss.deep_supervision:
        raise ConfigError(
            f"loss.deep_supervision is {config.loss.deep_supervision}, but {config.init} holds a "
            f"network {'with' if found.options.get(_HEADS) else 'without'} the heads for it; give "
            "both the same value"
        )
    given = config.model
    if "window" in found.options and given.name == found.name:
        given = given.for_window(found.options["window"])
    if to_plain(given) not in map(to_plain, (ModelConfig(), ModelConfig(found.name), found)):
        raise ConfigError(
            f"{config.init} holds {found.name} with options {found.options}, but model says "
            f"{config.model.name} with options {config.model.options}; leave model out"
        )
    return replace(config, model=found)


def _device(config: TrainConfig, ranks: Ranks) -> torch.device:
    try:
        device = ranks.device(config.device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise missing_device(config.device, error) from error
    return device


def _load_task(config: TrainConfig) -> Task:
    task = config.task.load()
    for name, cases in (("training", task.train), ("validation", task.validation)):
        if not cases:
            patients = {case.patient_id for case in (*task.train, *task.validation, *task.test)}
            raise DataError(
                f"task {task.name} has no {name} case; expected 3 patients or more, some in each "
                f"split, got {len(patients)} with task.shares {config.task.shares}. Change "
                "task.shares or task.split_file, or add patients."
            )
    check_plausible(task, task.train)
    return task


def _warn_missing_classes(sampler: PatchSampler, task: Task, subset: float) -> None:
    missing = sampler.missing_classes()
    if missing:
        remedy = "task.split_seed or task.shares"
        where = f"no training case of {task.name} holds"
        if subset < 1:
            remedy += ", or set a larger loading.subset"
            where = f"no image of the subset of {task.name} (loading.subset {subset:g}) has"
        warnings.warn(
            f"{where} {', '.join(missing)}: the network cannot learn "
            f"{'it' if len(missing) == 1 else 'them'}; change {remedy}",
            stacklevel=2,
        )


def _tell_repeated_reads(sampler: PatchSampler, task: Task, loading: LoadingConfig) -> None:
    reads, cases = sampler.reads_per_epoch(), len(task.train)
    if reads > 1.5 * cases:
        room = loading.cache_bytes // max(1, loading.workers)
        warnings.warn(
            f"loading: an epoch reads {reads} cases of {task.name} from disk, because the "
            f"{cases} training cases do not fit in loading.cache_bytes {loading.cache_bytes}; "
            f"{cases} reads are enough. Set loading.mixed_bytes {room}, which mixes the patches of "
            "fewer cases, or a larger loading.cache_bytes.",
            stacklevel=3,
        )


def _network(config: TrainConfig, task: Task, start: Checkpoint | None) -> nn.Module:
    if start:
        start.info.check_fits(task, start.path)
        return start.network
    check_window(config.model.name, config.model.options, task)
    return build_model(
        config.model.name,
        in_channels=task.in_channels,
        out_channels=task.out_channels,
        spatial_dims=task.spatial_dims,
        **config.model.options,
    )


def _check_network(model: nn.Module, config: TrainConfig, task: Task) -> None:
    """Raise an error if the network does not return logits of the task's patches."""
    probe = task.kind.probe(config.model.name, task.in_channels, len(task.classes), task.window)
    probe.check(model, training=True, batch_size=min(2, config.batch_size))


def on_tiles(
    model: nn.Module, config: TrainConfig, start: Checkpoint | None
) -> tuple[nn.Module, bool]:
    """Map a network onto tiles, with the learned scales and input ranges of its start.

    Returns:
        the network, and whether the input ranges of its start fit these tiles.
    """
    hardware = rpu_config_of(config.hardware)
    analog = convert(
        model,
        hardware,
        digital_layers=config.digital_layers,
        backend="torch" if config.backend == "aihwkit" else config.backend,
    )
    has_ranges = False
    if start is not None:
        load_out_scales(analog, start.scaled_layers)
        has_ranges = load_trained_ranges(analog, start, hardware)
        _tell_other_ranges(start, has_ranges, config)
    if config.backend == "aihwkit":
        analog = to_aihwkit(analog)
    if config.noise.ranges == "calibrated":
        for name, parameter in analog.named_parameters():
            if name.endswith("input_range"):  # follows the data; its gradient would take memory
                parameter.requires_grad_(False)
    return analog, has_ranges


def _tell_other_ranges(start: Checkpoint, has_ranges: bool, config: TrainConfig) -> None:
    if start.input_ranges and not has_ranges and config.noise.ranges == "learned":
        warnings.warn(
            f"noise.ranges: the learned input ranges of {start.path} do not fit the input "
            "converters or tiles of hardware; they are calibrated from the training images",
            stacklevel=4,
        )


def _warn_placement_changed(start: Checkpoint | None, analog: nn.Module) -> None:
    """Warn if a network was trained for the chip with other digital layers than it has now."""
    if start is None or start.info.digital_layers is None:
        return
    before, now = start.info.digital_layers, left_digital(analog)
    if set(before) != set(now):
        warnings.warn(
            f"{start.path} was trained with {', '.join(before) or 'no layer'} digital, and goes on "
            f"with {', '.join(now) or 'no layer'}; digital_layers says which (backend, too)",
            stacklevel=3,
        )
