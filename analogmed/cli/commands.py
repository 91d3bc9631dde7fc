"""The table of commands; importing it imports no command."""

from dataclasses import dataclass

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.text import nearest


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
    """

    settings: str
    run: str
    summary: str
    simulates: bool = True


COMMANDS = {
    "demo": Command(
        "cli.evaluation:DemoConfig",
        "demo:run",
        "Loss of Dice of a U-Net on two kinds of chip",
    ),
    "eval": Command(
        "cli.evaluation:EvalConfig",
        "evaluate:run",
        "score of networks on chips over time since programming",
    ),
    "sensitivity layers": Command(
        "evaluation.studies.sensitivity.settings:SensitivityConfig",
        "sensitivity:run_layers",
        "loss of score by each layer and each noise source",
    ),
    "sensitivity placement": Command(
        "evaluation.studies.sensitivity.settings:PlacementConfig",
        "sensitivity:run_placement",
        "choice of the layers that stay digital",
    ),
    "uncertainty measure": Command(
        "evaluation.studies.uncertainty.settings:UncertaintyConfig",
        "uncertainty:run_measure",
        "uncertainty and calibration of networks on chips",
    ),
    "uncertainty mitigation": Command(
        "evaluation.studies.uncertainty.settings:MitigationConfig",
        "uncertainty:run_mitigation",
        "effect of corrections after programming",
    ),
    "report": Command(
        "cli.settings:ReportConfig", "report:run", "results of run folders on one page", False
    ),
    "train": Command(
        "training.settings:TrainConfig", "train:run", "digital or hardware-aware training"
    ),
    "search run": Command(
        "search.settings:SearchConfig",
        "search:run",
        "search for networks: high score on chips, low cost",
    ),
    "search supernet": Command(
        "search.supernet.settings:SupernetConfig",
        "supernet:run",
        "training of shared weights for all networks of a space",
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
        "cli.settings:MapConfig", "hardware:run", "tiles, latency and energy of networks", False
    ),
    "hardware measure": Command(
        "cli.settings:MeasureConfig", "measure:run", "timing of operations on this machine", False
    ),
    "data verify": Command(
        "cli.settings:VerifyConfig", "data:run_verify", "check of all files of a data set", False
    ),
    "data phantom": Command(
        "cli.settings:PhantomConfig", "data:run_phantom", "generation of a phantom", False
    ),
    "data download": Command(
        "cli.settings:DownloadConfig", "data:run_download", "download of a Decathlon task", False
    ),
}
"""Commands by name, in the order in which ``analogmed --help`` lists them."""

NO_DEFAULT = ("data",)
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
    if first in COMMANDS:
        return first, rest
    known = sub_commands(first)
    if not known:
        firsts = {name.partition(" ")[0] for name in COMMANDS}
        raise ConfigError(f"unknown command '{first}'; {nearest(first, firsts)}")
    if rest and rest[0] in known:
        return f"{first} {rest[0]}", rest[1:]
    is_option = not rest or rest[0].startswith("-")
    if not is_option:
        raise ConfigError(f"{first}: unknown sub-command '{rest[0]}'; {nearest(rest[0], known)}")
    if first in NO_DEFAULT:
        raise ConfigError(f"{first}: expected a sub-command; choose from: {', '.join(known)}")
    return f"{first} {known[0]}", rest


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
