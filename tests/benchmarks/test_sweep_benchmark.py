"""The benchmark of a sweep's own overhead."""

import json
import sys
import time

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def benchmark(program):
    return program("benchmarks", "sweep")


def test_a_part_inside_another_counts_for_the_inner_one_alone(benchmark):
    clock = benchmark.Clock()
    inner = clock.timed("inner", lambda: time.sleep(0.2))
    start = time.perf_counter()
    clock.timed("outer", lambda: (time.sleep(0.1), inner(), time.sleep(0.1)))()
    whole_s = time.perf_counter() - start
    assert clock.seconds["inner"] >= 0.2 and clock.seconds["outer"] >= 0.2
    assert sum(clock.seconds.values()) <= whole_s


def test_the_parts_of_a_run_add_up_to_the_whole(
    benchmark, tiny_task, tiny_digital, tmp_path, capsys
):
    path = tmp_path / "sweep.json"
    arguments = [
        *("--only", "shipped", "--rounds", 1, "--chips", 2, "--json", path),
        *("--task-options", json.dumps(tiny_task.options), "--checkpoints", tiny_digital),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["sweep.py", *map(str, arguments)])
        benchmark.main()
    (row,) = json.loads(path.read_text())["rows"]
    assert sum(row[part] for part in benchmark.PARTS) == pytest.approx(row["whole"])
    assert all(row[part] > 0 for part in benchmark.PARTS)
    work = row["forward"] + row["programming"]
    assert row["overhead"] == pytest.approx(1 - work / row["whole"])
    assert "| shipped |" in capsys.readouterr().out
