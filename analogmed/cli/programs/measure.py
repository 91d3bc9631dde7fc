"""`python -m analogmed.hardware measure`: operation timings and network latency prediction."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from analogmed.cli.programs.named_networks import Network, add_network_options, check_input, network
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.files import ensure_writable, write_atomically
from analogmed.hardware import (
    Agreement,
    LookupTable,
    Recorded,
    Timing,
    agreement,
    describe_machine,
    measure_networks,
    measure_operations,
    record,
)

HELD_OUT = (
    "unet(features=4)",
    "unet(features=12)",
    "unet(features=16)",
    "unetpp(features=[8, 8, 16, 32, 64, 8])",
    "attention_unet(channels=[8, 16, 32], strides=[2, 2])",
    "swin_unetr(feature_size=12)",
)
EPILOG = """examples:
  # a table of this machine, one thread, tested on six small networks; about a minute
  python -m analogmed.hardware measure --out runs/measure
  # other networks, larger inputs, four threads
  python -m analogmed.hardware measure --model unet unetpp --input 3 256 256 --threads 4
  # what another network takes on the machine of a table
  python -m analogmed.hardware --model "unet(features=8)" --input 1 64 64 --table runs/measure

Run the same command on a Raspberry Pi or a laptop to fill its table; none is shipped, because a
table is true for the machine that it was measured on only. docs/hardware.md tells how.
"""


def main(arguments: list[str]) -> None:
    """Measure, write the table, and print the prediction error on held-out networks."""
    options = _parser().parse_args(arguments)
    shape = check_input(options.input)
    for name in ("threads", "repetitions"):
        if getattr(options, name) < 1:
            raise ConfigError(f"--{name}: expected 1 or more, found {getattr(options, name)}")
    tabled, held_out = (list(map(network, texts)) for texts in (options.model, options.held_out))
    folder = ensure_writable(options.out)
    torch.set_num_threads(options.threads)
    machine = describe_machine() | {"repetitions": options.repetitions, "input": list(shape)}
    machine |= {"networks": [each.text for each in tabled + held_out]}
    if options.device_name:
        machine["device"] = options.device_name

    models = [each.build(shape, options.out_channels) for each in tabled + held_out]
    recorded = [record(model, (1, *shape)) for model in models]
    table = _measure(recorded, machine, options.repetitions)
    table.write(folder)
    print(f"{len(table.timings)} operations on {machine['device']}: {folder / 'operations.csv'}")
    if held_out:
        start = len(tabled)
        found = measure_networks(models[start:], (1, *shape), repetitions=options.repetitions)
        _report(table, held_out, recorded[start:], found, folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m analogmed.hardware measure",
        description="Time the operations of networks, one by one, on this machine; write them as a "
        "look-up table; predict the held-out networks as sums over it and compare with their "
        "measured times, none of which is in the table.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_network_options(parser, default_input=[1, 64, 64])
    parser.add_argument(
        "--held_out",
        nargs="*",
        default=list(HELD_OUT),
        metavar="NAME",
        help="networks to predict and to time as a whole; their operations are measured one by one "
        "too (default: six small ones)",
    )
    parser.add_argument(
        "--repetitions",
        type=int,
        default=30,
        metavar="N",
        help="timed runs of each operation and network, of which the median counts (default: 30)",
    )
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="threads of torch (default: 1)"
    )
    parser.add_argument(
        "--device_name",
        metavar="TEXT",
        help="name of this device in the table (default: that of the board or processor)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/measure"),
        metavar="FOLDER",
        help="where operations.csv, provenance.yaml and networks.csv go (default: runs/measure)",
    )
    return parser


def _measure(
    recorded: Sequence[Recorded], machine: dict[str, object], repetitions: int
) -> LookupTable:
    with tqdm(total=repetitions, desc="operations", file=sys.stderr, disable=None) as bar:
        timings = measure_operations(
            recorded, repetitions=repetitions, progress=lambda number: bar.update(number > 1)
        )
    return LookupTable(timings, machine)


def _report(
    table: LookupTable,
    networks: Sequence[Network],
    recorded: Sequence[Recorded],
    measured: Sequence[Timing],
    folder: Path,
) -> None:
    predicted_s = [table.predict_s(each.counts) for each in recorded]
    measured_s = [timing.median_s for timing in measured]
    found = agreement(predicted_s, measured_s)
    rows = pd.DataFrame(
        {
            "network": [network.text for network in networks],
            "device": table.provenance["device"],
            "threads": table.provenance["threads"],
            "runtime": table.provenance["runtime"],
            "predicted_ms": [1e3 * time_s for time_s in predicted_s],
            "measured_ms": [1e3 * time_s for time_s in measured_s],
            "low_ms": [1e3 * timing.low_s for timing in measured],
            "high_ms": [1e3 * timing.high_s for timing in measured],
            "repetitions": [timing.repetitions for timing in measured],
        }
    )
    rows["error"] = rows["predicted_ms"] / rows["measured_ms"] - 1
    write_atomically(folder / "networks.csv", lambda path: rows.to_csv(path, index=False))
    _print(rows, found)


def _print(rows: pd.DataFrame, found: Agreement) -> None:
    width = max(map(len, rows["network"]))
    print(f"\n{'held-out network':{width}}  predicted ms  measured ms   error")
    for network_name, predicted, measured, error in zip(
        rows["network"], rows["predicted_ms"], rows["measured_ms"], rows["error"], strict=True
    ):
        print(f"{network_name:{width}}  {predicted:12.3f}  {measured:11.3f}  {error:+6.1%}")
    rank = f", Kendall tau {found.kendall_tau:.3f}" if found.networks > 1 else ""
    print(f"\nMAPE {found.mape:.1%}{rank} over {found.networks} held-out networks")
