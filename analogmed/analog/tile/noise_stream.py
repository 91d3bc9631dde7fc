"""Noise streams: the source of a layer's output noise during reads of a chip."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class NoiseAddress:
    """Address of the noise of one matrix product, apart from row of tiles and position.

    Attributes:
        key: random key of 64 bits.
        first_sample: number of the batch's first sample.
        samples: number of samples in the batch.
        use: number of earlier uses of the layer in the same forward pass.
    """

    key: int
    first_sample: int = 0
    samples: int = 1
    use: int = 0

    @classmethod
    def from_torch(cls) -> "NoiseAddress":
        """Return an address from torch's global generator."""
        return cls(int(torch.randint(2**62, (1,))))


@dataclass(frozen=True)
class StreamPosition:
    """Position in a noise stream.

    Attributes:
        generator: state of torch's generator.
        counts: first sample, number of samples and number of uses of the current batch.
    """

    generator: Tensor
    counts: tuple[int, int, int]


class NoiseStream:
    """Noise of one layer in one read of a chip.

    Attributes:
        generator: random generator, for the engine that samples with torch.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.generator = torch.Generator(device)
        self.restart(0)

    def restart(self, seed: int) -> None:
        """Restart the stream from a seed; the next sample has number 0."""
        self.generator.manual_seed(seed)
        self._key = seed
        self._first_sample = self._samples = self._uses = 0

    def next_batch(self, samples: int) -> None:
        """Count the samples of the next batch."""
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

    def draw(self) -> NoiseAddress:
        """Return the address of the layer's next product; samples are numbered across batches."""
        use, self._uses = self._uses, self._uses + 1
        return NoiseAddress(self._key, self._first_sample, max(1, self._samples), use)
