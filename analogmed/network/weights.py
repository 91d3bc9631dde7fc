"""Weights of a network by name, as stored in files."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from analogmed.foundation.errors import CheckpointError
from analogmed.network.computed_weights import computed_weights, plain_name, wrappers_of
from analogmed.network.walk import evaluating

STATISTICS = ("running_mean", "running_var")
"""Last components of the names of running statistics."""
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def weights_of(network: nn.Module, names: Collection[str] = ()) -> dict[str, Tensor]:
    """Return the state dict on the CPU: one name per tensor, no two tensors in one storage.

    Args:
        network: network; ``torch.compile`` and parallel wrappers do not appear in the names.
        names: names of weights that the file must contain. If the network computes one of them, for
            instance after pruning, its current value replaces the tensors that it is computed from.
    """
    with evaluating(network), torch.no_grad():
        state = _plain_state(network, names)
    first = set(_first_names(state).values())
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
    first_names = _first_names(network.state_dict())
    network.load_state_dict({name: weights[first] for name, first in first_names.items()})


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
    own = {name: state[name] for name in set(_first_names(state).values())}
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


def _first_names(state: Mapping[str, Tensor]) -> dict[str, str]:
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
