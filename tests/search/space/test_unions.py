import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analogmed.foundation.errors import ConfigError
from analogmed.search.space.unions import (
    Candidates,
    exact_union,
    greedy_union,
    relaxed_union,
    union_front,
    union_table,
)

X, Y, Z = (0, "B"), (0, "C"), (1, "F")


def _shared_or_own() -> Candidates:
    """Each of two tasks is best with a block of its own; a network of both costs 0.02 and 0.01."""
    return Candidates(
        names=["own of brain", "own of spleen", "shared"],
        scores={"brain": [0.90, 0.60, 0.88], "spleen": [0.50, 0.80, 0.79]},
        sizes=[{X: 10.0, Z: 5.0}, {Y: 10.0, Z: 5.0}, {Z: 8.0}],
    )


def test_a_union_holds_the_largest_that_is_needed_of_each_operation():
    assert _shared_or_own().union_size([0, 1]) == 10 + 10 + 5
    assert _shared_or_own().union_size([0, 2]) == 10 + 8


@pytest.mark.parametrize("smallest", [greedy_union, exact_union])
def test_a_small_loss_is_accepted_for_a_smaller_union(smallest):
    strict, lenient = (smallest(_shared_or_own(), delta=delta) for delta in (0.005, 0.03))
    assert strict.chosen == {"brain": 0, "spleen": 1} and strict.size == 25
    assert strict.losses == {"brain": 0.0, "spleen": 0.0}
    assert lenient.chosen == {"brain": 2, "spleen": 2} and lenient.size == 8
    assert lenient.joint_loss == pytest.approx(0.03)


@pytest.mark.parametrize("smallest", [greedy_union, exact_union])
def test_no_union_within_both_bounds_is_no_union(smallest):
    assert smallest(_shared_or_own(), delta=0.005, blocks_per_level=1) is None
    assert smallest(_shared_or_own(), delta=0.005, blocks_per_level=2).blocks_per_level == 2
    assert smallest(_shared_or_own(), delta=0.03, blocks_per_level=1).operations == {Z}


def test_relaxing_the_number_of_blocks_gives_the_front():
    front = union_front(_shared_or_own())
    assert [union.size for union in front] == [10 + 8, 10 + 10 + 5]
    assert [union.joint_loss for union in front] == pytest.approx([0.01, 0.0])
    # Without B brain would lose 0.02, without C spleen loses 0.01.
    assert relaxed_union(_shared_or_own(), blocks_per_level=1).chosen["spleen"] == 2


def test_the_operation_whose_loss_is_least_is_dropped_first():
    """Without B brain loses 0.3; without C spleen loses 0.1: C goes."""
    candidates = Candidates(
        names=["b", "c"],
        scores={"brain": [0.9, 0.6], "spleen": [0.7, 0.8]},
        sizes=[{X: 1.0}, {Y: 1.0}],
    )
    kept = relaxed_union(candidates, blocks_per_level=1)
    assert kept.operations == {X} and kept.losses["spleen"] == pytest.approx(0.1)


def test_a_network_without_a_score_is_no_candidate_of_that_task():
    candidates = Candidates(
        names=["b", "c"],
        scores={"brain": [0.9, math.nan], "spleen": [math.nan, 0.8]},
        sizes=[{X: 1.0}, {Y: 1.0}],
    )
    assert greedy_union(candidates, delta=1.0).chosen == {"brain": 0, "spleen": 1}
    assert relaxed_union(candidates, blocks_per_level=1) is None


def test_the_table_has_a_row_per_union_and_task():
    candidates = _shared_or_own()
    table = union_table(candidates, union_front(candidates))
    assert table["network"].tolist() == ["own of brain", "shared", "own of brain", "own of spleen"]
    assert table["score"].tolist() == [0.90, 0.79, 0.90, 0.80]
    assert table["union"].tolist() == [0, 0, 1, 1]


_SIZES = st.dictionaries(
    st.tuples(st.integers(0, 2), st.sampled_from("BCD")),
    st.integers(1, 9).map(float),
    min_size=1,
    max_size=4,
)


@st.composite
def _any_candidates(draw: st.DrawFn, most_tasks: int = 3) -> Candidates:
    number = draw(st.integers(1, 6))
    scores = st.lists(st.integers(0, 100).map(lambda n: n / 100), min_size=number, max_size=number)
    tasks = ("brain", "spleen", "liver")[: draw(st.integers(1, most_tasks))]
    return Candidates(
        names=list(range(number)),
        scores={task: draw(scores) for task in tasks},
        sizes=draw(st.lists(_SIZES, min_size=number, max_size=number)),
    )


@settings(deadline=None)
@given(_any_candidates(), st.sampled_from([0.0, 0.05, 0.3, 1.0]), st.sampled_from([None, 1, 2]))
def test_greedy_keeps_the_bounds_and_is_never_better_than_exact(candidates, delta, most):
    exact = exact_union(candidates, delta=delta, blocks_per_level=most)
    greedy = greedy_union(candidates, delta=delta, blocks_per_level=most)
    if greedy is None:
        assert exact is None or most is not None
        return
    assert exact is not None and exact.size <= greedy.size
    for union in (exact, greedy):
        assert all(-1e-9 <= loss <= delta + 1e-9 for loss in union.losses.values())
        assert most is None or union.blocks_per_level <= most


@settings(deadline=None)
@given(
    _any_candidates(most_tasks=2), st.sampled_from([0.0, 0.05, 0.3]), st.sampled_from([None, 1, 2])
)
def test_for_two_tasks_greedy_is_exact(candidates, delta, most):
    exact = exact_union(candidates, delta=delta, blocks_per_level=most)
    greedy = greedy_union(candidates, delta=delta, blocks_per_level=most)
    assert (greedy is None) == (exact is None)
    assert greedy is None or greedy.size == exact.size


def test_candidates_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="2 networks, but 1 of brain"):
        Candidates(["a", "b"], {"brain": [0.5]}, [{}, {}])
    with pytest.raises(ConfigError, match="no network has a score at task brain"):
        Candidates(["a"], {"brain": [math.nan]}, [{}])
    with pytest.raises(ConfigError, match="sizes are to be finite"):
        Candidates(["a"], {"brain": [0.5]}, [{X: -1.0}])
    with pytest.raises(ConfigError, match="at least one network and one task"):
        Candidates([], {"brain": []}, [])


@pytest.mark.parametrize(("delta", "most"), [(-0.1, None), (math.nan, None), (0.1, 0)])
def test_bounds_out_of_their_range_are_refused(delta, most):
    with pytest.raises(ConfigError, match=r"must be [01] or more"):
        greedy_union(_shared_or_own(), delta=delta, blocks_per_level=most)
