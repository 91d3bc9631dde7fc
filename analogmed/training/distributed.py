"""One process, or the ranks that torchrun has started, which together compute the same.

Ranks share each batch. What depends on the whole batch is computed from all of it: batch
normalisation sums over ranks, and the loss sees the outputs of all. The objective of all ranks
together is then N times that of one process, and the mean over ranks of their gradients is its
gradient.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from analogmed.analog import ignore_unused_parameters
from analogmed.foundation.errors import ConfigError

_PATIENCE = timedelta(hours=6)  # ranks wait for the first one, which validates and writes


@dataclass(frozen=True)
class Ranks:
    """The processes of a run.

    Attributes:
        rank: number of this one.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this one validates, writes and shows progress."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """The device of this rank: of several GPUs, ``cuda`` is the one of its own number.

        Raises:
            ConfigError: all ranks are told to compute on one GPU.
        """
        if name.startswith("cuda:") and self.size > 1:
            raise ConfigError(f"device {name} would serve {self.size} processes; give cuda")
        if name == "cuda" and self.size > 1:
            return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        return torch.device(name)

    def share_of(self, batch_size: int) -> int:
        """Entries of a batch that this rank takes.

        Raises:
            ConfigError: the batch cannot be shared evenly.
        """
        if batch_size % self.size:
            raise ConfigError(
                f"batch_size {batch_size} cannot be shared by {self.size} processes; "
                f"take a multiple of {self.size}"
            )
        return batch_size // self.size

    def wrap(self, model: nn.Module) -> nn.Module:
        """The network to call in training; its gradients become means over ranks."""
        if self.size == 1:
            return model
        ignore_unused_parameters(model)
        return DistributedDataParallel(_with_shared_norms(model), forward_sync_buffers=False)

    def gather(self, part: Tensor) -> Tensor:
        """The whole batch, of which each rank has the entries ``rank::size``; with gradients."""
        if self.size == 1:
            return part
        whole = part.new_zeros((len(part) * self.size, *part.shape[1:]))
        whole[self.rank :: self.size] = part
        return _sum_over_ranks(whole)

    def gathered(self, *parts: Tensor | Sequence[Tensor]) -> Iterator[Any]:
        """The same of several, each a tensor or a sequence of them."""
        for part in parts:
            yield self.gather(part) if isinstance(part, Tensor) else [*map(self.gather, part)]

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.size > 1:
            dist.barrier()

    def first_says(self, value: float) -> float:
        """What the first rank has found, on all ranks."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64)
        if dist.get_backend() == "nccl":
            shared = shared.cuda()
        dist.broadcast(shared, src=0)
        return float(shared)


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """The ranks that torchrun has started; a single one without it.

    All ranks join equally often; each time they form a group of its own.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Ranks()
        return
    if device.startswith("cuda"):
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    store, rank = _meeting_place(os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT"))
    number = store.add(f"groups that rank {rank} joined", 1)
    dist.init_process_group(
        "nccl" if device.startswith("cuda") else "gloo",
        store=dist.PrefixStore(f"group {number}", store),
        rank=rank,
        world_size=size,
        timeout=_PATIENCE,
    )
    try:
        yield Ranks(rank, size)
    finally:
        dist.destroy_process_group()


@cache
def _meeting_place(address: str | None, port: str | None) -> tuple[dist.Store, int]:
    """Where ranks find each other, and the number of this one.

    It outlives a group, whose addresses stay there: a later group that read them would wait for
    ranks that are gone.
    """
    store, rank, _ = next(dist.rendezvous("env://", timeout=_PATIENCE))
    store.set_timeout(_PATIENCE)
    return store, rank


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def _sum_over_ranks(values: Tensor) -> Tensor:
    summed = _SumOverRanks.apply(values)
    assert isinstance(summed, Tensor)
    return summed


def _with_shared_norms(model: nn.Module) -> nn.Module:
    """Batch normalisation over the batch of all ranks, in place; torch has it for GPUs only."""
    if next(model.parameters()).is_cuda:
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.__class__ = _SharedNorm
    return model


class _SharedNorm(_BatchNorm):
    """Batch normalisation with the statistics of all ranks."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:  # on one rank only: without running statistics, those of its batch
            return nn.functional.batch_norm(
                input,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                training=self.running_mean is None,
                eps=self.eps,
            )
        given, input = input.dtype, input.float()  # sums of many values, whatever autocast says
        axes = (0, *range(2, input.ndim))
        count = input.numel() // input.shape[1] * dist.get_world_size()
        mean = _sum_over_ranks(input.sum(axes)) / count
        centred = input - _along_channels(mean, input)
        variance = _sum_over_ranks(centred.square().sum(axes)) / count
        self._remember(mean.detach(), variance.detach() * count / max(count - 1, 1))
        outputs = centred * _along_channels(torch.rsqrt(variance + self.eps), input)
        if self.affine:
            outputs = outputs * _along_channels(self.weight, input)
            outputs = outputs + _along_channels(self.bias, input)
        return outputs.to(given)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1 / int(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


def _along_channels(values: Tensor, inputs: Tensor) -> Tensor:
    return values.reshape(1, -1, *(1,) * (inputs.ndim - 2))
