"""Big and light networks of chest X-rays: each step from one to the other apart, and on a chip.

    python experiments/lite_ai.py --root data/pneumoniamnist

The big network is a DenseNet that takes an X-ray as three equal channels. Steps that change it
without training: one channel, and norms that are folded into convolutions. Steps that are trained
again: mixed precision; the light classifier; images of half the size, without weights of pixels and
with those of the region of interest, in two ways; the big network as teacher; region of interest,
teacher and mixed precision together. A residual network of MONAI, which has parallel branches
unlike the others, shows the step of joining them. All are trained digitally for the same number of
epochs.

Writes table.md and table.csv into the run folder, and prints the table. Finished trainings are not
repeated. The region of interest needs minisom (pip install '.[roi]').
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from _programs import markdown, with_interval, write_table
from monai.networks.nets import Classifier
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

import analogmed as am
from analogmed.config import Hardware, ModelConfig, TaskConfig
from analogmed.data import Task
from analogmed.hardware import estimate, load_profile
from analogmed.models import build_model
from analogmed.models.classification.branches import join_branches
from analogmed.models.classification.repacking import fold_norms, with_one_channel
from analogmed.training import LossConfig, train

BIG = {"features": 32, "growth": 16, "blocks": [4, 4, 4]}
PRESET, DAY = "pcm", "1 day"
PROFILE, LEVEL = "hermes-1-phase", "mvm_only"
BATCH, CALIBRATION_IMAGES, PASSES, STEPS = 32, 256, 50, 10


class ThreeChannels(nn.Module):
    """DenseNet whose three input channels are one image; options as of ``densenet121``."""

    def __init__(
        self, in_channels: int, out_channels: int, spatial_dims: int = 2, **options: Any
    ) -> None:
        super().__init__()
        assert in_channels == 1
        self.network: nn.Module = build_model(
            "densenet121",
            in_channels=3,
            out_channels=out_channels,
            spatial_dims=spatial_dims,
            **options,
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images (B, 1, *spatial)."""
        logits: Tensor = self.network(images.expand(-1, 3, *images.shape[2:]))
        return logits

    def folded(self) -> "ThreeChannels":
        """Return a copy whose norms are folded into convolutions."""
        copy = ThreeChannels.__new__(ThreeChannels)
        nn.Module.__init__(copy)
        copy.network = fold_norms(self.network)
        return copy.eval()


def residual_network(in_channels: int, out_channels: int, spatial_dims: int = 2) -> nn.Module:
    """Return MONAI's classifier of three residual units for images of 32 x 32 pixels."""
    assert spatial_dims == 2
    return Classifier(
        in_shape=(in_channels, 32, 32),
        classes=out_channels,
        channels=(16, 32, 64),
        strides=(2, 2, 2),
        norm="batch",
        last_act=None,
    )


@dataclass(frozen=True)
class Trained:
    """A training.

    Attributes:
        model: name of the network.
        options: options of its builder.
        taught: whether the big network is the teacher.
        precision: number format of the training.
    """

    model: str
    options: dict[str, Any]
    taught: bool = False
    precision: str = "float32"


def _region(weighting: str) -> dict[str, Any]:
    return {"reduction": 2, "weighting": weighting}


BIG_NETWORK, RESIDUAL = "lite_ai:ThreeChannels", "lite_ai:residual_network"
TRAININGS = {
    "big": Trained(BIG_NETWORK, BIG),
    "big-bfloat16": Trained(BIG_NETWORK, BIG, precision="bfloat16"),
    "light": Trained("light_classifier", {}),
    "half": Trained("region_of_interest", _region("none")),
    "roi": Trained("region_of_interest", _region("multiply")),
    "roi-channel": Trained("region_of_interest", _region("channel")),
    "taught": Trained("light_classifier", {}, taught=True),
    "residual": Trained(RESIDUAL, {}),
    "all": Trained("region_of_interest", _region("multiply"), taught=True, precision="bfloat16"),
}


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        title: the network and its steps.
        training: key of ``TRAININGS``.
        change: what is done to the trained network.
    """

    title: str
    training: str
    change: Callable[[nn.Module], nn.Module] = lambda network: network


ROWS = (
    Row("big: DenseNet, three channels", "big"),
    Row("big, one channel", "big", lambda network: with_one_channel(network.network)),
    Row("big, folded norms", "big", ThreeChannels.folded),
    Row(
        "big, one channel and folded norms",
        "big",
        lambda network: fold_norms(with_one_channel(network.network)),
    ),
    Row("big, trained in bfloat16", "big-bfloat16"),
    Row("light classifier", "light"),
    Row("light, half the size", "half"),
    Row("light, half the size, region of interest", "roi"),
    Row("light, half the size, region of interest as a channel", "roi-channel"),
    Row("light, taught by big", "taught"),
    Row("light, region of interest, taught, bfloat16", "all"),
    Row("residual network", "residual"),
    Row("residual network, joined branches", "residual", join_branches),
    Row("residual network, folded norms", "residual", fold_norms),
    Row(
        "residual network, folded norms and joined branches",
        "residual",
        lambda network: join_branches(fold_norms(network)),
    ),
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="file or folder of a MedMNIST set")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--chips", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("runs/lite-ai"))
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    config = TaskConfig(name="medmnist", root=given.root)
    task = config.load()
    rows = []
    for row in ROWS:
        trained = train_one(row.training, config, task, given)
        rows.append(described(row, trained, task, given.chips))
        table = pd.DataFrame(rows)
        write_table(given.out, "table", table, markdown(table))
    print(markdown(table))


def train_one(
    name: str, config: TaskConfig, task: Task, arguments: argparse.Namespace
) -> nn.Module:
    """Return a network after its training, in evaluation mode."""
    settings = TRAININGS[name]
    loss = LossConfig()
    if settings.taught:
        loss = LossConfig(
            distillation=1.0, temperature=2.0, teacher=teacher(config, task, arguments)
        )
    path = train(
        task=config,
        model=ModelConfig(settings.model, settings.options),
        loss=loss,
        precision=settings.precision,
        epochs=arguments.epochs,
        batch_size=BATCH,
        validate_every=4,
        out=arguments.out / name,
    )
    return am.load_checkpoint(path, factories=(BIG_NETWORK, RESIDUAL)).network.eval()


def teacher(config: TaskConfig, task: Task, arguments: argparse.Namespace) -> Path:
    """Return the file of the big network with one channel, a DenseNet of the package."""
    path: Path = arguments.out / "teacher.safetensors"
    if not path.is_file():
        big: Any = train_one("big", config, task, arguments)
        seen = {case.patient_id for case in (*task.train, *task.validation)}
        info = am.CheckpointInfo.of_task(task, "densenet121", patients=seen, options=BIG)
        am.save_checkpoint(path, with_one_channel(big.network), info)
    return path


def described(row: Row, trained: nn.Module, task: Task, chips: int) -> dict[str, str]:
    """Return the columns of a row, which evaluate the network digitally and on chips."""
    network = row.change(trained).eval()
    test = list(batches(task, task.test))
    first = test[0][0]
    analog = am.convert(network, PRESET)
    every = max(1, len(task.train) // CALIBRATION_IMAGES)
    am.calibrate(analog, [images for images, _ in batches(task, task.train[::every])])
    scores = am.robustness(analog, test, metric="auroc", times=[DAY], chips=chips).table
    lowered = TRAININGS[row.training].precision == "bfloat16"
    shape = tuple(first[:1].shape)
    lay = partial(am.map_tiles, network, shape, row_split="channels")
    tiles = lay(Hardware(PRESET).tile_size)
    profile = load_profile(PROFILE)
    on_chip = estimate(lay(profile.tile_size), profile, LEVEL)
    print(row.title, scores.to_string(), sep="\n", flush=True)

    def shown(time: str, names: tuple[str, str, str]) -> str:
        return with_interval(*(float(scores.loc[time, name]) for name in names))

    return {
        "network": row.title,
        "parameters": f"{sum(p.numel() for p in network.parameters()):,}",
        "tiles": f"{tiles.summary()['tiles']:,.0f}",
        "products of a tile": f"{sum(m.tiles * m.reuse_factor for m in tiles.layers):,.0f}",
        "time on the chip (us)": f"{1e6 * on_chip.latency_s:.0f}",
        "memory of a training step (MB)": f"{stored_bytes(network, first, lowered) / 1e6:.1f}",
        "CPU time of a training step (ms)": steps_text(network, *test[0], lowered),
        "CPU time of a pass (ms)": f"{pass_ms(network, first[:1]):.1f}",
        "AUROC digital": shown("digital", ("auroc", "low", "high")),
        "AUROC after 1 day": shown(DAY, ("auroc", "low", "high")),
        "drop in 1 day": shown(DAY, ("drop", "drop_low", "drop_high")),
    }


def batches(task: Task, cases: tuple[Any, ...]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images (B, 1, H, W) and labels (B,) of cases with one image and one label."""
    for start in range(0, len(cases), BATCH):
        samples = [task.read(case) for case in cases[start : start + BATCH]]
        images = torch.cat([torch.from_numpy(sample.image) for sample in samples])
        labels = torch.cat([torch.from_numpy(sample.label) for sample in samples])
        yield images, labels.reshape(-1).long()


def stored_bytes(network: nn.Module, images: Tensor, lowered: bool) -> int:
    """Return the bytes that a forward pass in training stores for the backward pass.

    These are the tensors besides the parameters; gradients and the state of the optimizer come on
    top, 12 bytes for each parameter.
    """
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    stored: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            stored[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=lowered),
    ):
        logits = network.train()(images)
    network.eval()
    del logits
    return sum(stored.values())


def steps_text(network: nn.Module, images: Tensor, labels: Tensor, lowered: bool) -> str:
    """Return the median CPU time of a training step of a copy, in ms.

    With mixed precision, steps with it and without it are run in turn, and both are stated.
    """
    copy = deepcopy(network).train().requires_grad_()
    optimizer = torch.optim.AdamW(copy.parameters())
    times: dict[bool, list[float]] = {precision: [] for precision in (lowered, False)}
    for _ in range(STEPS):
        for precision, measured in times.items():
            begun = time.process_time()
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision):
                logits = copy(images)
            binary_cross_entropy_with_logits(logits[:, 0].float(), labels.float()).backward()
            optimizer.step()
            measured.append(time.process_time() - begun)
    medians = {
        precision: 1e3 * statistics.median(of_steps) for precision, of_steps in times.items()
    }
    full = f" (float32: {medians[False]:.0f})" if lowered else ""
    return f"{medians[lowered]:.0f}{full}"


def pass_ms(network: nn.Module, image: Tensor) -> float:
    """Return the median CPU time of a digital pass of one image, in ms."""
    times = []
    with torch.no_grad():
        for _ in range(PASSES):
            begun = time.process_time()
            network(image)
            times.append(time.process_time() - begun)
    return 1e3 * statistics.median(times)


if __name__ == "__main__":
    main()
