"""`python -m analogmed.report`: one page with the results of run folders."""

import sys

from analogmed.cli.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("report"))
