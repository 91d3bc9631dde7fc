"""Code, packages and processor in the key of a stored result."""

import hashlib
import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

import torch
from llvmlite import binding as llvm

from analogmed.execution.source_closure import OURS, Closure, closure_of, find_top, is_installed
from analogmed.foundation.errors import ConfigError

_LIMITS = (
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NUMBA_CPU_FEATURES",
    "NUMBA_CPU_NAME",
    "NUMBA_DISABLE_JIT",
    "ONEDNN_MAX_CPU_ISA",
)
"""Environment variables that select the instructions of compiled operations."""

_DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "PyYAML"}
"""Distributions whose name differs from that of the module that they provide."""

_SITE_NAMES = ("site-packages", "dist-packages")

_first_seen: dict[str, tuple[ModuleSpec, str]] = {}
"""Import of a user's module, and the digest of its source at the first read by this process."""


@cache
def package_closure(module: str) -> Closure:
    """Return the import closure of a module of analogmed."""
    return closure_of([module], lambda top: top == OURS)


@cache
def package_digest(module: str) -> str:
    """Return the SHA-256 of all code of analogmed that can run when one of its modules runs."""
    return _digest_of(package_closure(module).files)


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Return the version of each installed distribution that provides these top-level modules."""
    found: dict[str, str] = {}
    for package in packages:
        name = _DISTRIBUTIONS.get(package, package)
        names = [name] if _version(name) else _providers(package)
        found |= {name: _version(name) or "" for name in names}
    return {name: text for name, text in sorted(found.items()) if text}


def user_code_digest(target: str) -> str:
    """Return the SHA-256 of a user's code that this process would run.

    The digest covers the module of the target and its import closure. For installed packages other
    than the target's own, it covers the version only.

    Args:
        target: ``package.module:attribute``.

    Raises:
        ConfigError: the source of a module has changed since this process imported it.
    """
    module = target.partition(":")[0]
    own, folders = module.partition(".")[0], _site_folders()
    closure = closure_of(
        [module],
        lambda top: top in (own, OURS) or not is_installed(top, folders),
    )
    for name, path in closure.files.items():
        if name.partition(".")[0] != OURS:
            _refuse_edited(name, path)
    digest = hashlib.sha256(_digest_of(closure.files).encode())
    for name, found in versions_of(closure.packages).items():
        digest.update(f"{name} {found}\n".encode())
    return digest.hexdigest()


def processor_kind() -> dict[str, Any]:
    """Return the properties that select instructions, and thus rounding, of compiled operations."""
    return {
        "name": llvm.get_host_cpu_name(),
        "torch": torch.backends.cpu.get_cpu_capability(),
        "limits": {name: os.environ[name] for name in _LIMITS if os.environ.get(name)},
    }


def _digest_of(files: Mapping[str, Path]) -> str:
    digest = hashlib.sha256()
    for name, path in files.items():
        digest.update(f"{name} {_file_digest(path)}\n".encode())
    return digest.hexdigest()


def _refuse_edited(name: str, path: Path) -> None:
    """Raise a ConfigError if a module's source has changed since this process imported it.

    An import or a reload creates a new specification of a module.
    """
    digest = _file_digest(path)
    spec = getattr(sys.modules.get(name), "__spec__", None)
    if spec is None:
        _first_seen.pop(name, None)
        return
    known, before = _first_seen.setdefault(name, (spec, digest))
    if known is not spec:
        _first_seen[name] = spec, digest
    elif before != digest:
        raise ConfigError(
            f"{path}: the file has changed since this process imported module {name}; expected the "
            "imported source. Start a new Python process (in a notebook, restart the kernel)."
        )


def _file_digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"{path}: cannot read this module: {error}. Check the file.") from error


def _providers(package: str) -> list[str]:
    """Return the distributions that provide a module; slow, as it reads all of them."""
    return packages_distributions().get(package, []) if find_top(package) else []


@cache
def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


@cache
def _site_folders() -> tuple[Path, ...]:
    names = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()}
    if site.ENABLE_USER_SITE:
        names.add(site.getusersitepackages())
    names |= {path for path in sys.path if Path(path).name in _SITE_NAMES}  # of another environment
    return tuple(Path(name).resolve() for name in sorted(names))
