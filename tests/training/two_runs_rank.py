"""One rank of distributed training, with several runs one after the other: files of settings."""

import sys

from analogmed.cli.parse import parse
from analogmed.training import TrainConfig, train

if __name__ == "__main__":
    for path in sys.argv[1:]:
        train(parse(TrainConfig, [f"--config={path}"], prog="two_runs_rank"))
