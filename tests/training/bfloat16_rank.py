"""One rank of distributed training in bfloat16: writes gradients and statistics after one step."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from analogmed.training.distributed import Ranks


def step(rank: int = 0, size: int = 1) -> dict[str, torch.Tensor]:
    """Gradients, and statistics of batch normalisation, by name."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),  # normalised away
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 1, 1),
    )
    images = 3.0 + torch.randn(4, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    labels = (images.sum(1, keepdim=True) > 9.0).float()
    ranks = Ranks(rank, size)
    network = ranks.wrap(model).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = network(images[rank::size])
    assert outputs.dtype == torch.bfloat16
    outputs, labels = ranks.gathered(outputs, labels[rank::size])
    nn.functional.binary_cross_entropy_with_logits(outputs.float(), labels).backward()
    gradients = {f"gradient of {name}": p.grad for name, p in model.named_parameters()}
    return gradients | {name: b.double() for name, b in model.named_buffers()}


if __name__ == "__main__":
    folder, number = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    place = (folder / "rendezvous").as_uri()
    dist.init_process_group("gloo", init_method=place, rank=number, world_size=2)
    torch.save(step(number, 2), folder / f"{number}.pt")
    dist.destroy_process_group()
