"""`python -m analogmed.train`: digital or hardware-aware training of a network."""

import os
import shlex
import sys

from analogmed.cli.options import to_options
from analogmed.cli.parse import parse
from analogmed.evaluation.settings import Experiment
from analogmed.foundation.logs import log_to_stderr
from analogmed.training.settings import TrainConfig

EXAMPLES = """examples:
  python -m analogmed.train --model unet --model.options.features 8
      a small U-Net on the embedded brain phantom, into runs/train/phantom_brain-unet-digital/
  python -m analogmed.train --training hwa --init runs/train/phantom_brain-unet-digital
      the same network, trained on for a chip
  python -m analogmed.train --training hwa --task lgg --task.root data/lgg --out runs/lgg
      both on real data: first digitally, into runs/lgg/digital, then for a chip
  torchrun --nproc-per-node 2 -m analogmed.train --device cuda --batch_size 16
      on two GPUs, which share each batch

A run that was interrupted goes on after its last epoch when the same command is given again.
"""


def main(arguments: list[str]) -> None:
    """Train the network and print a summary of the result."""
    config = parse(TrainConfig, arguments, prog="analogmed.train", epilog=EXAMPLES)
    from analogmed.training import load_checkpoint, train  # takes seconds: not for --help
    from analogmed.training.log import LOGGER, logged_metric
    from analogmed.training.outcome import outcome_of

    try:
        with log_to_stderr(LOGGER):
            path = train(config)
    except KeyboardInterrupt:
        print(f"the same command goes on after the last epoch in {config.folder}", file=sys.stderr)
        raise
    if int(os.environ.get("RANK", "0")) == 0:
        info = load_checkpoint(path, factories=(config.model.name,)).info
        where = "on chips after a day" if info.training == "hwa" else "digital"
        label = logged_metric(config.folder).label
        print(f"{path}: {info.model}, validation {label} {info.score:.3f} ({where})")
        if config.training == "hwa":
            print(f"{label} on validation cases: {outcome_of(config.folder)}")
        print(f"log and curves: {config.folder}/; evaluate it with")
        print(_evaluation(config, info.model))


def _evaluation(config: TrainConfig, model: str) -> str:
    """Return the command that evaluates a run with the same data, split and chip."""
    from analogmed.training.preparation import digital_stage

    stage = digital_stage(config)
    experiment = Experiment(
        task=config.task,
        checkpoints=(config.folder,) if stage is None else (stage.folder, config.folder),
        factories=(model,) if ":" in model else (),
        hardware=config.hardware,
        digital_layers=config.digital_layers or None,
    )
    return shlex.join(["python", "-m", "analogmed.eval", *to_options(experiment)])
