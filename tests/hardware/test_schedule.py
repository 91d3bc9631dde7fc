import pytest
from hypothesis import given
from hypothesis import strategies as st

from analogmed.hardware.schedule import smallest_interval


def stages_of(lengths):
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    return list(zip(starts, lengths, strict=True))


def clash(stages, owners, interval):
    """Whether any two of many slices are on one resource at one time."""
    slices = int(sum(length for _, length in stages) / interval) + 3
    for shift in range(1, slices):
        for (a, a_length), mine in zip(stages, owners, strict=True):
            for (b, b_length), theirs in zip(stages, owners, strict=True):
                begin, end = b + shift * interval, b + shift * interval + b_length
                runs = a_length > 0 and b_length > 0
                if runs and mine & theirs and a < end - 1e-6 and begin < a + a_length - 1e-6:
                    return True
    return False


def test_without_sharing_it_is_the_longest_stage():
    owners = [frozenset({i}) for i in range(3)]
    assert smallest_interval(stages_of([2.0, 5.0, 1.0]), owners) == 5.0


def test_a_gap_long_enough_takes_the_other_slices_in():
    owners = [frozenset({0}), frozenset({1}), frozenset({0})]
    assert smallest_interval(stages_of([1.0, 1.0, 1.0]), owners) == pytest.approx(3.0)
    assert smallest_interval(stages_of([1.0, 2.0, 1.0]), owners) == pytest.approx(2.0)


@given(
    layers=st.lists(
        st.tuples(st.integers(0, 6), st.frozensets(st.integers(0, 2), min_size=1)),
        min_size=1,
        max_size=6,
    ).filter(lambda layers: any(length for length, _ in layers))
)
def test_no_slices_clash_and_no_shorter_interval_on_a_grid_does_as_well(layers):
    lengths, owners = zip(*layers, strict=True)
    stages = stages_of(list(map(float, lengths)))
    found = smallest_interval(stages, owners)
    assert not clash(stages, owners, found)
    shorter = [found * share for share in (0.999, 0.9, 0.75, 2 / 3, 0.5, 1 / 3)]
    assert all(clash(stages, owners, interval) for interval in shorter)


@pytest.mark.parametrize("steps", [3, 60, 1000])
def test_a_recurrent_layer_takes_the_next_input_after_its_last_step(steps):
    """Two calls per step: the pauses between the calls of one tile are too short for another."""
    stages, resources = [], []
    for step in range(steps):
        stages += [(1.7 * step, 1.0), (1.7 * step + 1.0, 0.5)]
        resources += [frozenset({0}), frozenset({1})]
    assert smallest_interval(stages, resources) == pytest.approx(1.7 * (steps - 1) + 1.0)
