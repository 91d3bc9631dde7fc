"""Passes through a network: reads of a chip, and other sources of passes."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from analogmed.analog import Chip
from analogmed.evaluation.settings import SweepConfig
from analogmed.foundation.seeds import derive_seed


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
    network: Callable[[Tensor], Tensor]
    restart: Callable[[str], object] | None = None

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
        chip = Chip(analog, seed=chip_seed(seed, model, number))
        for time_s in sweep.times_s:
            for read in range(sweep.reads):
                yield Pass.of_chip(chip, number, time_s, read)


def chip_seed(root: int, model: str, number: int) -> int:
    """Return the seed of a chip, which does not depend on the training of the network.

    All trainings of a model are therefore compared on the same chips.
    """
    return derive_seed(root, model, "chip", number)
