"""Time, energy and area of tile types, each value with its source.

A profile has up to two accounting levels. ``mvm_only`` covers the MVM with its converters.
``measured_layer`` was measured on a layer of a network, including links and digital units. Values
of different levels are not comparable.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.registry import (
    Registry,
    call_plugin,
    described,
    load_plugin,
)
from analogmed.foundation.settings.checks import require_choice, require_number
from analogmed.foundation.strict_yaml import check_keys, read_yaml
from analogmed.foundation.text import known_name

T = TypeVar("T")

PLUGIN_GROUP = "analogmed.hardware"
Level = Literal["mvm_only", "measured_layer"]


@dataclass(frozen=True)
class Figures:
    """Time and energy at one accounting level.

    Attributes:
        time_ns: time of one MVM in ns; the tiles of a layer run in parallel.
        energy_nj: energy of one MVM on one tile in nJ.
        source: publication of the two values, and their derivation from it.
    """

    time_ns: float
    energy_nj: float
    source: str

    def __post_init__(self) -> None:
        _check_above_zero(self, ("time_ns", "energy_nj"))
        _check_text(self, ("source",))


@dataclass(frozen=True)
class Profile:
    """A tile type.

    Unknown values are ``None`` and are left out of the estimates.

    Attributes:
        name: name for selection.
        title: description.
        tile_size: rows and columns of the tile that all values refer to.
        mvm_only: MVM and converters.
        measured_layer: measured on a layer, with links and digital units.
        area_mm2: area of one tile in mm2.
        tiles_per_chip: number of tiles of the fabricated chip.
        io_gb_per_s: input and output bandwidth of a tile in GB/s, one byte per value.
        io_pj_per_byte: input and output energy in pJ per byte, at level ``mvm_only``.
        digital_ns: time of the tile's digital unit for the outputs of one MVM, in ns.
        digital_nj: energy of the digital unit for one MVM in nJ, at level ``mvm_only``.
        static_mw: static power of an idle tile in mW.
        digital_gmac_per_s: throughput of the processor for digital layers, in 1e9 MACs per second.
        digital_pj_per_mac: energy of the processor for digital layers, in pJ per MAC.
    """

    name: str
    title: str
    tile_size: tuple[int, int]
    mvm_only: Figures
    measured_layer: Figures | None = None
    area_mm2: float | None = None
    tiles_per_chip: int | None = None
    io_gb_per_s: float | None = None
    io_pj_per_byte: float | None = None
    digital_ns: float | None = None
    digital_nj: float | None = None
    static_mw: float | None = None
    digital_gmac_per_s: float | None = None
    digital_pj_per_mac: float | None = None

    def __post_init__(self) -> None:
        _check_text(self, ("name", "title"))
        size = self.tile_size
        whole = isinstance(size, tuple) and all(type(n) is int and n >= 1 for n in size)
        if not whole or len(size) != 2:
            raise ConfigError(f"tile_size: expected rows and columns, 1 or more, found {size!r}")
        names = (field.name for field in dataclasses.fields(self) if field.default is None)
        numbers = [name for name in names if name != "measured_layer"]
        _check_above_zero(self, [name for name in numbers if getattr(self, name) is not None])

    def figures(self, level: Level) -> Figures:
        """Return time and energy at an accounting level.

        Raises:
            ConfigError: the level is unknown, or not available for this profile.
        """
        level = require_choice("level", level, get_args(Level))
        found: Figures | None = getattr(self, level)
        if found is None:
            raise ConfigError(
                f"profile '{self.name}' has no {level} figures, none were published; "
                "use level mvm_only"
            )
        return found

    def tops(self, level: Level = "mvm_only") -> float:
        """Return the tera-operations per second of one full tile; a MAC counts as two."""
        return 2e-3 * math.prod(self.tile_size) / self.figures(level).time_ns

    def tops_per_w(self, level: Level = "mvm_only") -> float:
        """Return the tera-operations per second and watt of one full tile."""
        return 2e-3 * math.prod(self.tile_size) / self.figures(level).energy_nj

    def tops_per_mm2(self, level: Level = "mvm_only") -> float | None:
        """Return the tera-operations per second and square millimetre, if the area is known."""
        return None if self.area_mm2 is None else self.tops(level) / self.area_mm2


def profile_names() -> tuple[str, ...]:
    """Return the names of the built-in profiles and of installed plugins, sorted."""
    return _PROFILES.names()


def spelled_profile(name: T) -> T:
    """Return the name of a profile that a text spells in any case; a path and ``None`` stay."""
    return known_name(name, profile_names())


def load_profile(name: str) -> Profile:
    """Return a profile by name or from a file.

    Args:
        name: one of :func:`profile_names`, or the path of a ``.yaml`` or ``.yml`` file with the
            attributes of :class:`Profile`. A plugin is an entry point of the group
            ``analogmed.hardware`` that is a :class:`Profile` or a function that returns one.

    Raises:
        ConfigError: the name is unknown, or the file or the plugin contains no valid profile.
    """
    if Path(name).suffix in (".yaml", ".yml"):
        return _read(name)
    if spelled_profile(name) not in profile_names():
        raise ConfigError(f"{_PROFILES.unknown(name)} Or give a YAML file.")
    return _PROFILES.get(name)


def _read(path: str) -> Profile:
    content = read_yaml(path)
    check_keys(content, Profile, path)
    for key in get_args(Level):
        if isinstance(content.get(key), dict):
            check_keys(content[key], Figures, f"{path}: {key}")
            content[key] = _build(Figures, content[key], f"{path}: {key}")
        elif content.get(key) is not None:
            raise ConfigError(f"{path}: {key} must be a mapping of time_ns, energy_nj and source")
    if isinstance(content.get("tile_size"), list):
        content["tile_size"] = tuple(content["tile_size"])
    profile: Profile = _build(Profile, content, path)
    return profile


def _build(kind: Callable[..., Any], values: dict[str, Any], where: str) -> Any:
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    needed = [field.name for field in fields if field.default is dataclasses.MISSING]
    missing = [name for name in needed if values.get(name) is None]
    if missing:
        raise ConfigError(f"{where}: a profile needs {', '.join(missing)} too")
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


_EXPECTED = "an analogmed.hardware.Profile, or a function without arguments that returns one"


def _load_plugin(plugin: EntryPoint) -> Profile:
    loaded = load_plugin(plugin, kind="profile", expected=_EXPECTED)
    get = loaded if callable(loaded) else lambda: loaded
    what = described("profile", plugin)
    return call_plugin(get, what=what, expected=_EXPECTED, returns=Profile)


def _check_above_zero(holder: object, names: Iterable[str]) -> None:
    for name in names:
        require_number(name, getattr(holder, name), above=0)


def _check_text(holder: object, names: Iterable[str]) -> None:
    for name in names:
        value = getattr(holder, name)
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{name}: expected text, found {value!r}")


_HERMES_PAPER = "Le Gallo et al., Nature Electronics 2023, doi:10.1038/s41928-023-01010-1"
_OPERATIONS = 2 * 256 * 256
_HERMES_AREA_MM2 = 63.1 / 1.55 / 64
_HERMES_LAYER = Figures(
    time_ns=1520.0,
    energy_nj=1510.0 / 8,
    source=f"{_HERMES_PAPER}: one input of a ResNet-9 layer on 8 cores, with links and digital "
    "units, took 1.52 us and 1.51 uJ; other layers are taken to need as much per product, and per "
    "core. Held for either read mode: which one was measured is not known here",
)


def _hermes(name: str, phases: int, tops: float, tops_per_w: float) -> Profile:
    return Profile(
        name=name,
        title=f"HERMES 64-core PCM chip, {phases}-phase read",
        tile_size=(256, 256),
        mvm_only=Figures(
            time_ns=1e-3 * 64 * _OPERATIONS / tops,
            energy_nj=1e-3 * _OPERATIONS / tops_per_w,
            source=f"{_HERMES_PAPER}: derived from {tops} TOPS of 64 cores and {tops_per_w} "
            "TOPS/W; the local digital unit is not in the energy",
        ),
        measured_layer=_HERMES_LAYER,
        area_mm2=_HERMES_AREA_MM2,
        tiles_per_chip=64,
    )


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        _hermes("hermes-1-phase", phases=1, tops=63.1, tops_per_w=9.76),
        _hermes("hermes-4-phase", phases=4, tops=16.1, tops_per_w=2.48),
        Profile(
            name="hermes-core",
            title="HERMES core",
            tile_size=(256, 256),
            mvm_only=Figures(
                time_ns=1e-3 * _OPERATIONS / 1.008,
                energy_nj=1e-3 * _OPERATIONS / 10.5,
                source="Khaddam-Aljameh et al. 2021/22: derived from 1.008 TOPS and 10.5 TOPS/W",
            ),
            area_mm2=1.008 / 1.59,
        ),
        Profile(
            name="alpine",
            title="ALPINE tile",
            tile_size=(256, 256),
            mvm_only=Figures(
                time_ns=100.0,
                energy_nj=1e-3 * _OPERATIONS / 12.8,
                source="Klein et al. 2022: 100 ns as given, energy derived from 12.8 TOPS/W",
            ),
            io_gb_per_s=4.0,
        ),
    )
}
"""Built-in profiles by name. The area of ``hermes-1-phase`` and ``hermes-4-phase`` is that of one
chip: 63.1 TOPS at 1.55 TOPS/mm2, over 64 cores."""

_PROFILES: Registry[Profile] = Registry(
    "profile", PROFILES, group=PLUGIN_GROUP, expected=_EXPECTED, load=_load_plugin
)
