"""`python -m analogmed.train`: train a network digitally, or hardware-aware for a chip."""

import os
import sys

from analogmed.cli import parse, run
from analogmed.training import TrainConfig, load_checkpoint, train

EXAMPLES = """examples:
  python -m analogmed.train --model unet --model.options.features 8
      a small U-Net on the embedded brain phantom, into runs/train/phantom_brain-unet-digital/
  python -m analogmed.train --training hwa --init runs/train/phantom_brain-unet-digital
      the same network, trained on for a chip
  python -m analogmed.train --training hwa --task lgg --task.root data/lgg --out runs/lgg
      both on real data: first digitally, into runs/lgg/digital, then for a chip
  torchrun --nproc-per-node 2 -m analogmed.train --device cuda --batch_size 16
      on two GPUs, which share each batch

A run that was interrupted goes on after its last epoch when the same command is given again.
"""


def main(arguments: list[str]) -> None:
    """Train, and say what came of it."""
    config = parse(TrainConfig, arguments, prog="analogmed.train", epilog=EXAMPLES)
    try:
        path = train(config)
    except KeyboardInterrupt:
        print(f"the same command goes on after the last epoch in {config.folder}", file=sys.stderr)
        raise
    if int(os.environ.get("RANK", "0")) == 0:
        info = load_checkpoint(path, factories=(config.model.name,)).info
        where = "on chips after a day" if info.training == "hwa" else "digital"
        print(f"{path}: {info.model}, validation Dice {info.score:.3f} ({where})")
        print(f"log and curves: {config.folder}/; evaluate it with --checkpoints {config.folder}")


if __name__ == "__main__":
    sys.exit(run(main))
