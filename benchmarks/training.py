"""What a hardware-aware training step costs, as a multiple of the digital one.

    python benchmarks/training.py [--only unet-256] [--quick] [--threads 2] [--json FILE]

A step is: forward with noise on the weights and on the outputs and with 8-bit converters, Dice and
cross-entropy loss, backward, AdamW. Contenders run as in ``forward.py``; slow ones one image.
"""

import argparse

from _compare import compare
from _contenders import TRAINING_CONTENDERS, training_step
from _report import Report, parser, prepare
from _table import show
from _workloads import TRAINING, Setup


def main() -> None:
    """Measure the workloads asked for, print a table of each, and write them as JSON."""
    arguments = _arguments()
    prepare(arguments.threads, arguments.device)
    report = Report("training", arguments)
    for name in arguments.only:
        workload = TRAINING[name].small() if arguments.quick else TRAINING[name]
        setup = Setup.of(workload, arguments.device)
        result = compare(
            setup,
            training_step,
            arguments.contenders,
            rounds=arguments.rounds,
            slow_batch=arguments.slow_batch,
        )
        report.add(name, {"workload": workload.describe(), **result})
        show(name, report.document)


def _arguments() -> argparse.Namespace:
    options = parser(__doc__, TRAINING)
    options.add_argument(
        "--contenders", nargs="+", choices=TRAINING_CONTENDERS, default=TRAINING_CONTENDERS
    )
    options.add_argument("--slow-batch", type=int, default=1, help="of slow contenders (default 1)")
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    return options.parse_args()


if __name__ == "__main__":
    main()
