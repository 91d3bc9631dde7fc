import subprocess
import sys

import optuna
import pytest

from analogmed.foundation.errors import ConfigError
from analogmed.search.objectives import Goal
from analogmed.search.space.space import Space
from analogmed.search.strategy import (
    METRICS_ATTRIBUTE,
    Context,
    distributions,
    find_strategy,
    strategy_names,
)

SPACE = Space(depths=(1, 2), blocks=("identity", *"AB"))

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "own-strategies"
version = "1.0"
[project.entry-points."analogmed.search"]
widest = "own_strategies:widest"
gone = "own_strategies:gone"
nothing = "own_strategies:NOTHING"
broken = "own_strategies_broken:strategy"
random = "own_strategies:widest"
[tool.setuptools]
py-modules = ["own_strategies", "own_strategies_broken"]
"""

MODULE = '''
"""A search strategy of another package."""

from analogmed.search.strategy import GenotypeSampler


class Widest(GenotypeSampler):
    """The widest network of a few random ones."""

    def __init__(self, context, draws):
        super().__init__(context)
        self.draws = draws

    def propose(self, history, number, generator):
        drawn = [self.context.space.random(generator) for _ in range(self.draws)]
        return max(drawn, key=lambda one: one.levels[0].channels)


def widest(context, draws=30):
    return Widest(context, draws)


NOTHING = None
'''


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Folder of a package with entry points, as pip has installed it."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    (source / "pyproject.toml").write_text(PROJECT)
    (source / "own_strategies.py").write_text(MODULE)
    (source / "own_strategies_broken.py").write_text("import no_such_package\n")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    pip += ["--no-index", "--disable-pip-version-check", "--target", str(target), str(source)]
    subprocess.run(pip, check=True)
    return target


@pytest.fixture
def on_the_path(installed, monkeypatch):
    monkeypatch.syspath_prepend(installed)
    yield
    for name in ("own_strategies", "own_strategies_broken"):
        sys.modules.pop(name, None)


def test_a_strategy_of_an_installed_package_is_found_by_name_and_searches(on_the_path):
    assert "widest" in strategy_names()
    context = Context(SPACE, Goal(), 5, 0, lambda _: {}, {})
    study = optuna.create_study(sampler=find_strategy("widest")(context, draws=50))
    for _ in range(3):
        trial = study.ask(distributions(SPACE))
        assert SPACE.decode(trial.params).levels[0].channels == max(SPACE.widths)
        trial.set_user_attr(METRICS_ATTRIBUTE, {"dice_1d": 0.5})
        study.tell(trial, 0.5)


def test_an_option_that_an_installed_strategy_does_not_have_is_refused(on_the_path):
    context = Context(SPACE, Goal(), 5, 0, lambda _: {}, {})
    with pytest.raises(ConfigError, match="widest: unknown option 'drwas'; did you mean 'draws'"):
        find_strategy("widest")(context, drwas=3)


def test_without_the_package_its_strategy_is_unknown():
    assert "widest" not in strategy_names()
    with pytest.raises(ConfigError, match="unknown strategy 'widest'"):
        find_strategy("widest")


def test_a_near_name_of_an_installed_strategy_is_offered(on_the_path):
    with pytest.raises(ConfigError, match="did you mean 'widest'"):
        find_strategy("widset")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone", ".*own_strategies:gone of .* cannot be loaded: .*no attribute 'gone'"),
        (
            "broken",
            ".*own_strategies_broken:strategy of .* cannot be loaded: .*No module named 'no_such",
        ),
        ("nothing", ".*own_strategies:NOTHING of .* is NoneType, not callable"),
    ],
)
def test_a_strategy_that_cannot_be_loaded_is_refused_with_its_home(on_the_path, name, message):
    with pytest.raises(ConfigError, match=f"strategy '{name}': {message}"):
        find_strategy(name)


def test_a_name_that_is_taken_is_refused_with_both_homes(on_the_path):
    with pytest.raises(ConfigError, match="'random' is defined more than once") as raised:
        find_strategy("random")
    assert "(analogmed itself, own_strategies:widest of " in str(raised.value)
