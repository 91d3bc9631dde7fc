import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analogmed.foundation.errors import ConfigError, DataError
from analogmed.report.figures.hardware import reuse_per_layer, slice_timeline, tile_occupancy

COLUMNS = ["layer", "tile", "row", "col", "rows", "cols", "tile_rows", "tile_cols"]


def blocks_of(*rows):
    return pd.DataFrame([(*row, 100, 100) for row in rows], columns=COLUMNS)


BLOCKS = blocks_of(("first", 0, 0, 0, 50, 100), ("second", 1, 0, 0, 100, 100))
LAYERS = pd.DataFrame({"layer": ["first", "second"], "reuse_factor": [64, 4096]})
TIMELINE = pd.DataFrame(
    {
        "slice": [0, 0, 1, 1],
        "layer": ["first", "second"] * 2,
        "start_ms": [0.0, 2.0, 2.0, 4.0],
        "end_ms": [2.0, 2.001, 4.0, 4.001],
        "profile": "hermes-1-phase",
        "level": "mvm_only",
    }
)
FIGURES = [(tile_occupancy, BLOCKS), (reuse_per_layer, LAYERS), (slice_timeline, TIMELINE)]


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def colored(path):
    """Number of pixels that are neither white nor grey."""
    found = pixels(path).astype(int)
    return int(((found.max(axis=2) - found.min(axis=2)) > 40).sum())


@pytest.mark.parametrize(("draw", "table"), FIGURES)
@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_same_table_gives_the_same_bytes(draw, table, suffix, tmp_path):
    first = draw(table, tmp_path / f"a{suffix}", title="unet")
    assert first.read_bytes() == draw(table, tmp_path / f"b{suffix}", title="unet").read_bytes()


@pytest.mark.parametrize(("draw", "table"), FIGURES)
def test_a_figure_is_1200_pixels_wide(draw, table, tmp_path):
    assert pixels(draw(table, tmp_path / "figure.png")).shape[1] == 1200


@pytest.mark.parametrize(("draw", "table"), FIGURES)
def test_an_empty_or_incomplete_table_is_refused(draw, table, tmp_path):
    with pytest.raises(DataError, match="nothing to draw"):
        draw(table.iloc[:0], tmp_path / "figure.png")
    with pytest.raises(DataError, match="lacks the columns layer"):
        draw(table.drop(columns="layer"), tmp_path / "figure.png")
    with pytest.raises(ConfigError, match=r"\.png or \.svg"):
        draw(table, tmp_path / "figure.jpg")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("draw", "table"), FIGURES)
def test_dollars_in_a_name_are_not_mathematics(draw, table, tmp_path):
    draw(table.assign(layer=["$\\alpha"] * len(table)), tmp_path / "figure.png", title="$x")


def test_a_tile_is_filled_as_far_as_it_is_used(tmp_path):
    full = blocks_of(("only", 0, 0, 0, 100, 100))
    half = blocks_of(("only", 0, 0, 0, 100, 50))
    quarter = blocks_of(("only", 0, 50, 50, 50, 50))
    area = [colored(tile_occupancy(table, tmp_path / "f.png")) for table in (full, half, quarter)]
    assert area[1] / area[0] == pytest.approx(1 / 2, abs=0.06)
    assert area[2] / area[0] == pytest.approx(1 / 4, abs=0.06)


def test_the_smallest_layer_can_be_seen(tmp_path):
    assert colored(tile_occupancy(blocks_of(("tiny", 0, 0, 0, 3, 1)), tmp_path / "f.png")) > 0


def test_shared_and_many_tiles_are_drawn_in_order(tmp_path):
    shared = blocks_of(("a", 0, 0, 0, 50, 100), ("b", 0, 50, 0, 50, 100))
    area = colored(tile_occupancy(shared, tmp_path / "shared.png"))
    alone = colored(tile_occupancy(shared.iloc[:1], tmp_path / "alone.png"))
    assert area > 1.5 * alone
    many = blocks_of(*((f"layer{n}", n, 0, 0, 100, 100) for n in range(1_000)))
    height = pixels(tile_occupancy(many, tmp_path / "many.png")).shape[0]
    assert 1_000 < height < 1_600  # 32 lines of tiles


@pytest.mark.slow
def test_a_figure_with_hundreds_of_layers_stays_readable_in_size(tmp_path):
    names = [f"layer{n}" for n in range(400)]
    layers = pd.DataFrame({"layer": names, "reuse_factor": range(1, 401)})
    timeline = TIMELINE.iloc[[0] * 400].assign(layer=names)
    for path in (
        reuse_per_layer(layers, tmp_path / "reuse.png"),
        slice_timeline(timeline, tmp_path / "pipeline.png"),
    ):
        assert pixels(path).shape[0] < 2_700


def test_a_short_stage_can_be_seen_in_the_timeline(tmp_path):
    """A second layer of a millionth of the time still has its own color in its line."""
    brief = TIMELINE.iloc[:2].assign(slice=[0, 1], start_ms=[0.0, 1.0], end_ms=[2.0, 1.000001])
    found = pixels(slice_timeline(brief, tmp_path / "timeline.png")).astype(int)
    bars = found[: found.shape[0] // 2]  # above the legend
    orange = (bars[..., 0] > 180) & (bars[..., 1] > 80) & (bars[..., 2] < 120)
    assert orange.sum() > 5


@pytest.mark.slow
def test_drawing_imports_neither_torch_nor_the_hardware(tmp_path):
    code = (
        "import sys; import analogmed.report.figures.hardware, analogmed.report.tables.hardware; "
        "assert not {'torch', 'monai', 'aihwkit', 'analogmed.hardware'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
