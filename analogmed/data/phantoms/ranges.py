"""Kinds of phantom, their findings, and the ranges of their settings."""

from typing import Literal

from analogmed.foundation.errors import ConfigError

PhantomKind = Literal["brain", "spleen", "nuclei", "chest", "ecg"]
CHEST_FINDINGS = (
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumothorax",
)
"""Findings of ChestX-ray14 that occur in chest phantoms."""
ECG_CLASSES = ("N", "S", "V", "F")
"""Classes of heartbeats that are common in ECG phantoms."""
_SIZE_RANGE = (32, 512)


def check_phantom(seed: int, n_patients: int | None, size: int | None) -> None:
    """Raise ConfigError if a setting of a phantom is out of range; ``None`` is the default."""
    low, high = _SIZE_RANGE
    if size is not None and not low <= size <= high:
        raise ConfigError(
            f"phantom size {size}; expected {low} to {high} pixels, or seconds of an ECG"
        )
    if n_patients is not None and not 1 <= n_patients <= 9999:
        raise ConfigError(f"phantom n_patients {n_patients}; expected 1 to 9999")
    if seed < 0:
        raise ConfigError(f"phantom seed {seed}; expected 0 or more")
