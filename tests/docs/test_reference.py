"""The generated reference has every command, option, preset and public name."""

import importlib
import re
import sys
from pathlib import Path

import pytest

from analogmed.analog.description.presets import PRESETS
from analogmed.cli.commands import COMMANDS
from analogmed.cli.help import _settings
from analogmed.cli.main import load
from analogmed.foundation.settings.fields import positional_names

HOOKS = Path(__file__).parents[2] / "docs" / "hooks"


@pytest.fixture(scope="module")
def reference():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HOOKS))
        yield importlib.import_module("reference")
    sys.modules.pop("reference")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_of_a_command_lists_every_option_with_its_default(reference, name):
    page = reference.command_page(name)
    settings = load(f"analogmed.{COMMANDS[name].settings}")
    words = positional_names(settings)
    for option, (_, default) in _settings(settings).items():
        (row,) = [
            line
            for line in page.splitlines()
            if re.match(rf"\| `({words.get(option)} \.\.\., )?--{option}[` ]", line)
            or line.startswith(f"| `{words.get(option, option)}` |")
        ]
        if isinstance(default, int) and not isinstance(default, bool):
            assert f"| `{default}` |" in row


def test_the_page_of_presets_has_every_argument(reference):
    page = reference.presets_page()
    assert all(f"\n## {name}\n" in page for name in PRESETS)
    assert all(f"\n| `{argument}` |" in page for argument in PRESETS["pcm"])


def test_pages_of_packages_have_every_public_name(reference):
    for name in reference.PACKAGES:
        page = reference.package_page(name)
        for public in importlib.import_module(name).__all__:
            assert any(line.endswith(f".{public}") for line in page.splitlines())


def test_every_generated_page_is_in_the_navigation_and_listed(reference):
    index = (HOOKS.parent / "reference" / "index.md").read_text("utf-8")
    listed = reference.insert_lists(index)
    navigation = str(reference.navigation())
    for page in reference.pages():
        assert f"'{page}'" in navigation
        assert f"({page.removeprefix('reference/')}" in listed
