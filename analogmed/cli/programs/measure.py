"""Program of ``analogmed hardware measure``: operation timings and latency prediction."""

from collections.abc import Sequence

import pandas as pd
import torch

from analogmed.cli.named_networks import NamedNetwork, parse_network
from analogmed.cli.settings import MeasureConfig
from analogmed.execution.run_folder import RunFolder, in_run_folder
from analogmed.foundation.progress import ProgressBar
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
from analogmed.hardware.lookup import PROVENANCE
from analogmed.tables.hardware import NETWORKS, OPERATIONS


@in_run_folder
def run(options: MeasureConfig) -> None:
    """Measure, write the table, and print the prediction error on held-out networks."""
    shape = options.input
    tabled, held_out = (
        list(map(parse_network, texts)) for texts in (options.model, options.held_out)
    )
    folder = RunFolder(
        options.folder, [OPERATIONS, PROVENANCE], [NETWORKS], settings="measure.yaml"
    )
    folder.begin()
    torch.set_num_threads(options.threads)
    machine = describe_machine() | {"repetitions": options.repetitions, "input": list(shape)}
    machine |= {"networks": [each.text for each in tabled + held_out]}
    if options.device_name:
        machine["device"] = options.device_name

    models = [each.build(shape, options.out_channels) for each in tabled + held_out]
    recorded = [record(model, (1, *shape)) for model in models]
    table = _measure(recorded, machine, options.repetitions)
    folder.renew(options)
    table.write(folder.path)
    print(
        f"{len(table.timings)} operations on {machine['device']}: {folder.path / OPERATIONS.file}"
    )
    if held_out:
        start = len(tabled)
        found = measure_networks(models[start:], (1, *shape), repetitions=options.repetitions)
        _report(table, held_out, recorded[start:], found, folder)


def _measure(
    recorded: Sequence[Recorded], machine: dict[str, object], repetitions: int
) -> LookupTable:
    with ProgressBar(repetitions, unit="round", title="operations") as bar:
        timings = measure_operations(
            recorded, repetitions=repetitions, progress=lambda number: bar.update(number > 1)
        )
    return LookupTable(timings, machine)


def _report(
    table: LookupTable,
    networks: Sequence[NamedNetwork],
    recorded: Sequence[Recorded],
    measured: Sequence[Timing],
    folder: RunFolder,
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
    folder.write(NETWORKS, rows)
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
