from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from analogmed.foundation.errors import ConfigError
from analogmed.hardware import map_tiles, place
from analogmed.models import build_model


def linear(*sizes):
    layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
    return map_tiles(nn.Sequential(*layers), (1, sizes[0]), 64)


def test_without_packing_every_part_has_its_own_tile(lgg_tiles):
    placement = place(lgg_tiles)
    assert placement.tiles == len(placement.blocks) == 147
    assert placement.shared_tiles == 0
    assert placement.utilisation == pytest.approx(lgg_tiles.summary()["utilisation_per_tile"])


def test_four_quarters_fill_one_tile():
    placement = place(linear(32, 32, 32, 32, 32), "first_fit")
    assert (placement.tiles, placement.shared_tiles, placement.utilisation) == (1, 1, 1.0)
    assert {(block.row, block.col) for block in placement.blocks} == {
        (0, 0), (0, 32), (32, 0), (32, 32),
    }  # fmt: skip


def test_parts_of_one_matrix_never_share_a_tile():
    placement = place(linear(70, 20), "first_fit")  # two parts of 35 x 20
    assert [block.tile for block in placement.blocks] == [0, 1]


def test_a_depthwise_convolution_packs_its_groups():
    tiles = map_tiles(nn.Conv2d(64, 64, 3, groups=64), (1, 64, 8, 8), 64)
    placement = place(tiles, "first_fit")
    assert place(tiles).tiles == 64
    assert placement.tiles == 1  # 64 columns of 9 rows


def test_a_small_network_is_packed_on_fewer_tiles_and_fills_them_more():
    model = build_model("unet", in_channels=1, out_channels=2, features=8)
    tiles = map_tiles(model, (1, 1, 64, 64), 256)
    loose, dense = place(tiles), place(tiles, "first_fit")
    assert dense.tiles < loose.tiles
    assert dense.utilisation == pytest.approx(loose.utilisation * loose.tiles / dense.tiles)


def test_the_table_has_a_row_per_block(lgg_tiles):
    table = place(lgg_tiles).table()
    assert len(table) == 147
    first = table.iloc[0]
    assert (first["layer"], first["rows"], first["cols"]) == ("encoder1.conv1", 27, 32)
    assert (first["tile_rows"], first["tile_cols"]) == (256, 256)


@settings(deadline=None, max_examples=40)
@given(sizes=st.lists(st.integers(1, 150), min_size=2, max_size=8))
def test_packed_blocks_hold_every_weight_inside_their_tile_and_never_overlap(sizes):
    tiles = linear(*sizes)
    placement = place(tiles, "first_fit")
    assert sum(b.rows * b.cols for b in placement.blocks) == tiles.summary()["cells"]
    taken = set()
    for block in placement.blocks:
        assert block.row + block.rows <= 64 and block.col + block.cols <= 64
        cells = {
            (block.tile, row, col)
            for row in range(block.row, block.row + block.rows)
            for col in range(block.col, block.col + block.cols)
        }
        assert not taken & cells
        taken |= cells
    assert placement.tiles <= place(tiles).tiles


def test_another_packing_is_refused():
    with pytest.raises(ConfigError, match="packing: unknown value 'fistfit'; did you mean"):
        place(linear(4, 4), "fistfit")
