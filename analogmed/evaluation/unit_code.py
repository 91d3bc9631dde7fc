"""Code that the result of a unit depends on, from analogmed, users and plugins."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from analogmed.data.tasks import PLUGIN_GROUP as TASKS
from analogmed.execution.code_key import (
    package_closure,
    package_digest,
    user_code_digest,
    versions_of,
)
from analogmed.foundation.registry import find_plugin
from analogmed.foundation.settings.paths import BUNDLE
from analogmed.metrics.registry import PLUGIN_GROUP as METRICS
from analogmed.models.bundle import find_config
from analogmed.models.registry import PLUGIN_GROUP as MODELS


def code_of(module: str) -> dict[str, Any]:
    """Return the digest of analogmed's code that computes units, and the versions it imports.

    Args:
        module: module that computes units; a result depends on its import closure.
    """
    packages = package_closure(module).packages
    return {"code": package_digest(module), "versions": versions_of(packages)}


def network_code(model: str) -> str:
    """Return a digest of the code that builds and runs a network.

    Args:
        model: name of the network, as a checkpoint records it.

    Returns:
        The digest; empty for a built-in network, whose code is part of analogmed's.

    Raises:
        ConfigError: the source cannot be read, or has changed since it was imported.
    """
    if model.startswith(BUNDLE):
        return _content_digest(find_config(Path(model.removeprefix(BUNDLE))))
    return user_code_digest(model) if ":" in model else _plugin_code(MODELS, model, "model")


def task_code(name: str) -> str:
    """Return a digest of the code that reads a plugin's data; empty for a built-in task.

    Raises:
        ConfigError: as for :func:`network_code`.
    """
    return _plugin_code(TASKS, name, "task")


def metric_code(names: Iterable[str]) -> dict[str, str]:
    """Return a digest of the code of each metric that an installed package provides.

    Raises:
        ConfigError: as for :func:`network_code`.
    """
    digests = {name: _plugin_code(METRICS, name, "metric") for name in names}
    return {name: digest for name, digest in digests.items() if digest}


def _plugin_code(group: str, name: str, kind: str) -> str:
    plugin = find_plugin(group, name, kind=kind, is_built_in=False)
    return user_code_digest(plugin.value) if plugin else ""


def _content_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
