"""`python -m analogmed.search`: networks that keep their Dice on the chip, and cost little."""

import sys

from analogmed.cli.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("search"))
