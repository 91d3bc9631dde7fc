"""The examples of the pages on cost run and return the documented values."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from analogmed.execution.run_folder import LOCK, WRITTEN
from analogmed.hardware import estimate, load_profile, map_tiles, place
from analogmed.models import build_model

DOCS = Path(__file__).parents[2] / "docs"
GUIDE = (DOCS / "how-to" / "cost.md").read_text()
MODEL = (DOCS / "explanation" / "cost-model.md").read_text()


def block(language):
    (found,) = re.findall(rf"```{language}\n(.*?)```", GUIDE, flags=re.DOTALL)
    return found


def test_the_profile_of_ones_own_is_one(tmp_path):
    path = tmp_path / "my-chip.yaml"
    path.write_text(block("yaml"))
    profile = load_profile(str(path))
    assert (profile.name, profile.io_gb_per_s, profile.digital_pj_per_mac) == ("my-chip", 8, 1.2)
    assert profile.figures("measured_layer").time_ns == 900


def test_the_lines_of_python_run_and_give_the_test_vector():
    names = {}
    exec(block("python"), names)
    assert names["cost"].stack_s(155) == pytest.approx(0.1803, abs=5e-5)


@pytest.mark.parametrize("name", ["hermes-1-phase", "hermes-4-phase", "hermes-core", "alpine"])
def test_the_table_of_profiles_shows_their_figures(name):
    (row,) = [line for line in MODEL.splitlines() if line.startswith(f"| `{name}`")]
    _, _, _, time_ns, energy_nj, *_ = (cell.strip() for cell in row.split("|"))
    figures = load_profile(name).mvm_only
    assert float(time_ns) == pytest.approx(figures.time_ns, rel=1e-3)
    assert float(energy_nj) == pytest.approx(figures.energy_nj, rel=5e-3)


def test_the_table_of_estimates_shows_computed_values():
    mapped = map_tiles(
        build_model("unet", in_channels=3, out_channels=1),
        (1, 3, 256, 256),
        256,
        row_split="channels",
        transposed="digital",
    )
    for name, options in {
        "one replica": {},
        "`--tile_budget 223`": {"tile_budget": 223},
        "`--packing first_fit`": {"placement": place(mapped, "first_fit")},
    }.items():
        (row,) = [line for line in MODEL.splitlines() if line.startswith(f"| {name} |")]
        cost = estimate(mapped, load_profile("hermes-1-phase"), "mvm_only", **options)
        found = cost.summary(slices=155)
        keys = ("tiles", "latency_ms", "interval_ms", "stack_ms", "stack_pipelined_ms", "energy_mj")
        shown = [cell.strip() for cell in row.split("|")[2:-1]]
        decimals = (0, 2, 2, 0, 0, 2)
        assert shown == [f"{found[key]:,.{n}f}" for key, n in zip(keys, decimals, strict=True)]


WITHOUT_AIHWKIT = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"aihwkit", "numba", "nibabel", "seaborn", "rich"}:
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
from analogmed.cli.main import run_command
small = ["--model", "unet(features=2)", "--input", "1", "32", "32", "--held_out"]
sys.exit(run_command("hardware", ["measure", *small, "--repetitions", "1", "--out", sys.argv[1]]))
"""


@pytest.mark.slow
def test_measuring_does_without_the_simulator(tmp_path):
    command = [sys.executable, "-c", WITHOUT_AIHWKIT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in tmp_path.iterdir()} == {
        *("operations.csv", "provenance.yaml", "measure.yaml", "environment.json"),
        *(LOCK, WRITTEN),
    }
