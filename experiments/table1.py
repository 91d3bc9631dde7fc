"""Table 1 of Hamzaoui et al.: tile utilisation and reuse factor, by three conventions.

    python experiments/table1.py [--out FOLDER]

Takes a few seconds; nothing is trained. With --out, writes table1.csv and table1.md there.

Source: Hamzaoui et al., Table 1 (tiles of 512 x 512).
"""

import argparse
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from _programs import markdown, write_table

from analogmed.hardware import map_tiles
from analogmed.models import build_model

TILE_SIZE = 512
CONVENTIONS = ("per_tile", "per_layer", "per_leaf_module")


@dataclass(frozen=True)
class Row:
    """A row of the paper and the network that is compared with it."""

    paper: str
    paper_utilisation: float
    paper_reuse: float
    paper_parameters_m: float
    model: str
    input_shape: tuple[int, ...]
    out_channels: int
    options: dict[str, Any]


ROWS = (
    Row("U-Net", 0.0742, 6574.7, 7.76, "unet", (3, 256, 256), 1, {}),
    Row(
        "U-Net++", 0.1253, 8721.0, 19.6, "unetpp", (3, 256, 256), 1,
        {"features": (96, 96, 192, 384, 768, 96)},
    ),
    Row("Swin UNET", 0.432, 11540.6, 62.19, "swin_unetr", (4, 64, 64, 64), 3, {}),
    Row("Swin UNET", 0.432, 11540.6, 62.19, "swin_unetr", (4, 96, 96, 96), 3, {}),
)  # fmt: skip

EXPLANATION = """
Reuse factor: products that a tile computes for one input, that is output positions. Utilisation:
share of a tile's cells that hold a weight. Tiles of 512 x 512, split by whole input channels;
transposed convolutions are not mapped, as in the paper.

- per tile: each tile counts once, so it is the share of the chip that is used.
- per layer: each layer on tiles counts once.
- per leaf module: the paper's. The sum over the layers on tiles, divided by ALL leaf modules of the
  network, norms, activations and pools too, which count as 0.

U-Net: the paper's row is reproduced. The reuse factors of its 19 convolutions add up to 414,208;
divided by 63 leaf modules that is 6574.73. Utilisation is 7.427 % (the paper cuts to 7.42). Only 19
of the 63 modules are on tiles: the denominator makes the chip look three to six times emptier than
it is, and depends on whether an activation is written as a module or as a function.

Swin UNET: the parameters are those of MONAI's SwinUNETR, 3D, feature size 48, 4 to 3 channels. The
paper does not state the input; the reuse factor follows from it, the utilisation does not. None of
the three conventions gives 43.2 %; 1 or 2 input channels give it per layer, on tiles of 256 with
rows cut evenly and transposed convolutions on tiles, but then no input gives the reuse factor.

U-Net++: the paper's network is not known. No variant of MONAI's, of the classical nested U-Net, or
of segmentation_models_pytorch that we tried has 19.6 million parameters and both figures; the row
shows MONAI's nearest with a multiple of 32 features.

So no row but the first can be compared with the paper, and its rows not with each other: a
transformer has other modules between its layers than a U-Net.
"""


def compare(row: Row) -> dict[str, object]:
    model = build_model(
        row.model,
        in_channels=row.input_shape[0],
        out_channels=row.out_channels,
        spatial_dims=len(row.input_shape) - 1,
        **row.options,
    )
    tiles = map_tiles(
        model, (1, *row.input_shape), TILE_SIZE, row_split="channels", transposed="digital"
    )
    found = tiles.summary()
    return {
        "network": row.paper,
        "ours": row.model,
        "input": "x".join(map(str, row.input_shape)),
        "parameters_m": found["parameters"] / 1e6,
        "paper_parameters_m": row.paper_parameters_m,
        "layers": found["analog_layers"],
        "leaf_modules": found["leaf_modules"],
        "tiles": found["tiles"],
        "paper_utilisation": row.paper_utilisation,
        **{f"utilisation_{name}": found[f"utilisation_{name}"] for name in CONVENTIONS},
        "paper_reuse_factor": row.paper_reuse,
        **{f"reuse_factor_{name}": found[f"reuse_factor_{name}"] for name in CONVENTIONS},
    }


def table() -> pd.DataFrame:
    return pd.DataFrame([compare(row) for row in ROWS])


def to_markdown(found: pd.DataFrame) -> str:
    return markdown(pd.DataFrame(_shown(row) for row in found.to_dict("records")))


def _shown(row: dict[Hashable, Any]) -> dict[str, str]:
    ours, paper = f"{row['parameters_m']:.2f}", row["paper_parameters_m"]
    same = ours == f"{paper:.2f}"
    return {
        "network": f"{row['network']}, {row['input'].replace('x', ' x ')}",
        "parameters (M)": ours if same else f"{ours} (paper: {paper})",
        "utilisation: paper": f"{row['paper_utilisation']:.2%}",
        **_means(row, "utilisation", CONVENTIONS, ".2%"),
        "reuse factor: paper": f"{row['paper_reuse_factor']:,.1f}",
        **_means(row, "reuse_factor", CONVENTIONS[-1:], ",.1f"),
    }


def _means(
    row: dict[Hashable, Any], name: str, conventions: Sequence[str], form: str
) -> dict[str, str]:
    """Return the averages of a quantity by their heads, that of the paper first."""
    return {
        f"{name.replace('_', ' ')}: {mean.replace('_', ' ')}": f"{row[f'{name}_{mean}']:{form}}"
        for mean in reversed(conventions)
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder for table1.csv and table1.md")
    options = parser.parse_args()
    found = table()
    text = to_markdown(found) + EXPLANATION
    print(text)
    if options.out is not None:
        write_table(options.out, "table1", found, text)


if __name__ == "__main__":
    main()
