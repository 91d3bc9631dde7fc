"""The weights of a network by name, as files keep them."""

from aihwkit.simulator.parameters.enums import WeightRemapType
from torch import Tensor, nn

from analogmed.analog.aihwkit_training import tiles_of
from analogmed.errors import CheckpointError


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """State dict of a network on the CPU, with each tensor under its first name only."""
    state = network.state_dict()
    first = set(_first_names(state).values())
    return {name: state[name].detach().cpu().contiguous() for name in state if name in first}


def load_weights(network: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Copy weights into a network that has exactly these.

    Raises:
        CheckpointError: names what is missing, unexpected or of another shape; the network is
            left as it was.
    """
    state = network.state_dict()
    first_names = _first_names(state)
    own = {name: state[name] for name in set(first_names.values())}
    problems = [
        _listing("missing weights", own.keys() - weights.keys()),
        _listing("unexpected weights", weights.keys() - own.keys()),
        _listing(
            "weights of another shape",
            {
                f"{name} {tuple(weights[name].shape)} instead of {tuple(own[name].shape)}"
                for name in own.keys() & weights.keys()
                if own[name].shape != weights[name].shape
            },
        ),
    ]
    if any(problems):
        raise CheckpointError(f"{source} does not fit: {'; '.join(filter(None, problems))}")
    network.load_state_dict({name: weights[first] for name, first in first_names.items()})


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """All tensors of a network's state dict, those of aihwkit's tiles among them.

    To its tensors an aihwkit tile adds a dictionary of objects that only pickle writes: its
    configuration, and some of the same tensors once more.
    """
    return {name: t for name, t in network.state_dict().items() if isinstance(t, Tensor)}


def load_tensors(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put a network that trains where :func:`tensors_of` found it.

    After a step that maps the weights of an aihwkit tile anew, the tile divides gradients by its
    scales, which it keeps out of its state dict for that purpose; so it does here.
    """
    tiles = tiles_of(network)
    network.load_state_dict(tensors, strict=not tiles)
    for tile in tiles:
        if tile.rpu_config.remap.type is not WeightRemapType.NONE:
            tile.set_scales(tile.get_scales().clone())


def _first_names(state: dict[str, Tensor]) -> dict[str, str]:
    """For each name the first name of the same tensor; some networks register a layer twice."""
    first: dict[tuple[int, tuple[int, ...]], str] = {}
    return {
        name: first.setdefault((t.data_ptr() or id(t), tuple(t.shape)), name)
        for name, t in state.items()
    }


def _listing(what: str, names: set[str]) -> str:
    if not names:
        return ""
    shown = sorted(names)[:5]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"{what}: {', '.join(shown)}{more}"
