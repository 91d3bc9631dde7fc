from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from analogmed.cli.main import run_command
from analogmed.foundation.errors import DataError
from analogmed.search.supernet import operations as importance_program
from analogmed.search.supernet.operations import importance_of, report_importance

main = partial(run_command, "search")


@pytest.fixture
def tables(monkeypatch):
    """Importance of supernetworks by the names of their folders, in place of trained ones."""
    known = {
        name: pd.DataFrame(
            {
                "task": "phantom_brain",
                "level": [0, 0, 1, 1],
                "block": ["A", "C", "A", "C"],
                "importance": [share, 1 - share, 1 - share, share],
                "mean_importance": [share, 1 - share, 1 - share, share],
                "networks": 4,
            }
        )
        for name, share in (("spos", 0.8), ("fairnas", 0.3))
    }
    monkeypatch.setattr(importance_program.SharedWeights, "load", lambda folder: folder)
    monkeypatch.setattr(
        importance_program, "importance_table", lambda folder, **_: known[folder.name].copy()
    )
    return known


def test_two_supernetworks_of_one_task_are_kept_apart(tables, tmp_path, capsys):
    folders = [str(tmp_path / name) for name in ("spos", "fairnas")]
    main(["importance", "--supernets", *folders, "--out", str(tmp_path / "out")])
    read = pd.read_csv(tmp_path / "out" / "importance.csv")
    assert read["supernet"].tolist() == [folder for folder in folders for _ in range(4)]
    assert (tmp_path / "out" / "figures" / "importance.png").exists()
    printed = [line.strip() for line in capsys.readouterr().out.splitlines()]
    best = [line.split() for line in printed if line.startswith(str(tmp_path))]
    rows = [(Path(folder).name, level, block) for folder, _, level, block, _ in best[:4]]
    assert rows == [
        ("spos", "0", "A"),
        ("spos", "1", "C"),
        ("fairnas", "0", "C"),
        ("fairnas", "1", "A"),
    ]


def test_the_table_is_written_even_if_there_is_nothing_to_draw(tables, tmp_path):
    tables["spos"] = tables["spos"].head(0)
    with pytest.raises(DataError, match="no level has a choice of blocks"):
        report_importance(importance_of([tmp_path / "spos"]), tmp_path / "out")
    assert (tmp_path / "out" / "importance.csv").exists()


def test_a_failed_computation_keeps_the_settings_of_the_results(tables, tmp_path):
    out = tmp_path / "out"
    main(["importance", "--supernets", str(tmp_path / "spos"), "--out", str(out)])
    before = (out / "importance.yaml").read_bytes()
    assert main(["importance", "--supernets", str(tmp_path / "unknown"), "--out", str(out)])
    assert (out / "importance.yaml").read_bytes() == before
