"""Published and estimated values of networks from the literature."""

from pathlib import Path

import pytest

from analogmed.hardware import map_tiles

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "evidence" / "cost.md"


@pytest.fixture(scope="module")
def published(program):
    return program("experiments", "published_networks")


@pytest.fixture(scope="module")
def costs(published):
    """Of ResNet-32 and of ResNet-18."""
    return published.resnet32_cost(), published.resnet18_cost()


@pytest.fixture(scope="module")
def anchors(published, costs):
    return {anchor.network: anchor for anchor in published.anchors(*costs)}


@pytest.mark.parametrize("row_split", ["channels", "even"])
def test_resnet_32_takes_43_tiles_of_512(published, row_split):
    tiles = map_tiles(published.resnet32(), (1, 3, 32, 32), 512, row_split=row_split)
    assert tiles.summary()["tiles"] == 43


def test_each_block_of_resnet_32_keeps_its_input_for_the_addition(published):
    tiles = map_tiles(published.resnet32(), (1, 3, 32, 32), 512)
    assert len(tiles.skips) == 15
    assert all(skip.read - skip.born in (2, 3) for skip in tiles.skips)


def test_the_networks_are_those_of_the_publications(costs):
    small, large = costs
    first, second, third = 16 * 16 * 9, 32 * 32 * 9, 64 * 64 * 9
    on_32 = 3 * 16 * 9 + 10 * first
    on_16 = second // 2 + 9 * second + 16 * 32
    on_8 = third // 2 + 9 * third + 32 * 64
    assert small.macs == 32**2 * on_32 + 16**2 * on_16 + 8**2 * on_8 + 64 * 10
    weights = sum(layer.cells for layer in large.mapped.layers)
    norms_and_last_bias = 2 * 4800 + 1000
    assert weights + norms_and_last_bias == 11_689_512  # ResNet-18 of torchvision
    assert large.macs == pytest.approx(1.81e9 * (256 / 224) ** 2, rel=5e-3)  # its 1.81 G at 224


def test_resnet_32_is_not_faster_than_its_slowest_layer_nor_slower_than_all_in_a_row(anchors):
    anchor = anchors["ResNet-32, time of an image (ms)"]
    assert anchor.low < anchor.published < anchor.high
    # output positions: 32 x 32 in the slowest layer; 11 layers on each of three sizes, and a Linear
    # layer
    assert anchor.low == pytest.approx(1024 * 130e-6, rel=1e-3)
    products = 11 * (32**2 + 16**2 + 8**2) + 1
    assert anchor.high == pytest.approx(products * 130e-6, rel=1e-3)


def test_resnet_18_does_not_reach_the_pipelined_estimate_and_more_than_image_after_image(anchors):
    anchor = anchors["ResNet-18, TOPS"]
    assert anchor.low < anchor.published < anchor.high
    full_tiles = 512 * 1.008  # of 256 x 256, Khaddam-Aljameh et al.
    assert anchor.high < full_tiles


@pytest.mark.parametrize("network", ["ResNet-32", "ResNet-18"])
def test_published_energies_lie_between_used_cells_and_whole_tiles(anchors, network):
    anchor = anchors[f"{network}, energy of an image (uJ)"]
    assert anchor.low < anchor.published < anchor.high


def test_the_replicas_of_resnet_18_fill_its_512_tiles_almost_evenly(published, costs):
    large = costs[1]
    assert large.tiles <= published.RESNET18_TILES
    one = sum(layer.reuse_factor * layer.tiles for layer in large.mapped.layers)
    ideal_s = one * 130e-9 / published.RESNET18_TILES
    assert ideal_s < large.interval_s < 1.3 * ideal_s


def test_published_resnet_18_lies_between_the_two_levels_and_resnet_32_does_not(published, costs):
    measured = published.resnet18_cost("hermes-1-phase", "measured_layer")
    at_level = [cost.summary()["tops"] for cost in (measured, costs[1])]
    assert at_level[0] < published.RESNET18_TOPS < at_level[1]
    slow = published.resnet32_cost("hermes-1-phase", "measured_layer")
    assert slow.interval_s > 0.434e-3


def test_the_page_shows_what_the_program_prints(published, capsys):
    published.main()
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if line.startswith("| ResNet")]
    assert len(rows) == 4
    page = PAGE.read_text()
    assert [row for row in rows if row not in page] == []
