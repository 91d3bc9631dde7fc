from aihwkit.simulator.configs import TorchInferenceRPUConfig
from aihwkit.simulator.tiles.array import TileModuleArray
from hypothesis import given, settings
from hypothesis import strategies as st

from analogmed.network.tiling import even_bounds, split_even

sizes = st.integers(1, 10_000)
limits = st.integers(0, 600)


@given(size=sizes, limit=limits)
def test_all_is_covered_in_the_fewest_parts_that_differ_by_one_at_most(size, limit):
    parts = split_even(size, limit)
    assert sum(parts) == size
    assert max(parts) - min(parts) <= 1
    assert sorted(parts, reverse=True) == list(parts)
    if limit:
        assert max(parts) <= limit
        assert (len(parts) - 1) * limit < size
    else:
        assert len(parts) == 1


@given(size=sizes, limit=limits)
def test_bounds_are_those_of_the_parts_one_after_the_other(size, limit):
    bounds = even_bounds(size, limit)
    assert [stop - start for start, stop in bounds] == list(split_even(size, limit))
    assert [start for start, _ in bounds] == [0, *[stop for _, stop in bounds[:-1]]]
    assert bounds[-1][1] == size


@given(size=st.integers(1, 3000), limit=limits)
@settings(max_examples=30)
def test_the_split_is_aihwkits(size, limit):
    array = TileModuleArray(1, 1, TorchInferenceRPUConfig())
    assert list(split_even(size, limit)) == array.get_split_sizes(size, limit)
