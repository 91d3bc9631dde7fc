import math
import re

import pandas as pd
import pytest

from analogmed.foundation.errors import ConfigError, DataError
from analogmed.report import training_curves

LOG = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "loss": [1.5, 1.0, 0.8],
        "learning_rate": [1e-3, 5e-4, 0.0],
        "dice": [math.nan, 0.6, 0.55],
    }
)


def test_the_same_log_gives_the_same_bytes(tmp_path):
    first, second = (
        training_curves(LOG, tmp_path / name, title="unet") for name in ("a.png", "b.png")
    )
    assert first.read_bytes() == second.read_bytes()


def test_the_best_epoch_is_named(tmp_path):
    text = training_curves(LOG, tmp_path / "curves.svg").read_text()
    assert text != training_curves(LOG.iloc[[0, 2]], tmp_path / "other.svg").read_text()


def test_the_kept_epoch_is_marked_where_it_is_not_the_best(tmp_path):
    plain, kept, same = (
        training_curves(LOG, tmp_path / f"{epoch}.png", kept_epoch=epoch).read_bytes()
        for epoch in (None, 3, 2)
    )
    assert plain == same
    assert plain != kept


def test_of_a_metric_whose_lower_values_are_better_the_lowest_is_the_best(tmp_path):
    log = LOG.rename(columns={"dice": "hd95"})
    plain, first, last = (
        training_curves(log, tmp_path / f"{epoch}.png", kept_epoch=epoch).read_bytes()
        for epoch in (None, 2, 3)
    )
    assert plain == last
    assert plain != first


def test_a_run_that_was_not_validated_is_drawn_too(tmp_path):
    assert training_curves(LOG.iloc[:1], tmp_path / "curves.png").stat().st_size > 5000


def test_the_loss_of_a_single_epoch_is_a_point_as_it_would_be_a_line_of_no_length(tmp_path):
    point = re.compile(r"<use [^>]*#0173b2")
    log = LOG.assign(dice=math.nan)
    one, two = (
        training_curves(log[:n], tmp_path / f"{n}.svg").read_text(encoding="utf-8") for n in (1, 2)
    )
    assert point.search(one)
    assert not point.search(two)


def test_what_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(DataError, match="lacks the columns dice"):
        training_curves(LOG.drop(columns="dice"), tmp_path / "curves.png")
    with pytest.raises(DataError, match="lacks any epoch"):
        training_curves(LOG.iloc[:0], tmp_path / "curves.png")
    with pytest.raises(ConfigError, match=r"\.png or \.svg"):
        training_curves(LOG, tmp_path / "curves.pdf")
