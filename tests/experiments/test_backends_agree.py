"""The experiment that compares whole networks on all backends, with a small network."""

import json

import pandas as pd
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def experiment(program):
    return program("experiments", "backends_agree")


def test_backends_agree_on_a_small_network(experiment, tiny_task, tiny_hwa, tmp_path, capsys):
    experiment.main(
        [
            *("--checkpoints", str(tiny_hwa), "--root", str(tiny_task.root)),
            *("--task-options", json.dumps(tiny_task.options)),
            *("--chips", "3", "--tile-size", "24", "--out", str(tmp_path)),
        ]
    )
    table = pd.DataFrame(json.loads((tmp_path / "backends_agree.json").read_text()))
    assert list(table["backend"]) == ["aihwkit", "torch", "numba"] * 2
    assert set(table["time_s"]) == {20.0, 86_400.0}
    assert set(table["chips"]) == {3}
    own = table[table["backend"] != "aihwkit"]
    spread = 0.01 + 5 * table["chip_std"].max() * (2 / 3) ** 0.5
    assert (own["difference"].abs() < spread).all()
    assert (own["difference_low"] <= own["difference"]).all()
    assert (own["difference"] <= own["difference_high"]).all()
    assert (tmp_path / "backends_agree.md").read_text().strip() in capsys.readouterr().out
