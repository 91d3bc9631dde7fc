"""What an analog forward pass costs, as a multiple of the digital one on the same machine.

    python benchmarks/forward.py [--only unet-256 unet-512] [--quick] [--threads 2] [--json FILE]

Every contender runs in this one process with the same allocator, in turn, round by round. Ratios
are against the digital network in torch's default memory layout (NCHW) of the same round.
"""

import argparse
import copy
import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from _timing import interleaved
from torch import Tensor, nn

import analogmed as am
from analogmed.allocator import keep_freed_memory
from analogmed.analog import to_aihwkit

DAY_S = 86_400.0


@dataclass(frozen=True)
class Workload:
    """A network, its input and the tiles.

    Attributes:
        model: name of the network.
        shape: of the input, (B, C, *spatial).
        tile_size: rows and columns of a tile.
        target: ratio to reach.
        options: of the network.
    """

    model: str
    shape: tuple[int, ...]
    tile_size: int
    target: float
    options: dict[str, Any] = field(default_factory=dict)


WORKLOADS = {
    "unet-256": Workload("unet", (8, 3, 256, 256), 256, 1.25, {"features": 32}),
    "unet-512": Workload("unet", (8, 3, 256, 256), 512, 1.1, {"features": 32}),
    "unetpp": Workload("unetpp", (8, 3, 256, 256), 256, 1.4),
    "swin-2d": Workload("swin_unetr", (8, 3, 256, 256), 256, 1.4),
    "unet-3d": Workload("unet", (1, 1, 64, 64, 64), 256, 2.0, {"spatial_dims": 3, "features": 32}),
}


def main() -> None:
    """Measure the workloads asked for, print a table of each, and write them as JSON."""
    arguments = _arguments()
    keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    torch.set_grad_enabled(False)
    results = {}
    for name in arguments.only:
        results[name] = measure(WORKLOADS[name], arguments)
        print(_table(name, WORKLOADS[name], results[name], arguments.quick), flush=True)
    if arguments.json:
        document = {"machine": _machine(), "threads": arguments.threads, "results": results}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


def measure(workload: Workload, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Time every contender on one workload."""
    torch.manual_seed(0)
    options = {"spatial_dims": 2, **workload.options}
    model = am.build_model(
        workload.model, in_channels=workload.shape[1], out_channels=1, **options
    ).eval()
    images = torch.randn(_shape(workload, arguments.quick))
    contenders = _contenders(model, images, workload.tile_size, arguments.contenders)
    timings = interleaved(contenders, rounds=arguments.rounds)
    return {name: timing.summary(timings["digital"]) for name, timing in timings.items()}


def _shape(workload: Workload, quick: bool) -> tuple[int, ...]:
    batch = min(2, workload.shape[0]) if quick else workload.shape[0]
    return batch, *workload.shape[1:]


def _contenders(
    model: nn.Module, images: Tensor, tile_size: int, wanted: list[str]
) -> dict[str, Callable[[], object]]:
    config = am.create_rpu_config("pcm", tile_size=tile_size)
    analog = am.calibrate(am.convert(model, config), [images[:1]])
    by_torch = am.convert(model, config, backend="torch")
    by_torch.load_state_dict(analog.state_dict())
    last = torch.channels_last if images.ndim == 4 else torch.channels_last_3d
    images_last = images.contiguous(memory_format=last)
    model_last = copy.deepcopy(model).to(memory_format=last)
    networks: dict[str, Callable[[], Callable[[], object]]] = {
        "digital": lambda: lambda: model(images),
        "digital channels_last": lambda: lambda: model_last(images_last),
        "numba": lambda: _on_chip(analog, images),
        "torch": lambda: _on_chip(by_torch, images),
        "aihwkit": lambda: _on_chip(to_aihwkit(by_torch), images),
    }
    return {name: networks[name]() for name in networks if name in {"digital", *wanted}}


def _on_chip(network: nn.Module, images: Tensor) -> Callable[[], object]:
    reading = am.Chip(network, seed=0).at(DAY_S)
    return lambda: reading(images)


def _table(name: str, workload: Workload, results: dict[str, dict[str, float]], quick: bool) -> str:
    shape = "x".join(map(str, _shape(workload, quick)))
    lines = [
        f"{name}: {workload.model} {shape}, tile {workload.tile_size}, target {workload.target} x",
        f"{'':24}{'wall s':>9}{'x digital (spread)':>24}{'cpu s':>9}{'x digital (spread)':>24}",
    ]
    for contender, row in results.items():
        cells = [
            f"{row[f'{kind}_s']:9.3f}{row[f'{kind}_ratio']:9.2f} "
            f"({row[f'{kind}_ratio_lowest']:.2f} to {row[f'{kind}_ratio_highest']:.2f})".ljust(33)
            for kind in ("wall", "cpu")
        ]
        lines.append(f"{contender:24}" + "".join(cells))
    return "\n".join(lines) + "\n"


def _machine() -> dict[str, Any]:
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "torch": torch.__version__,
    }


def _arguments() -> argparse.Namespace:
    names = ["digital channels_last", "numba", "torch", "aihwkit"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--contenders", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="batches of at most 2 images")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
