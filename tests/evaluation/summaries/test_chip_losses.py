import numpy as np
import pytest

from analogmed.evaluation.summaries.chip_losses import chip_losses
from analogmed.evaluation.summaries.summary import over_time
from tests.evaluation.summaries.test_summary import results

NETWORK = ["model", "training", "time_s"]


@pytest.mark.parametrize("lower", [False, True])
def test_the_mean_over_chips_is_the_loss_of_the_curves(lower):
    losses = chip_losses(results(), lower_is_better=lower)
    curves = over_time(results(), lower_is_better=lower, n_boot=20).dropna(subset="time_s")
    means = losses.groupby(NETWORK)["drift_drop"].mean()
    expected = curves.set_index(NETWORK)["drift_drop"]
    assert len(expected) > 1 and losses["chip"].nunique() > 1
    np.testing.assert_allclose(means.loc[expected.index], expected)


def test_a_chip_without_a_value_has_no_row():
    table = results()
    failed = table["chip"] == table["chip"].max()
    table.loc[failed, "value"] = np.nan
    assert set(chip_losses(table)["chip"]) == set(table.loc[~failed, "chip"].dropna())
