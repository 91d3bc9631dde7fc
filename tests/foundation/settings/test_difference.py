import doctest

from analogmed.foundation.settings import difference
from analogmed.foundation.settings.difference import (
    changed_members,
    compare_settings,
    format_differences,
)

DEFAULTS = {"seed": 0, "model": {"name": "unet", "options": {}}, "layers": [], "out": None}


def test_equal_settings_do_not_differ_whether_in_lists_or_tuples():
    old = {"sizes": [4, 8], "model": {"options": {"b": 1, "a": {}}}}
    new = {"model": {"options": {"a": {}, "b": 1}}, "sizes": (4, 8)}
    assert compare_settings(old, new, defaults={}) == {}


def test_a_difference_is_told_by_its_dotted_name_as_it_was_and_as_it_is():
    found = compare_settings(DEFAULTS, DEFAULTS | {"seed": 3, "layers": ["head"]}, defaults={})
    assert found == {"seed": ("0", "3"), "layers": ("[]", '["head"]')}
    assert format_differences(found) == '  seed: 0 -> 3\n  layers: [] -> ["head"]'


def test_a_number_is_another_setting_than_its_text_and_than_a_truth():
    assert compare_settings({"a": 1}, {"a": "1"}, defaults={}) == {"a": ("1", '"1"')}
    assert compare_settings({"a": 1}, {"a": True}, defaults={}) == {"a": ("1", "true")}


def test_a_setting_that_was_not_there_yet_counts_as_its_default():
    old = {"seed": 0, "model": {"options": {}}, "out": None}
    assert compare_settings(old, DEFAULTS, defaults=DEFAULTS) == {}
    new = DEFAULTS | {"layers": ["head"]}
    assert compare_settings(old, new, defaults=DEFAULTS) == {"layers": ("[]", '["head"]')}


def test_a_setting_without_a_default_that_is_on_one_side_only_differs():
    old, new = DEFAULTS | {"removed": 1}, DEFAULTS | {"added": {"depth": 2}}
    assert compare_settings(old, new, defaults=DEFAULTS) == {
        "removed": ("1", "(not there)"),
        "added.depth": ("(not there)", "2"),
    }


def test_settings_and_sections_that_may_differ_do_not_count():
    model = {"name": "unetpp", "options": {"depth": 2}}
    new = DEFAULTS | {"model": model, "out": "elsewhere"}
    found = compare_settings(DEFAULTS, new, defaults=DEFAULTS, may_differ=("out", "model"))
    assert found == {}
    found = compare_settings(DEFAULTS, new, defaults=DEFAULTS, may_differ=("ou", "model.name"))
    assert found.keys() == {"out", "model.options", "model.options.depth"}


def test_members_that_moved_came_or_went_are_named_up_to_five():
    before = {"train": ["a", "b"], "test": ["c"]}
    assert changed_members(before, {"test": ["c"], "train": ["b", "a"]}) == ""
    now = {"train": ["a", *"efghijk"], "test": ["b"]}
    assert changed_members(before, now) == (
        "new: e, f, g, h, i and 2 more; missing: c; in another split: b"
    )
    assert doctest.testmod(difference).failed == 0
