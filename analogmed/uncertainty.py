"""`python -m analogmed.uncertainty`: uncertainty of networks on chips, and its calibration."""

import sys
from collections.abc import Sequence

from analogmed.cli.main import run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run_command("uncertainty", arguments)


if __name__ == "__main__":
    sys.exit(main())
