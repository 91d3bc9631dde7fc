"""`python -m analogmed.train`: train a network digitally, or hardware-aware for a chip."""

import sys

from analogmed.cli import parse, run
from analogmed.training import load_checkpoint, train
from analogmed.training.config import TrainConfig

EXAMPLES = """examples:
  python -m analogmed.train --model unet --model.options.features 8 --out unet.safetensors
      a small U-Net on the embedded brain phantom
  python -m analogmed.train --training hwa --init unet.safetensors --learning_rate 5e-4 \\
      --epochs 30 --out unet-hwa.safetensors
      the same network, trained on for a chip
  python -m analogmed.train --task lgg --task.root data/lgg --out lgg.safetensors
      real data
"""


def main(arguments: list[str]) -> None:
    """Train, and say what came of it."""
    config = parse(TrainConfig, arguments, prog="analogmed.train", epilog=EXAMPLES)
    path = train(config)
    info = load_checkpoint(path, factories=(config.model.name,)).info
    where = "on chips after a day" if info.training == "hwa" else "digital"
    print(f"{path}: {info.model}, validation Dice {info.score:.3f} ({where})")


if __name__ == "__main__":
    sys.exit(run(main))
