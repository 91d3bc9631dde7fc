import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analogmed.foundation.errors import ConfigError, DataError
from analogmed.report.figures.importance import importance_heat_map


@pytest.fixture
def importance():
    """Two tasks, three levels; the first level has no identity."""
    generator = np.random.default_rng(2)
    rows = [
        {"task": task, "level": level, "block": block, "importance": generator.random()}
        for task in ("phantom_brain", "a_$task$_of_mine")
        for level in range(3)
        for block in ("identity", "A", "C", "F")
        if (level, block) != (0, "identity")
    ]
    table = pd.DataFrame(rows).assign(networks=32)
    sums = table.groupby(["task", "level"])["importance"].transform("sum")
    return table.assign(importance=table["importance"] / sums)


def _pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_table_and_its_file_give_the_same_bytes(importance, tmp_path, suffix):
    importance.to_csv(tmp_path / "importance.csv", index=False)
    read = pd.read_csv(tmp_path / "importance.csv")
    first = importance_heat_map(importance, tmp_path / f"a{suffix}")
    assert importance_heat_map(read, tmp_path / f"b{suffix}").read_bytes() == first.read_bytes()
    other = importance.assign(importance=importance["importance"][::-1].to_numpy())
    changed = importance_heat_map(other, tmp_path / f"c{suffix}")
    assert changed.read_bytes() != first.read_bytes()


@pytest.mark.slow
def test_tasks_with_many_blocks_stand_one_below_the_other(importance, tmp_path):
    many = pd.concat(
        [importance, *(importance.assign(block=importance["block"] + str(n)) for n in (1, 2))]
    )
    few_shape = _pixels(importance_heat_map(importance, tmp_path / "few.png")).shape
    many_shape = _pixels(importance_heat_map(many, tmp_path / "many.png")).shape
    assert many_shape[1] == few_shape[1] and many_shape[0] > few_shape[0]


@pytest.mark.slow
def test_two_supernetworks_of_one_task_have_a_panel_each(importance, tmp_path):
    one = importance[importance["task"] == "phantom_brain"]
    both = pd.concat([one.assign(supernet="runs/spos"), one.assign(supernet="runs/fairnas")])
    path = importance_heat_map(both, tmp_path / "two.svg")
    drawn = importance_heat_map(one.assign(supernet="runs/spos"), tmp_path / "one.svg")
    assert path.read_bytes() != drawn.read_bytes()
    shapes = [
        _pixels(importance_heat_map(rows, tmp_path / "a.png")).shape for rows in (both, importance)
    ]
    assert shapes[0] == shapes[1]  # as two tasks


def test_the_largest_share_has_the_brightest_cell(importance, tmp_path):
    one = importance[importance["task"] == "phantom_brain"].reset_index(drop=True)
    flat = one.assign(importance=np.where(one["block"] == "C", 0.9, 0.05))
    pixels = _pixels(importance_heat_map(flat, tmp_path / "a.png"))
    yellow = (pixels[..., 0] > 200) & (pixels[..., 1] > 200) & (pixels[..., 2] < 110)
    panel = slice(0, int(0.89 * pixels.shape[1]))  # the colour bar stands right of it
    centre = np.flatnonzero(yellow[:, panel].any(axis=0)).mean() / panel.stop
    assert centre == pytest.approx(0.05 + 0.95 * 1.5 / 4, abs=0.05)  # of A, C, F, identity


def test_an_empty_or_incomplete_table_and_another_suffix_are_refused(importance, tmp_path):
    with pytest.raises(DataError, match="no level has a choice of blocks"):
        importance_heat_map(importance.head(0), tmp_path / "a.png")
    with pytest.raises(DataError, match="lacks the columns importance, networks"):
        importance_heat_map(importance[["task", "level", "block"]], tmp_path / "a.png")
    with pytest.raises(ConfigError, match=r"\.png or \.svg"):
        importance_heat_map(importance, tmp_path / "a.pdf")
