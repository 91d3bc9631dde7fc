import dataclasses
from importlib.metadata import EntryPoint

import pytest

from analogmed.foundation import registry as plugins
from analogmed.foundation.errors import ConfigError
from analogmed.hardware import PROFILES, Figures, Profile, load_profile, profile_names

MINE = """
name: mine
title: my tile
tile_size: [128, 64]
mvm_only: {time_ns: 50, energy_nj: 1e-1, source: my data sheet}
area_mm2: 0.1
"""


@pytest.mark.parametrize(
    ("name", "time_ns", "energy_nj"),
    [
        ("hermes-1-phase", 132.9, 13.43),
        ("hermes-4-phase", 521, 52.9),
        ("hermes-core", 130, 12.5),
        ("alpine", 100, 10.2),
    ],
)
def test_derived_figures_are_those_of_the_table(name, time_ns, energy_nj):
    figures = load_profile(name).mvm_only
    assert figures.time_ns == pytest.approx(time_ns, rel=5e-4)
    assert figures.energy_nj == pytest.approx(energy_nj, rel=5e-3)


@pytest.mark.parametrize(
    ("name", "tops", "tops_per_w", "tops_per_mm2"),
    [
        ("hermes-1-phase", 63.1 / 64, 9.76, 1.55),
        ("hermes-4-phase", 16.1 / 64, 2.48, None),
        ("hermes-core", 1.008, 10.5, 1.59),
        ("alpine", 2 * 256**2 / 100e-9 / 1e12, 12.8, None),
    ],
)
def test_published_figures_come_back_out(name, tops, tops_per_w, tops_per_mm2):
    profile = load_profile(name)
    assert profile.tops() == pytest.approx(tops)
    assert profile.tops_per_w() == pytest.approx(tops_per_w)
    if tops_per_mm2 is not None:
        assert profile.tops_per_mm2() == pytest.approx(tops_per_mm2)


def test_read_modes_of_one_chip_have_one_area_and_one_measured_layer():
    one, four = load_profile("hermes-1-phase"), load_profile("hermes-4-phase")
    assert one.area_mm2 == four.area_mm2
    assert one.measured_layer == four.measured_layer
    assert 8 * one.figures("measured_layer").energy_nj == pytest.approx(1510)
    assert one.figures("measured_layer").time_ns == pytest.approx(1520)


def test_every_figure_has_a_source():
    for profile in PROFILES.values():
        levels = [profile.mvm_only, profile.measured_layer]
        assert all("et al." in figures.source for figures in levels if figures is not None)


def test_a_level_that_nobody_measured_is_refused():
    with pytest.raises(ConfigError, match="'alpine' has no measured_layer figures"):
        load_profile("alpine").figures("measured_layer")
    with pytest.raises(ConfigError, match="level: unknown value 'mvm_olny'; did you mean"):
        load_profile("alpine").figures("mvm_olny")


def test_an_unknown_profile_names_the_nearest():
    with pytest.raises(ConfigError, match="unknown profile 'hermes1'; did you mean 'hermes-"):
        load_profile("hermes1")
    with pytest.raises(ConfigError, match="choose from: alpine, hermes-1-phase"):
        load_profile("xyz")


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return str(path)

    return write


def test_a_profile_is_read_from_yaml(written):
    assert load_profile(written(MINE)) == Profile(
        "mine", "my tile", (128, 64), Figures(50, 0.1, "my data sheet"), area_mm2=0.1
    )


def test_a_built_in_profile_written_as_yaml_is_read_back_equal(written):
    import yaml

    hermes = load_profile("hermes-1-phase")
    content = dataclasses.asdict(hermes) | {"tile_size": list(hermes.tile_size)}
    assert load_profile(written(yaml.safe_dump(content))) == hermes


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("area_mm2", "aera_mm2", "unknown key 'aera_mm2'; did you mean 'area_mm2'"),
        ("time_ns", "time_s", "mvm_only: unknown key 'time_s'; did you mean 'time_ns'"),
        ("time_ns: 50, ", "", "mvm_only: a profile needs time_ns too"),
        ("title: my tile\n", "", "a profile needs title too"),
        ("time_ns: 50", "time_ns: -50", "mvm_only: time_ns: expected a finite number above 0"),
        ("0.1\n", ".nan\n", "area_mm2: expected a finite number above 0, got nan"),
        ("0.1\n", "small\n", "area_mm2: expected a finite number above 0, got 'small'"),
        ("[128, 64]", "[128]", "tile_size: expected rows and columns"),
        ("[128, 64]", "128", "tile_size: expected rows and columns"),
        ("{time_ns: 50, energy_nj: 1e-1, source: my data sheet}", "3", "mvm_only must be a map"),
        ("my data sheet", "''", "source: expected text"),
        ("title: my tile", "name: mine", "line 3.*'name' occurs twice"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(written, old, new, message):
    assert old in MINE
    with pytest.raises(ConfigError, match=rf"mine\.yaml.*{message}"):
        load_profile(written(MINE.replace(old, new)))


def test_a_missing_file_is_named():
    with pytest.raises(ConfigError, match=r"cannot read nowhere\.yml"):
        load_profile("nowhere.yml")


PLUGIN_PROFILE = dataclasses.replace(PROFILES["alpine"], name="plugin")


def plugin_profile():
    return PLUGIN_PROFILE


def broken():
    raise RuntimeError("no licence")


@pytest.fixture
def plugged(monkeypatch):
    def plug(name, attribute):
        point = EntryPoint(name, f"{__name__}:{attribute}", "analogmed.hardware")
        monkeypatch.setitem(__import__("sys").modules, __name__, _this_module())
        monkeypatch.setattr(plugins, "installed_plugins", lambda group: (point,))

    return plug


def _this_module():
    from types import SimpleNamespace

    return SimpleNamespace(
        PLUGIN_PROFILE=PLUGIN_PROFILE, plugin_profile=plugin_profile, broken=broken, number=3
    )


@pytest.mark.parametrize("attribute", ["PLUGIN_PROFILE", "plugin_profile"])
def test_a_plugin_is_a_profile_or_returns_one(plugged, attribute):
    plugged("plugin", attribute)
    assert load_profile("plugin") is PLUGIN_PROFILE
    assert "plugin" in profile_names()


@pytest.mark.parametrize(
    ("name", "attribute", "message"),
    [
        ("plugin", "broken", "'plugin'.*no licence.*expected an analogmed"),
        ("plugin", "number", "'plugin'.*returned int; expected an analogmed"),
        ("alpine", "PLUGIN_PROFILE", "'alpine' is defined more than once"),
    ],
)
def test_a_broken_plugin_is_named(plugged, name, attribute, message):
    plugged(name, attribute)
    with pytest.raises(ConfigError, match=message):
        load_profile(name)
