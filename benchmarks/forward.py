"""Cost of an analog forward pass, as a multiple of the digital one on the same machine.

    python benchmarks/forward.py [--only unet-256 unet-512] [--quick] [--threads 2] [--json FILE]

Every contender runs in this process with the same allocator, in turn, round by round. Ratios refer
to the digital network in torch's default memory layout (NCHW), in the same round and with the same
batch size. Slow contenders run a smaller batch and at most 3 rounds.
"""

from _contenders import FORWARD_CONTENDERS, forward_pass
from _side_by_side import run
from _workloads import FORWARD


def main() -> None:
    """Measure the requested workloads, print a table of each, and write the results as JSON."""
    run("forward", __doc__, FORWARD, forward_pass, FORWARD_CONTENDERS, slow_batch=2)


if __name__ == "__main__":
    main()
