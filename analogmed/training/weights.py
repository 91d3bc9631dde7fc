"""The weights of a network by name, as files keep them."""

from torch import Tensor, nn

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
