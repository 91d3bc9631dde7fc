"""Program of a benchmark that times contenders side by side on several workloads."""

from _compare import Build, compare
from _report import Report, parser, prepare
from _table import show
from _workloads import Setup, Workload


def run(
    benchmark: str,
    description: str | None,
    workloads: dict[str, Workload],
    build: Build,
    contenders: tuple[str, ...],
    *,
    slow_batch: int,
) -> None:
    """Measure the requested workloads, print a table of each, and write the results as JSON.

    Args:
        benchmark: name of the benchmark in the JSON file.
        description: text of ``--help``.
        workloads: workloads by name.
        build: function that returns one run of a contender.
        contenders: names of the contenders.
        slow_batch: default batch size of slow contenders.
    """
    options = parser(description, workloads)
    options.add_argument("--contenders", nargs="+", choices=contenders, default=contenders)
    options.add_argument(
        "--slow-batch",
        type=int,
        default=slow_batch,
        help=f"of slow contenders (default {slow_batch})",
    )
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = options.parse_args()
    prepare(arguments.threads, arguments.device)
    report = Report(benchmark, arguments)
    for name in arguments.only:
        workload = workloads[name].small() if arguments.quick else workloads[name]
        setup = Setup.of(workload, arguments.device)
        result = compare(
            setup,
            build,
            arguments.contenders,
            rounds=arguments.rounds,
            slow_batch=arguments.slow_batch,
        )
        report.add(name, {"workload": workload.describe(), **result})
        show(name, report.document)
