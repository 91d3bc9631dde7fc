import math

import numpy as np
import pytest

from analogmed.foundation.errors import ConfigError
from analogmed.metrics.registry import metric_names
from analogmed.search.objectives import METRICS, Constraint, Goal, best_first


@pytest.mark.parametrize(
    ("text", "constraint"),
    [
        ("tiles <= 40", Constraint("tiles", "<=", 40.0)),
        ("dice_1d>=0.5", Constraint("dice_1d", ">=", 0.5)),
        ("  avm_drop   <=   5e-2 ", Constraint("avm_drop", "<=", 0.05)),
        ("avm_drop >= -0.01", Constraint("avm_drop", ">=", -0.01)),
    ],
)
def test_a_constraint_is_read_as_people_write_it(text, constraint):
    assert Constraint.of(text) == constraint
    assert Constraint.of(str(constraint)) == constraint


@pytest.mark.parametrize(
    "text", ["tiles < 40", "tiles <= forty", "tiles <= nan", "tiles <= inf", "<= 4", "tiles 4", ""]
)
def test_a_text_that_is_no_constraint_is_refused_with_an_example(text):
    with pytest.raises(ConfigError, match="for instance 'tiles <= 40'"):
        Constraint.of(text)


def test_an_unknown_metric_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="constraint: unknown metric 'tile'; did you mean"):
        Constraint.of("tile <= 40")
    with pytest.raises(ConfigError, match="objectives: unknown metric 'dice_1'; did you mean"):
        Goal(("dice_1",))


@pytest.mark.parametrize(
    ("text", "value", "violation"),
    [
        ("tiles <= 40", 43, 3 / 40),
        ("tiles <= 40", 40, 0),
        ("tiles <= 40", 30, -10 / 40),
        ("dice_1d >= 0.5", 0.25, 0.5),
        ("dice_1d >= 0.5", 0.75, -0.5),
        ("dice_1d >= 0.5", math.nan, math.inf),
        ("avm_drop >= -0.5", -0.75, 0.5),
        ("avm_drop <= 0", 0.02, 0.02),
    ],
)
def test_a_violation_is_the_distance_beyond_the_bound_as_a_share_of_it(text, value, violation):
    constraint = Constraint.of(text)
    assert constraint.violation({constraint.metric: value}) == violation


def test_what_is_not_known_keeps_no_bound():
    goal = Goal(constraints=(Constraint.of("tiles <= 40"),))
    assert goal.violations({"dice_1d": 0.9}) == (math.inf,)


def test_a_goal_says_which_way_is_better_and_what_has_to_be_known():
    goal = Goal(
        ("dice_1d", "tiles"), (Constraint.of("tiles <= 40"), Constraint.of("avm_drop <= 0"))
    )
    assert goal.directions == ("maximize", "minimize")
    assert goal.metrics == ("dice_1d", "tiles", "avm_drop")
    assert goal.values({"tiles": 7, "dice_1d": 0.5}) == (0.5, 7)
    assert set(METRICS.values()) == {"maximize", "minimize"}


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("hd95_1d", "minimize"),
        ("hd95_digital", "minimize"),
        ("hd95_1d_std", "minimize"),
        ("hd95_avm_drop", "minimize"),
        ("nsd_1mo", "maximize"),
        ("nsd_1d_std", "minimize"),
        ("jaccard_t0", "maximize"),
    ],
)
def test_estimates_of_every_metric_of_the_registry_are_objectives(name, direction):
    goal = Goal((name, "dice_1d", "avm_drop"), (Constraint.of(f"{name} <= 5"),))
    assert goal.directions[0] == direction
    assert goal.estimated == (name.split("_")[0], "dice")
    assert goal.spreads == ((name,) if name.endswith("_std") else ())


def test_a_metric_that_needs_no_name_is_that_of_the_task():
    assert Goal(("avm_drop", "tiles")).estimated == ()


def test_each_metric_that_is_offered_is_an_objective():
    for metric in metric_names():
        assert Goal((f"{metric}_avm_drop",)).estimated == (metric,)
        assert Goal((f"{metric}_avm_drop",)).directions == ("minimize",)
    with pytest.raises(ConfigError, match="'dice_avm'; did you mean 'dice_avm_drop'"):
        Goal(("dice_avm",))


def test_an_unknown_estimate_of_a_metric_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="unknown metric 'hd95_1day'; did you mean 'h"):
        Goal(("hd95_1day",))


def test_the_first_objective_is_the_loss_smaller_is_better():
    assert Goal(("dice_1d", "tiles")).loss({"dice_1d": 0.5, "tiles": 3}) == -0.5
    assert Goal(("tiles", "dice_1d")).loss({"dice_1d": 0.5, "tiles": 3}) == 3


def test_no_objective_and_one_that_is_given_twice_are_refused():
    with pytest.raises(ConfigError, match="give at least one"):
        Goal(())
    with pytest.raises(ConfigError, match="given twice in tiles, tiles"):
        Goal(("tiles", "tiles"))


def test_feasible_ones_come_first_and_the_others_by_their_violation():
    goal = Goal(("dice_1d",), (Constraint.of("tiles <= 10"), Constraint.of("avm_drop <= 0.5")))
    candidates = [
        {"dice_1d": 0.9, "tiles": 12, "avm_drop": 0.0},  # broken by 2 of 10
        {"dice_1d": 0.5, "tiles": 10, "avm_drop": 0.5},
        {"dice_1d": 0.6, "tiles": 1, "avm_drop": 0.1},
        {"dice_1d": 0.8, "tiles": 11, "avm_drop": 0.525},  # by 1 of 10, and 0.025 of 0.5
        {"dice_1d": 0.99, "tiles": 1},  # unknown
    ]
    assert best_first(candidates, goal) == [2, 1, 3, 0, 4]


def test_what_a_bound_is_counted_in_does_not_change_the_order():
    tiles, drop = Constraint.of("tiles <= 400"), Constraint.of("avm_drop <= 0.02")
    near = {"dice_1d": 0.7, "tiles": 420, "avm_drop": 0.01}  # 20 tiles, a twentieth, too many
    far = {"dice_1d": 0.7, "tiles": 1, "avm_drop": 0.06}  # three times the bound
    assert best_first([far, near], Goal(constraints=(tiles, drop))) == [1, 0]


def test_without_constraints_the_order_is_that_of_the_first_objective():
    dice = np.random.default_rng(0).random(20)
    order = best_first([{"dice_1d": value} for value in dice], Goal())
    assert order == np.argsort(-dice).tolist()
