"""Pages of the reference, generated from the settings, presets and public names of the package."""

import re
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from analogmed.analog.description.presets import DESCRIPTIONS, PRESETS
from analogmed.cli.commands import COMMANDS
from analogmed.cli.examples import EXAMPLES
from analogmed.cli.help import description_of
from analogmed.cli.main import load
from analogmed.cli.parse import build_parser
from analogmed.cli.programs.presets import argument_meanings, shown
from analogmed.report.text_table import pipe_table

PACKAGES = (
    "analogmed",
    "analogmed.analog",
    "analogmed.data",
    "analogmed.models",
    "analogmed.training",
    "analogmed.evaluation",
    "analogmed.evaluation.statistics",
    "analogmed.hardware",
    "analogmed.report",
    "analogmed.config",
)
"""Packages whose public names are documented."""

BUILDERS = {
    "analogmed.models.unet": ("UNet",),
    "analogmed.models.classification.networks": ("densenet121", "efficientnet", "LightClassifier"),
    "analogmed.models.classification.region_of_interest": ("RegionOfInterest",),
    "analogmed.models.monai_networks": ("unetpp", "attention_unet", "dynunet", "swin_unetr"),
}
"""Builders of networks by module; their arguments are options."""

PRESETS_PAGE = "reference/presets.md"
NETWORKS_PAGE = "reference/networks.md"


def navigation() -> list[dict[str, Any]]:
    """Return the entries of the navigation for the generated pages."""
    return [
        {"Command line": [{name: _command_page(name)} for name in COMMANDS]},
        {"Presets": PRESETS_PAGE},
        {"Options of networks": NETWORKS_PAGE},
        {"Python": [{name: _package_page(name)} for name in PACKAGES]},
    ]


def pages() -> dict[str, str]:
    """Return the text of each generated page by its path."""
    return (
        {_command_page(name): command_page(name) for name in COMMANDS}
        | {PRESETS_PAGE: presets_page(), NETWORKS_PAGE: _members_page("Options of networks")}
        | {_package_page(name): package_page(name) for name in PACKAGES}
    )


def insert_lists(markdown: str) -> str:
    """Return the index of the reference with the lists of generated pages in place of markers."""
    lists = {
        "commands": [
            f"[`analogmed {name}`]({_command_page(name)}): {command.summary}"
            for name, command in COMMANDS.items()
        ],
        "presets": [f"[`{name}`]({PRESETS_PAGE}#{name}): {DESCRIPTIONS[name]}" for name in PRESETS],
        "networks": [f"[Options of networks]({NETWORKS_PAGE})"],
        "packages": [
            f"[`{name}`]({_package_page(name)}): {_summary(import_module(name))}"
            for name in PACKAGES
        ],
    }
    for name, entries in lists.items():
        text = "\n".join(f"- {entry}" for entry in entries).replace("(reference/", "(")
        markdown = markdown.replace(f"<!-- {name} -->", text)
    return markdown


def command_page(name: str) -> str:
    """Return the page of a command: description, examples and a table of its options."""
    settings = load(f"analogmed.{COMMANDS[name].settings}")
    parser = build_parser(settings, f"analogmed {name}", "")
    examples, _, notes = EXAMPLES[name].partition("\n\n")
    parts = [
        f"# analogmed {name}",
        description_of(settings),
        f"```text\n{parser.usage}\n```",
        f"```text\n{examples}\n```",
        re.sub(r"docs/([\w/-]+)\.md", r"[\g<0>](../../\1.md)", notes.strip()),
    ]
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.help != "==SUPPRESS=="]
        if actions:
            title = str(group.title).capitalize()
            rows = [_option_row(action) for action in actions]
            table = _table(("option", "values", "default", "meaning"), rows)
            parts += [f"## {title}", f'<div class="options" markdown>\n\n{table}\n\n</div>']
    return "\n\n".join(part for part in parts if part) + "\n"


def presets_page() -> str:
    """Return the page of the presets: the arguments of one, and the differences of the others."""
    meanings = argument_meanings()
    first, *others = PRESETS
    parts = ["# Presets", "`--hardware NAME` selects a preset, `--hardware.ARGUMENT` replaces one."]
    rows = [(f"`{key}`", _code(value), meanings[key]) for key, value in PRESETS[first].items()]
    parts += [
        f"## {first}",
        f"{DESCRIPTIONS[first]}.",
        _table(("argument", first, "meaning"), rows),
    ]
    for name in others:
        rows = [
            (f"`{key}`", _code(value), _code(PRESETS[first][key]))
            for key, value in PRESETS[name].items()
            if value != PRESETS[first][key]
        ]
        parts += [f"## {name}", f"{DESCRIPTIONS[name]}.", _table(("argument", name, first), rows)]
    return "\n\n".join(parts) + "\n"


def package_page(name: str) -> str:
    """Return the page of a package: its public names with their docstrings."""
    package = import_module(name)
    parts = [f"# {name}", _summary(package)]
    parts += [f"::: {_home(package, public)}.{public}" for public in package.__all__]
    return "\n\n".join(parts) + "\n"


def _members_page(title: str) -> str:
    text = "`--model.options.NAME` of `train`, and arguments of `am.build_model`, are those below."
    alone = "\n    options: {members: false}"  # without their methods
    builders = [f"::: {module}.{name}{alone}" for module in BUILDERS for name in BUILDERS[module]]
    return "\n\n".join([f"# {title}", text, *builders]) + "\n"


def _option_row(action: Any) -> tuple[str, str, str, str]:
    meaning, _, default = (action.help or "").partition(" Default: ")
    word = getattr(action, "positional_word", "")
    return (
        f"`{word or action.option_strings[-1]}`",
        f"`{action.metavar}`" if action.metavar and not word else "",
        f"`{default.removesuffix('.')}`" if default else "",
        meaning,
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (head, *rows)]
    return pipe_table(escaped[0], escaped[1:], len(escaped[0]))


def _code(value: Any) -> str:
    return f"`{shown(value)}`"


def _command_page(name: str) -> str:
    return f"reference/commands/{name.replace(' ', '-')}.md"


def _package_page(name: str) -> str:
    return f"reference/python/{name}.md"


def _home(package: Any, public: str) -> str:
    """Return the module in which a static analysis finds a public name."""
    is_static = package.__name__ != "analogmed.evaluation.statistics"  # has no static imports
    return str(package.__name__ if is_static else getattr(package, public).__module__)


def _summary(package: Any) -> str:
    return str(package.__doc__).partition("\n")[0]
