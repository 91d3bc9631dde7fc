"""Network architectures as described in the files of MED-NAS-Bench."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from analogmed.foundation.errors import ConfigError, ShapeError
from analogmed.foundation.settings.checks import require_choice
from analogmed.foundation.text import nearest

Compat: TypeAlias = Literal["same", "faithful"]

KERNELS = (3, 5)
ACTIVATIONS = ("relu", "relu6", "LeakyRelu")


@dataclass(frozen=True)
class Convolution:
    """A convolution of a MED-NAS-Bench network; all have a bias.

    Attributes:
        in_channels: number of input channels.
        out_channels: number of output channels.
        kernel: kernel width.
        dilation: distance between kernel taps in grid points.
        activation: one of ``ACTIVATIONS``.
        order: order of execution: 1 is convolution, norm, activation; 2 is activation, convolution,
            norm; 3 is norm, activation, convolution.
        norm: whether the output is normalised per image and channel, without learned scales.
    """

    in_channels: int
    out_channels: int
    kernel: int
    dilation: int
    activation: str
    order: int
    norm: bool

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return self.kernel**2 * self.in_channels * self.out_channels + self.out_channels

    def padding(self, compat: Compat) -> int:
        """Return the zero padding per side: 1 in the benchmark's code, else same-size padding."""
        return 1 if compat == "faithful" else self.dilation * (self.kernel // 2)

    def shrinks(self, compat: Compat) -> int:
        """Return the reduction of the output size in grid points."""
        return self.dilation * (self.kernel - 1) - 2 * self.padding(compat)


@dataclass(frozen=True)
class Architecture:
    """A two-level network of MED-NAS-Bench.

    Attributes:
        down: two convolutions before the inner block.
        inner: two convolutions of the inner block, followed by a transposed convolution.
        up: two convolutions after the inner block.
        pooled: whether the inner block first halves the size; it doubles the size in any case.
        out_channels: number of output channels of the head.
    """

    down: tuple[Convolution, Convolution]
    inner: tuple[Convolution, Convolution]
    up: tuple[Convolution, Convolution]
    pooled: bool
    out_channels: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Architecture":
        """Return the architecture of the ``arch_config`` of a file.

        Raises:
            ConfigError: names the entry that is missing, unknown or inconsistent.
        """
        inner, outer = _two_blocks(config)
        first = _convolution("outer conv1", _entry("outer block", outer, "conv1"))
        f = first.out_channels
        down = (first, _of_channels("outer", outer, "conv2", f, f))
        up = (
            _of_channels("outer", outer, "conv3", 2 * f, f),
            _of_channels("outer", outer, "conv4", f, f),
        )
        inside = (
            _of_channels("inner", inner, "conv1", f, 2 * f),
            _of_channels("inner", inner, "conv2", 2 * f, 2 * f),
        )
        for name in ("conv3", "conv4"):
            if _entry("inner block", inner, name) != {}:
                raise ConfigError(f"inner {name}: an inner block has none, found {inner[name]!r}")
        upconv = _entry("inner block", inner, "upconv")
        _check("inner upconv", upconv, "TransposeConv2D", (2 * f, f, 2, 2))
        head = _entry("outer block", outer, "upconv")
        classes = _whole("outer upconv", head, "out_channels")
        _check("outer upconv", head, "Contract", (f, classes, 1, 1))
        if _pools("outer", outer):
            raise ConfigError("outer pool: an outer block has none; it gives the logits")
        return cls(down, inside, up, _pools("inner", inner), classes)

    @property
    def filters(self) -> int:
        """Number of channels of the outer level; the inner level has twice as many."""
        return self.down[0].out_channels

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        """All six convolutions in the order of execution."""
        return (*self.down, *self.inner, *self.up)

    @property
    def parameters(self) -> int:
        """Number of parameters of the executed layers, with the channels of the file.

        The count in the files also includes two convolutions of the inner block that never run.
        """
        f = self.filters
        transposed, head = 4 * 2 * f * f + f, f * self.out_channels + self.out_channels
        return sum(each.parameters for each in self.convolutions) + transposed + head

    def for_image(self, in_channels: int) -> "Architecture":
        """Return the same architecture for images with another number of channels."""
        first, second = self.down
        return replace(self, down=(replace(first, in_channels=in_channels), second))

    def output_size(self, size: int, compat: Compat = "same") -> int:
        """Return the size of the logits along one axis for an image of a given size.

        Raises:
            ShapeError: the image is too small, or the output of the inner block is smaller than the
                skip that it joins.
        """
        down, inner, up = (
            [each.shrinks(compat) for each in part] for part in (self.down, self.inner, self.up)
        )
        skip = size - sum(down)
        within = skip // 2 if self.pooled else skip
        logits = skip - sum(up)
        if min(skip, within - sum(inner), logits) < 2:
            raise ShapeError(f"an image of {size} positions along an axis is too small")
        if 2 * (within - sum(inner)) < skip:
            raise ShapeError(
                f"an image of {size} positions along an axis: the inner block gives "
                f"{2 * (within - sum(inner))}, its skip has {skip}; take an even size, and where "
                "compat is 'faithful' another architecture or compat 'same'"
            )
        return logits


def _two_blocks(config: Any) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    if isinstance(config, Mapping) and "arch_config" in config:
        raise ConfigError("expected the arch_config of a file, found the whole file")
    blocks = _entry("arch_config", config, "blocks")
    if not isinstance(blocks, Sequence) or isinstance(blocks, str):
        raise ConfigError(f"blocks: expected a list, found {blocks!r}")
    if len(blocks) != 2:
        raise ConfigError(
            f"blocks: expected two, an inner and an outer one, as all files of MED-NAS-Bench have, "
            f"found {len(blocks)}"
        )
    for block, expected in zip(blocks, ("inner", "outer"), strict=True):
        if _entry(f"{expected} block", block, "name") != "UnetSkipConnectionBlock":
            raise ConfigError(
                f"{expected} block: expected a UnetSkipConnectionBlock, found {block['name']!r}"
            )
        if (kind := _entry(f"{expected} block", block, "type")) != expected:
            raise ConfigError(
                f"blocks: expected an inner block, then an outer one; found {kind!r} in place of "
                f"'{expected}'"
            )
        _refuse_unknown(f"{expected} block", block, _BLOCK)
    return blocks[0], blocks[1]


_BLOCK = ("name", "type", "pool", "conv1", "conv2", "conv3", "conv4", "upconv")
_LAYER = ("name", "in_channels", "out_channels", "kernel_size", "stride")
_OF_CONVOLUTIONS = (*_LAYER, "dilation", "use_bn", "act_func", "order")
_MOST = 65_535


def _entry(where: str, described: Any, name: str) -> Any:
    if not isinstance(described, Mapping):
        raise ConfigError(f"{where}: expected an object, found {described!r}")
    if name not in described:
        raise ConfigError(f"{where}: '{name}' is missing")
    return described[name]


def _refuse_unknown(where: str, described: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in described:
        if name not in known:
            raise ConfigError(f"{where}: unknown entry '{name}'; {nearest(str(name), known)}")


def _whole(where: str, described: Any, name: str, most: int = _MOST) -> int:
    value = _entry(where, described, name)
    if type(value) is not int or not 1 <= value <= most:
        raise ConfigError(f"{where}: {name}: expected 1 to {most}, found {value!r}")
    return value


def _of_channels(
    side: str, block: Mapping[str, Any], name: str, in_channels: int, out_channels: int
) -> Convolution:
    where = f"{side} {name}"
    convolution = _convolution(where, _entry(f"{side} block", block, name))
    found = (convolution.in_channels, convolution.out_channels)
    if found != (in_channels, out_channels):
        raise ConfigError(
            f"{where}: expected {in_channels} channels in and {out_channels} out, from the first "
            f"convolution of the outer block; found {found[0]} and {found[1]}"
        )
    return convolution


def _convolution(where: str, described: Any) -> Convolution:
    expands = where in ("outer conv3", "outer conv4")
    _check_name(where, described, "Expand" if expands else "Contract")
    _refuse_unknown(where, described, _OF_CONVOLUTIONS)
    if _whole(where, described, "stride") != 1:
        raise ConfigError(f"{where}: stride: expected 1, found {described['stride']!r}")
    norm = False if expands else _entry(where, described, "use_bn")
    if not isinstance(norm, bool):
        raise ConfigError(f"{where}: use_bn: expected true or false, found {norm!r}")
    if expands and "use_bn" in described:
        raise ConfigError(f"{where}: use_bn: an Expand has no norm")
    kernel = _whole(where, described, "kernel_size")
    if kernel not in KERNELS:
        raise ConfigError(f"{where}: kernel_size: expected 3 or 5, found {kernel}")
    activation = _entry(where, described, "act_func")
    activation = require_choice(f"{where}: act_func", activation, ACTIVATIONS)
    return Convolution(
        in_channels=_whole(where, described, "in_channels"),
        out_channels=_whole(where, described, "out_channels"),
        kernel=kernel,
        dilation=_dilation(where, described),
        activation=activation,
        order=_whole(where, described, "order", most=3),
        norm=norm,
    )


def _dilation(where: str, described: Any) -> int:
    value = _entry(where, described, "dilation")
    if value not in ([1, 1], [2, 2], (1, 1), (2, 2)):
        raise ConfigError(f"{where}: dilation: expected [1, 1] or [2, 2], found {value!r}")
    return int(value[0])


def _check_name(where: str, described: Any, expected: str) -> None:
    if (name := _entry(where, described, "name")) != expected:
        raise ConfigError(f"{where}: expected a layer named {expected}, found {name!r}")


def _check(where: str, described: Any, name: str, expected: tuple[int, int, int, int]) -> None:
    _check_name(where, described, name)
    _refuse_unknown(where, described, _LAYER)
    for entry, value in zip(_LAYER[1:], expected, strict=True):
        if (found := _whole(where, described, entry)) != value:
            raise ConfigError(f"{where}: {entry}: expected {value}, found {found}")


def _pools(side: str, block: Mapping[str, Any]) -> bool:
    """Return whether a side pools; its channels are unused and its type is ``avg`` in all files."""
    pool = _entry(f"{side} block", block, "pool")
    if pool == {}:
        return False
    where = f"{side} pool"
    _check_name(where, pool, "PoolingLayer")
    _refuse_unknown(where, pool, (*_LAYER, "pool_type"))
    for name in ("kernel_size", "stride"):
        if (found := _whole(where, pool, name)) != 2:
            raise ConfigError(f"{where}: {name}: expected 2, found {found}")
    return True
