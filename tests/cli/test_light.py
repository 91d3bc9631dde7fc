"""Help and errors of the command line need none of the packages that take seconds to import."""

import json
import subprocess
import sys
import typing
from dataclasses import fields, is_dataclass

import pytest

from analogmed.cli.commands import COMMANDS
from analogmed.cli.main import load

HEAVY = ("torch", "monai", "aihwkit", "numba", "nibabel", "seaborn", "rich")

RUN = """
import contextlib, io, json, sys
from analogmed.cli.main import main
heavy, lines = json.load(sys.stdin)
for words, status in lines:
    printed, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
        try:
            found = main(words)
        except SystemExit as stop:
            found = stop.code
    loaded = [name for name in heavy if name in sys.modules]
    assert (found, loaded) == (status, []), (words, found, loaded, errors.getvalue()[-300:])
    assert status or "examples:" in printed.getvalue() or words[-2:] == ["data", "--help"]
    assert not status or errors.getvalue().count("\\n") == 1, (words, errors.getvalue())
"""

NAMES = {
    "task.name": "phantom_brian",
    "hardware.preset": "hermess",
    "metrics": "dise",
    "profile": "hermes-1-fase",
    "latency.profile": "hermes-1-fase",
    "model.name": "unett",
    "model": "unett",
    "held_out": "unet(features",
    "strategy.name": "evoluton",
    "objectives": "dice_1w",
    "constraints": "tiles < 40",
    "space.blocks": "Q",
    "engine.name": "rai",
}
"""Wrong values of settings that are names."""
NEEDS_TORCH = {"hardware.noise_model", "hardware.g_max_us"}
"""Settings whose values are compared with the simulator's models."""


def run_all(lines, heavy=HEAVY):
    """Run command lines in one process, and check their status and what is imported."""
    given = json.dumps([heavy, lines])
    done = subprocess.run([sys.executable, "-c", RUN], input=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def wrong_value(name, kind):
    """Return a word that is no value of a setting, or ``None`` if any word is one."""
    if name in NAMES:
        return NAMES[name]
    if kind in (int, float, bool):
        return "x"
    if typing.get_origin(kind) is typing.Literal:
        return "nonesuch"
    inner = [k for k in typing.get_args(kind) if k is not type(None)]
    values = [wrong_value("", k) for k in inner]
    return values[0] if values and None not in values else None


def settings_of(kind, prefix=""):
    hints = typing.get_type_hints(kind)
    for field in fields(kind):
        if is_dataclass(hints[field.name]):
            yield from settings_of(hints[field.name], f"{prefix}{field.name}.")
        else:
            yield (kind, field.name), prefix + field.name, hints[field.name]


def test_help_and_an_unknown_option_load_nothing_heavy():
    lines = [[["data", "--help"], 0]]
    for name in COMMANDS:
        words = name.split()
        lines += [[[*words, option], 0] for option in ("--help", "--help-all")]
        lines.append([[*words, "--nonesuch", "1"], 2])
    run_all(lines, (*HEAVY, "numpy", "pandas"))


def test_a_wrong_value_of_each_kind_loads_nothing_heavy():
    wrong = (
        ["eval", "--seed", "x"],
        ["eval", "--task", "phantom_brian"],
        ["sensitivity", "--profile", "hermes-1-phase"],
        ["uncertainty", "mitigation", "--options", "x"],
        ["train", "--model", "unett"],
        ["search", "--strategy", "evoluton"],
        ["search", "importance", "--n", "0"],
        ["hardware", "--model", "unett"],
        ["hardware", "measure", "--threads", "0"],
        ["data", "phantom", "brain", "x", "--size", "3"],
        ["data", "download", "Task11", "x"],
        ["data", "verify"],
        ["report"],
    )
    run_all([[words, 2] for words in wrong])


@pytest.mark.slow
def test_a_wrong_value_of_any_setting_loads_nothing_heavy():
    seen, lines = set(), []
    for name, command in COMMANDS.items():
        for setting, option, kind in settings_of(load(f"analogmed.{command.settings}")):
            value = wrong_value(option, kind)
            if setting not in seen and value is not None and option not in NEEDS_TORCH:
                seen.add(setting)
                given = {"report": ["a"], "data phantom": ["brain", "a"]}.get(name, [])
                lines.append([[*name.split(), *given, f"--{option}", value], 2])
    assert len(lines) > 150
    run_all(lines)
