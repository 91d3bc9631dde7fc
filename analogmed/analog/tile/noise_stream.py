"""Where a layer's noise comes from while a chip is read."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Draw:
    """The address of the noise of one matrix product; its parts, row of tiles and position aside.

    Attributes:
        key: 64 bits.
        first_sample: number of the batch's first sample.
        samples: samples in the batch.
        use: how often the layer was used before in the same forward.
    """

    key: int
    first_sample: int = 0
    samples: int = 1
    use: int = 0

    @classmethod
    def from_torch(cls) -> "Draw":
        """An address that torch's global generator draws."""
        return cls(int(torch.randint(2**62, (1,))))


@dataclass(frozen=True)
class StreamPosition:
    """A position in a noise stream.

    Attributes:
        generator: state of torch's generator.
        counts: first sample, samples and uses of the current batch.
    """

    generator: Tensor
    counts: tuple[int, int, int]


class NoiseStream:
    """The noise of one layer in one read of a chip.

    Attributes:
        generator: for the engine that draws from torch.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.generator = torch.Generator(device)
        self.restart(0)

    def restart(self, seed: int) -> None:
        """Start anew: the next sample is number 0."""
        self.generator.manual_seed(seed)
        self._key = seed
        self._first_sample = self._samples = self._uses = 0

    def next_batch(self, samples: int) -> None:
        """Count the samples of the batch that now goes through the network."""
        self._first_sample += self._samples
        self._samples, self._uses = samples, 0

    def position(self) -> "StreamPosition":
        """Return the position of the stream, for ``return_to``."""
        counts = self._first_sample, self._samples, self._uses
        return StreamPosition(self.generator.get_state(), counts)

    def return_to(self, position: "StreamPosition") -> None:
        """Continue from a position of this stream."""
        self.generator.set_state(position.generator)
        self._first_sample, self._samples, self._uses = position.counts

    def draw(self) -> Draw:
        """The address of the layer's next product; the samples of a batch are numbered on."""
        use, self._uses = self._uses, self._uses + 1
        return Draw(self._key, self._first_sample, max(1, self._samples), use)
