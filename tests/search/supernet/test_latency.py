from dataclasses import replace

import pytest

from analogmed.foundation.errors import ConfigError, DataError
from analogmed.hardware import Figures, Profile, estimate, map_tiles
from analogmed.models import Genotype, Level
from analogmed.models.subnet import Subnet
from analogmed.search.space.space import Space
from analogmed.search.supernet.latency import Latencies, latencies, of_profile, of_table, table_for

PRODUCT_S = 1e-7
TILE = Profile("made_up", "a tile", (64, 64), Figures(1e9 * PRODUCT_S, 1.0, "an example"))
SPACE = Space(depths=(1, 2), widths=(2, 4), kernels=(3, 5))
SIDE = 16
N = SIDE * SIDE


@pytest.fixture(scope="module")
def of_tile():
    return latencies(SPACE, (1, SIDE, SIDE), of_profile(TILE))


def test_a_convolution_takes_a_product_for_each_position(of_tile):
    """Down and join at full resolution; the way up once for each position within."""
    vectors = {
        (0, "A"): N + N // 4 + N,
        (0, "B"): N + N // 4 + N,
        (0, "F"): 2 * N + N // 4 + 2 * N,
        (1, "B"): N // 4,
        (1, "G"): 2 * (N // 4),
        (1, "identity"): 0,
    }
    for key, expected in vectors.items():
        assert of_tile.seconds[key] == pytest.approx(expected * PRODUCT_S), key


def test_the_operations_of_a_network_take_as_long_as_the_network_without_its_head(of_tile):
    genotype = Genotype((Level("F", 4, 5), Level("E", 8, 5)))
    mapped = map_tiles(Subnet(1, 1, 2, genotype=genotype), (1, 1, SIDE, SIDE), TILE.tile_size)
    head_s = N * PRODUCT_S
    expected = estimate(mapped, TILE).latency_s - head_s
    assert of_tile.seconds[0, "F"] + of_tile.seconds[1, "E"] == pytest.approx(expected)


def test_the_share_is_the_slowest_sampled_operation_of_each_level():
    found = Latencies({(0, "A"): 1.0, (0, "B"): 6.0, (1, "A"): 2.0, (1, "B"): 3.0, (1, "C"): 4.0})
    assert found.slowest_s == 6 + 4
    one, other = (Genotype((Level("A", 1), Level(name, 1, 3))) for name in ("A", "B"))
    assert found.share([one]) == pytest.approx((1 + 2) / 10)
    assert found.share([one, other]) == pytest.approx((1 + 3) / 10)
    assert found.share([Genotype((Level("B", 1, 3),))]) == pytest.approx(6 / 10)


def test_what_takes_no_time_counts_as_a_hundredth_of_the_median():
    found = Latencies({(0, "A"): 1.0, (0, "B"): 5.0, (0, "C"): 3.0, (0, "identity"): 0.0})
    assert found.floored(0, "identity") == pytest.approx(0.01 * 2.0)
    assert found.floored(0, "B") == 5.0


def test_a_space_in_which_nothing_takes_time_is_refused():
    with pytest.raises(ConfigError, match="takes any time"):
        latencies(SPACE, (1, SIDE, SIDE), lambda module, shape: 0.0)


def test_a_classification_has_no_way_up_to_wait_for():
    found = latencies(replace(SPACE, purpose="classification"), (1, SIDE, SIDE), of_profile(TILE))
    assert found.seconds[0, "B"] == pytest.approx(N * PRODUCT_S)


def test_this_machine_is_measured_once_and_then_looked_up(tmp_path):
    space = Space(depths=(2,), blocks=("identity", "B"), widths=(2,), growths=(1,), kernels=(3,))
    table = table_for(space, (1, 8, 8), tmp_path)
    found = latencies(space, (1, 8, 8), of_table(table))
    operations = {operation.operation for operation in table.timings}
    assert {"Conv2d", "ConvTranspose2d"} <= operations
    assert found.seconds[0, "B"] > found.seconds[1, "B"] > 0
    assert table_for(space, (1, 8, 8), tmp_path) == table
    with pytest.raises(DataError, match="lacks"):
        latencies(space, (1, 16, 16), of_table(table))
