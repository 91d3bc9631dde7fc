"""Errors of other packages' code name the package, wherever the code is called."""

import importlib
import sys
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analogmed.data import Case, Task, load_task
from analogmed.foundation.errors import ConfigError, DataError
from analogmed.hardware import load_profile
from analogmed.models import build_model
from analogmed.search.objectives import Goal
from analogmed.search.space.space import Space
from analogmed.search.strategy import Context, GenotypeSampler, find_strategy

MODULE = "analogmed_odd_plugin"
SOURCE = """
import sys

def raises(*_, **__):
    raise KeyError("no licence")

def exits(*_, **__):
    sys.exit(3)

def nothing(*_, **__):
    return None

def no_arguments():
    return None

def many(a, b, c, d, e, f):
    return None

def keyword_only(*, seed):
    return None

class Odd:
    def __init__(self, *arguments, **options):
        self.train = self.validation = self.test = None

none = None
number = 3
no_signature = dict.fromkeys
builtin_type = type
"""
NAMES = ("raises", "exits", "nothing", "no_arguments", "many", "keyword_only", "Odd", "none")
NAMES += ("number", "no_signature", "builtin_type", "missing")
GROUPS = ("analogmed.tasks", "analogmed.models", "analogmed.search", "analogmed.hardware")


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory):
    site = tmp_path_factory.mktemp("site")
    (site / f"{MODULE}.py").write_text(SOURCE)
    metadata = site / "odd_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: odd-package\nVersion: 1.0\n")
    lines = [line for group in GROUPS for line in (f"[{group}]", *map(entry, NAMES))]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        yield
    sys.modules.pop(MODULE, None)


def entry(name):
    return f"odd_{name} = {MODULE}:{name}"


BODIES = ["return None", "return 3", "raise ValueError('x')", "raise StopIteration", "return root"]
BODIES += ["yield 1", "raise SystemExit(0)", "return {}", "1 / 0", "return type"]


def use(group, name, root):
    if group == "analogmed.tasks":
        return load_task(name, root)
    if group == "analogmed.models":
        return build_model(name, in_channels=1, out_channels=1)
    if group == "analogmed.hardware":
        return load_profile(name)
    return find_strategy(name)(None)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("group", GROUPS)
def test_an_odd_plugin_is_named_with_its_package_and_what_was_expected(group, name, tmp_path):
    with pytest.raises(ConfigError, match=r"expected|needs the options") as raised:
        use(group, f"odd_{name}", tmp_path)
    assert f"odd_{name}" in str(raised.value)
    assert "odd-package" in str(raised.value)


@pytest.mark.parametrize("name", ["raises", "nothing", "no_arguments"])
def test_a_reader_of_a_plugin_is_named_with_its_package_and_the_case(name, tmp_path, monkeypatch):
    case = Case("case7", "patient7", (), ())
    module = importlib.import_module(MODULE)
    shape = {"spatial_dims": 2, "channels": ("a",), "classes": ("b",), "window": (16, 16)}
    cases = {"train": (), "validation": (), "test": (case,)}
    read = getattr(module, name)
    task = Task("mine", tmp_path, **shape, spacing_unit="px", **cases, read=read)
    monkeypatch.setattr(module, "exits", lambda root: task)
    loaded = load_task("odd_exits", tmp_path)
    with pytest.raises(ConfigError, match=r"odd_exits.*odd-package.*case7.*expected .*Sample"):
        loaded.read(case)


@pytest.mark.parametrize("name", ["raises", "nothing", "no_arguments"])
def test_a_sampler_of_a_plugin_is_named_with_its_package(name, monkeypatch):
    module = importlib.import_module(MODULE)
    sampler = type("Sampler", (GenotypeSampler,), {"propose": getattr(module, name)})
    monkeypatch.setattr(module, "exits", sampler)
    found = find_strategy("odd_exits")(Context(Space(), Goal(), 5, 0, lambda _: {}, {}))
    with pytest.raises(ConfigError, match=r"odd_exits.*odd-package.*propose.*expected .*Genotype"):
        found.propose([], 0, np.random.default_rng(0))


def test_want_of_memory_is_not_taken_for_a_fault_of_a_plugin(tmp_path, monkeypatch):
    def too_large(root):
        raise MemoryError

    monkeypatch.setattr(importlib.import_module(MODULE), "raises", too_large)
    with pytest.raises(MemoryError):
        load_task("odd_raises", tmp_path)


def test_an_error_that_a_plugin_raises_on_purpose_is_its_own(tmp_path, monkeypatch):
    def refuse(root):
        raise DataError(f"{root}: wrong folder")

    use("analogmed.hardware", "alpine", tmp_path)  # a built-in name beside the odd ones
    with pytest.raises(ConfigError):
        use("analogmed.tasks", "odd_raises", tmp_path)
    monkeypatch.setattr(sys.modules[MODULE], "raises", refuse)
    with pytest.raises(DataError, match="wrong folder"):
        use("analogmed.tasks", "odd_raises", tmp_path)


@pytest.mark.exhaustive
@settings(max_examples=300, deadline=timedelta(seconds=10))
@given(
    parameters=st.lists(
        st.sampled_from(["a", "root", "b=1", "in_channels", "context", "*, k", "**options"]),
        unique=True,
        max_size=4,
    ),
    body=st.sampled_from(BODIES),
    group=st.sampled_from(GROUPS),
)
def test_plugins_of_any_signature_end_in_a_sentence(parameters, body, group, tmp_path_factory):
    source = f"def odd({', '.join(parameters)}):\n    {body}\n"
    scope = {}
    try:
        exec(source, scope)
    except SyntaxError:
        return
    module = sys.modules.get(MODULE) or __import__(MODULE)
    module.raises = scope["odd"]
    with pytest.raises(ConfigError, match="odd_raises"):
        use(group, "odd_raises", tmp_path_factory.getbasetemp())
