"""The training loop, one for digital and for hardware-aware training."""

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn
from tqdm import tqdm

from analogmed.analog import Chip, WeightClipper, calibrate, convert
from analogmed.analog.converters import layout_of
from analogmed.atomic import ensure_writable
from analogmed.config import DAY_S, ModelConfig, to_plain
from analogmed.data import Sample, Task
from analogmed.errors import ConfigError, DataError, NonFiniteError
from analogmed.inference import predict_logits, to_classes
from analogmed.models import build_model
from analogmed.seeds import derive_seed
from analogmed.training.checkpoint import (
    Checkpoint,
    CheckpointInfo,
    check_window,
    load_checkpoint,
    save_checkpoint,
)
from analogmed.training.config import TrainConfig
from analogmed.training.patches import PatchSampler


@torch.random.fork_rng(devices=())
def train(config: TrainConfig) -> Path:
    """Train a network, digitally or hardware-aware, and keep its best state.

    Hardware-aware training starts from a digital checkpoint, puts the network on tiles, calibrates
    the input ranges, and goes on with quantisation, output noise and weight noise in the forward
    pass. Validation is then done on chips, a day after programming.

    Args:
        config: the run.

    Returns:
        the checkpoint file.

    Raises:
        ConfigError: settings that do not fit each other or the task; a file that cannot be written.
        LeakageError: ``init`` was trained on patients that this split keeps for testing.
        DataError: the task has no training or validation case.
        NonFiniteError: the loss became NaN or Inf; names epoch and batch.
    """
    start = None
    if config.init is not None:
        start = load_checkpoint(config.init, factories=(config.model.name,))
        config = _with_model_of(start, config)
    _check_output(config.path)
    _check_hardware(config)
    task = _load_task(config)
    patients = _patients_seen(task, start)
    torch.manual_seed(derive_seed(config.seed, "initial weights"))
    model = _network(config, task, start)
    sampler = PatchSampler(task, task.train, batch_size=config.batch_size, seed=config.seed)
    if config.training == "hwa":
        model = convert(model, config.hardware.rpu_config(), digital=config.digital_layers)
        _calibrate(model, sampler, config)
        _fix_ranges(model)
    clipper = WeightClipper(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, config.learning_rate, weight_decay=config.optimizer.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, _warm_up_and_cosine(config.n_epochs * len(sampler))
    )
    loss_of = _loss(task)
    score_of = _validation(task, config)
    best = -math.inf
    torch.manual_seed(derive_seed(config.seed, "training noise"))
    title = f"{config.model.name} {config.training}"
    for epoch in (progress := tqdm(range(config.n_epochs), desc=title, unit="epoch", disable=None)):
        model.train()
        for batch, (images, labels) in enumerate(sampler.epoch(epoch)):
            if config.training == "hwa":  # the format that products are computed in
                images = images.contiguous(memory_format=layout_of(images))
            loss = loss_of(model(images), labels)  # (B, K, *window) and (B, 1, *window)
            if not torch.isfinite(loss):
                stopped = config.path.with_suffix(".stopped.safetensors")
                save_checkpoint(stopped, model, _info(config, task, patients, math.nan))
                raise NonFiniteError(
                    f"the loss is {loss.item()} in epoch {epoch}, batch {batch}; try a smaller "
                    f"learning_rate; the present state is in {stopped}; {_kept(config.path, best)}"
                )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(trained, config.optimizer.gradient_norm)
            optimizer.step()
            schedule.step()
            clipper.step()
        if (epoch + 1) % config.validate_every == 0 or epoch + 1 == config.n_epochs:
            if config.training == "hwa":
                _calibrate(model, sampler, config)
            score = score_of(model)
            if score >= best:
                best = score
                save_checkpoint(config.path, model, _info(config, task, patients, score))
            progress.set_postfix(loss=f"{loss.item():.3f}", dice=f"{score:.3f}", best=f"{best:.3f}")
    return config.path


def _with_model_of(start: Checkpoint, config: TrainConfig) -> TrainConfig:
    info = start.info
    found = ModelConfig(info.model, info.options)
    if to_plain(config.model) not in map(to_plain, (ModelConfig(), ModelConfig(info.model), found)):
        raise ConfigError(
            f"{config.init} holds {info.model} with options {info.options}, but model says "
            f"{config.model.name} with options {config.model.options}; leave model out"
        )
    return replace(config, model=found)


def _check_output(path: Path) -> None:
    ensure_writable(path.parent)
    if path.is_dir():
        raise ConfigError(f"cannot write the checkpoint {path}: it is a folder; give --out a file")


def _check_hardware(config: TrainConfig) -> None:
    if config.training == "hwa" and config.hardware.rpu_config().mapping.learn_out_scaling:
        raise ConfigError(
            "checkpoints do not keep learned output scales yet; set hardware.learned_out_scale to "
            "none, or train with your own loop on the network that convert() gives"
        )


def _kept(path: Path, best: float) -> str:
    return (
        f"{path} holds the best state so far" if best > -math.inf else f"{path} was not written yet"
    )


def _load_task(config: TrainConfig) -> Task:
    task = config.task.load()
    for name, cases in (("training", task.train), ("validation", task.validation)):
        if not cases:
            raise DataError(f"task {task.name} has no {name} case; change task.shares")
    return task


def _patients_seen(task: Task, start: Checkpoint | None) -> tuple[str, ...]:
    """Patients of this training, and of the one that it starts from.

    Raises:
        LeakageError: the start has seen patients that this split keeps for testing.
    """
    seen = {case.patient_id for case in (*task.train, *task.validation)}
    if start:
        start.info.refuse_leakage(task, start.path)
        seen |= set(start.info.patients) if start.info.task == task.name else set()
    return tuple(sorted(seen))


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


def _calibrate(model: nn.Module, sampler: PatchSampler, config: TrainConfig) -> None:
    batches = -(-config.calibration.images // config.batch_size)
    images = (images for images, _ in islice(sampler.epoch(0), batches))
    calibrate(model, images, quantile=config.calibration.quantile)


def _fix_ranges(model: nn.Module) -> None:
    """Input ranges follow the data by calibration; their gradients would take memory and time."""
    for name, parameter in model.named_parameters():
        if name.endswith("input_range"):
            parameter.requires_grad_(False)


def _warm_up_and_cosine(steps: int) -> Callable[[int], float]:
    warm_up = max(1, steps // 20)

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))

    return factor


def _loss(task: Task) -> nn.Module:
    if task.out_channels == 1:
        return DiceCELoss(sigmoid=True, batch=True)
    return DiceCELoss(softmax=True, to_onehot_y=True, batch=True)


def _validation(task: Task, config: TrainConfig) -> Callable[[nn.Module], float]:
    """Mean Dice over validation cases and classes: digital, or on chips after a day."""
    samples = [task.read(case) for case in task.validation]

    def score(model: nn.Module) -> float:
        model.eval()
        if config.training == "digital":
            return _mean_dice(model, samples, task, config.batch_size)
        seeds = (derive_seed(config.seed, "validation", i) for i in range(config.validation_chips))
        readings = (Chip(model, seed=seed).at(DAY_S) for seed in seeds)
        return float(np.mean([_mean_dice(r, samples, task, config.batch_size) for r in readings]))

    return score


@torch.no_grad()
def _mean_dice(
    network: Callable[[Tensor], Tensor], samples: list[Sample], task: Task, batch_size: int
) -> float:
    scores = []
    for sample in samples:
        images = torch.from_numpy(sample.image)
        logits = predict_logits(network, images, window=task.window, batch_size=batch_size)
        predicted, label = to_classes(logits).numpy(), sample.label
        for index in range(1, len(task.classes) + 1):
            size = int((predicted == index).sum() + (label == index).sum())
            both = int(((predicted == index) & (label == index)).sum())
            scores.append(2 * both / size if size else math.nan)
    return float(np.nanmean(scores)) if not np.isnan(scores).all() else 0.0


def _info(
    config: TrainConfig, task: Task, patients: tuple[str, ...], score: float
) -> CheckpointInfo:
    return CheckpointInfo(
        model=config.model.name,
        options=config.model.options,
        in_channels=task.in_channels,
        out_channels=task.out_channels,
        spatial_dims=task.spatial_dims,
        training=config.training,
        task=task.name,
        classes=task.classes,
        patients=patients,
        window=task.window,
        hardware=asdict(config.hardware) if config.training == "hwa" else {},
        score=score,
        seed=config.seed,
    )
