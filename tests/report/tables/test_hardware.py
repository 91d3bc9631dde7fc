import pandas as pd
import pytest

from analogmed.foundation.errors import DataError
from analogmed.report.tables.hardware import (
    render_costs,
    render_digital,
    render_layers,
    render_tiles,
)
from analogmed.report.text import UNKNOWN

COSTS = pd.DataFrame(
    {
        "model": ["unet", "swin"],
        "input": "3 x 256 x 256",
        "tile_size": "256 x 256",
        "parameters": [7_763_041, 62_191_941],
        "analog_layers": [19, 69],
        "tiles": [147, 1231],
        "utilisation_per_tile": [0.7329, 0.5],
        "utilisation_per_layer": 0.4,
        "utilisation_per_leaf_module": 0.07427,
        "reuse_factor_per_tile": 6173.4,
        "reuse_factor_per_layer": 21_800.42,
        "reuse_factor_per_leaf_module": 6574.73,
        "profile": "hermes-1-phase",
        "level": "mvm_only",
        "packing": "none",
        "tiles_placed": [147, 1231],
        "utilisation_placed": 0.7,
        "chips": [3, None],
        "area_mm2": [93.5, None],
        "latency_ms": 55.065,
        "interval_ms": 8.7124,
        "throughput_per_s": 114.778,
        "slices": 155,
        "stack_ms": 8535.14,
        "stack_pipelined_ms": 1396.78,
        "energy_mj": 12.851,
        "tops_per_w": 1.795,
        "skip_buffer_kib": 5888.0,
        "uncosted_layers": [4, 0],
    }
)


def test_tiles_are_one_line_per_network_with_the_three_means():
    text = render_tiles(COSTS)
    assert "Networks on tiles of 256 x 256" in text
    line = next(line for line in text.splitlines() if " unet " in line)
    assert line.split() == [
        "unet", "7,763,041", "19", "147", "73.29%", "40.00%", "7.43%", "6,173", "21,800", "6,575",
    ]  # fmt: skip


def test_costs_stand_under_their_profile_and_level():
    text = render_costs(COSTS)
    assert "Estimates for hermes-1-phase, level mvm_only" in text
    heads = [" ".join(line.split()) for line in text.splitlines()[2:5]]
    assert heads[0] == "one 155 one"
    assert heads[1] == "cells area slice interval slices slices pipelined slice skips"
    line = next(line for line in text.splitlines() if " unet " in line)
    assert line.split() == [
        "unet", "147", "70.00%", "3", "93.5", "55.06", "8.712", "114.8", "8,535", "1,397", "12.85",
        "1.795", "5,888",
    ]  # fmt: skip


def test_an_input_that_is_no_image_is_not_called_a_slice():
    for size in ("1 x 64 x 64 x 32", "12 x 5000"):
        text = render_costs(COSTS.assign(input=size))
        assert "input interval inputs inputs pipelined input" in " ".join(text.split())
        assert "slice" not in text


def test_what_is_not_known_is_a_dash():
    line = next(line for line in render_costs(COSTS).splitlines() if " swin " in line)
    assert line.split()[3:5] == ["\u2013", "\u2013"]


def test_layers_that_are_in_no_figure_are_told():
    text = render_costs(COSTS)
    assert "unet: 4 layers are digital and in none of these figures" in text
    assert "swin: 0" not in text


def test_costs_of_two_levels_are_two_tables():
    other = COSTS.assign(level="measured_layer")
    text = render_costs(pd.concat([COSTS, other]))
    assert text.index("level mvm_only") < text.index("level measured_layer")


def test_packing_is_told():
    assert "packed (first_fit)" in render_costs(COSTS.assign(packing="first_fit"))


def test_layers_show_replicas_copies_and_groups_only_where_there_are_some():
    layers = pd.DataFrame(
        {
            "layer": ["a", "b"],
            "groups": [1, 1],
            "tiles": [1, 2],
            "utilisation": [0.5, 0.01],
            "reuse_factor": [64, 65_536],
            "replicas": [1, 1],
        }
    )
    plain = render_layers(layers, "Layers")
    assert not {"groups", "copies", "replicas"} & {*plain.split()}
    full = render_layers(layers.assign(groups=[1, 4], copies=[3, 1], replicas=[8, 1]), "Layers")
    assert {"groups", "copies", "replicas"} <= {*full.split()}


def test_tables_of_a_short_name_are_100_columns_wide_at_most():
    for text in (render_tiles(COSTS), render_costs(COSTS)):
        assert max(map(len, text.splitlines())) <= 100


def test_no_line_is_wider_than_the_page():
    wide = COSTS.assign(model="a.module.with.a.long.name:and_a_factory(with=many, options=8)")
    for text in (render_tiles(wide), render_costs(wide)):
        assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("render", [render_tiles, render_costs])
def test_a_missing_column_is_named(render):
    with pytest.raises(DataError, match="lacks the columns model"):
        render(COSTS.drop(columns="model"))


def test_digital_layers_have_their_products_and_share():
    layers = pd.DataFrame(
        {
            "model": ["s4d", "swin"],
            "layer": ["encoder.1.kernel", "attention"],
            "macs": [8_256_000.0, None],
            "mac_share": [0.125, None],
        }
    )
    lines = render_digital(layers).splitlines()
    found = [line.split() for line in lines if " s4d " in line or " swin " in line]
    assert found[0] == ["s4d", "encoder.1.kernel", "8,256,000", "12.50%"]
    assert found[1] == ["swin", "attention", UNKNOWN, UNKNOWN]
