"""Images, references and patients of a loader."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils.data import SequentialSampler

from analogmed.analog.chip import check_images
from analogmed.foundation.errors import ConfigError
from analogmed.network.batches import checked_keys, labels_of, network_batches


@dataclass(frozen=True)
class LoadedBatch:
    """A batch of a loader.

    Attributes:
        images: images (B, C, *spatial), on the device of the network.
        labels: labels (B, 1, *spatial) or, one channel per logit, (B, K, *spatial); of classified
            images (B, 1) or (B, K). As read, also (B, *spatial).
    """

    images: Tensor
    labels: Tensor

    def for_logits(self, logits: Any) -> "LoadedBatch":
        """Return the batch with the class axis of the labels that logits (B, K, *spatial) need.

        Labels of signals (B, C, L) with two axes are positions (B, L) or classes (B, K); only the
        logits tell which.

        Raises:
            ConfigError: the logits are no tensor.
        """
        _check_tensor(logits)
        if self.labels.ndim != logits.ndim - 1:
            return self
        return LoadedBatch(self.images, self.labels[:, None])


def read_batches(
    analog: nn.Module, loader: Iterable[Any], keys: Sequence[str]
) -> list[LoadedBatch]:
    """Return all batches of a loader.

    Raises:
        ConfigError: the loader is empty, or its batches have another form.
    """
    image, label = checked_keys(keys)
    batches = []
    for batch, images in network_batches(analog, loader, key=image):
        check_images(images)
        labels = labels_of(batch, key=label)
        if labels.ndim == 1:
            labels = labels[:, None]
        if labels.ndim not in (2, images.ndim - 1, images.ndim):
            raise ConfigError(
                f"loader: labels of shape {tuple(labels.shape)} do not fit images of shape "
                f"{tuple(images.shape)}; expected a class index for each position, (B, *spatial) "
                "or (B, 1, *spatial), or one channel per logit; of classified images (B,) or (B, K)"
            )
        if not labels.is_floating_point():
            labels = labels.long()
        batches.append(LoadedBatch(images, labels.to(images.device)))
    if not batches:
        raise ConfigError("loader: it yielded no batch; expected images with labels")
    return batches


def check_logits(logits: Any, labels: Tensor) -> None:
    """Raise an error if logits are no tensor, or do not fit labels.

    Raises:
        ConfigError: states both shapes.
    """
    _check_tensor(logits)
    expected = (len(labels), *labels.shape[2:])
    if (len(logits), *logits.shape[2:]) != expected or labels.shape[1] not in (1, logits.shape[1]):
        raise ConfigError(
            f"loader: labels of shape {tuple(labels.shape)} do not fit logits of shape "
            f"{tuple(logits.shape)}; expected class indices (B, 1, *spatial), or one channel per "
            "logit"
        )


def _check_tensor(logits: Any) -> None:
    if not isinstance(logits, Tensor):
        raise ConfigError(
            f"network: expected one tensor of logits, got {type(logits).__name__}; wrap the "
            "network in a module that returns its logits"
        )


def references_of(batches: Sequence[LoadedBatch], n_logits: int) -> list[Tensor]:
    """Return the class indices (B, *spatial) of the labels of all batches.

    Args:
        batches: batches whose labels have any of the accepted forms.
        n_logits: number of logits; one logit is one class against the background.

    Raises:
        ConfigError: the labels have values that are no class indices, or their channels overlap.
    """
    for batch in batches:
        _check_one_hot(batch.labels)
    indices = [b.labels.argmax(1) if b.labels.shape[1] > 1 else b.labels[:, 0] for b in batches]
    values = sorted(set().union(*(part.unique().tolist() for part in indices)))
    if n_logits == 1:
        if len(values) > 2 or (len(values) == 2 and values[0] != 0):
            raise ConfigError(
                f"loader: the labels of one structure have the values {_few(values)}; expected 0 "
                "and one other value"
            )
        return [(part > 0).long() for part in indices]
    if any(value not in range(n_logits) for value in values):
        raise ConfigError(
            f"loader: labels have the values {_few(values)}; expected class indices from 0 to "
            f"{n_logits - 1}, one for each of the {n_logits} logits{_hint(values)}"
        )
    return [part.long() for part in indices]


def _check_one_hot(labels: Tensor) -> None:
    """Raise an error for channels of which not exactly one is set at each position."""
    if labels.shape[1] > 1 and bool((labels.ne(0).sum(1) != 1).any()):
        raise ConfigError(
            f"loader: labels with {labels.shape[1]} channels overlap or leave positions without a "
            "class; expected one channel per logit with the background first, one of them set at "
            "each position. Convert them to class indices (B, 1, *spatial)."
        )


def _hint(values: list[float]) -> str:
    if len(values) == 2 and values[0] == 0:
        return f". Divide them by {values[1]:g}."
    if all(float(value).is_integer() for value in values):
        return ". Map the values of the files to these indices."
    return ". Are images and labels exchanged? A batch is (images, labels)."


def _few(values: list[float]) -> str:
    shown = [f"{value:g}" for value in values[:5]]
    return ", ".join([*shown, "..."] if len(values) > 5 else shown)


def checked_patients(patients: Iterable[object] | None, loader: object, n_images: int) -> list[str]:
    """Return the patient of each image; by default, each image is a patient of its own.

    Raises:
        ConfigError: the number of patients is wrong, or the loader shuffles.
    """
    if patients is None:
        return [f"{number:06d}" for number in range(n_images)]
    if isinstance(patients, str):
        raise ConfigError(
            "patients: expected a list with the patient of each image, got the text "
            f"{patients!r}. Read the names from the data set, in the order of the loader."
        )
    listed = list(map(str, patients))
    if len(listed) != n_images:
        raise ConfigError(
            f"patients: expected one for each of the {n_images} images of the loader, got "
            f"{len(listed)}"
        )
    sampler = getattr(loader, "sampler", None)
    if sampler is not None and "Random" in type(sampler).__name__:
        raise ConfigError(
            "patients: the loader shuffles, so that its images have another order than patients; "
            f"expected {SequentialSampler.__name__}, got {type(sampler).__name__}. Set "
            "shuffle=False."
        )
    return listed
