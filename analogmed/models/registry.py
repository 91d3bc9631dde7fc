"""Networks by name: built-in networks, plugins, factories and MONAI bundles."""

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.registry import (
    Registry,
    call_plugin,
    home_of,
    refuse_unknown_options,
)
from analogmed.foundation.settings.checks import require_at_least_one, require_whole
from analogmed.foundation.settings.forms import checks_arguments
from analogmed.foundation.settings.paths import BUNDLE
from analogmed.foundation.text import nearest

if TYPE_CHECKING:
    from torch import nn

PLUGIN_GROUP = "analogmed.models"
_BUILT_IN = {
    "attention_unet": "analogmed.models.monai_networks:attention_unet",
    "convlstm_cfc": "analogmed.models.sequences.liquid_networks:convlstm_cfc",
    "convlstm_ltc": "analogmed.models.sequences.liquid_networks:convlstm_ltc",
    "densenet121": "analogmed.models.classification.networks:densenet121",
    "dynunet": "analogmed.models.monai_networks:dynunet",
    "efficientnet": "analogmed.models.classification.networks:efficientnet",
    "light_classifier": "analogmed.models.classification.networks:LightClassifier",
    "med_nas_bench": "analogmed.models.med_nas_bench:MedNasBench",
    "region_of_interest": ("analogmed.models.classification.region_of_interest:RegionOfInterest"),
    "s4d": "analogmed.models.sequences.s4d_network:S4D",
    "s4d_ncp": "analogmed.models.sequences.liquid_networks:S4DNcp",
    "spiking_convlstm_cfc": "analogmed.models.sequences.spiking:spiking_convlstm_cfc",
    "subnet": "analogmed.models.subnet:Subnet",
    "swin_unetr": "analogmed.models.monai_networks:swin_unetr",
    "unet": "analogmed.models.unet:UNet",
    "unetpp": "analogmed.models.monai_networks:unetpp",
}
_CONTRACT = ("in_channels", "out_channels", "spatial_dims")


@checks_arguments
def build_model(
    name: str, *, in_channels: int, out_channels: int, spatial_dims: int = 2, **options: Any
) -> "nn.Module":
    """Build a network by name; its forward pass returns logits, of masks or of whole images.

    Args:
        name: one of :func:`model_names`; ``"package.module:factory"``, called with the arguments
            below; or ``"bundle:/path/to/folder"``, the network of a MONAI bundle, whose option
            ``pretrained`` (default true) loads its weights.
        in_channels: number of image channels.
        out_channels: number of logits per position, or per image or signal for networks that
            classify these.
        spatial_dims: 1, 2 or 3; not every network supports all three.
        **options: options of the network; see :func:`describe_model`.

    Returns:
        a plain torch network, in training mode, float32.

    Raises:
        ConfigError: the name, an option or a value is unknown or invalid.
        SecurityError: the configuration of a bundle requests code execution.
        CheckpointError: the weights of a bundle are damaged or do not fit its network.
    """
    from torch import nn  # takes a second, which names and options do not need

    require_at_least_one("in_channels", in_channels)
    require_at_least_one("out_channels", out_channels)
    require_whole("spatial_dims", spatial_dims, least=1, most=3)
    factory = _factory(name)
    _check_options(name, factory, options)
    given = {"spatial_dims": spatial_dims, **options}
    return call_plugin(
        factory,
        (),
        {"in_channels": in_channels, "out_channels": out_channels, **given},
        what=f"model {_described(name)} cannot be built with {given}",
        expected=_EXPECTED,
        returns=nn.Module,
    )


def model_names() -> tuple[str, ...]:
    """Return the names of the built-in networks and of installed plugins, sorted."""
    return _MODELS.names()


def spelled_model(name: str) -> str:
    """Return the name of a network that a text spells in any case; others are returned unchanged.

    Factories, bundles and unknown names are unchanged.
    """
    is_text = isinstance(name, str)
    return _MODELS.spelled(name) if is_text and ":" not in name else name


def check_model_name(name: str) -> None:
    """Raise ConfigError if a name is unknown; factories and bundles are not imported."""
    if ":" not in name:
        _MODELS.check(name)


def describe_model(name: str) -> str:
    """Return the description and options of a network: the documentation of its factory."""
    return inspect.getdoc(_factory(name)) or f"{name}: its factory has no documentation"


def model_options(name: str) -> dict[str, Any]:
    """Return the options of a network with defaults (``inspect.Parameter.empty`` without one)."""
    parameters = inspect.signature(_factory(name)).parameters.values()
    return {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.name not in _CONTRACT and parameter.kind not in _VARIADIC
    }


def follows_window(name: str) -> bool:
    """Return whether the option ``window`` of a network is the window of the task by default."""
    return bool(getattr(_factory(name), "window_of_task", False))


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def required_divisor(name: str, *, spatial_dims: int = 2, **options: Any) -> tuple[int, ...] | None:
    """Return the required divisors of the spatial size of a network's input.

    Args:
        name: as in :func:`build_model`.
        spatial_dims: 1, 2 or 3.
        **options: options of the network, as in :func:`build_model`.

    Returns:
        one number per spatial axis, or ``None`` for a plugin, factory or bundle that declares none.

    Raises:
        ConfigError: the name or an option is unknown.
    """
    require_whole("spatial_dims", spatial_dims, least=1, most=3)
    factory = _factory(name)
    _check_options(name, factory, options)
    divisor = getattr(factory, "required_divisor", None)
    if callable(divisor):
        divisor = divisor(spatial_dims=spatial_dims, **options)
    if divisor is None:
        return None
    return (divisor,) * spatial_dims if isinstance(divisor, int) else tuple(divisor)


_SYNONYMS = {
    "nnunet": "dynunet",
    "nnunetv2": "dynunet",
    "unetplusplus": "unetpp",
    "nestedunet": "unetpp",
}
_EXPECTED = "a factory (in_channels, out_channels, spatial_dims) that returns a torch module"
_MODELS: Registry[Callable[..., Any]] = Registry(
    "model", _BUILT_IN, group=PLUGIN_GROUP, expected=_EXPECTED, synonyms=_SYNONYMS
)


def _factory(name: str) -> Callable[..., Any]:
    if not isinstance(name, str):
        raise ConfigError(f"name: expected the name of a network, got {type(name).__name__}")
    if name.startswith(BUNDLE):
        return _bundle_factory(name.removeprefix(BUNDLE))
    if ":" in name:
        return _import_factory(name)
    return _MODELS.get(name)


def _described(name: str) -> str:
    """Return the name of a network, with the package if it is a plugin."""
    point = None if ":" in name else _MODELS.plugin(name)
    return f"'{name}' ({home_of(point)})" if point else f"'{name}'"


def _import_factory(path: str) -> Callable[..., Any]:
    module_name, _, attribute = path.partition(":")
    try:
        module = import_module(module_name)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"model '{path}': cannot import '{module_name}': {error}. Run the command in the "
            f"folder of {module_name.partition('.')[0]}, or add this folder to PYTHONPATH."
        ) from error
    if not hasattr(module, attribute):
        raise ConfigError(
            f"model '{path}': '{module_name}' has no '{attribute}'; "
            f"{nearest(attribute, (key for key in vars(module) if not key.startswith('_')))}"
        )
    return _callable(path, getattr(module, attribute))


def _callable(name: str, factory: object) -> Callable[..., Any]:
    if not callable(factory):
        raise ConfigError(f"model '{name}': expected a factory to call, found {type(factory)}")
    return factory


def _bundle_factory(folder: str) -> Callable[..., Any]:
    from analogmed.models.bundle import build_bundle_network

    def bundle_network(
        in_channels: int, out_channels: int, spatial_dims: int, pretrained: bool = True
    ) -> "nn.Module":
        """Return the network of a MONAI bundle; ``pretrained`` loads its weights."""
        return build_bundle_network(
            folder,
            in_channels=in_channels,
            out_channels=out_channels,
            spatial_dims=spatial_dims,
            pretrained=pretrained,
        )

    return bundle_network


def _check_options(name: str, factory: Callable[..., Any], options: dict[str, Any]) -> None:
    parameters = inspect.signature(factory).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return
    accepted = [p.name for p in parameters if p.name not in _CONTRACT and p.kind not in _VARIADIC]
    refuse_unknown_options(f"model '{name}'", options, accepted)
