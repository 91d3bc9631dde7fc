"""Size, tiles and estimated energy of networks of signals, beside two published estimates.

    python experiments/signal_energy.py

Takes seconds. Inputs are ECGs of 12 leads and 10 s at 100 Hz (2.5 s for the small S4D-NCP), with 7
classes. The published values are those of Huang et al. 2024 for the spiking ConvLSTM-CfC: estimates
for a neuromorphic and for a conventional processor, which count other things.
"""

from dataclasses import dataclass

import pandas as pd
from _programs import markdown
from published_networks import full_tiles_j

from analogmed.hardware import Cost, TileMap, estimate, load_profile, map_tiles
from analogmed.models import build_model
from analogmed.report.names import model_name

PROFILE = "hermes-core"
LEADS, CLASSES, SAMPLES = 12, 7, 1000
PUBLISHED_UJ = {"emulated neuromorphic processor": 4.68, "conventional processor": 450}


@dataclass(frozen=True)
class Row:
    """Network of the table.

    Args:
        model: name of the network.
        options: arguments of its builder.
        samples: length of the signal.
        note: what distinguishes it from others of this name.
    """

    model: str
    options: dict[str, object]
    samples: int = SAMPLES
    note: str = ""


ROWS = (
    Row("s4d", {}),
    Row("s4d_ncp", {}),
    Row("s4d_ncp", {"size": "small"}, 250, ", small, 2.5 s"),
    Row("convlstm_cfc", {}),
    Row("convlstm_ltc", {}),
    Row("spiking_convlstm_cfc", {}),
)


def cost_of(row: Row) -> tuple[TileMap, Cost, int]:
    """Return tiles, estimated cost of one signal, and number of trainable parameters."""
    network = build_model(
        row.model,
        in_channels=LEADS,
        out_channels=CLASSES,
        spatial_dims=1,
        **row.options,
    )
    profile = load_profile(PROFILE)
    mapped = map_tiles(network, (1, LEADS, row.samples), profile.tile_size, row_split="channels")
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    return mapped, estimate(mapped, profile), trainable


def table() -> str:
    """Return the table in Markdown."""
    rows = []
    for row in ROWS:
        mapped, cost, trainable = cost_of(row)
        digital = sum(mapped.digital_macs.values())
        rows.append(
            {
                "network": f"{model_name(row.model)}{row.note}",
                "float32 weights (kB)": f"{4 * trainable / 1000:.0f}",
                "tiles": str(cost.tiles),
                "MACs on tiles": f"{cost.macs / (cost.macs + digital):.0%}",
                "time (ms)": f"{1e3 * cost.latency_s:.2f}",
                "energy, used cells only (uJ)": f"{1e6 * full_tiles_j(cost):.1f}",
                "energy, whole tiles (uJ)": f"{1e6 * cost.stack_j(1):.0f}",
            }
        )
    return markdown(pd.DataFrame(rows))


def main() -> None:
    """Print the table and the published values."""
    print(f"Profile {PROFILE}, level mvm_only: only products on tiles are counted.\n")
    print(table())
    for name, energy_uj in PUBLISHED_UJ.items():
        print(f"Published estimate for the spiking ConvLSTM-CfC, {name}: {energy_uj:g} uJ")


if __name__ == "__main__":
    main()
