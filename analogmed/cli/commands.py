"""The table of commands; importing it imports no command."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.text import known_name, nearest


@dataclass(frozen=True)
class Command:
    """A command of the command line.

    Attributes:
        settings: class of the settings, as ``module:class`` relative to ``analogmed``.
        run: function that runs the command, as ``module:function`` relative to
            ``analogmed.cli.programs``; called with the settings, returns an exit status or
            ``None``.
        summary: description in one line.
        simulates: whether the command simulates chips and so requires compatible versions of torch
            and aihwkit.
        frequent: names of the options that ``--help`` shows, separated by spaces; without any, it
            shows all of them.
    """

    settings: str
    run: str
    summary: str
    simulates: bool = True
    frequent: str = ""


_DATA = "task task.root task.options"
_ON_CHIPS = f"checkpoints {_DATA} hardware sweep.chips sweep.times_s"

COMMANDS = {
    "demo": Command(
        "cli.evaluation:DemoConfig",
        "demo:run",
        "drop of Dice of a U-Net on two kinds of chip",
        frequent="presets patients chips engine.workers out restart",
    ),
    "eval": Command(
        "cli.evaluation:EvalConfig",
        "evaluate:run",
        "score of networks on chips over time since programming",
        frequent="checkpoints factories config task task.root hardware sweep.chips sweep.times_s "
        "metrics engine.workers wide out",
    ),
    "sensitivity layers": Command(
        "evaluation.studies.sensitivity.settings:SensitivityConfig",
        "sensitivity:run_layers",
        "drop of score by each layer and each noise source",
        frequent=f"{_ON_CHIPS} parts layers engine.workers out",
    ),
    "sensitivity placement": Command(
        "evaluation.studies.sensitivity.settings:PlacementConfig",
        "sensitivity:run_placement",
        "choice of the layers that stay digital",
        frequent="checkpoints task task.root hardware sweep.chips loss objective profile "
        "sensitivity out",
    ),
    "uncertainty measure": Command(
        "evaluation.studies.uncertainty.settings:UncertaintyConfig",
        "uncertainty:run_measure",
        "uncertainty and calibration of networks on chips",
        frequent=f"{_ON_CHIPS} sweep.reads dropout engine.workers out",
    ),
    "uncertainty mitigation": Command(
        "evaluation.studies.uncertainty.settings:MitigationConfig",
        "uncertainty:run_mitigation",
        "effect of corrections after programming",
        frequent=f"{_ON_CHIPS} options images engine.workers out",
    ),
    "report": Command(
        "cli.settings:ReportConfig", "report:run", "results of run folders on one page", False
    ),
    "train": Command(
        "training.settings:TrainConfig",
        "train:run",
        "digital or hardware-aware training",
        frequent=f"{_DATA} model model.options training init hardware epochs batch_size device out",
    ),
    "search run": Command(
        "search.settings:SearchConfig",
        "search:run",
        "search for networks: high score on chips, low cost",
        frequent=f"{_DATA} hardware budget objectives constraints strategy engine.workers out",
    ),
    "search supernet": Command(
        "search.supernet.settings:SupernetConfig",
        "supernet:run",
        "training of shared weights for all networks of a space",
        frequent=f"{_DATA} rule epochs space.depths space.blocks device out",
    ),
    "search importance": Command(
        "search.supernet.settings:ImportanceConfig",
        "supernet:run_importance",
        "importance of the blocks of trained supernetworks",
    ),
    "presets": Command(
        "cli.settings:PresetsConfig", "presets:run", "arguments of the hardware presets", False
    ),
    "hardware map": Command(
        "cli.settings:MapConfig",
        "hardware:run",
        "tiles, latency and energy of networks",
        False,
        "checkpoints model input profile tile_size transposed digital_layers tile_budget out",
    ),
    "hardware measure": Command(
        "cli.settings:MeasureConfig",
        "measure:run",
        "timing of operations on this machine",
        False,
        "model input out_channels held_out threads out",
    ),
    "models import": Command(
        "cli.settings:ImportConfig",
        "models:run_import",
        "checkpoint of a network that was trained elsewhere",
        False,
        f"{_DATA} model model.options patients expected_score out config",
    ),
    "models export": Command(
        "cli.settings:ExportConfig",
        "models:run_export",
        "weights of a checkpoint for other programs",
        False,
    ),
    "data verify": Command(
        "cli.settings:VerifyConfig",
        "data:run_verify",
        "check of all files of a data set",
        False,
        "path images label task config",
    ),
    "data phantom": Command(
        "cli.settings:PhantomConfig", "data:run_phantom", "generation of a phantom", False
    ),
    "data download": Command(
        "cli.settings:DownloadConfig", "data:run_download", "download of a Decathlon task", False
    ),
}
"""Commands by name, in the order in which ``analogmed --help`` lists them."""

NO_DEFAULT = ("models", "data")
"""First words that require a second one; elsewhere the first sub-command is the default."""


def find_command(words: list[str]) -> tuple[str, list[str]]:
    """Return the command that the words start with, and the remaining words.

    Args:
        words: words of the command line, at least one.

    Returns:
        key of ``COMMANDS``, and the words after the command name.

    Raises:
        ConfigError: the command is unknown, or its sub-command is missing.
    """
    first, *rest = words
    first = _spelled(first, (name.partition(" ")[0] for name in COMMANDS))
    if first in COMMANDS:
        return first, rest
    known = sub_commands(first)
    if not known:
        firsts = {name.partition(" ")[0] for name in COMMANDS}
        raise ConfigError(f"unknown command '{first}'; {nearest(first, firsts)}")
    if rest and (second := _spelled(rest[0], known)) in known:
        return f"{first} {second}", rest[1:]
    is_argument = not rest or rest[0].startswith("-") or is_path(rest[0])
    if not is_argument:
        raise ConfigError(f"{first}: unknown sub-command '{rest[0]}'; {nearest(rest[0], known)}")
    if first in NO_DEFAULT:
        raise ConfigError(f"{first}: expected a sub-command; choose from: {', '.join(known)}")
    return f"{first} {known[0]}", rest


def _spelled(word: str, known: Iterable[str]) -> str:
    """Return the command that a word spells in any case; options such as ``--layers`` are none."""
    return word if word.startswith("-") else known_name(word, known)


def is_path(word: str) -> bool:
    """Return whether a word is a path rather than a sub-command or a value such as ``true``."""
    if any(character in word for character in "/\\."):
        return True
    try:
        return Path(word).exists()
    except OSError:  # longer than a name can be
        return False


def sub_commands(first: str) -> list[str]:
    """Return the sub-commands of a first word, the default first."""
    return [name.split()[1] for name in COMMANDS if name.startswith(f"{first} ")]


def list_commands(first: str = "") -> str:
    """Return the list of all commands, or of those with a first word, for ``--help``."""
    lines = [f"usage: analogmed {first or 'COMMAND'} {'SUB-COMMAND ' if first else ''}[options]\n"]
    for name, command in COMMANDS.items():
        word, _, second = name.partition(" ")
        if first in ("", word):
            is_default = second == next(iter(sub_commands(word)), "") and word not in NO_DEFAULT
            shown = f"{word} [{second}]" if second and is_default else name
            lines.append(f"  {shown:24}{command.summary}")
    lines.append("\nRun 'analogmed COMMAND --help' for its options. A word in brackets may be left")
    lines.append("out. 'python -m analogmed COMMAND' is the same as 'analogmed COMMAND'.")
    lines.append("'analogmed --version' prints the version. Pages docs/... are in the repository.")
    return "\n".join(lines)
