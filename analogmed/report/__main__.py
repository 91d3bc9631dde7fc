"""`python -m analogmed.report`: what run folders hold, as one page."""

import sys

from analogmed.cli.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("report"))
