"""The network of a MONAI bundle, loaded without executing code from the bundle."""

import inspect
import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from analogmed.foundation.errors import CheckpointError, ConfigError, SecurityError
from analogmed.foundation.strict_yaml import read_yaml
from analogmed.models.outline import outline_of
from analogmed.network.weights import read_weights

_CONFIGS = ("inference.json", "inference.yaml", "inference.yml")
_WEIGHTS = ("model.safetensors", "model.pt")
_NAMESPACES = ("monai.networks.nets", "torch.nn")
_PRETRAINED = re.compile("^pre_?trained", re.I)
_REACHES_OUT = re.compile(
    r"^(pre_?trained|progress$|download|cache)"
    r"|(^|_)(url|path|file|filename|dir|repo_id|weights)$",
    re.I,
)
_SEPARATOR = re.compile(r"::|#")
_MOST_VALUES = 10_000
MOST_VALUES = 2**28
"""Largest number of values in a network that is built without the weights of its bundle."""


def build_bundle_network(
    folder: str | Path,
    *,
    in_channels: int,
    out_channels: int,
    spatial_dims: int,
    pretrained: bool = True,
) -> nn.Module:
    """Build the ``network_def`` of a bundle's inference configuration.

    MONAI's own parser evaluates each ``$`` expression as Python. Here, ``network_def`` may contain
    plain values, references (``@id``) to plain values, and classes of ``monai.networks.nets`` and
    ``torch.nn``. Arguments that access the Internet or the disk raise. The rest of the
    configuration is ignored, except that ``postprocessing`` must not produce overlapping masks.

    A bundle with two logits for one class is reduced to their difference, whose sigmoid is the
    softmax of the two.

    Args:
        folder: bundle folder, with ``configs/inference.json`` (or yaml) and ``models/model.pt``
            (or safetensors).
        in_channels: number of input channels; must agree with the bundle if the bundle defines it.
        out_channels: number of logits; must agree likewise.
        spatial_dims: number of spatial dimensions; must agree likewise.
        pretrained: whether to load the weights.

    Returns:
        the network, in training mode.

    Raises:
        ConfigError: the configuration is missing, damaged, or does not fit the arguments.
        SecurityError: the configuration requests code execution, files, or a class outside the two
            namespaces.
        CheckpointError: the weights are missing, damaged, or do not fit the network.
    """
    config_path = find_config(Path(folder))
    config = read_yaml(config_path)
    if "network_def" not in config:
        raise ConfigError(f"{config_path}: expected a 'network_def', found none")
    network_def = _References(config, config_path).resolved("network_def")
    expected = {
        "in_channels": in_channels,
        "out_channels": out_channels,
        "spatial_dims": spatial_dims,
    }
    logits = _check_contract(network_def, expected, config_path)
    _refuse_overlapping_masks(config, logits, config_path)
    network = _built(network_def, config_path, Path(folder), pretrained)
    return _Difference(network) if (out_channels, logits) == (1, 2) else network


class _Difference(nn.Module):
    """One logit from the two of a softmax: the softmax of b over (a, b) is the sigmoid of b - a."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, shape (B, 1, *spatial)."""
        logits: Tensor = self.network(images)
        return logits[:, 1:2] - logits[:, 0:1]


def _built(network_def: Any, path: Path, folder: Path, pretrained: bool) -> nn.Module:
    """Build the network after comparing its outline with its weights."""

    def build() -> nn.Module:
        network: nn.Module = _instantiate(network_def, "network_def", path)
        return network

    if not pretrained:
        _refuse_large(outline_of(build, most_values=MOST_VALUES), path)
        return build()
    weights_path = _find_weights(folder)
    state = read_weights(weights_path)
    values = sum(weight.numel() for weight in state.values())
    _check_weights(outline_of(build, most_values=2 * values + 2**22), state, weights_path)
    network = build()
    network.load_state_dict(state)
    return network


def _refuse_large(outline: nn.Module, path: Path) -> None:
    values = sum(weight.numel() for weight in outline.state_dict().values())
    if values > MOST_VALUES:
        raise ConfigError(
            f"{path}: the network has {values:,} values; expected at most {MOST_VALUES:,} "
            "(MOST_VALUES). Correct its channels."
        )


def find_config(folder: Path) -> Path:
    """Return the file of a bundle's inference configuration.

    Raises:
        ConfigError: the bundle has none.
    """
    for name in _CONFIGS:
        if (path := folder / "configs" / name).is_file():
            return path
    raise ConfigError(
        f"bundle {folder}: expected configs/{_CONFIGS[0]} (or .yaml), found none; give the folder "
        "that holds 'configs' and 'models'"
    )


class _References:
    """Resolver of the references of a configuration; anything that MONAI would evaluate raises.

    Args:
        config: complete configuration.
        path: path of the configuration file, for messages.
    """

    def __init__(self, config: Mapping[str, Any], path: Path) -> None:
        self._config, self._path = config, path
        self._followed: list[str] = []
        self._values = 0

    def resolved(self, key: str) -> Any:
        """Return the value of a configuration key with all references resolved."""
        try:
            return self._value(self._config[key], key)
        except RecursionError as error:
            raise ConfigError(
                f"{self._path}: '{key}' is nested too deep, or holds itself; write its values out"
            ) from error

    def _value(self, value: Any, key: str) -> Any:
        self._values += 1
        if self._values > _MOST_VALUES:
            raise ConfigError(
                f"{self._path}: with its references followed, '{key.partition('::')[0]}' has more "
                f"than {_MOST_VALUES} values, which no network needs; write its values out"
            )
        if isinstance(value, dict):
            return {k: self._value(v, f"{key}::{k}") for k, v in value.items()}
        if isinstance(value, list):
            return [self._value(v, f"{key}::{i}") for i, v in enumerate(value)]
        if not isinstance(value, str) or not value.startswith(("$", "%", "@")):
            return value
        if value.startswith("$"):
            raise SecurityError(
                f"{self._path}: '{key}' is an expression that would run as code ({value!r}); write "
                "its value in its place"
            )
        if value.startswith("%"):
            raise SecurityError(
                f"{self._path}: '{key}' takes in another file ({value!r}); write its value in its "
                "place"
            )
        return self._target(value, key)

    def _target(self, reference: str, key: str) -> Any:
        if reference in self._followed:
            circle = self._followed[self._followed.index(reference) :]
            raise ConfigError(
                f"{self._path}: '{key}' refers to itself through {reference!r} "
                f"({' -> '.join([*circle, reference])}); write its value in its place"
            )
        self._followed.append(reference)
        value = self._value(self._looked_up(reference, key), key)
        self._followed.pop()
        return value

    def _looked_up(self, reference: str, key: str) -> Any:
        target: Any = self._config
        for part in _SEPARATOR.split(reference.removeprefix("@")):
            if isinstance(target, list) and part.isdecimal() and int(part) < len(target):
                target = target[int(part)]
            elif isinstance(target, dict) and part in target:
                target = target[part]
            else:
                raise ConfigError(
                    f"{self._path}: '{key}' refers to {reference!r}, which is not there"
                )
        return target


def _check_contract(network_def: Any, expected: Mapping[str, int], path: Path) -> int:
    """Compare the expected values with the bundle, or with the defaults of its network class.

    Returns:
        number of logits per position.
    """
    if not isinstance(network_def, dict) or "_target_" not in network_def:
        raise ConfigError(f"{path}: 'network_def' has no '_target_' that names a network")
    network_class = _find_class(network_def["_target_"], "network_def::_target_", path)
    parameters = inspect.signature(network_class).parameters
    logits = expected["out_channels"]
    for argument, value in expected.items():
        if argument not in parameters:
            continue
        found = network_def.get(argument, parameters[argument].default)
        if found in (value, inspect.Parameter.empty):
            continue
        if argument == "out_channels" and (value, found) == (1, 2):
            logits = 2
            continue
        raise ConfigError(
            f"{path}: the bundle's {network_class.__name__} has {argument} {found}; expected "
            f"{value}, which the task needs"
        )
    return logits


def _refuse_overlapping_masks(config: Mapping[str, Any], logits: int, path: Path) -> None:
    """Raise if the channels of a bundle are independent masks, since classes must be exclusive."""
    if logits > 1 and _has_sigmoid(config.get("postprocessing")):
        raise ConfigError(
            f"{path}: 'postprocessing' applies a sigmoid to each of {logits} channels, which are "
            "masks that may overlap; expected a softmax over background and classes. Bundles of "
            "this kind are not supported."
        )


def _has_sigmoid(value: Any) -> bool:
    values = [value]
    for item in values:  # grows
        if isinstance(item, dict):
            if "Activations" in str(item.get("_target_")) and item.get("sigmoid") is True:
                return True
            values.extend(item.values())
        elif isinstance(item, list):
            values.extend(item)
    return False


def _instantiate(value: Any, key: str, path: Path) -> Any:
    if isinstance(value, list):
        return [_instantiate(item, f"{key}::{index}", path) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    arguments = {
        name: _instantiate(item, f"{key}::{name}", path)
        for name, item in value.items()
        if name not in ("_target_", "_desc_")
    }
    if "_target_" not in value:
        return arguments
    controls = [str(name) for name in arguments if str(name).startswith("_")]
    if controls:
        raise ConfigError(f"{path}: '{key}' holds {controls}, which this reader does not know")
    network_class = _find_class(value["_target_"], f"{key}::_target_", path)
    _refuse_files(network_class, arguments, key, path)
    try:
        return network_class(**arguments)
    except Exception as error:
        raise ConfigError(
            f"{path}: '{key}' cannot be built with the installed MONAI: "
            f"{network_class.__name__}: {error}"
        ) from error


def _refuse_files(
    network_class: type[nn.Module], arguments: Mapping[str, Any], key: str, path: Path
) -> None:
    """Raise for arguments by which a constructor accesses the Internet or the disk."""
    parameters = inspect.signature(network_class).parameters
    defaults = {name: p.default for name, p in parameters.items() if _PRETRAINED.search(name)}
    for name, value in {**defaults, **arguments}.items():
        if value and _REACHES_OUT.search(str(name)):
            raise SecurityError(
                f"{path}: '{key}' has {name} {value!r}, by which {network_class.__name__} reads or "
                f"downloads files; expected {name}: false. The weights of the bundle are loaded "
                "without it."
            )
        if isinstance(value, str) and _is_place(value):
            raise SecurityError(
                f"{path}: '{key}' has {name} {value!r}, which looks like a path or URL; expected "
                "a plain value"
            )


def _is_place(value: str) -> bool:
    return any(mark in value for mark in ("/", "\\", ":"))


def _find_class(target: Any, key: str, path: Path) -> type[nn.Module]:
    """Return a network class of the two namespaces; a name without dots is a MONAI network."""
    name = str(target)
    module_name, _, class_name = name.rpartition(".")
    module_name = module_name or _NAMESPACES[0]
    if _inside(module_name) and all(part.isidentifier() for part in name.split(".")):
        try:
            found = getattr(import_module(module_name), class_name, None)
        except ImportError:
            found = None
        if isinstance(found, type) and issubclass(found, nn.Module) and _inside(found.__module__):
            return found
    raise SecurityError(
        f"{path}: '{key}' is {target!r}; only network classes of {' and '.join(_NAMESPACES)} are "
        "built from a bundle"
    )


def _inside(module_name: str) -> bool:
    return any(f"{module_name}.".startswith(f"{space}.") for space in _NAMESPACES)


def _find_weights(folder: Path) -> Path:
    for name in _WEIGHTS:
        if (path := folder / "models" / name).is_file():
            return path
    raise CheckpointError(
        f"bundle {folder}: expected models/{' or models/'.join(_WEIGHTS)}, found neither; download "
        "the weights, or build the network with pretrained=False"
    )


def _check_weights(outline: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    own = outline.state_dict()
    wrong = {
        "missing": sorted(own.keys() - state.keys()),
        "unknown": sorted(map(str, state.keys() - own.keys())),
        "of another shape": sorted(
            name for name in own.keys() & state.keys() if own[name].shape != state[name].shape
        ),
    }
    if any(wrong.values()):
        found = "; ".join(f"{what}: {', '.join(names)}" for what, names in wrong.items() if names)
        raise CheckpointError(f"{path}: the weights do not fit {type(outline).__name__}: {found}")
