"""Cost of a hardware-aware training step, as a multiple of the digital one.

    python benchmarks/training.py [--only unet-256] [--quick] [--threads 2] [--json FILE]

A step consists of the forward pass with noise on weights and outputs and with 8-bit converters,
Dice and cross-entropy loss, the backward pass and AdamW. Contenders run as in ``forward.py``; slow
ones with one image.
"""

from _contenders import TRAINING_CONTENDERS, training_step
from _side_by_side import run
from _workloads import TRAINING


def main() -> None:
    """Measure the requested workloads, print a table of each, and write the results as JSON."""
    run("training", __doc__, TRAINING, training_step, TRAINING_CONTENDERS, slow_batch=1)


if __name__ == "__main__":
    main()
