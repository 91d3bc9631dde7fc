"""The supernetwork: one set of weights that contains those of every network of a space."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.text import known_name, nearest
from analogmed.models import Genotype
from analogmed.models.blocks import make_block, make_partner
from analogmed.models.genotype import BLOCKS
from analogmed.models.subnet import Subnet
from analogmed.search.space.space import Space

Places: TypeAlias = tuple[range, ...]
"""Channels of a layer of the supernetwork that a network uses, in the order of its own channels."""


_ALL = "all"
"""Name of a head that all networks share."""


class Supernet(nn.Module):
    """A recursive U-Net whose levels contain the weights of every block of a space.

    A block has its weights once in each level, with the largest number of channels and the largest
    kernel of the space. A network of the space uses a part of them: the first channels of a layer,
    and the centre of a kernel. Where channels come from two sources, each has separate positions:
    in a block that joins them, the skip comes before the upsampled channels; in a level that only
    passes channels on, the decoder channels from the deeper level come after the skip.

    A head that reads the first level has separate weights for each block and width of that level.
    If all networks shared one head, it would require the same sign of channels from different
    blocks, and networks whose few channels have negative weights would predict nothing.

    Several tasks can share the supernetwork: they share the levels, but each has separate heads,
    and in the first level separate weights for its image channels.

    Args:
        space: search space of the networks.
        in_channels: channels of the image; for several tasks, by their name.
        out_channels: number of logits; for several tasks, by their name.

    Attributes:
        space: search space of the networks.
        tasks: names of the tasks that share the weights; ``("",)`` for one without a name.

    Source: slices of shared weights: Yu et al. 2020 (BigNAS), arXiv:2003.11142; kernels: Cai et al.
    2020 (Once-for-all), arXiv:1908.09791.
    """

    def __init__(
        self,
        space: Space,
        in_channels: int | Mapping[str, int],
        out_channels: int | Mapping[str, int],
    ) -> None:
        super().__init__()
        self.space = space
        self._in, self._out = _by_task(in_channels), _by_task(out_channels)
        if not self._in or self._in.keys() != self._out.keys():
            raise ConfigError(
                f"in_channels names the tasks {sorted(self._in)} and out_channels "
                f"{sorted(self._out)}; give both for the same ones"
            )
        self.tasks = tuple(self._in)
        self._room = _Room.of(space, sum(self._in.values()))
        self.levels = nn.ModuleList(
            _SuperLevel(space, self._room, number) for number in range(max(space.depths))
        )
        self.heads = nn.ModuleList(self._make_head(channels) for channels in self._out.values())

    def forward(
        self,
        images: Tensor,
        genotype: Genotype,
        task: str | None = None,
        gates: Sequence[Tensor] = (),
    ) -> Tensor:
        """Return the logits of one network of the space.

        Args:
            images: shape (B, in_channels, *spatial), each size a multiple of 2 ** (depth - 1).
            genotype: genotype of the network.
            task: task of the images, if there are several.
            gates: factors on the outputs of the levels' encoder blocks, counted from the image; for
                the gradients of choices.

        Returns:
            logits, shape (B, out_channels, *spatial), or (B, out_channels) for classification.

        Raises:
            ConfigError: the network is not of this space; the task is not one of these.
        """
        task = self._task(task)
        skeleton = _skeleton(self.space, genotype, self._in[task], self._out[task])
        hooks = [
            level.down.register_forward_hook(_times(gate))  # type: ignore[union-attr]
            for level, gate in zip(skeleton.levels, gates, strict=False)
        ]
        try:
            weights = self.weights(genotype, task)
            logits: Tensor = functional_call(skeleton, weights, (images,))
        finally:
            for hook in hooks:
                hook.remove()
        return logits

    def subnet(self, genotype: Genotype, task: str | None = None) -> Subnet:
        """Return a stand-alone network of the space, with a copy of its part of the shared weights.

        Args:
            genotype: genotype of the network.
            task: task of the network, if there are several.

        Raises:
            ConfigError: as for :meth:`forward`.
        """
        task = self._task(task)
        weights = self.weights(genotype, task)
        with torch.device("meta"):
            network = Subnet(
                self._in[task], self._out[task], genotype.spatial_dims, genotype=genotype
            )
        copies = {name: value.detach().clone() for name, value in weights.items()}
        network.load_state_dict(copies, assign=True)
        return network.train(self.training)

    def weights(self, genotype: Genotype, task: str | None = None) -> dict[str, Tensor]:
        """Return a network's part of the shared weights, by their names in :class:`Subnet`.

        Gradients flow back into the shared weights.
        """
        task = self._task(task)
        skeleton = _skeleton(self.space, genotype, self._in[task], self._out[task])
        inputs = self._inputs(genotype, task)
        found: dict[str, Tensor] = {}
        for name, small in skeleton.named_parameters():
            owner, _, _ = name.rpartition(".")
            layer = skeleton.get_submodule(owner)
            transposed = isinstance(layer, (nn.ConvTranspose2d, nn.ConvTranspose3d))
            shared = self.get_parameter(self._shared_name(name, genotype, task))
            places = inputs.pop(_part(name), None) if small.ndim > 1 else None
            found[name] = _part_of(shared, small.shape, places, in_axis=0 if transposed else 1)
        return found

    def _task(self, task: str | None) -> str:
        if task is None and len(self.tasks) == 1:
            return self.tasks[0]
        task = known_name(task, self.tasks)
        if task not in self._in:
            raise ConfigError(f"unknown task {task!r}; {nearest(str(task), self.tasks)}")
        return task

    def _make_head(self, out_channels: int) -> nn.Module:
        space, room = self.space, self._room
        if space.purpose == "classification":
            return nn.ModuleDict({_ALL: nn.Linear(sum(room.down), out_channels)})
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[space.spatial_dims]
        first = product(space.genes["block_0"], space.widths)
        return nn.ModuleDict(
            {f"{block}{width}": convolution(width, out_channels, 1) for block, width in first}
        )

    def _shared_name(self, name: str, genotype: Genotype, task: str) -> str:
        """Return the name of a parameter in the supernetwork, from its name in a network."""
        part = _part(name)
        rest = name.removeprefix(f"{part}.")
        if part == "head":
            first = genotype.levels[0]
            reads_first = genotype.purpose == "segmentation"
            which = f"{first.block}{first.channels}" if reads_first else _ALL
            return f"heads.{self.tasks.index(task)}.{which}.{rest}"
        number = int(part.split(".")[1])
        return f"{part}.{genotype.levels[number].block}.{rest}"

    def _inputs(self, genotype: Genotype, task: str) -> dict[str, Places]:
        """Return the positions of the input channels of each part of a network."""
        levels, room = genotype.levels[: genotype.depth], self._room
        before = list(self._in).index(task)
        first = sum(list(self._in.values())[:before])
        given: Places = (range(first, first + self._in[task]),)
        inputs: dict[str, Places] = {}
        downs: list[Places] = []
        for number, level in enumerate(levels):
            inputs[f"levels.{number}.down"] = given
            given = (range(level.channels),) if level.channels else given
            downs.append(given)
        if genotype.purpose == "classification":
            start = sum(room.down[: len(levels) - 1])
            return inputs | {"head": _behind(downs[-1], start)}
        out = downs[-1]
        for number in reversed(range(len(levels) - 1)):
            inputs[f"levels.{number}.up"] = out
            up = (range(levels[number].channels),) if levels[number].channels else out
            joined = (*downs[number], *_behind(up, room.down[number]))
            inputs[f"levels.{number}.join"] = joined
            out = (range(levels[number].channels),) if levels[number].channels else joined
        return inputs


@dataclass(frozen=True)
class _Room:
    """Largest number of channels of each level.

    Attributes:
        own: output channels of a block with weights.
        given: channels from the previous level.
        down: channels to the deeper level, and as skip to the decoder.
        out: channels of the decoder output.
    """

    own: tuple[int, ...]
    given: tuple[int, ...]
    down: tuple[int, ...]
    out: tuple[int, ...]

    @classmethod
    def of(cls, space: Space, in_channels: int) -> "_Room":
        depth = max(space.depths)
        own = [max(space.widths) * max(space.growths) ** level for level in range(depth)]
        passes = [level > 0 and "identity" in space.blocks for level in range(depth)]
        given: list[int] = []
        down: list[int] = []
        for level in range(depth):
            given.append(down[-1] if down else in_channels)
            down.append(max(own[level], given[level]) if passes[level] else own[level])
        out = [down[-1]]
        for level in reversed(range(depth - 1)):
            out.append(down[level] + out[-1] if passes[level] else own[level])
        return cls(tuple(own), tuple(given), tuple(down), tuple(reversed(out)))


class _SuperLevel(nn.Module):
    """Weights of one level: ``down`` of each block, and ``up``, ``join`` except in the deepest."""

    def __init__(self, space: Space, room: _Room, number: int) -> None:
        super().__init__()
        shape = {"kernel": max(space.kernels), "spatial_dims": space.spatial_dims}
        own = room.own[number]
        blocks = [name for name in space.blocks if BLOCKS[name].kind != "identity"]
        self.down = nn.ModuleDict(
            {name: make_block(name, room.given[number], own, **shape) for name in blocks}
        )
        if number == max(space.depths) - 1 or space.purpose == "classification":
            return
        self.up = nn.ModuleDict(
            {
                name: make_partner(name, room.out[number + 1], own, spatial_dims=space.spatial_dims)
                for name in blocks
            }
        )
        joined = room.down[number] + own
        self.join = nn.ModuleDict({name: make_block(name, joined, own, **shape) for name in blocks})


@lru_cache(maxsize=1024)
def _skeleton(space: Space, genotype: Genotype, in_channels: int, out_channels: int) -> Subnet:
    """Return a network without weights, which has their shapes and computes with given weights."""
    if genotype not in space:
        raise ConfigError(f"genotype {genotype} is not of the supernetwork's space: {space}")
    with torch.device("meta"):
        return Subnet(in_channels, out_channels, space.spatial_dims, genotype=genotype)


def _by_task(channels: int | Mapping[str, int]) -> dict[str, int]:
    return {"": channels} if isinstance(channels, int) else dict(channels)


def _part(name: str) -> str:
    """Return ``levels.2.down`` for ``levels.2.down.0.weight``, or ``head``."""
    return "head" if name.startswith("head.") else ".".join(name.split(".")[:3])


def _behind(places: Places, start: int) -> Places:
    return tuple(range(start + place.start, start + place.stop) for place in places)


def _part_of(shared: Tensor, shape: torch.Size, inputs: Places | None, *, in_axis: int) -> Tensor:
    """Return the first channels, the kernel's centre, and the given positions of the input."""
    for axis, size in enumerate(shape):
        if axis == in_axis and inputs is not None:
            pieces = [shared.narrow(axis, place.start, len(place)) for place in inputs]
            shared = pieces[0] if len(pieces) == 1 else torch.cat(pieces, axis)
        else:
            start = (shared.shape[axis] - size) // 2 if axis > 1 else 0
            shared = shared.narrow(axis, start, size)
    return shared


def _times(gate: Tensor) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    return lambda _module, _inputs, output: output * gate
