"""What an analog forward pass costs, as a multiple of the digital one on the same machine.

    python benchmarks/forward.py [--only unet-256 unet-512] [--quick] [--threads 2] [--json FILE]

Every contender runs in this one process with the same allocator, in turn, round by round. Ratios
are against the digital network in torch's default memory layout (NCHW) of the same round and batch.
Slow contenders run a smaller batch and at most 3 rounds.
"""

import argparse

from _compare import compare
from _contenders import FORWARD_CONTENDERS, forward_pass
from _report import Report, parser, prepare
from _table import show
from _workloads import FORWARD, Setup


def main() -> None:
    """Measure the workloads asked for, print a table of each, and write them as JSON."""
    arguments = _arguments()
    prepare(arguments.threads, arguments.device)
    report = Report("forward", arguments)
    for name in arguments.only:
        workload = FORWARD[name].small() if arguments.quick else FORWARD[name]
        setup = Setup.of(workload, arguments.device)
        result = compare(
            setup,
            forward_pass,
            arguments.contenders,
            rounds=arguments.rounds,
            slow_batch=arguments.slow_batch,
        )
        report.add(name, {"workload": workload.describe(), **result})
        show(name, report.document)


def _arguments() -> argparse.Namespace:
    options = parser(__doc__, FORWARD)
    options.add_argument(
        "--contenders", nargs="+", choices=FORWARD_CONTENDERS, default=FORWARD_CONTENDERS
    )
    options.add_argument("--slow-batch", type=int, default=2, help="of slow contenders (default 2)")
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    return options.parse_args()


if __name__ == "__main__":
    main()
