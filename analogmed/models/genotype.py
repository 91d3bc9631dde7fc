"""Genotypes: descriptions of the networks of the search space, with JSON conversion."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.checks import require_choice
from analogmed.foundation.text import known_name, nearest

VERSION = 1
"""Version of the search space, which defines the meaning of a genotype."""
MAX_DEPTH = 5
MAX_CHANNELS = 1024
"""Largest number of channels of a block, which limits the memory of a genotype's network."""
KERNELS = (3, 5, 7)

Place: TypeAlias = Literal["analog", "digital"]
Purpose: TypeAlias = Literal["segmentation", "classification"]


@dataclass(frozen=True)
class Convolution:
    """A convolution with optional normalisation and its activation.

    Attributes:
        norm: whether the output is normalised per image and channel, with learned scales.
        leaky: whether the activation is a leaky ReLU (slope 0.01) instead of a ReLU.
    """

    norm: bool
    leaky: bool


@dataclass(frozen=True)
class Block:
    """A block of the search space.

    Attributes:
        kind: computation of the block: zero ends the network, identity returns its input, linear
            mixes the channels of each position.
        spatial_dims: 2 or 3; ``None`` for a block that supports both.
        convolutions: convolutions in order of execution.
    """

    kind: Literal["zero", "identity", "linear", "convolution"]
    spatial_dims: int | None = None
    convolutions: tuple[Convolution, ...] = ()


def _convolutions(spatial_dims: int, names: str) -> dict[str, Block]:
    plain, normed = Convolution(False, False), Convolution(True, False)
    leaky, both = Convolution(False, True), Convolution(True, True)
    tails = ((plain,), (normed,), (leaky,), (both,), (plain, normed), (leaky, both))
    return {
        name: Block("convolution", spatial_dims, tail)
        for name, tail in zip(names, tails, strict=True)
    }


BLOCKS: Mapping[str, Block] = MappingProxyType(
    {
        "zero": Block("zero"),
        "identity": Block("identity"),
        "A": Block("linear"),
        **_convolutions(2, "BCDEFG"),
        **_convolutions(3, "HIJKLM"),
    }
)
"""Blocks by their name in the search space of MED-NAS-Bench."""


def block(name: str, spatial_dims: int | None = None) -> Block:
    """Return a block by name.

    Args:
        name: name of the block.
        spatial_dims: 2 or 3, if known; an error then lists only blocks with these dimensions.

    Raises:
        ConfigError: the block does not exist.
    """
    if not isinstance(name, str) or name not in BLOCKS:
        offered = [
            known
            for known, described in BLOCKS.items()
            if spatial_dims is None or described.spatial_dims in (None, spatial_dims)
        ]
        raise ConfigError(f"unknown block {name!r}; {nearest(str(name), offered)}")
    return BLOCKS[name]


@dataclass(frozen=True)
class Level:
    """One level of the recursive U-Net.

    Attributes:
        block: key of :data:`BLOCKS`.
        channels: output channels of the block; 0 if it returns its input.
        kernel: width of its convolutions in grid points; 1 without convolutions.
        down: processor of the encoder block, analog or digital.
        up: processor of the upsampling partner and of the block that joins it with the skip.
    """

    block: str = "zero"
    channels: int = 0
    kernel: int = 1
    down: Place = "analog"
    up: Place = "analog"

    def __post_init__(self) -> None:
        if self.block not in BLOCKS:
            object.__setattr__(self, "block", known_name(self.block, BLOCKS))
        kind = block(self.block).kind
        if kind in ("zero", "identity"):
            object.__setattr__(self, "channels", 0)
        elif type(self.channels) is not int or not 1 <= self.channels <= MAX_CHANNELS:
            raise ConfigError(
                f"block {self.block}: expected 1 to {MAX_CHANNELS} channels (MAX_CHANNELS), "
                f"found {self.channels!r}"
            )
        if kind != "convolution":
            object.__setattr__(self, "kernel", 1)
        elif type(self.kernel) is not int or self.kernel not in KERNELS:
            raise ConfigError(
                f"block {self.block}: expected a kernel of 3, 5 or 7, found {self.kernel!r}"
            )
        for way in ("down", "up"):
            place = require_choice(way, getattr(self, way), get_args(Place))
            object.__setattr__(self, way, place)
            if kind in ("zero", "identity"):
                object.__setattr__(self, way, "analog")

    def __str__(self) -> str:
        kernel = f"k{self.kernel}" if self.kernel not in (1, 3) else ""
        marks = ("d" if self.down == "digital" else "") + ("u" if self.up == "digital" else "")
        channels = self.channels or ""
        return f"{self.block}{channels}{kernel}{f'/{marks}' if marks else ''}"


@dataclass(frozen=True)
class Genotype:
    """A network of the search space in canonical form: equal networks have equal genotypes.

    Attributes:
        levels: five levels, counted from the input. From the first ``zero`` on, all are zero. The
            ``up`` of the deepest level is ignored, because it has no decoder.
        spatial_dims: 2 or 3.
        purpose: segmentation, or classification, whose networks have no decoder.
        version: version of the search space.

    Raises:
        ConfigError: a block is unknown or has other dimensions, or no block has weights.

    Source: search space of MED-NAS-Bench; levels as in its files, blocks as in its table.
    """

    levels: tuple[Level, ...]
    spatial_dims: int = 2
    purpose: Purpose = "segmentation"
    version: int = field(default=VERSION, init=False)

    def __post_init__(self) -> None:
        if type(self.spatial_dims) is not int or self.spatial_dims not in (2, 3):
            raise ConfigError(f"spatial_dims: expected 2 or 3, found {self.spatial_dims!r}")
        purpose = require_choice("purpose", self.purpose, get_args(Purpose))
        object.__setattr__(self, "purpose", purpose)
        if len(self.levels) > MAX_DEPTH:
            raise ConfigError(f"expected at most {MAX_DEPTH} levels, found {len(self.levels)}")
        for level in self.levels:
            if not isinstance(level, Level):
                raise ConfigError(f"levels: expected Level objects, found {level!r}")
        levels = _until_zero(self.levels)
        for level in levels:
            if block(level.block).spatial_dims not in (None, self.spatial_dims):
                raise ConfigError(
                    f"block {level.block} is {block(level.block).spatial_dims}D, in a "
                    f"{self.spatial_dims}D network"
                )
        if not any(level.channels for level in levels):
            raise ConfigError("no level has a block with weights: the network would learn nothing")
        classifies = self.purpose == "classification"
        levels = [
            replace(level, up="analog") if classifies or number == len(levels) - 1 else level
            for number, level in enumerate(levels)
        ]
        padded = (*levels, *(Level() for _ in range(MAX_DEPTH - len(levels))))
        object.__setattr__(self, "levels", padded)

    @property
    def depth(self) -> int:
        """Number of levels."""
        return len(_until_zero(self.levels))

    @cached_property
    def key(self) -> str:
        """Short name for files and tables, 12 hexadecimal digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    def __str__(self) -> str:
        return f"{self.spatial_dims}d:" + "-".join(map(str, self.levels[: self.depth]))

    def to_dict(self) -> dict[str, Any]:
        """Return dictionaries, lists, strings and numbers, with the version of the space."""
        described = asdict(self)
        return {**described, "levels": list(described["levels"])}

    def to_json(self) -> str:
        """Return canonical JSON: equal genotypes have equal bytes."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def of(cls, described: "Genotype | Mapping[str, Any] | str") -> "Genotype":
        """Return a genotype from the result of :meth:`to_dict` or :meth:`to_json`.

        Raises:
            ConfigError: names the unknown key or block, or the version if it differs.
        """
        if isinstance(described, Genotype):
            return described
        if isinstance(described, str):
            described = _parsed(described)
        if not isinstance(described, Mapping):
            raise ConfigError(f"genotype: expected an object, found {type(described).__name__}")
        given = dict(described)
        version = given.pop("version", None)
        if type(version) is not int or version != VERSION:
            raise ConfigError(
                f"genotype: it is of version {version!r} of the search space, and this analogmed "
                f"knows version {VERSION}; build it with the analogmed that made it"
            )
        _check_keys("genotype", given, cls)
        levels = given.pop("levels", None)
        if not isinstance(levels, Sequence) or isinstance(levels, str | bytes):
            raise ConfigError(f"genotype: expected a list of levels, found {levels!r}")
        dims = given.get("spatial_dims", cls.spatial_dims)
        return cls(
            tuple(_level(number, level, dims) for number, level in enumerate(levels)), **given
        )


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"genotype: not JSON ({error}): {text[:80]!r}") from error


def _until_zero(levels: Sequence[Level]) -> list[Level]:
    kinds = [block(level.block).kind for level in levels]
    return list(levels[: kinds.index("zero")] if "zero" in kinds else levels)


def _level(number: int, described: Any, spatial_dims: Any) -> Level:
    where = f"genotype: level {number}"
    if not isinstance(described, Mapping):
        raise ConfigError(f"{where}: expected an object, found {described!r}")
    _check_keys(where, described, Level)
    try:
        block(described.get("block", Level.block), spatial_dims)
        return Level(**described)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    except TypeError as error:
        raise ConfigError(f"{where}: {described!r} is not understood: {error}") from error


def _check_keys(where: str, given: Mapping[str, Any], of: type) -> None:
    known = [each.name for each in fields(of)]
    for name in given:
        if name not in known:
            raise ConfigError(f"{where}: unknown key '{name}'; {nearest(str(name), known)}")
