"""Convolutional LSTM over segments of several leads."""

import torch
from torch import Tensor, nn


class ConvLSTM(nn.Module):
    """LSTM whose gates are a convolution along the samples, shared by all leads.

    The kernel never mixes neighbouring leads, whose order has no geometry.

    Args:
        channels: number of channels of the state.
        kernel: number of samples of the kernel, an odd number.

    Source: Shi et al. 2015, arXiv:1506.04214, without peepholes.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.channels = channels
        size, padding = (1, kernel), (0, kernel // 2)
        self.gates = nn.Conv2d(1 + channels, 4 * channels, size, padding=padding)

    def forward(self, segments: Tensor) -> Tensor:
        """Return the states after each segment.

        Args:
            segments: shape (B, steps, leads, samples).

        Returns:
            shape (B, steps, channels, leads, samples).
        """
        batch, _, leads, samples = segments.shape
        hidden = cell = segments.new_zeros(batch, self.channels, leads, samples)
        states = []
        for segment in segments.unbind(1):
            gates = self.gates(torch.cat([segment[:, None], hidden], 1))
            enter, forget, out, new = gates.chunk(4, 1)
            cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
            hidden = out.sigmoid() * cell.tanh()
            states.append(hidden)
        return torch.stack(states, 1)
