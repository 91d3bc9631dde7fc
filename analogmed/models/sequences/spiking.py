"""Convolutional LSTM with spikes."""

import torch
from snntorch import SConv2dLSTM, SpikingNeuron
from snntorch.surrogate import ATan
from torch import Tensor, nn

from analogmed.foundation.settings.checks import require_number
from analogmed.models.divisor import divisible_by
from analogmed.models.sequences.liquid import WIRING_SEED, WiredCfC, ncp_wiring
from analogmed.models.sequences.liquid_networks import (
    SegmentClassifier,
    segment_divisor,
    segment_features,
)

_SLOPE = 2.0
"""Slope of the surrogate gradient, that of snntorch."""


class SpikingConvLSTM(nn.Module):
    """``SConv2dLSTM`` of snntorch: a ConvLSTM whose outputs are spikes.

    The membrane is o tanh(c), which is below 1; it is fed back without a reset.

    Args:
        channels: number of channels of the state.
        kernel: number of samples of the kernel, an odd number.
        threshold: initial membrane potential above which a neuron spikes, in (0, 1); it is learned.
    """

    def __init__(self, channels: int, kernel: int, threshold: float) -> None:
        super().__init__()
        self.neuron = SConv2dLSTM(
            1,
            channels,
            (1, kernel),
            threshold=threshold,
            learn_threshold=True,
            spike_grad=_spike,
        )
        SpikingNeuron.instances.remove(self.neuron)  # a list of all neurons, which frees none

    def forward(self, segments: Tensor) -> Tensor:
        """Return the spikes of each segment, 0 or 1.

        Args:
            segments: shape (B, steps, leads, samples).

        Returns:
            shape (B, steps, channels, leads, samples).
        """
        batch, _, leads, samples = segments.shape
        current = membrane = segments.new_zeros(batch, self.neuron.out_channels, leads, samples)
        spikes = []
        for segment in segments.unbind(1):
            fired, current, membrane = self.neuron(segment[:, None], current, membrane)
            spikes.append(fired)
        self._forget()
        return torch.stack(spikes, 1)

    def _forget(self) -> None:
        """Remove the tensors that snntorch leaves in the layer, which prevent copies."""
        empty = self.neuron.syn.new_zeros(0)
        self.neuron.syn = self.neuron.mem = empty
        self.neuron.spk = self.neuron.reset = None


def _spike(potential: Tensor) -> Tensor:
    spikes: Tensor = ATan.apply(potential, _SLOPE)
    return spikes


@divisible_by(segment_divisor)
def spiking_convlstm_cfc(
    in_channels: int,
    out_channels: int,
    spatial_dims: int = 1,
    segment: int = 50,
    channels: int = 8,
    kernel: int = 5,
    pool: int = 10,
    threshold: float = 0.1,
    units: int = 32,
    outputs: int = 16,
    wiring_seed: int = WIRING_SEED,
    every_step: bool = False,
) -> nn.Module:
    """Convolutional LSTM with spikes as outputs, then a liquid network with NCP wiring (CfC).

    As ``convlstm_cfc``, but the mean is that of spikes. All weights are on tiles. At 12 leads and 7
    classes, it has 23,112 parameters (92,448 bytes).

    Args:
        in_channels: number of leads.
        out_channels: number of logits per signal.
        spatial_dims: 1.
        segment: number of samples of a segment, which is one step.
        channels: number of channels of the ConvLSTM.
        kernel: number of samples of its kernel, an odd number; leads are not mixed.
        pool: number of samples of its output that are averaged, a divisor of ``segment``.
        threshold: initial membrane potential above which a neuron spikes, in (0, 1); it is learned.
        units: number of neurons of the CfC.
        outputs: number of its motor neurons, at most ``units - 3``.
        wiring_seed: random seed of its synapses.
        every_step: whether to return logits at every sample, for a class within the signal such as
            that of each heartbeat, in place of those of the whole signal.

    Raises:
        ConfigError: ``spatial_dims`` is not 1, or an option is out of its range.

    Source: Huang et al. 2024 ("sCCfC"); package snntorch.
    """
    require_number("model.options.threshold", threshold, above=0, below=1)
    features = segment_features(
        "spiking_convlstm_cfc",
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
    recurrence = SpikingConvLSTM(channels, kernel, threshold)
    head = nn.Linear(outputs, out_channels)
    return SegmentClassifier(recurrence, liquid, head, segment, pool, every_step=every_step)
