"""Public names of a package, imported at first use."""

import sys
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_exports(
    package: str, homes: Mapping[str, str], deprecated: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` of a package.

    Args:
        package: ``__name__`` of the package.
        homes: module of each public name, relative to the package or absolute from ``analogmed.``.
            A name must differ from all files and folders of the package, because importing a
            submodule would overwrite the name.
        deprecated: replacement of each deprecated name.
    """
    old = deprecated or {}

    def get(name: str) -> Any:
        if name in old:
            warnings.warn(
                f"{package}.{name} is deprecated; use {old[name]}", DeprecationWarning, stacklevel=2
            )
            return get(old[name])
        if name not in homes:
            raise AttributeError(
                f"module '{package}' has no attribute '{name}'",
                name=name,
                obj=sys.modules[package],
            )
        home = homes[name]
        module = home if home.startswith("analogmed.") else f"{package}.{home}"
        value = getattr(import_module(module), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        special = (name for name in vars(sys.modules[package]) if name.startswith("__"))
        return sorted({*special, *homes})

    return get, names, sorted(homes)
