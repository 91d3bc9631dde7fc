"""Cache of training samples: kept in memory up to a limit, and read again beyond it."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np

from analogmed.data import Case, Sample
from analogmed.foundation.errors import DataError
from analogmed.kinds.kind import Kind
from analogmed.kinds.segmentation import SEGMENTATION


@dataclass(frozen=True)
class ImageTable:
    """Description of every slice or volume, without its sample.

    Attributes:
        case: index of its case, shape (images,).
        position: its index in the sample of that case, shape (images,).
        holds: whether it has each class, bool, shape (images, classes).
        sizes: bytes of the sample of each case, shape (cases,).
    """

    case: np.ndarray
    position: np.ndarray
    holds: np.ndarray
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.case)


class SampleCache:
    """Cache that reads every case once to describe it, and evicts the least recently used first.

    Room is made before a case is read, from the size of its first read, so that memory contains
    ``limit_bytes`` of samples and the one being read. A sample larger than the limit is kept alone,
    until the next is read.

    MONAI's ``CacheDataset`` keeps a number of samples fixed at the start, whatever their size, and
    reads all others at every access; ``PersistentDataset`` keeps them on disk, as pickles.

    Args:
        read: function that reads one case.
        cases: cases to read; addressed by their index.
        n_classes: number of classes.
        limit_bytes: largest size of the samples kept, in bytes.
        kind: kind of the task of the cases.
    """

    def __init__(
        self,
        read: Callable[[Case], Sample],
        cases: Sequence[Case],
        *,
        n_classes: int,
        limit_bytes: int,
        kind: Kind = SEGMENTATION,
    ) -> None:
        self._read = read
        self._kind = kind
        self._cases = cases
        self._n_classes = n_classes
        self._limit = limit_bytes
        self._kept: OrderedDict[int, Sample] = OrderedDict()
        self._used = 0
        self._sizes: list[int] = []
        self._holds: list[np.ndarray] = []
        for index, case in enumerate(cases):
            self._describe(index, read(case))

    def __getitem__(self, index: int) -> Sample:
        """Return the sample of a case.

        Raises:
            DataError: its files are no longer those that were read at first.
        """
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        self._make_room(self._sizes[index])
        sample = self._read(self._cases[index])
        if not np.array_equal(self._classes_held(sample), self._holds[index]):
            raise DataError(
                f"case {self._cases[index].case_id}: its images or labels are not those read at "
                "the start of the training; leave the data alone while a training runs, and start "
                "it again"
            )
        self._keep(index, sample)
        return sample

    @property
    def table(self) -> ImageTable:
        """Table of every slice or volume, in the order of the cases."""
        lengths = [len(holds) for holds in self._holds]
        return ImageTable(
            np.repeat(np.arange(len(lengths)), lengths),
            np.concatenate([np.arange(length) for length in lengths]),
            np.concatenate(self._holds),
            np.array(self._sizes),
        )

    def divided(self, n_workers: int) -> "SampleCache":
        """Return the cache of one of several processes, which share the limit.

        If all samples are kept, forked processes share their memory, and the cache is unchanged.
        """
        if len(self._kept) == len(self._cases):
            return self
        self._kept.clear()
        self._used = 0
        part = copy(self)
        part._kept = OrderedDict()
        part._limit = self._limit // n_workers
        return part

    def _describe(self, index: int, sample: Sample) -> None:
        self._sizes.append(sample.image.nbytes + sample.label.nbytes)
        self._holds.append(self._classes_held(sample))
        if self._used + self._sizes[index] <= self._limit:
            self._keep(index, sample)

    def _keep(self, index: int, sample: Sample) -> None:
        self._kept[index] = sample
        self._used += self._sizes[index]

    def _make_room(self, size: int) -> None:
        while self._kept and self._used + size > self._limit:
            index, _ = self._kept.popitem(last=False)
            self._used -= self._sizes[index]

    def _classes_held(self, sample: Sample) -> np.ndarray:
        return self._kind.holds(sample.label, self._n_classes)
