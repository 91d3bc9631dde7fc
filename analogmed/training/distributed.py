"""Training in one process, or in the ranks started by torchrun, with the same results.

Ranks share each batch. Everything that depends on the whole batch is computed from all of it:
batch normalisation sums over ranks, and the loss receives the outputs of all ranks. The objective
of all ranks together is then N times that of one process, and the mean over ranks of their
gradients is its gradient.
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
    """Processes of a run.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process validates, writes and shows progress."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """Return the device of this rank: of several GPUs, ``cuda`` is the one with its own number.

        Raises:
            ConfigError: all ranks would compute on one GPU.
        """
        if name.startswith("cuda:") and self.size > 1:
            raise ConfigError(f"device {name} would serve {self.size} processes; give cuda")
        if name == "cuda" and self.size > 1:
            return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        return torch.device(name)

    def share_of(self, batch_size: int) -> int:
        """Return the number of entries of a batch that this rank processes.

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
        """Return the network to call in training; its gradients become means over ranks."""
        if self.size == 1:
            return model
        ignore_unused_parameters(model)
        return DistributedDataParallel(_with_shared_norms(model), forward_sync_buffers=False)

    def gather(self, part: Tensor) -> Tensor:
        """Return the whole batch with gradients; each rank has the entries ``rank::size``."""
        if self.size == 1:
            return part
        whole = part.new_zeros((len(part) * self.size, *part.shape[1:]))
        whole[self.rank :: self.size] = part
        return _sum_over_ranks(whole)

    def gathered(self, *parts: Tensor | Sequence[Tensor]) -> Iterator[Any]:
        """Yield the whole batch of several parts, each a tensor or a sequence of tensors."""
        for part in parts:
            yield self.gather(part) if isinstance(part, Tensor) else [*map(self.gather, part)]

    def average_gradients(self, model: nn.Module) -> None:
        """Replace gradients by means over ranks, for a model that is not wrapped.

        All ranks must have gradients for the same parameters.
        """
        if self.size == 1:
            return
        gradients = [each.grad for each in model.parameters() if each.grad is not None]
        together = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(together)
        together /= self.size
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, mean in zip(gradients, together.split(sizes), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def wait(self) -> None:
        """Wait until all ranks have reached this point."""
        if self.size > 1:
            dist.barrier()

    def first_says(self, value: float) -> float:
        """Return the first rank's value on all ranks."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64)
        if dist.get_backend() == "nccl":
            shared = shared.cuda()
        dist.broadcast(shared, src=0)
        return float(shared)


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the ranks that torchrun has started; without it, yield a single one.

    All ranks join equally often; each time they form a separate group.
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
    """Return the store for the rendezvous of the ranks, and the number of this rank.

    The store outlives a group, whose addresses stay in it: a later group that read them would wait
    for ranks that no longer exist.
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
    """Normalise over the batch of all ranks, in place; torch supports this for GPUs only."""
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
        given, input = input.dtype, input.float()  # sums of many values, regardless of autocast
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


def missing_device(name: str, error: Exception) -> ConfigError:
    """Return the error of a device on which torch cannot compute."""
    is_unknown = "Expected one of" in str(error)
    why = "expected cpu, cuda, or cuda:0 of several GPUs" if is_unknown else str(error)
    return ConfigError(f"device '{name}' is not there: {why}")
