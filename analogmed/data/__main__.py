"""`python -m analogmed.data`: verify a data set, write a phantom, download a Decathlon task."""

import sys

from analogmed.cli.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("data"))
