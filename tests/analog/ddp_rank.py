"""One rank of distributed training: writes the gradients of its replicas after one step."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from analogmed.analog import (
    TrainingNoise,
    calibrate,
    convert,
    create_rpu_config,
    ignore_unused_parameters,
)


def network(backend: str, noise: str) -> nn.Module:
    """Analog, the same in all processes; noise off, or that of weights only."""
    torch.manual_seed(0)
    digital = nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1),
        nn.InstanceNorm2d(12, affine=True),
        nn.ReLU(),
        nn.ConvTranspose2d(12, 6, 2, 2),
        nn.Conv2d(6, 2, 1),
    )
    off = {"dac_steps": 0, "adc_steps": 0, "out_noise": 0.0, "input_range_decay": 0.0}
    modifier = {} if noise != "off" else {"modifier": "none"}
    config = create_rpu_config("pcm", tile_size=(30, 5), **off, **modifier)
    model = convert(digital, config, backend=backend)
    return calibrate(model, [images()], quantile=0.99).train()


def images() -> torch.Tensor:
    """The batch of all ranks together."""
    return torch.randn(4, 3, 10, 10, generator=torch.Generator().manual_seed(1))


def gradients(backend: str, noise: str, rank: int = 0, size: int = 1) -> dict[str, torch.Tensor]:
    """Of one step, by the name of the parameter."""
    model = network(backend, noise)
    ignored = ignore_unused_parameters(model)
    replica = model if size == 1 else DistributedDataParallel(model)
    kind = "chips" if noise == "chips" else "modifier"
    with TrainingNoise(replica, weights=kind, rank=rank).step(0):
        replica(images()[rank::size]).square().mean().backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert {name for name, gradient in found.items() if gradient is None} == ignored
    return {name: gradient for name, gradient in found.items() if gradient is not None}


if __name__ == "__main__":
    folder, number, total, *settings = sys.argv[1:]
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=(Path(folder) / "rendezvous").as_uri(),
        rank=int(number),
        world_size=int(total),
    )
    found = {each: gradients(*each.split("-"), int(number), int(total)) for each in settings}
    torch.save(found, Path(folder) / f"{number}.pt")
    dist.destroy_process_group()
