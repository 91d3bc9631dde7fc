"""`python -m analogmed.hardware`: tiles, latency and energy of networks on a chip."""

import sys

from analogmed.cli.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("hardware"))
