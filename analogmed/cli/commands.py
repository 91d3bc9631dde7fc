"""The table of commands. Nothing is imported until a command runs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A command of the command line.

    Attributes:
        program: entry point as ``module:function``; called with the words after the command name,
            returns an exit status or ``None``.
        summary: one-line description in the list of commands; empty for a sub-command.
        simulates: whether the command simulates chips and so requires compatible versions of torch
            and aihwkit.
    """

    program: str
    summary: str = ""
    simulates: bool = True


_PROGRAMS = "analogmed.cli.programs"

COMMANDS = {
    "eval": Command(f"{_PROGRAMS}.evaluate:main", "what each network loses on an analog chip"),
    "sensitivity": Command(
        f"{_PROGRAMS}.sensitivity:main",
        "which layers and noise sources it loses it to; which to leave digital",
    ),
    "uncertainty": Command(
        f"{_PROGRAMS}.uncertainty:main",
        "uncertainty and calibration of networks on chips; mitigations",
    ),
    "report": Command(f"{_PROGRAMS}.report:main", "what run folders hold, as one page", False),
    "train": Command(f"{_PROGRAMS}.train:main", "train a network, digitally or hardware-aware"),
    "search": Command(
        f"{_PROGRAMS}.search:main", "networks that keep their Dice on the chip, and cost little"
    ),
    "hardware": Command(
        f"{_PROGRAMS}.hardware:main", "tiles, time and energy of networks on a chip", False
    ),
    "data": Command(f"{_PROGRAMS}.data:main", "verify, generate or download a data set", False),
}
"""Commands by name, in the order of the list that ``analogmed --help`` prints."""

SUBCOMMANDS = {
    ("sensitivity", "layers"): COMMANDS["sensitivity"],
    ("sensitivity", "placement"): Command(f"{_PROGRAMS}.sensitivity:main_placement"),
    ("uncertainty", "measure"): COMMANDS["uncertainty"],
    ("uncertainty", "mitigation"): Command(f"{_PROGRAMS}.uncertainty:main_mitigation"),
    ("search", "run"): COMMANDS["search"],
    ("search", "supernet"): Command(f"{_PROGRAMS}.supernet:main"),
    ("search", "importance"): Command(f"{_PROGRAMS}.importance:main"),
    ("hardware", "map"): COMMANDS["hardware"],
    ("hardware", "measure"): Command(f"{_PROGRAMS}.measure:main", simulates=False),
}
"""Two-word commands; the first word alone selects the first entry with this word."""


def find_command(words: list[str]) -> tuple[Command, list[str]]:
    """Return the command that the words start with, and the remaining words.

    Args:
        words: words of the command line; the first is a key of ``COMMANDS``.
    """
    name, second = words[0], words[1] if len(words) > 1 else ""
    if command := SUBCOMMANDS.get((name, second)):
        return command, words[2:]
    return COMMANDS[name], words[1:]
