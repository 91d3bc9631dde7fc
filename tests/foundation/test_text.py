import pytest

from analogmed.foundation.text import Rendered, nearest


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
