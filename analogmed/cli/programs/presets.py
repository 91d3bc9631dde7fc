"""Program of ``analogmed presets``: the hardware presets and the meaning of their arguments."""

import inspect
import textwrap
from typing import Any

from docstring_parser import parse

from analogmed.analog.description.hardware import Hardware
from analogmed.analog.description.presets import DESCRIPTIONS, PRESETS
from analogmed.cli.settings import PresetsConfig

_WIDTH, _INDENT = 80, "      "


def run(settings: PresetsConfig) -> None:
    """Print the presets, or the arguments of some of them."""
    for name in settings.names or PRESETS:
        print(textwrap.fill(f"{name}: {DESCRIPTIONS[name]}", _WIDTH, subsequent_indent="    "))
        if settings.names:
            _print_arguments(PRESETS[name], only_differences=settings.differences)
    if not settings.names:
        print("\nRun 'analogmed presets NAME' for the arguments of a preset.")


def _print_arguments(values: dict[str, Any], *, only_differences: bool) -> None:
    meanings = argument_meanings()
    for name, value in values.items():
        if only_differences and value == PRESETS["pcm"][name]:
            continue
        print(f"  {name} = {shown(value)}")
        print(
            textwrap.fill(meanings[name], _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)
        )


def argument_meanings() -> dict[str, str]:
    """Return the meaning of each argument of a preset, from the documentation of ``Hardware``."""
    entries = parse(inspect.getdoc(Hardware) or "").params
    return {
        entry.arg_name: " ".join((entry.description or "").replace("``", "").split())
        for entry in entries
    }


def shown(value: Any) -> str:
    """Return a value as the command line takes it."""
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
