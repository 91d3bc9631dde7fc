"""Published and estimated performance of two networks from the literature.

    python experiments/published_networks.py

Takes seconds. The networks are ResNet-32 on an image of 32 x 32 (AnalogNAS, Benmeziane et al. 2023,
arXiv:2305.10459) and ResNet-18 on an image of 256 x 256 (Bruschi et al. 2023, arXiv:2211.12877).
Both were published as results of a simulated chip. No parameter of the estimates is fitted to them.
"""

from dataclasses import dataclass

import pandas as pd
from _programs import markdown
from monai.networks.nets import resnet18
from torch import Tensor, nn

from analogmed.hardware import Cost, Level, estimate, load_profile, map_tiles

PROFILE = "hermes-core"
RESNET32_INPUT = (1, 3, 32, 32)
RESNET32_J = 1 / 43_957  # inferences per second and watt are inferences per joule
RESNET18_TILES = 512
RESNET18_TOPS = 20.2
RESNET18_TOPS_PER_W = 6.5


@dataclass(frozen=True)
class Anchor:
    """A published value between two estimates.

    Attributes:
        network: network and published quantity.
        published: published value.
        low: lower estimate, described by ``at_low``.
        high: upper estimate, described by ``at_high``.
    """

    network: str
    published: float
    low: float
    at_low: str
    high: float
    at_high: str


class Block(nn.Module):
    """Residual block of two convolutions."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1)
        same = inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of shape (B, outputs, H / stride, W / stride)."""
        return self.second(self.first(x).relu()).add(self.shortcut(x)).relu()


def resnet32() -> nn.Sequential:
    """Return the CIFAR-10 ResNet-32 of He et al. 2016, with projection shortcuts between sizes."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1), nn.ReLU()]
    channels = 16
    for outputs in (16, 32, 64):
        for number in range(5):
            layers.append(Block(channels, outputs, 2 if number == 0 and outputs > 16 else 1))
            channels = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def resnet32_cost(profile: str = PROFILE, level: Level = "mvm_only") -> Cost:
    """Return the cost of one replica per layer (43 published tiles of 512 x 512 fit no more)."""
    known = load_profile(profile)
    return estimate(
        map_tiles(resnet32(), RESNET32_INPUT, known.tile_size, row_split="channels"), known, level
    )


def resnet18_cost(profile: str = PROFILE, level: Level = "mvm_only") -> Cost:
    """Return the cost on the published number of tiles, which includes replicas of layers."""
    known = load_profile(profile)
    network = resnet18(spatial_dims=2, n_input_channels=3, num_classes=1000, conv1_t_stride=2)
    mapped = map_tiles(network, (1, 3, 256, 256), known.tile_size, row_split="channels")
    return estimate(mapped, known, level, tile_budget=RESNET18_TILES)


def full_tiles_j(cost: Cost) -> float:
    """Return the energy of one input if an MVM used only its share of a full tile's energy."""
    return 2e-12 * cost.macs / cost.profile.tops_per_w(cost.level)


def tops(cost: Cost, seconds: float) -> float:
    """Return the tera-operations per second for one input per given number of seconds."""
    return 2e-12 * cost.macs / seconds


def anchors(small: Cost, large: Cost) -> list[Anchor]:
    """Return the published values of ResNet-32 and ResNet-18, with the estimates around them."""
    full, whole = "used cells only", "whole tiles"
    return [
        Anchor(
            "ResNet-32, time of an image (ms)",
            0.434,
            1e3 * small.interval_s,
            "slowest layer alone",
            1e3 * small.latency_s,
            "layer after layer",
        ),
        Anchor(
            "ResNet-32, energy of an image (uJ)",
            1e6 * RESNET32_J,
            1e6 * full_tiles_j(small),
            full,
            1e6 * small.stack_j(1),
            whole,
        ),
        Anchor(
            "ResNet-18, TOPS",
            RESNET18_TOPS,
            tops(large, large.latency_s),
            "image after image",
            tops(large, large.interval_s),
            "pipelined",
        ),
        Anchor(
            "ResNet-18, energy of an image (uJ)",
            1e6 * tops(large, 1.0) / RESNET18_TOPS_PER_W,
            1e6 * full_tiles_j(large),
            full,
            1e6 * large.stack_j(1),
            whole,
        ),
    ]


def table(found: list[Anchor]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "network": anchor.network,
            "lower estimate": f"{_short(anchor.low)} ({anchor.at_low})",
            "published": _short(anchor.published),
            "upper estimate": f"{_short(anchor.high)} ({anchor.at_high})",
            "published / lower": f"{anchor.published / anchor.low:.1f}",
            "upper / published": f"{anchor.high / anchor.published:.1f}",
        }
        for anchor in found
    )


def whole_tile_tops_per_w() -> float:
    """Return TOPS/W of 512 x 512 tiles if the energy of ResNet-32 were that of whole tiles."""
    layers = map_tiles(resnet32(), RESNET32_INPUT, 512, row_split="channels").layers
    products = sum(layer.reuse_factor * layer.tiles for layer in layers)
    return 2e-12 * 512**2 * products / RESNET32_J


def remarks(large: Cost) -> str:
    profile = "hermes-1-phase"
    level: Level = "measured_layer"
    small_measured, large_measured = resnet32_cost(profile, level), resnet18_cost(profile, level)
    peak = RESNET18_TILES * large.profile.tops()
    share, published = tops(large, large.interval_s) / peak, RESNET18_TOPS / peak
    return f"""
ResNet-18: {RESNET18_TILES} tiles, all full and always busy, would reach {peak:.0f} TOPS.
The pipelined estimate is {share:.1%} of that, the published figure {published:.1%}.
ResNet-32: were its energy that of whole tiles of 512 x 512, a full one would reach
{whole_tile_tops_per_w():.0f} TOPS/W ({PROFILE}: {large.profile.tops_per_w():.1f}).
Profile {profile}, level {level}:
ResNet-18 reaches {tops(large_measured, large_measured.interval_s):.1f} TOPS pipelined;
the slowest layer of ResNet-32 alone takes {1e3 * small_measured.interval_s:.2f} ms.
"""


def main() -> None:
    small, large = resnet32_cost(), resnet18_cost()
    print(f"Profile {PROFILE}, level {small.level}.\n")
    print(markdown(table(anchors(small, large))) + remarks(large))


def _short(value: float) -> str:
    return f"{float(f'{value:.3g}'):,g}"


if __name__ == "__main__":
    main()
