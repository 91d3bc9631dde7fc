"""Ranking of layers and noise sources by loss, from the long table of all settings."""

from typing import Any

import numpy as np
import pandas as pd

from analogmed.evaluation.statistics.intervals import Interval, difference, two_way_bootstrap
from analogmed.evaluation.summaries.runs import chip_values
from analogmed.foundation.errors import DataError
from analogmed.foundation.seeds import derive_seed
from analogmed.metrics.properties import difference_bounds, is_lower_better
from analogmed.metrics.registry import PRIMARY
from analogmed.tables.sensitivity import SETTINGS_COLUMNS
from analogmed.tables.table import require_columns

_KEY = ["setting", "subject", "time_s"]


def rank(
    table: pd.DataFrame,
    *,
    metric: str = PRIMARY,
    n_boot: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Compute the loss of each layer and noise source, with two-way bootstrap intervals.

    Args:
        table: long table, columns ``analogmed.tables.sensitivity.SETTINGS_COLUMNS``.
        metric: name in the ``metric`` column; a drop is by how much a value is worse.
        n_boot: bootstrap samples per interval.
        level: confidence level in (0, 1).
        seed: root seed of the bootstrap; all rows share their draws.

    Returns:
        One row per setting, subject and time. ``drop`` is that of the setting relative to the
        digital run. ``effect`` is the effect of the subject: for ``only_analog`` and
        ``noise_alone``, the drop; for ``only_digital`` and ``noise_all_but``, what is regained
        relative to the fully analog network. Both have ``_low`` and ``_high``. ``rank`` orders the
        effects within a setting and time, 1 is the largest; settings without a subject have no
        rank.

    Raises:
        DataError: the table lacks a column or the digital run.
    """
    require_columns(table, SETTINGS_COLUMNS, "the table of settings")
    table = table[table["metric"] == metric]
    digital = _values(table[table["setting"] == "digital"])
    if digital.empty:
        raise DataError("the table of settings lacks the digital run")
    patient_of = table.drop_duplicates("case").set_index("case")["patient"]
    shared: dict[str, Any] = {
        "patients": [str(patient_of[case]) for case in digital.index],
        "statistic": difference,
        "bounds": difference_bounds(metric),
        "n_boot": n_boot,
        "level": level,
        "seed": derive_seed(seed, "bootstrap", str(table["task"].iloc[0])),
    }
    reference = digital.to_numpy(dtype=np.float64)[:, 0]
    on_chip = table[table["setting"] != "digital"]
    values = {
        key: _values(rows).reindex(digital.index).to_numpy(dtype=np.float64)
        for key, rows in on_chip.groupby(_KEY, sort=False)
    }
    lower = is_lower_better(metric)

    def worse_by(other: np.ndarray, than: np.ndarray) -> Interval:
        pair = (other, than) if lower else (than, other)
        return two_way_bootstrap(*pair, **shared)

    found = []
    for (setting, subject, time_s), chips in values.items():
        drop = effect = worse_by(chips, reference)
        if setting in ("only_digital", "noise_all_but"):
            effect = worse_by(values["all_analog", "", time_s], chips)
        row = {"setting": setting, "subject": subject, "time_s": time_s}
        row |= {**drop.cells("drop"), **effect.cells("effect")}
        row |= {"n_patients": drop.n_patients, "n_chips": drop.n_chips}
        found.append(row | {"level": level, "note": drop.note})
    ranking = pd.DataFrame(found).sort_values(
        ["time_s", "setting"], kind="stable", ignore_index=True
    )
    ranks = ranking.groupby(["setting", "time_s"])["effect"].rank(ascending=False, method="first")
    ranking.insert(3, "rank", ranks.where(ranking["subject"] != "").astype("Int64"))
    return ranking


def _values(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the value of each case, a column per chip; the digital run is chip -1."""
    return chip_values(rows.assign(chip=rows["chip"].astype("Int64").fillna(-1)))
