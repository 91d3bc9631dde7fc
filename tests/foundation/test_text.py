import pytest

from analogmed.foundation.text import Rendered, known_name, nearest


class Odd(Rendered):
    def facts(self):
        return {"name": "<b>a</b>", "count": 3}


def test_a_view_has_each_fact_once_and_escapes_it():
    assert repr(Odd()) == "<Odd: name: <b>a</b>, count: 3>"
    view = Odd()._repr_html_()
    assert "&lt;b&gt;a&lt;/b&gt;" in view and "<b>" not in view and view.count("<tr>") == 2


def test_a_class_without_facts_is_refused():
    class Without(Rendered):
        pass

    with pytest.raises(TypeError, match="facts"):
        Without()


def test_the_nearest_name_is_found_in_any_case():
    assert nearest("unet", ["UNet", "other"]) == "did you mean 'UNet'?"


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("UNetPP", "unetpp"),
        ("U-Net++", "unetpp"),
        ("swin unetr", "swin_unetr"),
        ("Swin-UNETR", "swin_unetr"),
        ("unet", "unet"),
        ("unetr", "unetr"),
        ("UNETS", "UNETS"),
        ("", ""),
        ("-", "-"),
        (3, 3),
    ],
)
def test_a_name_is_known_in_any_spelling_and_anything_else_is_unchanged(typed, name):
    assert known_name(typed, ("unet", "unetpp", "swin_unetr", 3)) == name


def test_a_spelling_of_two_names_is_neither_of_them():
    assert known_name("A_B", ("a-b", "ab")) == "A_B"
    assert known_name("ab", ("a-b", "ab")) == "ab"


def test_of_many_names_those_with_the_fewest_dots_are_listed():
    names = [f"up.{n}.conv" for n in range(40)] + ["zoom", "in"]
    message = nearest("head", names)
    assert message.startswith("choose from: in, zoom, up.0.conv")
    assert message.endswith("and 12 more") and message.count(",") == 29
    assert nearest("xyz", ["b", "a"]) == "choose from: a, b"
