"""Training of the shipped checkpoints: small networks on generated data, two trainings each.

    python experiments/train_checkpoints.py            # train, and write half precision
    python experiments/train_checkpoints.py --convert  # write the present files in half precision

Each network is first trained digitally. From this start, one digital and one hardware-aware
training follow with the same number of epochs. Takes about twenty minutes on two cores; writes
analogmed/checkpoints/, a folder for each task. --tasks chooses tasks.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from _programs import in_parallel, train_pair
from torch import Tensor

from analogmed.foundation.files import write_atomically
from analogmed.training.checkpoint.file import read_file, write_file
from analogmed.training.checkpoint.precision import in_precision


@dataclass(frozen=True)
class Network:
    """A shipped network.

    Args:
        task: name of the generated data set.
        model: name of the network.
        options: arguments of its builder, in YAML.
        settings: further settings of all its trainings.
        bits: significant bits of its stored weights, at most the 11 of float16.
    """

    task: str
    model: str
    options: str
    settings: tuple[str, ...]
    bits: int = 8


EPOCHS = ("--epochs=50", "--validate_every=10")
NETWORKS = (
    Network("phantom_brain", "unet", "{features: 8}", EPOCHS),
    Network("phantom_brain", "unetpp", "{features: [8, 8, 16, 32, 64, 8]}", EPOCHS),
    Network("phantom_brain", "swin_unetr", "{feature_size: 12}", EPOCHS, bits=7),
    Network(
        "phantom_chest",
        "light_classifier",
        "{features: [16, 16, 8], hidden: 16}",
        (
            *("--epochs=50", "--validate_every=25", "--batch_size=32"),
            *("--loading.augment=false", "--optimizer.learning_rate=0.005"),
        ),
        bits=7,
    ),
    Network(
        "phantom_ecg",
        "s4d_ncp",
        "{size: small, pool: 32}",
        ("--epochs=10", "--validate_every=10", "--batch_size=64", "--loss.class_weights=balanced"),
        bits=7,
    ),
)
RUNS = Path("runs/checkpoints")
SHIPPED = Path(__file__).parents[1] / "analogmed" / "checkpoints"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--convert", action="store_true", help="convert the files, train nothing")
    tasks = sorted({network.task for network in NETWORKS})
    parser.add_argument("--tasks", nargs="+", choices=tasks, default=tasks, metavar="TASK")
    arguments = parser.parse_args()
    networks = [network for network in NETWORKS if network.task in arguments.tasks]
    if arguments.convert:
        for network in networks:
            for path in shipped_files(network):
                ship(path, path, network.bits)
    else:
        in_parallel(train_one, networks, workers=2)


def train_one(network: Network) -> None:
    """Train the digital start, and from it the two shipped networks."""
    model = [f"--model={network.model}", f"--model.options={network.options}"]
    training = [f"--task={network.task}", *network.settings]
    _, *trained = train_pair(training, model, RUNS / network.task / network.model)
    for folder, shipped in zip(trained, shipped_files(network), strict=True):
        ship(folder / "network.safetensors", shipped, network.bits)


def shipped_files(network: Network) -> list[Path]:
    """Return the files of a network, trained digitally and hardware-aware."""
    folder = SHIPPED / network.task
    return [folder / f"{network.model}-{training}.safetensors" for training in ("digital", "hwa")]


def ship(trained: Path, shipped: Path, bits: int) -> None:
    """Write a checkpoint whose weights have a number of significant bits, as float16.

    A wheel is compressed, so that bits without information take little room: the six networks of
    the brain phantom take 6.5 MB there, 8.3 MB without rounding, and 16.6 MB as float32.
    """
    description, tensors = read_file(trained)
    halved = in_precision(tensors, "float16", f"{trained}")
    rounded = {
        name: rounded_to(tensors[name], bits).to(tensor.dtype)
        if tensor.dtype == torch.float16
        else tensor
        for name, tensor in halved.items()
    }
    write_atomically(shipped, lambda file: write_file(file, description, rounded))


def rounded_to(values: Tensor, bits: int) -> Tensor:
    """Round each value to a number of significant bits."""
    fraction, exponent = torch.frexp(values.float())
    return torch.ldexp(torch.round(fraction * 2**bits) / 2**bits, exponent)


if __name__ == "__main__":
    main()
