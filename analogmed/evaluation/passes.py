"""Passes through a network: reads of a chip, and other sources of passes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from analogmed.analog import Chip
from analogmed.data import Sample, Task
from analogmed.data.samples import naming_case
from analogmed.evaluation.settings import Experiment, SweepConfig
from analogmed.foundation.seeds import derive_seed
from analogmed.network.inference import predict_each, require_finite

DIGITAL_TIME_S = float("nan")
"""Time of a pass without a chip."""

Network = Callable[[Tensor], Tensor]
Restart = Callable[[str], object]


@dataclass(frozen=True)
class Pass:
    """One forward pass of a network.

    Attributes:
        time_s: seconds after programming; NaN without a chip.
        chip: number of the chip; one constant number without a chip.
        read: number of the read, draw or member.
        network: function from images to logits.
        restart: function that restarts the noise at an address; ``None`` without noise.
    """

    time_s: float
    chip: int
    read: int
    network: Network
    restart: Restart | None = None

    @classmethod
    def digital(cls, network: Network, read: int = 0, restart: Restart | None = None) -> "Pass":
        """Return a pass without a chip.

        Args:
            network: function from images to logits.
            read: number of the draw or member.
            restart: function that restarts the noise at an address; ``None`` without noise.
        """
        return cls(DIGITAL_TIME_S, 0, read, network, restart)

    @classmethod
    def of_chip(cls, chip: Chip, number: int, time_s: float, read: int) -> "Pass":
        """Return one read of a chip at a time.

        Args:
            chip: programmed chip.
            number: number of the chip.
            time_s: seconds after programming.
            read: number of the read, 0 or more.
        """
        snapshot = chip.at(time_s, read)
        return cls(time_s, number, read, snapshot, snapshot.restart)

    def start(self, case_id: str) -> None:
        """Restart the noise for a case, so that results do not depend on the order of cases."""
        if self.restart is not None:
            self.restart(case_id)


def chip_passes(
    analog: nn.Module, sweep: SweepConfig, *, model: str, seed: int, chips: Iterable[int]
) -> Iterator[Pass]:
    """Program chips, and yield each at all times and reads of a sweep.

    Args:
        analog: network on tiles.
        sweep: times and reads.
        model: name of the network, part of the seed of a chip.
        seed: root seed.
        chips: numbers of the chips.
    """
    for number in chips:
        chip = program_chip(analog, model=model, seed=seed, number=number)
        for time_s, read in sweep.readings:
            yield Pass.of_chip(chip, number, time_s, read)


def program_chip(analog: nn.Module, *, model: str, seed: int, number: int) -> Chip:
    """Return a programmed chip; see :func:`chip_passes`."""
    return Chip(analog, seed=chip_seed(seed, model, number))


def chip_seed(root: int, model: str, number: int) -> int:
    """Return the seed of a chip, which does not depend on the training of the network.

    All trainings of a model are therefore compared on the same chips.
    """
    return derive_seed(root, model, "chip", number)


def predict_case(one: Pass, sample: Sample, task: Task, config: Experiment) -> Tensor:
    """Compute the logits of one case in one pass, shape (N, K, *spatial).

    Raises:
        NonFiniteError: a logit is NaN or Inf; the message names the case.
    """
    (logits,) = predict_cases(one, [sample], task, config)
    return logits


@torch.inference_mode()
def predict_cases(
    one: Pass, samples: Sequence[Sample], task: Task, config: Experiment
) -> tuple[Tensor, ...]:
    """Compute the logits of cases that are predicted together.

    The noise restarts at the first case.

    Args:
        one: pass through a network.
        samples: cases; their images have one size if there are several cases.
        task: task with the window.
        config: settings with batch size and device.

    Returns:
        logits of each case, shape (N, K, *spatial).

    Raises:
        NonFiniteError: a logit is NaN or Inf; the message names the case.
    """
    first = samples[0].case
    one.start(first.case_id)
    with naming_case(first):
        logits = predict_each(
            one.network,
            [torch.from_numpy(sample.image).to(config.device) for sample in samples],
            window=task.window,
            batch_size=config.images_per_pass,
        )
    for sample, of_case in zip(samples, logits, strict=True):
        with naming_case(sample.case):
            require_finite(of_case)
    return logits
