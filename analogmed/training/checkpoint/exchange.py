"""Checkpoints of weights from elsewhere, and weights of checkpoints for other programs."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from analogmed.data import Task
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.files import write_atomically
from analogmed.foundation.settings.paths import BUNDLE
from analogmed.models.settings import ModelConfig
from analogmed.network.weights import load_foreign_weights, read_weights
from analogmed.training.checkpoint.check import build_network, outline_of_network
from analogmed.training.checkpoint.checkpoint import Checkpoint, save_checkpoint
from analogmed.training.checkpoint.info import CheckpointInfo

PROGRAM = ".pt2"
"""Suffix of a file that contains the network itself, as torch.export writes it."""
FORMATS = (".safetensors", ".pt", ".pth", PROGRAM)
"""Suffixes of exported files."""


def import_checkpoint(
    path: Path,
    weights: Path,
    *,
    task: Task,
    model: ModelConfig,
    patients: Iterable[str],
    expected_score: float | None = None,
) -> CheckpointInfo:
    """Write the checkpoint of a network that was trained elsewhere.

    The network runs once on noise, so that probabilities or masks in place of logits are detected.

    Args:
        path: checkpoint file to write, ``.safetensors``.
        weights: state dict in a file of torch or safetensors, or folder of a MONAI bundle.
        task: data as the network reads them.
        model: network and its options; for a bundle that of the bundle, and not used.
        patients: patients that training or selection has seen, perhaps none.
        expected_score: digital score by the primary metric of the task, if known.

    Returns:
        the description in the checkpoint.

    Raises:
        CheckpointError: the weights cannot be read without executing code, or do not fit the
            network.
        ConfigError: the network or an option is unknown, or its output does not fit the task.
    """
    if weights.is_dir():
        model = ModelConfig(f"{BUNDLE}{weights}", {"pretrained": False})
    elif path.resolve() == weights.resolve():
        raise ConfigError(f"out: expected another file than that of the weights, got {path}")
    model = model.for_window(task.window)
    info = CheckpointInfo.of_task(
        task, model.name, patients=patients, expected_score=expected_score, options=model.options
    )
    network = _trained(info, weights)
    probe = task.kind.probe(
        f"{weights} ({model.name})", task.in_channels, len(task.classes), task.window
    )
    probe.check(network.eval())
    save_checkpoint(path, network, info)
    return info


def _trained(info: CheckpointInfo, weights: Path) -> nn.Module:
    if weights.is_dir():
        return build_network(replace(info, options={"pretrained": True}))
    state = read_weights(weights)
    outline_of_network(info, sum(t.numel() for t in state.values()), str(weights))
    network = build_network(info)
    built_for = f"channels {', '.join(info.channels)}, classes {', '.join(info.classes)}"
    load_foreign_weights(network, state, f"{weights}: {info.model} for the task ({built_for})")
    return network


def export_weights(path: Path, checkpoint: Checkpoint) -> None:
    """Write the network of a checkpoint for programs without analogmed.

    Learned output scales are multiplied into the weights. Input ranges of converters are left out.

    Args:
        path: file to write: ``.safetensors``, or ``.pt`` and ``.pth`` of ``torch.save``, with the
            state dict of the plain network; or ``.pt2`` with the network itself, for images of the
            size of its window and any number of them, which ``torch.export.load`` reads.
        checkpoint: the trained network.

    Raises:
        ConfigError: another suffix, a checkpoint without window, or a network that torch.export
            does not support.
    """
    if path.suffix not in FORMATS:
        raise ConfigError(f"out: expected a file with one of {', '.join(FORMATS)}, got {path}")
    if path.resolve() == checkpoint.path.resolve():
        raise ConfigError(f"out: expected another file than the checkpoint, got {path}")
    if path.suffix == PROGRAM:
        write_atomically(path, lambda file: torch.export.save(_program(checkpoint), file))
        return
    state = {
        name: tensor.detach().clone().contiguous()  # tied weights take a tensor each
        for name, tensor in checkpoint.network.state_dict().items()
    }
    if path.suffix == ".safetensors":
        write_atomically(path, lambda file: save_file(state, file, metadata={"format": "pt"}))
    else:
        write_atomically(path, lambda file: torch.save(state, file))


def _program(checkpoint: Checkpoint) -> torch.export.ExportedProgram:
    info = checkpoint.info
    if not info.window:
        raise ConfigError(f"{checkpoint.path}: it has no window; expected out .safetensors or .pt")
    images = torch.zeros(2, info.in_channels, *info.window)
    batch = torch.export.Dim("batch", min=1)
    try:
        return torch.export.export(checkpoint.network, (images,), dynamic_shapes=({0: batch},))
    except Exception as error:  # of the network's own code, or of what torch cannot trace
        raise ConfigError(
            f"{checkpoint.path}: torch.export does not support the network {info.model}: "
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}. Write "
            "its weights, with out .safetensors or .pt."
        ) from error
