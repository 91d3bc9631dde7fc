import dataclasses
from itertools import pairwise

import pytest
from torch import nn

from analogmed.foundation.errors import ConfigError
from analogmed.hardware import Figures, Profile, estimate, load_profile, map_tiles, place

HERMES = load_profile("hermes-1-phase")


def profile(**known):
    figures = Figures(time_ns=10.0, energy_nj=2.0, source="a closed form")
    return Profile("test", "test", (64, 64), figures, **known)


def chain(*channels, size=8):
    """1-wide convolutions of an image: one product per pixel."""
    layers = [nn.Conv2d(a, b, 1) for a, b in pairwise(channels)]
    return map_tiles(nn.Sequential(*layers), (1, channels[0], size, size), 64)


def test_the_unet_on_hermes_takes_what_the_test_vector_says(lgg_tiles):
    cost = estimate(lgg_tiles, HERMES)
    assert cost.tiles == 147
    assert cost.tiles > HERMES.tiles_per_chip
    assert 1e3 * cost.latency_s == pytest.approx(55.07, abs=5e-3)
    assert 1e3 * cost.interval_s == pytest.approx(8.71, abs=5e-3)
    assert cost.gain == pytest.approx(6.32, abs=5e-3)
    assert cost.throughput_per_s == pytest.approx(114.8, abs=0.05)
    assert 1e3 * cost.stack_j(1) == pytest.approx(12.85, abs=5e-3)
    assert 1e3 * cost.stack_s(155, pipelined=False) == pytest.approx(8535, abs=0.5)


def test_the_unet_on_223_tiles_takes_180_ms_for_155_slices(lgg_tiles):
    cost = estimate(lgg_tiles, HERMES, tile_budget=223)
    assert cost.tiles == 223
    assert 1e3 * cost.stack_s(155) == pytest.approx(180, abs=0.5)


def test_a_stack_takes_one_latency_and_then_one_interval_per_slice(lgg_tiles):
    cost = estimate(lgg_tiles, HERMES)
    assert cost.stack_s(1) == cost.stack_s(1, pipelined=False) == cost.latency_s
    assert cost.stack_s(10) == pytest.approx(cost.latency_s + 9 * cost.interval_s)
    for slices in (0, -1, 2.5, True):
        with pytest.raises(ConfigError, match="slices"):
            cost.stack_s(slices)


def test_four_phases_take_3_92_times_as_long_as_one(lgg_tiles):
    four = estimate(lgg_tiles, load_profile("hermes-4-phase"))
    one = estimate(lgg_tiles, HERMES)
    assert four.latency_s / one.latency_s == pytest.approx(63.1 / 16.1)
    assert four.stack_j(1) / one.stack_j(1) == pytest.approx(9.76 / 2.48)


def test_a_measured_layer_takes_the_measured_time_and_energy(lgg_tiles):
    cost = estimate(lgg_tiles, HERMES, "measured_layer")
    assert cost.latency_s == pytest.approx(414_208 * 1.52e-6)
    products = sum(layer.reuse_factor * layer.tiles for layer in lgg_tiles.layers)
    assert cost.stack_j(1) == pytest.approx(products * 1.51e-6 / 8)
    assert {stage.bound_by for stage in cost.stages} == {"measured", "unknown"}


def test_every_table_names_profile_and_level(lgg_tiles):
    cost = estimate(lgg_tiles, HERMES, "measured_layer")
    for table in (cost.table(), cost.timeline(2), cost.buffers()):
        assert set(table["profile"]) == {"hermes-1-phase"}
        assert set(table["level"]) == {"measured_layer"}
    assert cost.summary()["profile"] == "hermes-1-phase"
    assert cost.summary()["level"] == "measured_layer"


@pytest.mark.parametrize(
    ("known", "time_ns", "bound_by"),
    [
        ({}, 10, "mvm"),
        ({"io_gb_per_s": 8.0}, 10, "mvm"),  # 32 + 16 bytes in 6 ns
        ({"io_gb_per_s": 2.0}, 24, "io"),
        ({"io_gb_per_s": 2.0, "digital_ns": 30.0}, 30, "digital"),
    ],
)
def test_a_layer_is_as_slow_as_the_slowest_of_its_terms(known, time_ns, bound_by):
    (stage,) = estimate(chain(32, 16), profile(**known)).stages
    assert stage.time_s == pytest.approx(64 * time_ns * 1e-9)
    assert stage.bound_by == bound_by


def test_io_of_a_layer_on_several_tiles_is_that_of_its_fullest():
    (stage,) = estimate(chain(100, 70), profile(io_gb_per_s=1.0)).stages
    assert stage.time_s == pytest.approx(64 * (50 + 35) * 1e-9)


def test_energy_is_that_of_products_converters_io_digital_units_and_static_power():
    known = {"io_gb_per_s": 100.0, "io_pj_per_byte": 3.0, "digital_nj": 0.5, "static_mw": 7.0}
    cost = estimate(chain(100, 70), profile(**known))  # 2 x 2 tiles
    per_product_nj = 4 * (2.0 + 0.5) + (2 * 100 + 2 * 70) * 3e-3
    static_j = 7e-3 * 4 * cost.latency_s
    assert cost.stack_j(1) == pytest.approx(64 * per_product_nj * 1e-9 + static_j)
    pipelined, waiting = cost.stack_j(10), cost.stack_j(10, pipelined=False)
    assert pipelined == pytest.approx(waiting)  # a single layer has nothing to overlap with


def test_replicas_divide_time_but_not_energy():
    one, four = (estimate(chain(8, 8), profile(), tile_budget=budget) for budget in (1, 4))
    assert four.latency_s == pytest.approx(one.latency_s / 4)
    assert four.stack_j(1) == pytest.approx(one.stack_j(1))
    assert (one.tiles, four.tiles) == (1, 4)


def test_a_layer_called_twice_is_two_stages_that_never_meet():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared, self.between = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x):
            return self.shared(self.between(self.shared(x)))

    cost = estimate(map_tiles(Twice(), (1, 4, 8, 8), 64), profile())
    assert [stage.layer for stage in cost.stages] == ["shared", "between", "shared"]
    # two thirds of the time is spent in `shared`; the next slice begins in the gap's shadow
    assert cost.interval_s == pytest.approx(3 * 64 * 10e-9)
    assert cost.tiles == 2


def test_packed_layers_take_turns_and_fewer_tiles():
    tiles = chain(32, 32, 32, 32)
    packed = place(tiles, "first_fit")
    loose, dense = estimate(tiles, profile()), estimate(tiles, profile(), placement=packed)
    assert (loose.tiles, dense.tiles) == (3, 1)
    assert dense.latency_s == loose.latency_s
    assert loose.gain == pytest.approx(3)
    assert dense.gain == pytest.approx(1)


def test_groups_packed_on_one_tile_take_turns():
    tiles = map_tiles(nn.Conv2d(8, 8, 3, padding=1, groups=8), (1, 8, 8, 8), 64)
    cost = estimate(tiles, profile(), placement=place(tiles, "first_fit"))
    assert cost.tiles == 1
    assert cost.latency_s == pytest.approx(8 * estimate(tiles, profile()).latency_s)


def digital_middle(**known):
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))
    return estimate(map_tiles(model, (1, 4, 8, 8), 64, digital_layers=["1"]), profile(**known))


def test_a_digital_layer_is_not_counted_and_said_so_where_its_processor_is_unknown():
    cost = digital_middle()
    assert cost.latency_s == pytest.approx(2 * 64 * 10e-9)
    assert cost.uncosted_layers == ("1",)
    assert cost.summary()["uncosted_layers"] == 1
    assert "1" not in set(cost.timeline(1)["layer"])


def test_a_digital_layer_takes_the_time_and_energy_of_its_processor():
    cost = digital_middle(digital_gmac_per_s=0.5, digital_pj_per_mac=4.0)
    macs = 64 * 16
    assert cost.stages[1].bound_by == "processor"
    assert cost.stages[1].time_s == pytest.approx(macs / 0.5e9)
    assert cost.stages[1].energy_j == pytest.approx(macs * 4e-12)
    assert cost.uncosted_layers == ()
    assert cost.interval_s == pytest.approx(macs / 0.5e9)


def test_two_digital_layers_share_the_processor():
    model = nn.Sequential(*(nn.Conv2d(4, 4, 1) for _ in range(3)))
    tiles = map_tiles(model, (1, 4, 8, 8), 64, digital_layers=["0", "1"])
    cost = estimate(tiles, profile(digital_gmac_per_s=0.5))
    assert cost.interval_s == pytest.approx(2 * 64 * 16 / 0.5e9)


def test_buffers_hold_a_copy_for_each_slice_in_flight(lgg_tiles):
    cost = estimate(lgg_tiles, HERMES)
    buffers = cost.buffers().set_index("made_by")
    between = cost.latency_s - (2 * 2 + 1) * cost.interval_s  # but both top levels and the head
    first = buffers.loc["encoder1.conv2"]
    assert first["kept_ms"] == pytest.approx(1e3 * between)
    assert first["copies"] == 2  # 1.3 intervals
    assert first["bytes"] == 2 * 32 * 256**2


def test_the_timeline_shifts_each_slice_by_the_interval(lgg_tiles):
    cost = estimate(lgg_tiles, HERMES)
    timeline = cost.timeline(3)
    assert timeline["end_ms"].max() == pytest.approx(1e3 * cost.stack_s(3))
    first = timeline.query("layer == 'head'")["start_ms"]
    assert first.diff().dropna().tolist() == pytest.approx([1e3 * cost.interval_s] * 2)
    for _, rows in timeline.groupby("layer"):
        assert (rows["start_ms"].iloc[1:].values >= rows["end_ms"].iloc[:-1].values - 1e-9).all()


@pytest.mark.parametrize("budget", [0, -64, 1.5])
def test_a_budget_that_is_no_number_of_tiles_is_refused(lgg_tiles, budget):
    with pytest.raises(ConfigError, match=f"tile_budget.* 1 or more, got {budget}"):
        estimate(lgg_tiles, HERMES, tile_budget=budget)


def test_a_budget_too_small_says_what_is_needed(lgg_tiles):
    with pytest.raises(ConfigError, match="takes 147 tiles, which 64 cannot hold"):
        estimate(lgg_tiles, HERMES, tile_budget=64)


def test_a_budget_and_packing_exclude_each_other(lgg_tiles):
    with pytest.raises(ConfigError, match="choose"):
        estimate(lgg_tiles, HERMES, tile_budget=500, placement=place(lgg_tiles, "first_fit"))


def test_tiles_of_another_size_than_the_profiles_are_refused(lgg_unet):
    tiles = map_tiles(lgg_unet, (1, 3, 32, 32), 512)
    with pytest.raises(ConfigError, match=r"tiles of 256 x 256, but .* on tiles of 512 x 512"):
        estimate(tiles, HERMES)


def test_the_placement_of_another_network_is_refused():
    few, many = chain(8, 8), chain(8, 8, 8)
    with pytest.raises(ConfigError, match=r"placement: .* 1 layers .* found 2 layers .* has '1'"):
        estimate(few, profile(), placement=place(many))
    small = map_tiles(nn.Sequential(nn.Conv2d(8, 8, 1)), (1, 8, 8, 8), 32)
    with pytest.raises(
        ConfigError, match="on tiles of 64 x 64, found 1 layers on tiles of 32 x 32"
    ):
        estimate(few, profile(), placement=place(small))


def test_area_and_chips_follow_from_the_tiles(lgg_tiles):
    summary = estimate(lgg_tiles, HERMES).summary()
    assert summary["chips"] == 3
    assert summary["area_mm2"] == pytest.approx(147 * 63.1 / 1.55 / 64)
    unknown = dataclasses.replace(HERMES, area_mm2=None, tiles_per_chip=None)
    summary = estimate(lgg_tiles, unknown).summary()
    assert summary["chips"] is None and summary["area_mm2"] is None


def test_efficiency_is_the_tiles_peak_times_how_full_they_are_when_used():
    full = map_tiles(nn.Linear(64, 64), (1, 64), 64)
    summary = estimate(full, profile()).summary()
    assert summary["tops_per_w"] == pytest.approx(profile().tops_per_w())
    assert summary["tops"] == pytest.approx(profile().tops())
    half = estimate(map_tiles(nn.Linear(32, 64), (1, 32), 64), profile()).summary()
    assert half["tops_per_w"] == pytest.approx(profile().tops_per_w() / 2)


@pytest.mark.parametrize(
    ("known", "untimed", "unpowered"),
    [
        ({}, ("1",), ("1",)),
        ({"digital_gmac_per_s": 0.5}, (), ("1",)),
        ({"digital_pj_per_mac": 4.0}, ("1",), ()),
        ({"digital_gmac_per_s": 0.5, "digital_pj_per_mac": 4.0}, (), ()),
    ],
)
def test_digital_layers_lack_time_and_energy_each_for_itself(known, untimed, unpowered):
    cost = digital_middle(**known)
    assert (cost.untimed_layers, cost.unpowered_layers) == (untimed, unpowered)
    assert cost.uncosted_layers == (untimed or unpowered)
    summary = cost.summary()
    names = ("uncosted_layers", "untimed_layers", "unpowered_layers")
    numbers = [len(untimed or unpowered), len(untimed), len(unpowered)]
    assert [summary[name] for name in names] == numbers


def test_the_cells_of_replicas_count_in_the_utilisation():
    """Layers of 8 x 4 and 64 x 64 cells; twelve of the thirteen tiles hold the first one."""
    model = nn.Sequential(nn.Conv2d(8, 4, 1), nn.AvgPool2d(8), nn.Conv2d(4, 64, 1))
    tiles = map_tiles(model, (1, 8, 32, 32), 64)
    cost = estimate(tiles, profile(), tile_budget=13)
    replicas = {stage.layer: stage.replicas for stage in cost.stages}
    assert replicas["0"] > 1
    cells = replicas["0"] * 8 * 4 + replicas["2"] * 4 * 64
    assert cost.summary()["utilisation_placed"] == pytest.approx(cells / (cost.tiles * 64 * 64))
    assert cost.tiles == sum(replicas.values())


def test_the_lgg_unet_with_replicas_uses_half_of_its_cells(lgg_tiles):
    cost = estimate(lgg_tiles, HERMES, tile_budget=223)
    by_layer = cost.table().groupby("layer")["replicas"].first()
    cells = sum(by_layer[layer.name] * layer.cells for layer in lgg_tiles.layers)
    assert cost.utilisation == pytest.approx(cells / (223 * 256**2))
    assert cost.utilisation == pytest.approx(0.5125, abs=5e-5)


@pytest.mark.parametrize("packing", ["none", "first_fit"])
def test_the_utilisation_without_replicas_is_that_of_the_placement(packing):
    tiles = chain(32, 32, 32, 16)
    placed = place(tiles, packing)
    cost = estimate(tiles, profile(), placement=placed)
    assert cost.utilisation == pytest.approx(placed.utilisation)


def test_the_placement_of_a_network_of_other_sizes_is_refused():
    large, small = chain(100, 70), chain(8, 8)
    with pytest.raises(ConfigError, match=r"layer '0' has 0 blocks of 50 x 35 cells, expected 4"):
        estimate(large, profile(), placement=place(small, "first_fit"))


def test_the_placement_of_another_row_split_is_refused():
    layer = nn.Conv2d(11, 8, 3, padding=1)  # 99 rows: 54 and 45 by channels, 50 and 49 evenly
    by_channels, evenly = (
        map_tiles(nn.Sequential(layer), (1, 11, 8, 8), 64, row_split=split)
        for split in ("channels", "even")
    )
    with pytest.raises(ConfigError, match="the matrices differ from this network's"):
        estimate(evenly, profile(), placement=place(by_channels))
    estimate(evenly, profile(), placement=place(evenly))
