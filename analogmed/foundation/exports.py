"""Public names of a package that are imported when they are first used."""

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
        package: its ``__name__``.
        homes: module of each public name, relative to the package or from ``analogmed.`` on. No
            name may be that of a file or folder of the package: importing the file would replace
            the name.
        deprecated: public name that replaces each old one.
    """
    old = deprecated or {}

    def get(name: str) -> Any:
        if name in old:
            warnings.warn(
                f"{package}.{name} is called {old[name]} now", DeprecationWarning, stacklevel=2
            )
            return get(old[name])
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        home = homes[name]
        module = home if home.startswith("analogmed.") else f"{package}.{home}"
        value = getattr(import_module(module), name)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted({*vars(sys.modules[package]), *homes}), sorted(homes)
