"""Network of diagonal state-space layers (S4D)."""

from torch import Tensor, nn

from analogmed.foundation.errors import ConfigError
from analogmed.models.divisor import divisible_by
from analogmed.models.sequences.options import check_dimensions, check_flags, check_numbers
from analogmed.models.sequences.s4d import S4DLayer


@divisible_by(1)
class S4D(nn.Module):
    """Stacked diagonal state-space layers (S4D), for signals of several leads.

    Classifies the mean of the features over time, or the features at every sample. The state-space
    kernels stay digital; encoder, mixing layers and head are on tiles. At 12 leads and 7 classes,
    it has 68,359 parameters.

    Args:
        in_channels: number of leads.
        out_channels: number of logits per signal.
        spatial_dims: 1.
        features: number of channels of all layers.
        state: number of states per channel, an even number.
        layers: number of layers.
        dropout: dropout ratio in [0, 1].
        every_step: whether to return logits at every sample, for a class within the signal such as
            that of each heartbeat, in place of those of the whole signal.

    Raises:
        ConfigError: ``spatial_dims`` is not 1, or an option is out of its range.

    Source: Gu et al. 2022, arXiv:2206.11893; on ECG Huang et al. 2024,
    doi:10.1007/s13239-024-00716-3.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spatial_dims: int = 1,
        features: int = 64,
        state: int = 64,
        layers: int = 4,
        dropout: float = 0.0,
        every_step: bool = False,
    ) -> None:
        super().__init__()
        check_dimensions("s4d", spatial_dims)
        check_flags(every_step=every_step)
        self.every_step = every_step
        self.encoder = s4d_encoder(in_channels, features, state, layers, dropout)
        self.head = nn.Linear(features, out_channels)

    def forward(self, signals: Tensor) -> Tensor:
        """Return logits (B, out_channels) of signals (B, in_channels, samples).

        With ``every_step``, their shape is (B, out_channels, samples).
        """
        features = self.encoder(signals)
        logits: Tensor = self.head(
            features.transpose(1, 2) if self.every_step else features.mean(2)
        )
        return logits.transpose(1, 2) if self.every_step else logits


def s4d_encoder(
    in_channels: int, features: int, state: int, layers: int, dropout: float
) -> nn.Sequential:
    """Return a projection of the leads onto features, and state-space layers.

    Raises:
        ConfigError: a number is out of its range.
    """
    check_numbers(features=features, layers=layers)
    if state < 2 or state % 2:
        raise ConfigError(f"model.options.state: expected an even number, 2 or more, got {state}")
    blocks = (S4DLayer(features, state, dropout) for _ in range(layers))
    return nn.Sequential(nn.Conv1d(in_channels, features, 1), *blocks)
