import math

import numpy as np
import pytest

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.checks import require_choice, require_number


def test_a_choice_names_the_nearest_one():
    require_choice("schedule", "cosine", ("cosine", "constant"))
    with pytest.raises(
        ConfigError, match=r"^schedule: unknown value 'cosin'; did you mean 'cosine'\?$"
    ):
        require_choice("schedule", "cosin", ("cosine", "constant"))
    with pytest.raises(ConfigError, match=r"unknown value \['b'\]"):
        require_choice("part", ["b"], {"b": 1})
    with pytest.raises(ConfigError, match=r"unknown value None; choose from: a, b$"):
        require_choice("part", None, ("b", "a"))


@pytest.mark.parametrize(
    ("bounds", "inside", "outside"),
    [
        ({"at_least": 0, "below": 1}, [0, 0.5, np.float32(0.5), np.int64(0)], [1, -1e-9]),
        ({"above": 0, "at_most": 1}, [1, 1e-9], [0, 1.0001]),
        ({}, [-3, 0.0], [math.inf, math.nan, "3", None, True, 1j]),
    ],
)
def test_a_number_is_finite_and_within_its_bounds(bounds, inside, outside):
    for value in inside:
        require_number("ramp", value, **bounds)
    for value in outside:
        with pytest.raises(ConfigError, match=r"^ramp: expected a finite number") as caught:
            require_number("ramp", value, **bounds)
        assert str(caught.value).endswith(f", got {value!r}")


def test_the_message_has_the_bounds():
    with pytest.raises(ConfigError, match=r"^a: expected a finite number above 0 and at most 1, "):
        require_number("a", 2, above=0, at_most=1)
