"""Weights of a network by name, as stored in files, also those of other programs."""

import pickle
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from analogmed.foundation.errors import CheckpointError
from analogmed.network.computed_weights import computed_weights, plain_name, wrappers_of
from analogmed.network.walk import evaluating

STATISTICS = ("running_mean", "running_var")
"""Last components of the names of running statistics."""
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_WRAPPERS = (
    "state_dict",
    "model",
    "model_state_dict",
    "model_state",
    "network",
    "network_weights",
    "net",
    "weights",
)
"""Keys under which training programs store a state dict, next to the state of the optimizer."""
_COUNTER = "num_batches_tracked"


def weights_of(network: nn.Module, names: Collection[str] = ()) -> dict[str, Tensor]:
    """Return the state dict on the CPU: one name per tensor, no two tensors in one storage.

    Args:
        network: network; ``torch.compile`` and parallel wrappers do not appear in the names.
        names: names of weights that the file must contain. If the network computes one of them, for
            instance after pruning, its current value replaces the tensors that it is computed from.
    """
    with evaluating(network), torch.no_grad():
        state = _plain_state(network, names)
    first = set(first_names(state).values())
    storages: set[int] = set()
    weights = {}
    for name in state:
        if name in first:
            weight = state[name].detach().cpu().contiguous()
            weights[name] = weight.clone() if _storage(weight) in storages else weight
            storages.add(_storage(weight))
    return weights


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Copy weights into a network whose names and shapes match exactly.

    Raises:
        CheckpointError: the weights do not fit, see :func:`check_weights`; the network is left
            unchanged.
    """
    check_weights(network, weights, source)
    names = first_names(network.state_dict())
    network.load_state_dict({name: weights[first] for name, first in names.items()})


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a file of torch or safetensors.

    A file of torch is loaded with ``weights_only=True``. The state dict may be in a dictionary, as
    training programs store it.

    Args:
        path: file of ``torch.save``, or ``.safetensors``.

    Raises:
        CheckpointError: the file is missing or damaged, contains other objects than tensors and
            plain values, or no state dict.
    """
    if not path.is_file():
        raise CheckpointError(
            f"{path}: there is no such file; expected a state dict of torch, or safetensors"
        )
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: damaged, or holds more than weights{_global_in(error)}, and is refused, "
            "since loading it would run code. Save the weights alone, with "
            "torch.save(network.state_dict(), path)."
        ) from error
    except Exception as error:  # bytes that are no pickle can raise any
        is_clear = isinstance(
            error, OSError | RuntimeError | EOFError | ValueError | SafetensorError
        )
        reason = f": {_first_sentence(error)}" if is_clear else ""
        raise CheckpointError(
            f"{path}: damaged, or no state dict{reason}. Save it again with "
            "torch.save(network.state_dict(), path)."
        ) from error
    return _state_dict(state, path)


def load_foreign_weights(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Copy weights into a network; a prefix of all names, such as ``module.``, may differ.

    Counters of batches, which older versions of torch did not store, may be missing.

    Raises:
        CheckpointError: the weights do not fit; names those that are missing or unexpected, or have
            another shape.
    """
    state = network.state_dict()
    first = first_names(state)
    named = renamed(weights, state)
    named = {name: weight for name, weight in named.items() if first.get(name, name) == name}
    counters = {name for name in first.values() if name.endswith(_COUNTER)} - named.keys()
    named |= {name: torch.zeros_like(state[name]) for name in counters}
    load_weights(network, named, source)


def renamed(weights: Mapping[str, Tensor], known: Iterable[str]) -> dict[str, Tensor]:
    """Return weights whose names have the prefix of the known names in place of their own.

    Args:
        weights: tensors by name.
        known: names of the network.

    Returns:
        the weights with the names, among those without one or more parts that all of them start
        with, that most known names equal, which may also start with a part of their own.
    """
    known = set(known)
    best: tuple[int, dict[str, Tensor]] = (-1, dict(weights))
    for own in _prefixes(known):
        for other in _prefixes(weights):
            names = {name: own + name.removeprefix(other) for name in weights}
            equal = len(known.intersection(names.values()))
            if equal > best[0]:
                best = equal, {names[name]: weight for name, weight in weights.items()}
    return best[1]


def check_weights(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Compare weights with those of a network, without reading the values of the network.

    Args:
        network: network, or its outline without memory for the weights.
        weights: tensors by name.
        source: start of the message, for instance ``"checkpoint net.safetensors"``.

    Raises:
        CheckpointError: names tensors that are missing, unexpected, of another shape or of another
            kind of number (floating-point, integer, complex).
    """
    state = network.state_dict()
    own = {name: state[name] for name in set(first_names(state).values())}
    common = sorted(own.keys() & weights.keys())
    problems = [
        _listing("missing weights", own.keys() - weights.keys()),
        _listing("unexpected weights", weights.keys() - own.keys()),
        _listing(
            "weights of another shape",
            {
                f"{name} {tuple(weights[name].shape)} instead of {tuple(own[name].shape)}"
                for name in common
                if own[name].shape != weights[name].shape
            },
        ),
        _listing(
            "weights of another kind of number",
            {
                f"{name} {weights[name].dtype} instead of {own[name].dtype}"
                for name in common
                if kind_of(own[name]) != kind_of(weights[name])
            },
        ),
    ]
    if any(problems):
        raise CheckpointError(f"{source} does not fit: {'; '.join(filter(None, problems))}")


def refuse_not_finite(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Raise if parameters or running statistics contain NaN or Inf, or variances are negative.

    Other buffers may contain Inf, for instance an attention mask.

    Args:
        network: network that defines which of the weights are parameters.
        weights: weights of the network by name.
        source: start of the message.

    Raises:
        CheckpointError: names the weights.
    """
    parameters = dict(network.named_parameters(remove_duplicate=False))
    wrong = {
        name
        for name, weight in weights.items()
        if (name in parameters or name.endswith(STATISTICS)) and not torch.isfinite(weight).all()
    }
    if wrong:
        raise CheckpointError(
            f"{source}: {_listing('NaN or Inf in the weights', wrong)}; expected finite values"
        )
    negative = {n for n, w in weights.items() if n.endswith("running_var") and (w < 0).any()}
    if negative:
        raise CheckpointError(
            f"{source}: {_listing('negative values in running variances', negative)}; expected "
            "values of 0 or more. Use another copy of the file."
        )


def _plain_state(network: nn.Module, names: Collection[str]) -> dict[str, Tensor]:
    wrappers = wrappers_of(network)
    state: dict[str, Tensor] = network.state_dict()
    for name, computed in computed_weights(network).items():
        if plain_name(name, wrappers) in names and name not in state:
            state = {key: t for key, t in state.items() if not computed.follows_from(key)}
            state[name] = computed.value
    return {
        plain: tensor
        for name, tensor in state.items()
        if (plain := plain_name(name, wrappers)) is not None
    }


def first_names(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the first name of each tensor, by name; a layer may be registered twice."""
    first: dict[tuple[object, ...], str] = {}
    return {
        name: first.setdefault(
            (_storage(t), t.storage_offset(), tuple(t.shape), t.stride(), t.dtype), name
        )
        for name, t in state.items()
    }


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def kind_of(tensor: Tensor) -> str:
    """Return the kind of number: floating-point, integer, complex, or the name of an 8-bit type."""
    if tensor.dtype in _FLOATS:
        return "floating-point"
    if tensor.is_complex():
        return "complex"
    return str(tensor.dtype) if tensor.is_floating_point() else "integer"


def _listing(what: str, names: Collection[str]) -> str:
    if not names:
        return ""
    shown = sorted(names)[:5]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"{what}: {', '.join(shown)}{more}"


def _prefixes(names: Iterable[str]) -> list[str]:
    """Return the dotted prefixes that all names have, the empty one first."""
    names, prefixes = list(names), [""]
    while names:
        part, dot, _ = names[0].removeprefix(prefixes[-1]).partition(".")
        longer = prefixes[-1] + part + dot
        if not dot or not all(name.startswith(longer) for name in names):
            break
        prefixes.append(longer)
    return prefixes


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path}: expected a state dict of tensors, found {type(content).__name__}"
        )
    others = [name for name, value in content.items() if not isinstance(value, Tensor)]
    if others or not all(isinstance(name, str) for name in content):
        raise CheckpointError(
            f"{path}: expected a state dict of tensors, or one of the keys "
            f"{', '.join(_WRAPPERS)} with it, found {', '.join(map(str, content))[:200]}"
        )
    if not content:
        raise CheckpointError(f"{path}: expected a state dict of tensors, found an empty one")
    return content


def _global_in(error: Exception) -> str:
    """Return the object that a pickle would import, in parentheses, if torch names it."""
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    return f" ({found[1]})" if found else ""


def _first_sentence(error: Exception) -> str:
    return str(error).split("\n")[0].split(". ")[0].rstrip(".") or type(error).__name__
