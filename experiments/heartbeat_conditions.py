"""Networks for heartbeats with missing leads and with noise that they were not trained with.

    python experiments/heartbeat_conditions.py    # the shipped networks of the ECG phantom
    python experiments/heartbeat_conditions.py --task mitbih --root data/mitdb \\
        --networks runs/mitbih-digital runs/mitbih-hwa --conditions baseline muscle

Each network is evaluated under each condition on the test patients, digitally and on the same
chips after one day. The last column compares a condition with undisturbed signals, paired over
patients and chips. Takes about ten minutes of one core for the phantom.
"""

import argparse
from pathlib import Path

import pandas as pd
from _programs import case_values, markdown, run_program, with_interval

from analogmed.data.signals.leads import TWELVE
from analogmed.evaluation.preparation import shipped_folder
from analogmed.evaluation.statistics import difference, two_way_bootstrap
from analogmed.foundation.files import write_text_atomically
from analogmed.foundation.time_constants import DAY_S
from analogmed.metrics.properties import difference_bounds
from analogmed.report.names import network_name
from analogmed.tables.results import MODEL
from analogmed.tables.robustness import CURVES

METRIC = "auroc"
UNDISTURBED = "undisturbed"


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
    table = markdown(pd.DataFrame(rows_of(folders)))
    write_text_atomically(arguments.out / "conditions.md", table)
    print(table)


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
    first = scores_of(folders[UNDISTURBED])
    rows = []
    for network in first:
        for name, folder in folders.items():
            scores, curves = scores_of(folder)[network], CURVES.read(folder)
            rows.append(
                {
                    "network": network_name(*network),
                    "signals": name,
                    "AUROC digitally": _estimate(curves, network, on_chip=False),
                    "after a day": _estimate(curves, network, on_chip=True),
                    f"minus {UNDISTURBED}, after a day": ""
                    if name == UNDISTURBED
                    else _difference(scores, first[network]),
                }
            )
    return rows


def scores_of(folder: Path) -> dict[tuple[str, str], pd.DataFrame]:
    """Return the contribution of each case on each chip after one day, by network."""
    table = pd.read_parquet(folder / "results.parquet")
    return {
        (str(model), str(training)): case_values(rows, METRIC)[DAY_S]
        for (model, training), rows in table.groupby(list(MODEL), sort=False)
    }


def _estimate(curves: pd.DataFrame, network: tuple[str, str], *, on_chip: bool) -> str:
    chosen = (curves[list(MODEL)] == list(network)).all(axis=1) & (curves["metric"] == METRIC)
    (row,) = curves[chosen & (curves["time_s"].notna() == on_chip)].itertuples()
    return with_interval(row.estimate, row.low, row.high)


def _difference(scores: pd.DataFrame, undisturbed: pd.DataFrame) -> str:
    interval = two_way_bootstrap(
        scores.to_numpy(float),
        undisturbed.reindex(scores.index).to_numpy(float),
        patients=scores.index.get_level_values("patient"),
        statistic=difference,
        bounds=difference_bounds(METRIC),
    )
    return with_interval(interval.estimate, interval.low, interval.high, "+.3f")


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
