"""Networks of signals whose last layers are a liquid network (CfC or LTC)."""

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from analogmed.foundation.errors import ConfigError, ShapeError
from analogmed.foundation.settings.checks import require_choice
from analogmed.models.divisor import divisible_by
from analogmed.models.sequences.conv_lstm import ConvLSTM
from analogmed.models.sequences.liquid import WIRING_SEED, WiredCfC, WiredLTC, ncp_wiring
from analogmed.models.sequences.options import (
    at_every_sample,
    check_dimensions,
    check_flags,
    check_numbers,
)
from analogmed.models.sequences.s4d_network import s4d_encoder


@dataclass(frozen=True)
class _Size:
    features: int
    state: int
    layers: int
    units: int
    outputs: int


_SIZES = {"large": _Size(64, 32, 4, 48, 24), "small": _Size(20, 16, 2, 28, 8)}


def _ncp_divisor(*, spatial_dims: int = 1, pool: int = 8, **_: object) -> int:
    return pool if spatial_dims == 1 else 1  # the builder refuses images


@divisible_by(_ncp_divisor)
class S4DNcp(nn.Module):
    """State-space layers (S4D) followed by a liquid network with NCP wiring (CfC).

    Classifies the last step of the CfC, or every step. The state-space kernels stay digital; all
    other layers are on tiles. At 12 leads and 7 classes, the large one has 60,659 parameters
    (242,636 bytes), the small one 6,243 (24,972 bytes).

    Args:
        in_channels: number of leads.
        out_channels: number of logits per signal.
        spatial_dims: 1.
        size: ``"large"`` or ``"small"``; sets the default of the next five options.
        features: number of channels of the state-space layers; 64, or 20 if small.
        state: number of states per channel, an even number; 32, or 16 if small.
        layers: number of state-space layers; 4, or 2 if small.
        units: number of neurons of the CfC; 48, or 28 if small.
        outputs: number of its motor neurons, at most ``units - 3``; 24, or 8 if small.
        pool: number of samples that are averaged into one step of the CfC.
        wiring_seed: random seed of its synapses.
        dropout: dropout ratio in [0, 1].
        every_step: whether to return logits at every sample, for a class within the signal such as
            that of each heartbeat, in place of those of the whole signal.

    Raises:
        ConfigError: ``spatial_dims`` is not 1, or an option is out of its range.

    Source: Gu et al. 2022, arXiv:2206.11893; Hasani et al. 2022, doi:10.1038/s42256-022-00556-7.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spatial_dims: int = 1,
        size: str = "large",
        features: int | None = None,
        state: int | None = None,
        layers: int | None = None,
        units: int | None = None,
        outputs: int | None = None,
        pool: int = 8,
        wiring_seed: int = WIRING_SEED,
        dropout: float = 0.0,
        every_step: bool = False,
    ) -> None:
        super().__init__()
        check_dimensions("s4d_ncp", spatial_dims)
        size = require_choice("model.options.size", size, _SIZES)
        check_numbers(pool=pool)
        check_flags(every_step=every_step)
        options = {"features": features, "state": state, "layers": layers}
        options |= {"units": units, "outputs": outputs}
        given: dict[str, Any] = {key: each for key, each in options.items() if each is not None}
        sizes = replace(_SIZES[size], **given)
        width, motor = sizes.features, sizes.outputs
        self.encoder = s4d_encoder(in_channels, width, sizes.state, sizes.layers, dropout)
        self.pool = nn.AvgPool1d(pool)
        self.every_step, self.step = every_step, pool
        wiring = ncp_wiring(sizes.units, motor, wiring_seed)
        self.liquid = WiredCfC(width, wiring, every_step=every_step)
        self.head = nn.Linear(motor, out_channels)

    def forward(self, signals: Tensor) -> Tensor:
        """Return logits (B, out_channels) of signals (B, in_channels, samples).

        With ``every_step``, their shape is (B, out_channels, samples): those after a step apply to
        all its samples.
        """
        steps = self.pool(self.encoder(signals)).transpose(1, 2)
        logits: Tensor = self.head(self.liquid(steps))
        return at_every_sample(logits, self.step) if self.every_step else logits


class SegmentClassifier(nn.Module):
    """Classifier of segments: a convolutional recurrence, means over time, a liquid network.

    Args:
        recurrence: module from (B, steps, leads, samples) to (B, steps, channels, leads, samples).
        liquid: module from (B, steps, features) to (B, outputs).
        head: module from the outputs to the logits.
        segment: number of samples of a segment, which is one step.
        pool: number of samples that are averaged.
        every_step: whether the liquid module returns (B, steps, outputs), and logits are those of
            every sample.

    Attributes:
        spatial_dims: number of spatial axes of a signal, unlike those of the convolution.
    """

    spatial_dims = 1

    def __init__(
        self,
        recurrence: nn.Module,
        liquid: nn.Module,
        head: nn.Module,
        segment: int,
        pool: int,
        *,
        every_step: bool = False,
    ) -> None:
        super().__init__()
        self.recurrence, self.liquid, self.head = recurrence, liquid, head
        self.segment, self.pool = segment, pool
        self.every_step = every_step

    def forward(self, signals: Tensor) -> Tensor:
        """Return logits (B, out_channels) of signals (B, in_channels, samples).

        With ``every_step``, their shape is (B, out_channels, samples): those after a segment apply
        to all its samples.

        Raises:
            ShapeError: the number of samples is no multiple of the segment.
        """
        samples = signals.shape[2]
        if samples % self.segment:
            raise ShapeError(
                f"model.options.segment: expected a divisor of the {samples} samples of a signal, "
                f"got {self.segment}. Change the task's window or the segment."
            )
        segments = signals.unflatten(2, (-1, self.segment)).transpose(1, 2)
        states: Tensor = self.recurrence(segments)
        features = states.unflatten(-1, (-1, self.pool)).mean(-1).flatten(2)
        logits: Tensor = self.head(self.liquid(features))
        return at_every_sample(logits, self.segment) if self.every_step else logits


def segment_divisor(*, spatial_dims: int = 1, segment: int = 50, **_: object) -> int:
    """Return the number of samples of a segment; 1 for images, which the builder refuses."""
    return segment if spatial_dims == 1 else 1


def segment_features(
    network: str,
    spatial_dims: int,
    leads: int,
    *,
    segment: int,
    channels: int,
    kernel: int,
    pool: int,
    every_step: bool,
) -> int:
    """Return the number of features of a segment.

    Raises:
        ConfigError: ``spatial_dims`` is not 1, or an option is out of its range.
    """
    check_dimensions(network, spatial_dims)
    check_numbers(segment=segment, channels=channels, kernel=kernel, pool=pool)
    check_flags(every_step=every_step)
    if kernel % 2 == 0:
        raise ConfigError(f"model.options.kernel: expected an odd number, got {kernel}")
    if segment % pool:
        raise ConfigError(
            f"model.options.pool: expected a divisor of segment ({segment}), got {pool}"
        )
    return channels * leads * segment // pool


@divisible_by(segment_divisor)
def convlstm_cfc(
    in_channels: int,
    out_channels: int,
    spatial_dims: int = 1,
    segment: int = 50,
    channels: int = 8,
    kernel: int = 5,
    pool: int = 10,
    units: int = 32,
    outputs: int = 16,
    wiring_seed: int = WIRING_SEED,
    every_step: bool = False,
) -> nn.Module:
    """Convolutional LSTM over segments of a signal, then a liquid network with NCP wiring (CfC).

    All weights are on tiles. At 12 leads and 7 classes, it has 23,111 parameters (92,444 bytes).

    Args:
        in_channels: number of leads.
        out_channels: number of logits per signal.
        spatial_dims: 1.
        segment: number of samples of a segment, which is one step.
        channels: number of channels of the ConvLSTM.
        kernel: number of samples of its kernel, an odd number; leads are not mixed.
        pool: number of samples of its output that are averaged, a divisor of ``segment``.
        units: number of neurons of the CfC.
        outputs: number of its motor neurons, at most ``units - 3``.
        wiring_seed: random seed of its synapses.
        every_step: whether to return logits at every sample, for a class within the signal such as
            that of each heartbeat, in place of those of the whole signal.

    Raises:
        ConfigError: ``spatial_dims`` is not 1, or an option is out of its range.

    Source: Shi et al. 2015, arXiv:1506.04214; Hasani et al. 2022, doi:10.1038/s42256-022-00556-7;
    on ECG Huang et al. 2024, doi:10.1007/s12265-024-10504-y.
    """
    features = segment_features(
        "convlstm_cfc",
        spatial_dims,
        in_channels,
        segment=segment,
        channels=channels,
        kernel=kernel,
        pool=pool,
        every_step=every_step,
    )
    wiring = ncp_wiring(units, outputs, wiring_seed)
    liquid = WiredCfC(features, wiring, every_step=every_step)
    head = nn.Linear(outputs, out_channels)
    recurrence = ConvLSTM(channels, kernel)
    return SegmentClassifier(recurrence, liquid, head, segment, pool, every_step=every_step)


@divisible_by(segment_divisor)
def convlstm_ltc(
    in_channels: int,
    out_channels: int,
    spatial_dims: int = 1,
    segment: int = 50,
    channels: int = 8,
    kernel: int = 5,
    pool: int = 50,
    units: int = 32,
    outputs: int = 16,
    wiring_seed: int = WIRING_SEED,
    every_step: bool = False,
) -> nn.Module:
    """Convolutional LSTM over segments of a signal, then a liquid time-constant network (LTC).

    ConvLSTM and head are on tiles; the synapses of the LTC stay digital. At 12 leads and 7 classes,
    it has 18,295 parameters (73,180 bytes).

    Args:
        in_channels: number of leads.
        out_channels: number of logits per signal.
        spatial_dims: 1.
        segment: number of samples of a segment, which is one step.
        channels: number of channels of the ConvLSTM.
        kernel: number of samples of its kernel, an odd number; leads are not mixed.
        pool: number of samples of its output that are averaged, a divisor of ``segment``.
        units: number of neurons of the LTC.
        outputs: number of its motor neurons, at most ``units - 3``.
        wiring_seed: random seed of its synapses.
        every_step: whether to return logits at every sample, for a class within the signal such as
            that of each heartbeat, in place of those of the whole signal.

    Raises:
        ConfigError: ``spatial_dims`` is not 1, or an option is out of its range.

    Source: Shi et al. 2015, arXiv:1506.04214; Hasani et al. 2021, arXiv:2006.04439; on ECG Huang et
    al. 2024, doi:10.1007/s12265-024-10504-y.
    """
    features = segment_features(
        "convlstm_ltc",
        spatial_dims,
        in_channels,
        segment=segment,
        channels=channels,
        kernel=kernel,
        pool=pool,
        every_step=every_step,
    )
    wiring = ncp_wiring(units, outputs, wiring_seed)
    liquid = WiredLTC(features, wiring, every_step=every_step)
    head = nn.Linear(outputs, out_channels)
    recurrence = ConvLSTM(channels, kernel)
    return SegmentClassifier(recurrence, liquid, head, segment, pool, every_step=every_step)
