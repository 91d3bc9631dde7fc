"""`python -m analogmed.search`: search for networks that retain their score on a chip."""

import sys

from analogmed.cli.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("search"))
