"""Training patches: balanced, padded, augmented, and each determined by its address alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from analogmed.data import Case, Task
from analogmed.foundation.errors import ConfigError, DataError
from analogmed.foundation.seeds import derive_seed
from analogmed.kinds.kind import Kind
from analogmed.kinds.patch import cropped
from analogmed.training.sampling.augment import Augmentation
from analogmed.training.sampling.cache import ImageTable, SampleCache
from analogmed.training.sampling.plan import (
    PatchPlan,
    balanced_subset,
    count_reads,
    plan_epoch,
)
from analogmed.training.settings import LoadingConfig


class PatchSampler:
    """Sampler of the training batches of a task.

    The content of entry ``e`` of batch ``b`` in an epoch follows from the seed and these three
    numbers. It does not depend on earlier draws, the size of the cache, the loading processes, or
    the number of ranks.

    All cases are read once at the start, and samples are kept in memory up to
    ``loading.cache_bytes``. Larger data are read again in each epoch: every case once if a group of
    ``loading.mixed_cases`` cases, or of ``loading.mixed_bytes``, fits in the cache, more often if
    not. With several ``loading.workers``, each has its part of the cache and reads every case
    itself, so that additional workers speed up augmentation, but not reading.

    Args:
        task: task with the reader and the window, which is the patch size.
        cases: training cases.
        batch_size: patches in a batch of all ranks together.
        seed: seed of all random draws.
        loading: settings of reading and patch sampling.
        rank: number of this process among those that train together; it gets the entries
            ``rank::world_size`` of each batch.
        world_size: number of these processes.

    Raises:
        DataError: there is no case, or one cannot be read.
        ConfigError: the batch cannot be split evenly among the ranks.
    """

    def __init__(
        self,
        task: Task,
        cases: tuple[Case, ...],
        *,
        batch_size: int,
        seed: int,
        loading: LoadingConfig | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        _check(task, cases, batch_size, world_size)
        self._task = task
        self._batch_size = batch_size
        self._seed = seed
        self._loading = loading or LoadingConfig()
        self._entries = range(rank, batch_size, world_size)
        self._cache = SampleCache(
            task.read,
            cases,
            n_classes=len(task.classes),
            limit_bytes=self._loading.cache_bytes,
            kind=task.kind,
        )
        self._table = balanced_subset(
            self._cache.table, self._loading.subset, derive_seed(seed, "subset")
        )
        self._augmentation = (
            Augmentation(len(task.window), task.through_slices, masks=task.kind.has_masks)
            if self._loading.augment
            else None
        )

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return max(1, len(self._table) * self._loading.patches_per_image // self._batch_size)

    def images(self) -> Iterator[np.ndarray]:
        """Yield all images of an epoch without augmentation, each once, shape (C, *spatial)."""
        for case, position in zip(self._table.case, self._table.position, strict=True):
            yield self._cache[int(case)].image[position]

    def missing_classes(self) -> tuple[str, ...]:
        """Return the names of the task's classes that no case contains."""
        held = np.asarray(self._table.holds.any(axis=0))
        return tuple(
            name for name, is_held in zip(self._task.classes, held, strict=True) if not is_held
        )

    @property
    def class_shares(self) -> np.ndarray:
        """Share of the training images with each class, shape (classes,)."""
        shares: np.ndarray = self._table.holds.mean(axis=0)
        return shares

    def reads_per_epoch(self) -> int:
        """Return how many cases an epoch reads from disk; 0 if all samples stay in memory."""
        sizes, workers = self._table.sizes, max(1, self._loading.workers)
        if sizes.sum() <= self._loading.cache_bytes:
            return 0
        case_of = self._table.case[self._plan(0).image]
        batches = case_of.reshape(-1, self._batch_size)[:, list(self._entries)]
        batches.sort(axis=1)  # the order in which a batch takes its entries
        limit = self._loading.cache_bytes // workers
        parts = (batches[worker::workers].ravel().tolist() for worker in range(workers))
        return sum(count_reads(part, sizes, limit) for part in parts)

    def epoch(self, number: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one epoch.

        Args:
            number: number of the epoch.
            first: number of the first batch.

        Yields:
            float32 images (B / world_size, C, *window) and int64 targets of the kind of the task,
            for segmentation class indices (B / world_size, 1, *window).

        Raises:
            DataError: a case can no longer be read, or has changed.
        """
        loader = DataLoader(
            self._batches(number),
            batch_size=None,
            sampler=range(first, len(self)),
            num_workers=self._loading.workers,
            generator=torch.Generator(),  # not the global one, which training draws from
        )
        yield from loader

    def _batches(self, epoch: int) -> "_Batches":
        workers = self._loading.workers
        return _Batches(
            plan=self._plan(epoch),
            table=self._table,
            cache=self._cache.divided(workers) if workers else self._cache,
            window=self._task.window,
            kind=self._task.kind,
            augmentation=self._augmentation,
            batch_size=self._batch_size,
            entries=self._entries,
            seed_path=(self._seed, "patch", epoch),
        )

    def _plan(self, epoch: int) -> PatchPlan:
        return plan_epoch(
            self._table,
            len(self) * self._batch_size,
            foreground=self._loading.foreground if self._task.kind.has_masks else 0.0,
            mixed_cases=self._loading.mixed_cases,
            mixed_bytes=self._loading.mixed_bytes,
            seed=derive_seed(self._seed, "patches", epoch),
        )


@dataclass(frozen=True)
class _Batches(Dataset[tuple[Tensor, Tensor]]):
    """Batches of one epoch by their number, for a ``DataLoader``."""

    plan: PatchPlan
    table: ImageTable
    cache: SampleCache
    window: tuple[int, ...]
    kind: Kind
    augmentation: Augmentation | None
    batch_size: int
    entries: range
    seed_path: tuple[int, str, int]

    def __getitem__(self, batch: int) -> tuple[Tensor, Tensor]:
        """Return the entries of a batch that belong to this rank."""
        first = batch * self.batch_size
        case_of = self.table.case[self.plan.image[first : first + self.batch_size]]
        # Entries of one case follow each other: it is read once, even with little memory.
        patches = {
            entry: self._patch(batch, entry)
            for entry in sorted(self.entries, key=case_of.__getitem__)
        }
        images, labels = zip(*(patches[entry] for entry in self.entries), strict=True)
        return torch.stack(images).float(), torch.stack(labels).long()

    def _patch(self, batch: int, entry: int) -> tuple[Tensor, Tensor]:
        generator = np.random.default_rng(derive_seed(*self.seed_path, batch, entry))
        place = batch * self.batch_size + entry
        where = self.plan.image[place]
        position = self.table.position[where]
        sample = self.cache[int(self.table.case[where])]
        image, label = sample.image[position], sample.label[position]
        voxels = label == self.plan.class_index[place] if self.plan.class_index[place] else None
        corner = _corner(image.shape[1:], self.window, voxels, generator)
        target = self.kind.target(label, corner, self.window)
        patch = cropped(image, corner, self.window), target
        if self.augmentation:
            patch = self.augmentation(*patch, seed=int(generator.integers(2**32)))
        return patch


def _check(task: Task, cases: tuple[Case, ...], batch_size: int, world_size: int) -> None:
    if not cases:
        raise DataError(
            f"task {task.name} has no case to draw training patches from; change task.shares"
        )
    if batch_size < 1 or batch_size % world_size:
        raise ConfigError(
            f"batch_size {batch_size} cannot be divided evenly among {world_size} ranks; choose a "
            f"multiple of {world_size}"
        )


def _corner(
    shape: tuple[int, ...],
    window: tuple[int, ...],
    voxels: np.ndarray | None,
    generator: np.random.Generator,
) -> list[int]:
    """Return the lowest corner of a patch: around one of some voxels, or anywhere for ``None``."""
    room = np.maximum(0, np.subtract(shape, window))
    if voxels is None:
        return generator.integers(room + 1).tolist()
    places = np.flatnonzero(voxels)
    centre = np.unravel_index(places[generator.integers(places.size)], shape)
    return np.clip(np.subtract(centre, np.floor_divide(window, 2)), 0, room).tolist()
