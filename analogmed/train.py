"""`python -m analogmed.train`: train a network digitally, or hardware-aware for a chip."""

import sys
from collections.abc import Sequence

from analogmed.cli.main import run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run_command("train", arguments)


if __name__ == "__main__":
    sys.exit(main())
