import pytest

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.registry import find_plugin, home_of, plugin_names

GROUP = "analogmed.test_group"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Two packages, both of which bring ``twice``, on the path."""
    install(tmp_path, "first", "once", "twice")
    install(tmp_path, "second", "twice")
    monkeypatch.syspath_prepend(tmp_path)


def install(site, package, *names):
    metadata = site / f"{package}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Name: {package}\nVersion: 1.0\n")
    lines = [f"[{GROUP}]", *(f"{name} = {package}_module:{name}" for name in names)]
    (metadata / "entry_points.txt").write_text("\n".join(lines))


def find(name, *, is_built_in=False):
    return find_plugin(GROUP, name, kind="task", is_built_in=is_built_in)


def test_an_entry_point_is_found_by_its_name(installed):
    assert plugin_names(GROUP) == {"once", "twice"}
    assert home_of(find("once")) == "first_module:once of first"


def test_a_package_that_is_installed_later_is_found(installed, tmp_path):
    assert find("late") is None
    install(tmp_path, "third", "late")
    assert home_of(find("late")) == "third_module:late of third"


def test_without_a_package_that_brings_it_a_name_has_no_entry_point(installed):
    assert find("other") is None
    assert find("other", is_built_in=True) is None
    assert plugin_names("analogmed.no_such_group") == set()


def test_a_name_of_two_packages_is_refused_with_both(installed):
    with pytest.raises(ConfigError, match="task 'twice' is defined more than once") as raised:
        find("twice")
    for home in ("first_module:twice of first", "second_module:twice of second"):
        assert home in str(raised.value)
    assert "analogmed itself" not in str(raised.value)


def test_a_package_does_not_replace_what_is_built_in(installed):
    with pytest.raises(ConfigError, match=r"'once'.*analogmed itself, first_module:once of first"):
        find("once", is_built_in=True)
