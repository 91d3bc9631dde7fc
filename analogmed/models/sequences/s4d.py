"""Diagonal state-space layers (S4D)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from analogmed.network.layers.digital_product import DigitalProduct

_STEPS = (0.001, 0.1)
"""Range of the initial step sizes of the channels."""


class S4DKernel(DigitalProduct):
    """Diagonal state-space model for each channel, as a convolution over the whole sequence.

    For channel h with N/2 pairs of conjugate states n, x' = A x + u and y = Re(C x) + D u, where
    A[h, n] = -exp(a[h, n]) + i b[h, n], discretised by zero-order hold with step exp(log_dt[h]).
    Initially a = log(0.5), b = pi n (S4D-Lin), and C and D are normal.

    Args:
        channels: number of channels, H.
        state: number of states per channel, N, an even number.

    Source: Gu et al. 2022, arXiv:2206.11893; initial values as in github.com/state-spaces/s4
    (models/s4/s4d.py).
    """

    reason = "its products are diagonal: each channel and state has a factor of its own"

    def __init__(self, channels: int, state: int) -> None:
        super().__init__()
        pairs = state // 2
        low, high = map(math.log, _STEPS)
        self.log_dt = nn.Parameter(low + (high - low) * torch.rand(channels))
        self.c = nn.Parameter(torch.randn(channels, pairs, 2) / math.sqrt(2))  # real, imaginary
        self.log_a_real = nn.Parameter(torch.full((channels, pairs), math.log(0.5)))
        self.a_imag = nn.Parameter(math.pi * torch.arange(pairs).repeat(channels, 1))
        self.d = nn.Parameter(torch.randn(channels))

    def recurrence(self) -> tuple[Tensor, Tensor]:
        """Return the discrete model x[t] = A x[t-1] + u[t], y[t] = 2 Re(sum of C x[t]) + D u[t].

        Returns:
            logarithm of A, and C, both complex, shape (H, N/2).
        """
        a = torch.complex(-self.log_a_real.exp(), self.a_imag)
        exponent = a * self.log_dt.exp()[:, None]
        return exponent, torch.view_as_complex(self.c) * (exponent.exp() - 1) / a

    def kernel(self, length: int) -> Tensor:
        """Return the impulse response without D, shape (H, length)."""
        exponent, output = self.recurrence()
        steps = torch.arange(length, device=exponent.device)
        powers = (exponent[..., None] * steps).exp()
        return 2 * torch.einsum("hn,hnl->hl", output, powers).real

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs of all channels, shape (B, H, L), of inputs of the same shape."""
        length = inputs.shape[-1]
        kernel = self.kernel(length)
        spectrum = torch.fft.rfft(inputs.to(kernel.dtype), n=2 * length)
        response = torch.fft.rfft(kernel, n=2 * length)
        convolved = torch.fft.irfft(spectrum * response, n=2 * length)[..., :length]
        return convolved + self.d[:, None] * inputs

    def count_macs(self, inputs: Tensor, output: Tensor) -> int:
        """Return those of the recurrence: 4N + 1 per channel and sample."""
        return (8 * self.c.shape[1] + 1) * inputs.numel()


class S4DLayer(nn.Module):
    """State-space model, GELU, and a mixture of the channels with a gate, as residual block.

    Args:
        channels: number of channels.
        state: number of states per channel, an even number.
        dropout: dropout ratio in [0, 1].
    """

    def __init__(self, channels: int, state: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.kernel = S4DKernel(channels, state)
        self.mix = nn.Conv1d(channels, 2 * channels, 1)
        self.norm = nn.LayerNorm(channels)
        self.dropout = dropout

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features (B, channels, L) of features of the same shape."""
        features = F.dropout(F.gelu(self.kernel(inputs)), self.dropout, self.training)
        outputs = inputs + F.glu(self.mix(features), 1)
        normalised: Tensor = self.norm(outputs.transpose(1, 2)).transpose(1, 2)
        return normalised
