"""`python -m analogmed.sensitivity`: which layers and noise sources a network loses Dice to."""

import sys
from collections.abc import Sequence

from analogmed.cli.main import run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run_command("sensitivity", arguments)


if __name__ == "__main__":
    sys.exit(main())
