import os
import subprocess
import sys

import pandas as pd
import pytest

from analogmed.cli.options import to_options
from analogmed.config import EngineConfig
from analogmed.search.run import search
from analogmed.search.settings import CandidateConfig, SearchConfig, StrategyConfig
from analogmed.search.space.space import Space

pytest.importorskip("ray", reason="Ray is not installed: pip install 'analogmed[ray]'")

BESIDE_OTHER_WORK = {"OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
"""Ray's workers have a niceness of 15 otherwise, which leaves them what other tests do not want."""


def test_ray_on_this_machine_finds_what_one_process_finds(tiny_task, tmp_path):
    settings = {
        "task": tiny_task,
        "space": Space(depths=(1,), blocks=("A", "C"), widths=(2, 4), growths=(1,), kernels=(3,)),
        "strategy": StrategyConfig("random"),
        "budget": 2,
        "candidate": CandidateConfig(epochs=1, hwa_epochs=1, chips=2),
        "final_epochs": 0,
    }
    alone = search(SearchConfig(**settings, out=tmp_path / "alone")).candidates
    config = SearchConfig(**settings, engine=EngineConfig("ray", workers=2), out=tmp_path / "ray")
    done = subprocess.run(  # Ray warns of what pytest refuses
        [sys.executable, "-m", "analogmed.search", *to_options(config)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **BESIDE_OTHER_WORK},
    )
    assert done.returncode == 0, done.stderr
    table = pd.read_parquet(tmp_path / "ray" / "candidates.parquet")
    found = table[table["status"] == "evaluated"].set_index("key")
    assert len(found) == 2
    same = alone[alone["status"] == "evaluated"].set_index("key")
    both = found.index.intersection(same.index)
    assert len(both)
    for name in ("dice_1d", "dice_1mo", "tiles"):
        assert found.loc[both, name].tolist() == pytest.approx(same.loc[both, name].tolist())
