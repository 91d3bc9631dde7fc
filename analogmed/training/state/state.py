"""State of a training run on disk, from which an interrupted run resumes with the same results."""

import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from analogmed.execution.run_folder import WrittenFiles
from analogmed.foundation.errors import CheckpointError, ConfigError
from analogmed.foundation.files import file_digest, write_atomically
from analogmed.foundation.settings.difference import compare_settings, format_differences
from analogmed.training.settings import network_file
from analogmed.training.state.nested_tensors import read_nested, write_nested

MAY_DIFFER = ("out", "restart", "device", "loading.workers", "loading.cache_bytes")
"""Settings that a resumed run may change: its folder, device, and the loading of its data."""

NETWORKS = ("init", "loss.teacher")
"""Settings with the path of a network, which are compared by its content."""

STATES = "state-*.safetensors"
"""Pattern of the states of a run folder."""

_FORMAT = 1
_KEPT = 2
_NAME = re.compile(r"state-(\d{6,})\.safetensors")
_UNREADABLE = (SafetensorError, OSError, ValueError, KeyError, TypeError)


@dataclass(frozen=True)
class TrainingState:
    """Everything that a training run needs to resume.

    All random draws of a run have addresses, so that no generator state has to be stored.

    Attributes:
        epoch: number of completed epochs.
        model: state dict of the trained network: digital or analog, with input ranges, learned
            output scales and buffers.
        learner: state dict of optimizer, schedule and averages; nested tensors and numbers.
        history: log entries, one per epoch.
        config: the configuration as dictionaries, lists, strings and numbers.
        networks: SHA-256 of each checkpoint that a setting of :data:`NETWORKS` names, by that
            setting; ``""`` without one, and in older files.
        patients: patients by task and split; empty in older files.
    """

    epoch: int
    model: dict[str, Tensor]
    learner: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    networks: dict[str, str] = field(default_factory=dict)
    patients: dict[str, list[str]] = field(default_factory=dict)


def save_state(folder: Path | str, state: TrainingState) -> Path:
    """Write a state in one atomic step, then remove all but it and the previous one.

    States of later epochs are removed too: they are of a run that this one has replaced. Only
    states in the folder's list of written files are removed.

    Args:
        folder: run folder.
        state: state to write; nothing in it is changed.

    Returns:
        the file, ``state-NNNNNN.safetensors`` by epoch, after it has been flushed to disk.

    Raises:
        CheckpointError: the state cannot be written, for instance because the disk is full; earlier
            states are unchanged.
    """
    folder = Path(folder)
    path = folder / f"state-{state.epoch:06d}.safetensors"
    content = {"format": _FORMAT} | {f.name: getattr(state, f.name) for f in fields(state)}
    written = WrittenFiles(folder)
    try:
        written.record(path.name)
        write_atomically(path, lambda temporary: write_nested(temporary, content))
        _flush_names_to_disk(folder)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(_not_written(folder, error)) from error
    states = _states(folder)
    newest = states.index(path) + 1
    written.remove(*(s.name for s in states[: max(0, newest - _KEPT)] + states[newest:]))
    return path


def load_latest(folder: Path | str) -> TrainingState | None:
    """Read the newest undamaged state of a run folder.

    A damaged state is reported in a warning, and the previous one is used.

    Args:
        folder: run folder.

    Returns:
        the state, its tensors on the CPU; ``None`` if the folder contains none.

    Raises:
        CheckpointError: there are states, but all are damaged.
    """
    folder = Path(folder)
    damaged: list[str] = []
    for path in reversed(_states(folder)):
        try:
            state = _read(path)
        except _UNREADABLE as error:
            damaged.append(f"{path} ({error})")
            continue
        if damaged:
            warnings.warn(
                f"training state {', '.join(damaged)} is damaged; resuming from {path.name}, "
                f"after epoch {state.epoch}",
                stacklevel=2,
            )
        return state
    if damaged:
        raise CheckpointError(
            f"no training state can be read: {', '.join(damaged)}; remove these files, or give "
            "another --out, to train from the start"
        )
    return None


def remove_states(folder: Path | str) -> None:
    """Remove all states that runs have written into a folder, for a run that starts over there."""
    WrittenFiles(folder).remove(STATES)


def refuse_other_configuration(
    state: TrainingState,
    config: Mapping[str, Any],
    networks: Mapping[str, str],
    *,
    defaults: Mapping[str, Any],
) -> None:
    """Raise an error if a run is resumed with settings that would change its results.

    Settings in :data:`MAY_DIFFER` may differ, because results do not depend on the run folder or on
    the processes that load patches. On another device the run resumes, with different rounding. The
    network that a run starts from, and its teacher, may be at another path, but must be the same. A
    setting that did not exist when the run began counts as its default.

    Args:
        state: state to resume from.
        config: current settings, as ``to_plain`` returns them.
        networks: SHA-256 of the current checkpoints, as :func:`digests_of_networks` returns them.
        defaults: defaults of all settings, as ``to_plain`` returns them.

    Raises:
        ConfigError: lists each setting that differs, as ``name: old -> new``.
    """
    refused = compare_settings(
        state.config, config, defaults=defaults, may_differ=(*MAY_DIFFER, *NETWORKS)
    )
    for name in NETWORKS:
        before, now = state.networks.get(name, ""), networks.get(name, "")
        old, new = _path_of(state.config, name), _path_of(config, name)
        if not _is_same_network(old, new, before, now):
            refused[name] = _described(old, before), _described(new, now)
    if refused:
        raise ConfigError(
            f"cannot resume after epoch {state.epoch} with another configuration:\n"
            f"{format_differences(refused)}\n"
            "set these back to resume, or give another --out, or --restart true, to start again"
        )


def digests_of_networks(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of each checkpoint that a run reads, by its setting in :data:`NETWORKS`.

    Args:
        config: settings, as ``to_plain`` returns them.

    Returns:
        the digests; ``""`` where no checkpoint is named, or its file does not exist.
    """
    return {name: _digest_of_network(_path_of(config, name)) for name in NETWORKS}


def _digest_of_network(path: str | None) -> str:
    if path is None or not network_file(path).is_file():
        return ""
    return file_digest(network_file(path))


def _path_of(config: Mapping[str, Any], name: str) -> str | None:
    value: Any = config
    for key in name.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _is_same_network(old: str | None, new: str | None, before: str, now: str) -> bool:
    """Compare networks by digest, or by path where a digest is unknown."""
    if old is None or new is None:
        return old is new
    if before and now:
        return before == now
    return network_file(Path(old).resolve()) == network_file(Path(new).resolve())


def _described(path: str | None, digest: str) -> str:
    return f"{path or '(none)'}{f' (SHA-256 {digest[:12]})' if digest else ''}"


def _states(folder: Path) -> list[Path]:
    """Return the states of a run folder, the oldest first."""
    found = [path for path in folder.glob(STATES) if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.stem.removeprefix("state-")))


def _read(path: Path) -> TrainingState:
    content = read_nested(path)
    if content.pop("format") != _FORMAT:
        raise ValueError(f"it is of another format than {_FORMAT}")
    if "networks" not in content:  # written before the digests were in one mapping
        digests = (content.pop("start", ""), content.pop("teacher", ""))
        content["networks"] = dict(zip(NETWORKS, digests, strict=True))
    return TrainingState(**content)


def _flush_names_to_disk(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _not_written(folder: Path, error: Exception) -> str:
    newest = [path.name for path in _states(folder)[-1:]]
    kept = f"{newest[0]} is whole" if newest else "none was written before"
    return (
        f"cannot write the training state to {folder}: {error}; {kept}. Make room there, or move "
        "the folder to a larger disk and give it with --out; then give the same command again"
    )
