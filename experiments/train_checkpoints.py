"""Training of the shipped checkpoints: three small networks on the brain phantom, two trainings.

    python experiments/train_checkpoints.py            # train, and write half precision
    python experiments/train_checkpoints.py --convert  # write the present files in half precision

Each network is first trained digitally. From this start, one digital and one hardware-aware
training follow with the same number of epochs. Takes about twenty minutes on two cores; writes
analogmed/checkpoints/phantom_brain/.
"""

import argparse
from pathlib import Path

from _programs import in_parallel, train_pair

from analogmed.foundation.files import write_atomically
from analogmed.training.checkpoint.file import read_file, write_file
from analogmed.training.checkpoint.precision import in_precision

MODELS = {
    "unet": "{features: 8}",
    "unetpp": "{features: [8, 8, 16, 32, 64, 8]}",
    "swin_unetr": "{feature_size: 12}",
}
EPOCHS = ["--epochs=50", "--validate_every=10"]
RUNS = Path("runs/checkpoints")
SHIPPED = Path(__file__).parents[1] / "analogmed" / "checkpoints" / "phantom_brain"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--convert", action="store_true", help="convert the files, train nothing")
    if parser.parse_args().convert:
        for path in sorted(SHIPPED.glob("*.safetensors")):
            ship(path, path)
    else:
        in_parallel(train_one, MODELS, workers=2)


def train_one(model: str) -> None:
    """Train the digital start, and from it the two shipped networks."""
    network = [f"--model={model}", f"--model.options={MODELS[model]}"]
    _, *trained = train_pair(EPOCHS, network, RUNS / model)
    for folder in trained:
        ship(folder / "network.safetensors", SHIPPED / f"{model}-{folder.name}.safetensors")


def ship(trained: Path, shipped: Path) -> None:
    """Write a checkpoint whose weights have 8 significant bits, as float16.

    These are the bits of bfloat16. In a wheel, which is compressed, the files take 6.9 MB; stored
    as bfloat16 they would take 7.1 MB, as float16 without rounding 8.3 MB, as float32 16.6 MB.
    """
    description, tensors = read_file(trained)
    rounded = in_precision(tensors, "bfloat16", f"{trained}")
    halved = in_precision(rounded, "float16", f"{trained}")
    write_atomically(shipped, lambda file: write_file(file, description, halved))


if __name__ == "__main__":
    main()
