"""Selection of the layers that can be mapped onto tiles, with reasons for all others."""

from collections.abc import Collection, Iterable
from fnmatch import fnmatch

from torch import nn
from torch.nn.utils import parametrize

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.text import nearest
from analogmed.network.layers.digital_product import DigitalProduct
from analogmed.network.layers.matrix import MAPPED

ASKED_FOR = "asked for"
"""Reason of a layer that the settings or the network request to be digital."""

STAYS_DIGITAL = "stays_digital"
"""Name of the attribute by which a network marks one of its layers as digital."""

RECURRENT = (nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell)
"""Recurrent layers of torch that conversion replaces by Linear layers."""

_OTHER_PRODUCTS = (
    nn.MultiheadAttention,
    nn.Bilinear,
    nn.RNNBase,
    nn.RNNCellBase,
    DigitalProduct,
)
_OPAQUE = (nn.modules.linear.NonDynamicallyQuantizableLinear,)  # its weight is read from outside
_METHODS = ("forward", "_conv_forward", "_output_padding", "_call_impl", "_wrapped_call_impl")
_PARAMETRISED = "its weight is parametrised; remove the parametrisation first"
_COMPUTED = ("_orig", "_g", "_v")  # names of pruned and normalised weights
_NO_PARAMETER = (
    "its weight is no parameter: a hook computes it; make it one first with prune.remove, "
    "remove_weight_norm or remove_spectral_norm of torch.nn.utils"
)


def digital_reason(name: str, layer: nn.Module, digital: tuple[str, ...] = ()) -> str | None:
    """Return why a layer with a weight product stays digital; ``None`` if it can be analog.

    ``convert`` and ``map_tiles`` share this rule.

    Args:
        name: full name of the layer in the network.
        layer: layer to classify.
        digital: names or patterns of layers and blocks that stay digital.
    """
    if getattr(layer, STAYS_DIGITAL, False) or is_named(name, digital):
        return ASKED_FOR
    if isinstance(layer, DigitalProduct):
        return layer.reason
    if isinstance(layer, RECURRENT):
        return _recurrent_reason(layer)
    if isinstance(layer, _OTHER_PRODUCTS):
        return f"{type(layer).__name__} has no analog counterpart"
    base = mapped_base(layer)
    if base is None:
        return "not a layer that multiplies a weight"
    if parametrize.is_parametrized(layer):
        return _PARAMETRISED
    if getattr(layer, "weight", None) is None or isinstance(
        layer.weight, nn.UninitializedParameter
    ):
        return "its weight is not initialised"
    if not isinstance(layer.weight, nn.Parameter):
        return _NO_PARAMETER
    return _other_computation(layer, base)


def _recurrent_reason(layer: nn.Module) -> str | None:
    if parametrize.is_parametrized(layer):
        return _PARAMETRISED
    if any(key.startswith("weight_") and key.endswith(_COMPUTED) for key in layer._parameters):
        return _NO_PARAMETER
    base = next(base for base in RECURRENT if isinstance(layer, base))
    other = _other_computation(layer, base)
    if other is None and type(layer) is not base:
        return _SUBCLASS.format(kind=type(layer).__name__, base=base.__name__)
    return other


def multiplies_weight(layer: nn.Module) -> bool:
    """Return whether analog coverage counts a layer."""
    return mapped_base(layer) is not None or isinstance(layer, _OTHER_PRODUCTS)


def mapped_base(layer: nn.Module) -> type[nn.Module] | None:
    """Return the base class of a layer in ``MAPPED``, if any."""
    return next((base for base in MAPPED if isinstance(layer, base)), None)


def _other_computation(layer: nn.Module, base: type[nn.Module]) -> str | None:
    """Return the reason if a layer computes something else than its torch base class."""
    own = [name for name in _METHODS if name in vars(layer)]
    if own:
        return (
            f"its {own[0]} was replaced on the instance; remove the replacement, or override it in "
            "a class"
        )
    kind = type(layer)
    if kind.__call__ is not nn.Module.__call__ or kind in _OPAQUE:
        return _COMPUTES_OTHER.format(kind=kind.__name__, base=base.__name__)
    if any(getattr(kind, name, None) is not getattr(base, name, None) for name in _METHODS):
        return _COMPUTES_OTHER.format(kind=kind.__name__, base=base.__name__)
    return None


_COMPUTES_OTHER = "{kind} does not compute what torch's {base} computes"
_SUBCLASS = (
    "{kind} is a subclass of nn.{base}, whose own attributes would be lost; use nn.{base} as a "
    "part of it to map it onto tiles"
)


def is_named(layer: str, patterns: Collection[str]) -> bool:
    """Return whether a name or pattern matches a layer or a block that contains it.

    Args:
        layer: full name of the layer in the network.
        patterns: names or :mod:`fnmatch` patterns.

    Example:
        >>> [is_named("encoder1.conv1", [each]) for each in ("encoder1", "*.conv1", "conv1")]
        [True, True, False]
    """
    parts = layer.split(".")
    blocks = [".".join(parts[: depth + 1]) for depth in range(len(parts))]
    return any(fnmatch(block, pattern) for block in blocks for pattern in patterns)


def means_any(pattern: str, names: Iterable[str]) -> bool:
    """Return whether a name or pattern matches one of these layers and blocks."""
    return any(fnmatch(name, pattern) for name in names)


def checked_patterns(setting: str, given: Iterable[str] | str) -> tuple[str, ...]:
    """Return names or patterns of layers as a tuple; a text is one of them.

    Raises:
        ConfigError: they are no texts.
    """
    listed = (given,) if isinstance(given, str) or not isinstance(given, Iterable) else tuple(given)
    if not all(isinstance(pattern, str) for pattern in listed):
        raise ConfigError(
            f"{setting}: expected names or patterns of layers, such as ['head*'], got {given!r}. "
            "Leave it out for none."
        )
    return listed


def refuse_unknown(setting: str, patterns: Iterable[str], names: Collection[str]) -> None:
    """Raise ConfigError for a name or pattern that matches no layer of a model.

    Args:
        setting: name of the setting with the patterns, for the message.
        patterns: names or :mod:`fnmatch` patterns.
        names: names of all layers and blocks of the model.

    Raises:
        ConfigError: names the pattern and the nearest layer.
    """
    for pattern in patterns:
        if not means_any(pattern, names):
            raise ConfigError(
                f"{setting}: no layer of the model is called '{pattern}'; "
                f"{nearest(pattern, filter(None, names))}"
            )
