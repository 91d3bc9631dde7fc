import json
import shutil
from pathlib import Path

import programs
import pytest

from analogmed.models import build_model

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "explanation" / "performance.md"


def run(script, *arguments, fails=False):
    done = programs.run(ROOT / "benchmarks" / f"{script}.py", *arguments)
    assert (done.returncode != 0) == fails, done.stderr
    return done.stderr if fails else done.stdout


def measure(script, folder, *arguments):
    path = folder / f"{script}.json"
    printed = run(
        script, "--quick", "--rounds", 2, "--threads", 1, "--json", path, *map(str, arguments)
    )
    document = json.loads(path.read_text())
    assert (document["benchmark"], document["threads"], document["quick"]) == (script, 1, True)
    assert len(document["load_average"]["end"]) == 3
    assert document["machine"]["packages"]["torch"]
    return document, printed


def by_contender(document, workload):
    return {row["contender"]: row for row in document["workloads"][workload]["rows"]}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


def test_forward_passes_are_timed_against_the_digital_network(results):
    document, printed = measure(
        "forward", results, "--only", "unet-256", "--contenders", "numba", "aihwkit", "triton"
    )
    rows = by_contender(document, "unet-256")
    assert set(rows) == {"digital", "numba", "aihwkit"}
    assert rows["digital"]["wall_ratio"] == 1.0
    assert rows["aihwkit"]["wall_ratio"] > rows["numba"]["wall_ratio"]
    assert rows["numba"]["on_tiles"] == 1.0 > rows["aihwkit"]["on_tiles"] > 0.8
    assert len(rows["numba"]["all_wall_s"]) == 2
    assert "not run: triton: computes on a GPU" in printed


def test_training_steps_are_timed_against_the_digital_network(results):
    document, _ = measure("training", results, "--only", "unet-256", "--contenders", "auto")
    rows = by_contender(document, "unet-256")
    assert set(rows) == {"digital", "auto"}
    assert rows["auto"]["wall_s"] > 0


@pytest.mark.exhaustive
def test_the_peak_of_a_training_step_holds_gradients_and_both_moments_of_adamw(results):
    document, _ = measure("memory", results, "--only", "training", "--contenders", "auto")
    rows = by_contender(document, "training")
    weights = build_model("unet", in_channels=3, out_channels=1, features=8).parameters()
    weights_mb = sum(weight.numel() * weight.element_size() for weight in weights) / 1e6
    assert set(rows) == {"digital", "auto"}
    for row in rows.values():
        assert row["process_mb"] > row["step_mb"] > 3 * weights_mb


@pytest.mark.exhaustive
def test_training_runs_under_a_limit_of_a_quarter_of_the_data(results):
    document, printed = measure("loading", results, "--only", "training")
    rows = by_contender(document, "training")
    assert set(rows) == {"all in memory", "a quarter of the data"}
    assert rows["a quarter of the data"]["peak_mb"] < rows["all in memory"]["peak_mb"] / 2
    assert "not run: all, limited to a quarter: ran out of memory" in printed


def test_scaling_varies_one_quantity_and_holds_the_others(results):
    document, _ = measure("scaling", results, "--only", "side")
    small, large = document["workloads"]["side"]["rows"]
    assert (small["value"], large["value"]) == (64, 128)
    assert large["digital_s"] > small["digital_s"]


def test_a_contender_that_cannot_run_is_named_with_its_reason(results):
    document, printed = measure(
        "forward", results, "--only", "unet-w-noise", "--contenders", "aihwkit"
    )
    reason = document["workloads"]["unet-w-noise"]["skipped"]["aihwkit"]
    assert reason == "the torch tile ignores w_noise"
    assert f"not run: aihwkit: {reason}" in printed


def test_tables_replace_what_stands_between_their_markers(results, tmp_path):
    measure("scaling", results, "--only", "tile")
    document = shutil.copy(DOCUMENT, tmp_path / "performance.md")
    for _ in range(2):
        run("tables", results, "--document", document)
    text = document.read_text()
    assert text.count("<!-- scaling -->") == text.count("<!-- end of scaling -->") == 1
    assert text.count("**tile: unet 1x3x32x32") == 1
    assert "quick run: shows that it works, no result" in text


def test_tables_without_results_say_which_command_makes_them(tmp_path):
    error = run("tables", tmp_path, "--document", DOCUMENT, fails=True)
    assert f"no results in {tmp_path}" in error and "--json" in error
