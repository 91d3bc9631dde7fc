"""Networks for heartbeats with missing leads and with noise that they were not trained with.

    python experiments/heartbeat_conditions.py    # the shipped networks of the ECG phantom
    python experiments/heartbeat_conditions.py --task mitbih --root data/mitdb \\
        --networks runs/mitbih-digital runs/mitbih-hwa --conditions baseline muscle

Each network is evaluated under each condition on the test patients, digitally and on the same
chips after one day. The last column compares a condition with undisturbed signals, paired over
patients and chips. With several models, a second table compares each network with the first one of
the same training, paired over patients. Takes two minutes of one core for each network of the
phantom.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from _programs import markdown, run_program, with_interval, write_table

from analogmed.data.signals.leads import TWELVE
from analogmed.evaluation.preparation import shipped_folder
from analogmed.evaluation.statistics import ChipMeans, difference, two_way_bootstrap
from analogmed.evaluation.summaries.runs import OWN_DIGITAL, NetworkRun, Term, network_runs
from analogmed.foundation.time_constants import DAY_S
from analogmed.metrics.properties import difference_bounds
from analogmed.report.names import model_name, network_name
from analogmed.tables.results import MODEL
from analogmed.tables.robustness import CURVES

METRIC = "auroc"
UNDISTURBED = "undisturbed"
TERMS: dict[Term, str] = {OWN_DIGITAL: "digitally", DAY_S: "after a day"}


def _without(*kept: str) -> list[str]:
    """Return the setting by which all leads but some are missing."""
    missing = ", ".join(lead for lead in TWELVE if lead not in kept)
    return [f"--task.options.missing_leads=[{missing}]"]


CONDITIONS = {
    UNDISTURBED: {UNDISTURBED: []},
    "leads": {
        "limb leads only": _without("I", "II", "III", "aVR", "aVL", "aVF"),
        "leads I and II only": _without("I", "II"),
        "lead II only": _without("II"),
    },
    "baseline": {
        f"baseline noise, {snr} dB": [f"--task.options.noise={{baseline: {snr}}}"]
        for snr in (12, 6)
    },
    "muscle": {
        f"muscle noise, {snr} dB": [f"--task.options.noise={{muscle: {snr}}}"] for snr in (12, 6)
    },
}


def main() -> None:
    arguments = _arguments()
    networks = arguments.networks or sorted(shipped_folder(arguments.task).glob("*.safetensors"))
    data = [f"--task={arguments.task}"]
    data += [] if arguments.root is None else [f"--task.root={arguments.root}"]
    folders = {}
    for group in dict.fromkeys([UNDISTURBED, *arguments.conditions]):
        for name, settings in CONDITIONS[group].items():
            folders[name] = arguments.out / name.replace(",", "").replace(" ", "-")
            evaluate([*data, *settings], networks, folders[name], arguments.chips)
    for name, rows in (("conditions", rows_of(folders)), ("compared", comparisons_of(folders))):
        if rows:
            table = pd.DataFrame(rows)
            write_table(arguments.out, name, table, markdown(table))
            print(markdown(table))


def evaluate(data: list[str], networks: list[Path], out: Path, chips: int) -> None:
    """Evaluate the networks digitally and after one day, without example strips."""
    checkpoints = f"--checkpoints=[{', '.join(map(str, networks))}]"
    sweep = [f"--sweep.chips={chips}", f"--sweep.times_s=[{DAY_S:g}]", "--examples=0"]
    run_program("eval", [*data, checkpoints, *sweep, f"--out={out}"])


def rows_of(folders: dict[str, Path]) -> list[dict[str, object]]:
    """Return a row for each network and condition.

    Args:
        folders: run folder of each condition, the undisturbed one first.
    """
    runs = {name: runs_of(folder) for name, folder in folders.items()}
    rows = []
    for network, first in runs[UNDISTURBED].items():
        for name, folder in folders.items():
            curves = CURVES.read(folder)
            rows.append(
                {
                    "network": network_name(*network),
                    "signals": name,
                    "AUROC digitally": _estimate(curves, network, on_chip=False),
                    "after a day": _estimate(curves, network, on_chip=True),
                    f"minus {UNDISTURBED}, after a day": ""
                    if name == UNDISTURBED
                    else _contrast(DAY_S, runs[name][network], first),
                }
            )
    return rows


def comparisons_of(folders: dict[str, Path]) -> list[dict[str, object]]:
    """Return a row for each condition and network but the first one of each training.

    Its values are AUROC differences: this network minus the first one, on the signals of the row,
    and this difference minus that on undisturbed signals, which is positive where the network
    stands the condition better than the first one.

    Args:
        folders: run folder of each condition, the undisturbed one first.
    """
    runs = {name: runs_of(folder) for name, folder in folders.items()}
    first_of: dict[str, tuple[str, str]] = {}
    rows = []
    for network in runs[UNDISTURBED]:
        reference = first_of.setdefault(network[1], network)
        for name in folders if network != reference else ():
            pair = [runs[name][network], runs[name][reference]]
            before = [runs[UNDISTURBED][network], runs[UNDISTURBED][reference]]
            row: dict[str, object] = {
                "network": network_name(*network),
                "minus": model_name(reference[0]),
                "signals": name,
            }
            for term, title in TERMS.items():
                row[title] = _contrast(term, *pair)
            for term, title in TERMS.items():
                text = "" if name == UNDISTURBED else _contrast(term, *pair, *before)
                row[f"minus {UNDISTURBED}, {title}"] = text
            rows.append(row)
    return rows


def runs_of(folder: Path) -> dict[tuple[str, str], NetworkRun]:
    """Return the values of each model and training in an evaluation."""
    runs = network_runs(pd.read_parquet(folder / "results.parquet"), METRIC)
    return {(run.key["model"], run.key["training"]): run for run in runs}


def _estimate(curves: pd.DataFrame, network: tuple[str, str], *, on_chip: bool) -> str:
    chosen = (curves[list(MODEL)] == list(network)).all(axis=1) & (curves["metric"] == METRIC)
    (row,) = curves[chosen & (curves["time_s"].notna() == on_chip)].itertuples()
    return with_interval(row.estimate, row.low, row.high)


def _contrast(term: Term, *runs: NetworkRun) -> str:
    """Return a difference with its interval: of two runs, or of the differences of two pairs.

    Chips are paired between the runs of one model.
    """
    cases = sorted(runs[0].cases)
    low, high = difference_bounds(METRIC)
    interval = two_way_bootstrap(
        *(run.term(term)[[run.cases.index(case) for case in cases]] for run in runs),
        patients=[runs[0].patients[runs[0].cases.index(case)] for case in cases],
        statistic=_difference_of_pairs,
        chip_sets=[run.key["model"] for run in runs],
        bounds=(low * len(runs) / 2, high * len(runs) / 2),
    )
    return with_interval(interval.estimate, interval.low, interval.high, "+.3f")


def _difference_of_pairs(first: ChipMeans, second: ChipMeans, *pair: ChipMeans) -> np.ndarray:
    change = difference(first, second)
    return change - difference(*pair) if pair else change


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    groups = [name for name in CONDITIONS if name != UNDISTURBED]
    parser.add_argument("--task", default="phantom_ecg")
    parser.add_argument("--root", type=Path, help="folder of the data")
    parser.add_argument("--networks", nargs="+", type=Path, help="the shipped ones by default")
    parser.add_argument("--conditions", nargs="+", choices=groups, default=groups)
    parser.add_argument("--chips", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/heartbeat-conditions"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
