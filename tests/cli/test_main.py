import subprocess
import sys

import pytest

from analogmed.cli.commands import COMMANDS, SUBCOMMANDS, find_command
from analogmed.cli.main import main

HEAVY = ("torch", "monai", "aihwkit", "numba", "pandas", "matplotlib")


@pytest.mark.parametrize(
    "words",
    [
        ["eval"],
        ["train"],
        ["sensitivity"],
        ["sensitivity", "placement"],
        ["uncertainty"],
        ["uncertainty", "mitigation"],
        ["search"],
        ["search", "supernet"],
        ["search", "importance"],
    ],
    ids=" ".join,
)
def test_help_loads_nothing_heavy(words):
    code = (
        "import sys\nfrom analogmed.cli.main import main\n"
        f"try:\n    main({[*words, '--help']})\nexcept SystemExit as stop:\n"
        f"    print(stop.code, [name for name in {HEAVY} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
    assert "usage:" in done.stdout and "examples:" in done.stdout


def test_the_first_word_alone_means_its_first_sub_command():
    for (first, second), command in SUBCOMMANDS.items():
        assert find_command([first, second, "--seed", "1"]) == (command, ["--seed", "1"])
    for name, command in COMMANDS.items():
        assert find_command([name, "--seed", "1"]) == (command, ["--seed", "1"])
        firsts = [found for words, found in SUBCOMMANDS.items() if words[0] == name]
        assert not firsts or firsts[0] is command


def test_without_a_command_all_are_listed(capsys):
    assert main([]) == main(["--help"]) == 0
    listed = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"  {name:13}{command.summary}\n" in listed


def test_an_unknown_command_is_refused_with_the_nearest(capsys):
    assert main(["evl"]) == 2
    assert capsys.readouterr().err == "error: unknown verb 'evl'; did you mean 'eval'?\n"
