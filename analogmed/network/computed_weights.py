"""Weight names of the plain network, without wrappers, pruning or parametrisations."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.optim.swa_utils import AveragedModel

_COMPILED, _WRAPPED = "_orig_mod", "module"
_PARALLEL = (nn.DataParallel, DistributedDataParallel, AveragedModel)


@dataclass(frozen=True)
class ComputedWeight:
    """A weight that a layer recomputes before each forward pass.

    Attributes:
        value: current value, after masking or normalisation.
        sources: names in the state dict from which the weight is computed; a name that ends in a
            dot denotes all names with this prefix.
    """

    value: Tensor
    sources: tuple[str, ...]

    def follows_from(self, name: str) -> bool:
        """Return whether a name of the state dict is one of the sources."""
        return any(
            name.startswith(source) if source.endswith(".") else name == source
            for source in self.sources
        )


def unwrapped(network: nn.Module) -> nn.Module:
    """Return the network inside ``torch.compile``, parallel and averaging wrappers."""
    inner = _inner_name(network)
    return network if inner is None else unwrapped(network.get_submodule(inner))


def wrappers_of(network: nn.Module) -> tuple[tuple[str, str], ...]:
    """Return the wrappers, outermost first: each with its prefix and that of its content."""
    return tuple(
        (_below(path, ""), f"{inner}.")
        for path, module in network.named_modules(remove_duplicate=False)
        if (inner := _inner_name(module)) is not None
    )


def plain_name(name: str, wrappers: tuple[tuple[str, str], ...]) -> str | None:
    """Return a name of the state dict without the prefixes of the wrappers.

    Args:
        name: name of a tensor.
        wrappers: wrappers as returned by :func:`wrappers_of`.

    Returns:
        the name; ``None`` for a tensor of a wrapper itself, such as a counter of averages.
    """
    for prefix, inner in reversed(wrappers):  # innermost first: outer prefixes stay valid
        if name.startswith(prefix):
            rest = name.removeprefix(prefix)
            if not rest.startswith(inner):
                return None
            name = prefix + rest.removeprefix(inner)
    return name


def computed_weights(network: nn.Module) -> dict[str, ComputedWeight]:
    """Return the weights computed by pruning, norms and parametrisations, by name.

    Args:
        network: network in evaluation mode, in which the norms do not update their estimates.
    """
    return {
        _below(path, name): ComputedWeight(
            value.detach(), tuple(_below(path, source) for source in sources)
        )
        for path, module in network.named_modules(remove_duplicate=False)
        for name, value, sources in _computed(module)
    }


def _computed(module: nn.Module) -> Iterator[tuple[str, Tensor, tuple[str, ...]]]:
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, BasePruningMethod):
            name = hook._tensor_name
            yield name, hook.apply_mask(module), (f"{name}_orig", f"{name}_mask")
        elif isinstance(hook, WeightNorm):
            name = hook.name
            yield name, hook.compute_weight(module), (f"{name}_g", f"{name}_v")
        elif isinstance(hook, SpectralNorm):
            name = hook.name
            value = hook.compute_weight(module, do_power_iteration=False)
            yield name, value, (f"{name}_orig", f"{name}_u", f"{name}_v")
    if parametrize.is_parametrized(module):
        assert isinstance(module.parametrizations, nn.ModuleDict)
        for name in module.parametrizations:
            yield name, getattr(module, name), (f"parametrizations.{name}.",)


def _inner_name(module: nn.Module) -> str | None:
    if _COMPILED in module._modules:
        return _COMPILED
    return _WRAPPED if isinstance(module, _PARALLEL) else None


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
