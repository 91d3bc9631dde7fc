import math

import pytest

from analogmed.training.history import EpochRecord, History


def history(*scores, metric="dice"):
    records = (EpochRecord(n, n, 1.0, 0.1, score, 1.0) for n, score in enumerate(scores, 1))
    return History(tuple(records), metric)


def test_the_best_score_is_of_a_validation():
    assert history(math.nan, 0.5, math.nan, 0.7, 0.6).best == 0.7
    assert history(math.nan).best == -math.inf


@pytest.mark.parametrize(
    ("scores", "patience", "stalled"),
    [
        ((0.5, 0.4, 0.5), 2, True),
        ((0.5, 0.4, 0.6), 2, False),
        ((0.5, math.nan, 0.4, math.nan), 2, False),
        ((0.5, 0.4), 2, False),
        ((0.5, 0.4, 0.3, 0.2), 0, False),
        ((), 1, False),
    ],
)
def test_a_run_has_stalled_where_the_last_validations_brought_nothing_better(
    scores, patience, stalled
):
    assert history(*scores).has_stalled(patience) is stalled


def test_the_start_is_a_score_but_no_epoch():
    start = EpochRecord(0, 0, math.nan, 0.1, 0.6, 1.0)
    both = History((start, *history(0.5, 0.4).records))
    assert len(both) == 2
    assert both.best == 0.6
    assert both.has_stalled(2)
    assert both.table()["epoch"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("start", "scores", "last", "best"),
    [
        (0.5, (0.6, 0.8, 0.7), 3, 2),
        (0.65, (0.6, 0.7, 0.6), 2, 2),
        (0.9, (0.6, math.nan, 0.7), 0, 0),
        (math.nan, (0.6, math.nan, 0.5), 3, 1),
        (0.7, (0.7, 0.7), 2, 2),
        (math.nan, (math.nan,), None, None),
    ],
)
def test_the_last_state_is_kept_that_is_no_worse_than_the_start_or_the_best(
    start, scores, last, best
):
    run = History((EpochRecord(0, 0, math.nan, 0.1, start, 1.0), *history(*scores).records))
    assert run.kept_epoch("last") == last
    assert run.kept_epoch("best") == best


def test_of_a_metric_whose_lower_values_are_better_the_lowest_is_the_best():
    run = history(9.0, math.nan, 4.0, 6.0, metric="hd95")
    assert run.best == 4.0
    assert run.kept_epoch("best") == 3
    assert run.has_stalled(1)
    assert not run.has_stalled(2)
    start = EpochRecord(0, 0, math.nan, 0.1, 5.0, 1.0)
    after = History((start, *run.records), "hd95")
    assert after.kept_epoch("last") == 3  # the last one is worse than the start
    assert History(metric="hd95").keeps(1e9, "best")
    assert not History(metric="hd95").keeps(math.nan, "best")


@pytest.mark.parametrize("metric", ["dice", "hd95"])
def test_a_history_survives_its_plain_form(metric):
    before = history(0.1, 0.2, metric=metric)
    assert History.of_plain(before.plain()) == before
    assert before.table()[metric].tolist() == [0.1, 0.2]
    columns = ["epoch", "step", "loss", "learning_rate", metric, "seconds"]
    assert list(before.table()) == columns
