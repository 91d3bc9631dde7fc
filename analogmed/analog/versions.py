"""Start-up check of the installed versions of torch and aihwkit."""

import warnings
from importlib.metadata import PackageNotFoundError, version

from analogmed.foundation.errors import ConfigError

HINT = "install with the versions of constraints.txt (torch 2.13.0, aihwkit 1.1.0 or 1.2.0)"

TESTED = {("2.13", "1.1.0"), ("2.13", "1.2.0")}
"""Pairs of torch (major.minor) and aihwkit versions that pass the test suite."""


def check_versions() -> dict[str, str]:
    """Return the versions of torch and aihwkit, or raise an error if they are incompatible.

    Returns:
        Installed versions.

    Raises:
        ConfigError: one of them is missing, or aihwkit cannot be imported with this torch.
    """
    found = {}
    for package in ("torch", "aihwkit"):
        try:
            found[package] = version(package)
        except PackageNotFoundError as error:
            raise ConfigError(f"{package} is not installed; {HINT}") from error
    pair = (".".join(found["torch"].split(".")[:2]), found["aihwkit"])
    names = f"torch {found['torch']} and aihwkit {found['aihwkit']}"
    try:
        import aihwkit.simulator.configs  # noqa: F401
    except ImportError as error:
        raise ConfigError(do_not_fit(error)) from error
    if pair not in TESTED:
        warnings.warn(f"{names} were never tested together; {HINT}", stacklevel=2)
    return found


def do_not_fit(error: ImportError) -> str:
    """Return a sentence about torch and aihwkit if one of them cannot be imported."""
    names = [f"{package} {_version(package)}" for package in ("torch", "aihwkit")]
    return f"{' and '.join(names)} do not fit each other ({error}); {HINT}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"
