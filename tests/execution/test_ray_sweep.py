import os
import subprocess
import sys
from dataclasses import replace

import pytest

from analogmed.config import EngineConfig, Experiment, SweepConfig, to_yaml
from analogmed.evaluation import evaluate
from analogmed.foundation.time_constants import DAY_S

pytest.importorskip("ray", reason="Ray is not installed: pip install 'analogmed[ray]'")

RESULTS = ("results.parquet", "results.csv", "summary.csv")


@pytest.fixture(scope="module")
def experiment(tiny_task, tiny_digital, tmp_path_factory):
    return Experiment(
        task=tiny_task,
        checkpoints=(tiny_digital,),
        sweep=SweepConfig(chips=2, times_s=(0.0, DAY_S)),
        engine=EngineConfig(threads=1),
        out=tmp_path_factory.mktemp("local"),
    )


def run(experiment, folder):
    """`python -m analogmed.eval` in a process of its own: Ray warns of what pytest refuses."""
    path = folder.parent / f"{folder.name}.yaml"
    path.write_text(to_yaml(replace(experiment, out=folder)))
    return subprocess.run(
        [sys.executable, "-m", "analogmed.eval", "--config", str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_ray_on_this_machine_gives_the_bytes_of_one_process(experiment, tmp_path):
    evaluate(experiment)
    done = run(
        replace(experiment, engine=EngineConfig("ray", workers=2, threads=1)), tmp_path / "ray"
    )
    assert done.returncode == 0, done.stderr
    for name in RESULTS:
        assert (tmp_path / "ray" / name).read_bytes() == (experiment.out / name).read_bytes()


def test_units_that_fit_on_no_machine_are_refused(experiment, tmp_path):
    engine = EngineConfig("ray", workers=1, gpus=64.0)
    done = run(replace(experiment, engine=engine), tmp_path / "ray")
    assert done.returncode == 2
    assert "1 CPUs and 64 GPUs, but a machine of Ray has at most 1" in done.stderr


def test_a_cluster_that_does_not_answer_is_told(experiment, tmp_path):
    engine = EngineConfig("ray", address="127.0.0.1:1")
    done = run(replace(experiment, engine=engine), tmp_path / "ray")
    assert done.returncode == 2
    assert "engine.address 127.0.0.1:1: Ray does not answer" in done.stderr
