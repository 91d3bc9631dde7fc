"""Comparison of a network found by search with a U-Net of the same number of tiles.

    python experiments/search_against_unet.py --workers 2

The U-Net defines the tile budget. The search maximises the 1-day Dice within this budget. Its
winner and the U-Net are then trained with the same settings, digitally and hardware-aware, on the
same patients with the same number of epochs. They are compared on the test patients, which were not
used in the search, and on the same number of chips. All commands are printed and can be run by
hand; finished steps are not repeated. Options that are not listed below are passed to `python -m
analogmed.search`. Takes half an hour of one core.
"""

import argparse
from pathlib import Path

import pandas as pd
from _programs import evaluate_networks, markdown, run_program, with_interval

from analogmed.analog import Hardware
from analogmed.evaluation import compare_models
from analogmed.foundation.files import write_text_atomically
from analogmed.hardware import map_tiles
from analogmed.models import build_model
from analogmed.search.settings import CandidateConfig
from analogmed.tables.robustness import SUMMARY

TASK = [
    "--task=phantom_brain",
    "--task.options={phantom_patients: 60}",
    "--task.shares=[0.35, 0.05, 0.6]",
]
SHAPE, CHANNELS, CLASSES = (64, 64), 3, 1
TIMES_S = (0, 1, 86400, 2592000)
KEPT = ["dice_own_digital", "dice_t0", "dice_1d", "dice_1mo"]


def main() -> None:
    """Search, train, evaluate and compare."""
    arguments, settings = _arguments()
    out = arguments.out
    tiles = unet_tiles(arguments.features)
    run_program(
        "search",
        [
            *(*TASK, "--objectives=dice_1d", f"--constraints=[tiles <= {tiles}]"),
            *(*settings, f"--budget={arguments.budget}"),
            *(f"--final_epochs={arguments.epochs}", f"--engine.workers={arguments.workers}"),
            f"--out={out / 'search'}",
        ],
    )
    run_program("train", [*_like_candidates(arguments), f"--out={out / 'unet'}"])
    networks = [out / "search" / "best", out / "unet"]
    stages = [stage for network in networks for stage in (network / "digital", network)]
    evaluated, workers = out / "eval", [f"--engine.workers={arguments.workers}"]
    sweep = {"chips": arguments.chips, "times_s": TIMES_S}
    evaluate_networks(TASK, stages, evaluated, **sweep, further=workers)
    table = table_of(evaluated)
    write_text_atomically(out / "table.md", table)
    print(table)


def unet_tiles(features: int) -> int:
    """Return the number of tiles of the U-Net on the default chip."""
    model = build_model("unet", in_channels=CHANNELS, out_channels=CLASSES, features=features)
    mapped = map_tiles(model, (1, CHANNELS, *SHAPE), Hardware().tile_shape, row_split="channels")
    return int(mapped.summary()["tiles"])


def table_of(evaluated: Path) -> str:
    """Return Dice and tiles of the networks, and the difference between the hardware-aware ones."""
    summary = SUMMARY.read(evaluated)
    rows = [
        {
            "network": row["model"],
            "training": row["training"],
            "tiles": row["tiles"],
            "parameters": row["parameters"],
            **{name: f"{row[name]:.3f}" for name in KEPT},
            "1 day, 95 %": f"{row['dice_1d_low']:.3f} to {row['dice_1d_high']:.3f}",
        }
        for _, row in summary.iterrows()
    ]
    results = pd.read_parquet(evaluated / "results.parquet")
    pairs = compare_models(results[results["training"] == "hwa"])
    told = [
        f"{row['model']} minus {row['other_model']} after a day: "
        f"{with_interval(row['difference'], row['low'], row['high'], '+.3f')}"
        for _, row in pairs.iterrows()
    ]
    return "\n".join([markdown(pd.DataFrame(rows)), *told, ""])


def _like_candidates(arguments: argparse.Namespace) -> list[str]:
    """Return training options of the U-Net that match those of the search's winner."""
    candidate = CandidateConfig()
    return [
        *(*TASK, "--training=hwa", "--model=unet"),
        f"--model.options={{features: {arguments.features}}}",
        *(f"--epochs={arguments.epochs}", f"--batch_size={candidate.batch_size}"),
        f"--validate_every={max(1, arguments.epochs // 8)}",
        f"--optimizer.learning_rate={candidate.optimizer.learning_rate}",
        f"--optimizer.ema={candidate.optimizer.ema}",
    ]


def _arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--features", type=int, default=8, help="of the U-Net's first level")
    parser.add_argument("--budget", type=int, default=16, help="networks that are searched")
    parser.add_argument(
        "--epochs", type=int, default=60, help="of each stage of the final training"
    )
    parser.add_argument("--chips", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--out", type=Path, default=Path("runs/search_against_unet"))
    return parser.parse_known_args()


if __name__ == "__main__":
    main()
