"""`python -m analogmed.eval`: what each network loses on a chip, now, in a day, in a month."""

import sys
from collections.abc import Sequence

from analogmed.cli.main import run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run_command("eval", arguments)


if __name__ == "__main__":
    sys.exit(main())
