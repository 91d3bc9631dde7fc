import importlib
import inspect
import re
import shlex
import warnings
from importlib.metadata import version
from pathlib import Path

import pytest

from analogmed.cli.commands import COMMANDS, find_command
from analogmed.cli.examples import EXAMPLES
from analogmed.cli.main import main, run
from analogmed.cli.parse import build_parser, parse
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.fields import positional_names

ROOT = Path(__file__).parents[2]


def load(path):
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(f"analogmed.{module}"), name)


def test_every_command_has_settings_a_function_and_examples():
    assert list(EXAMPLES) == list(COMMANDS)
    for command in COMMANDS.values():
        settings, run_command = load(command.settings), load(f"cli.programs.{command.run}")
        (parameter,) = inspect.signature(run_command).parameters.values()
        assert parameter.annotation is settings


def test_the_first_word_alone_means_its_first_sub_command():
    for name in COMMANDS:
        assert find_command([*name.split(), "--seed", "1"]) == (name, ["--seed", "1"])
    for first, second in (
        ("sensitivity", "layers"),
        ("uncertainty", "measure"),
        ("search", "run"),
        ("hardware", "map"),
    ):
        assert find_command([first, "--seed", "1"]) == (f"{first} {second}", ["--seed", "1"])
        assert find_command([first]) == (f"{first} {second}", [])
    assert find_command(["sensitivity", "runs/a"]) == ("sensitivity layers", ["runs/a"])
    words = ["--layers", "head"]  # an option that is called as the sub-command
    assert find_command(["sensitivity", *words]) == ("sensitivity layers", words)
    assert find_command(["Hardware", "Measure"]) == ("hardware measure", [])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evl"], r"^unknown command 'evl'; did you mean 'eval'\?$"),
        (["search", "supernt"], r"^search: unknown sub-command 'supernt'; did you mean 'supernet'"),
        (["data"], "^data: expected a sub-command; choose from: verify, phantom, download$"),
        (["data", "--seed"], "^data: expected a sub-command"),
    ],
)
def test_an_unknown_command_is_refused_with_the_nearest(words, message):
    with pytest.raises(ConfigError, match=message):
        find_command(words)


def commands_in(text):
    """Return the words of each command of the package in a text, after `analogmed`."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = re.findall(
        r"^\s*(?:(?:python|torchrun .*) -m )?analogmed[. ](.*)$", joined, re.MULTILINE
    )
    return [shlex.split(line, comments=True) for line in lines]


FILES = {
    "runs/eval/experiment.yaml": "seed: 1",
    "runs/placement/placement.yaml": "digital_layers: [head]",
    "my-chip.yaml": "{name: mine, title: my chip, tile_size: [64, 64], "
    "mvm_only: {time_ns: 1, energy_nj: 1, source: mine}}",
    "mine.yaml": "task: {name: nifti, root: data}",
}
"""Files that examples name."""


@pytest.fixture
def with_files(tmp_path, monkeypatch):
    for file, text in FILES.items():
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)


def check_words(words):
    name, rest = find_command(words)
    parse(load(COMMANDS[name].settings), rest, prog=name)


@pytest.mark.usefixtures("with_files")
@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_the_help_are_settings(name):
    commands = commands_in(EXAMPLES[name])
    assert commands
    assert max(map(len, EXAMPLES[name].splitlines())) <= 80
    for words in commands:
        check_words(words)


@pytest.mark.slow
@pytest.mark.usefixtures("with_files")
def test_the_commands_of_the_documents_are_settings():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    blocks = [
        block
        for page in pages
        for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
    ]
    commands = [words for block in blocks for words in commands_in(block)]
    assert len(commands) > 30
    for words in commands:
        check_words(words)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_a_terminal_and_lists_all_settings(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as done:
        main([*name.split(), "--help-all"])
    assert done.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"usage: analogmed {name} ")
    assert [line for line in lines if len(line) > 80] == []
    assert "examples:" in lines
    settings = load(COMMANDS[name].settings)
    attributes = inspect.getdoc(settings).partition("Attributes:")[2]
    words = positional_names(settings)
    for option in re.findall(r"^    (\w+): ", attributes, re.MULTILINE):
        named = rf"--{option}\b" if option not in words else rf"({words[option]}|--{option})\b"
        assert any(re.match(rf"  ([A-Z]+ \.\.\., )?{named}", line) for line in lines), option


def test_help_of_all_options_is_known_at_the_top_and_long_words_are_no_paths(capsys):
    assert main(["--help-all"]) == main(["data", "--help-all"]) == 0
    assert "verify" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="unknown sub-command 'aaa"):
        find_command(["sensitivity", 300 * "a"])


def test_a_truth_value_is_a_value_also_if_a_file_has_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "false").touch()
    settings = load(COMMANDS["eval"].settings)
    found = parse(settings, ["--wide", "false", "a.safetensors"], prog="analogmed eval")
    assert (found.wide, found.checkpoints) == (False, (Path("a.safetensors"),))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_one_screen_with_examples_and_the_most_used_options(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as done:
        main([*name.split(), "-h"])
    assert done.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 45
    assert [line for line in lines if len(line) > 80] == []
    assert lines[0].startswith(f"usage: analogmed {name} ")
    frequent = COMMANDS[name].frequent.split()
    if not frequent:
        return
    assert len(re.findall(r"^  (analogmed|torchrun) ", "\n".join(lines), re.MULTILINE)) <= 3
    assert len([line for line in lines if re.match(r"  (--|[A-Z])", line)]) == len(frequent) <= 12
    assert any(f"analogmed {name} --help-all" in line for line in lines)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_the_values_of_an_option_without_braces(name):
    command = COMMANDS[name]
    parser = build_parser(load(command.settings), f"analogmed {name}", "")
    texts = [action.help or "" for action in parser._actions]
    assert [text for text in texts if re.search(r"One (or more )?of: [^.]*[{}]", text)] == []


def test_help_states_one_default_of_an_option():
    parser = build_parser(load(COMMANDS["demo"].settings), "analogmed demo", "")
    (text,) = [a.help for a in parser._actions if a.dest == "engine.workers"]
    assert text.lower().count("default") == 1


def test_help_shows_the_values_of_the_preset():
    parser = build_parser(load(COMMANDS["eval"].settings), "analogmed eval", "")
    texts = {action.dest: action.help for action in parser._actions}
    assert texts["hardware.tile_size"].endswith("Default: 512 (pcm).")
    assert texts["hardware.perfect"].endswith("Default: false (pcm).")
    assert texts["sweep.times_s"].endswith("Default: t0 1s 1h 1day 1week 1month 1year.")


def test_the_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"analogmed {version('analogmed')}\n"


def test_without_a_command_all_are_listed(capsys):
    assert main([]) == main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = [line for line in lines if line.startswith("  ")]
    assert len(listed) == 2 * len(COMMANDS)
    for line, (name, command) in zip(listed, COMMANDS.items(), strict=False):
        assert line.replace("[", "").replace("]", "").split() == [
            *name.split(),
            *command.summary.split(),
        ]
    assert max(map(len, lines)) <= 80


def test_an_error_is_one_sentence_and_an_exit_status(capsys):
    assert main(["evl"]) == 2
    assert capsys.readouterr().err == "error: unknown command 'evl'; did you mean 'eval'?\n"


@pytest.mark.filterwarnings("always:careful")
def test_a_warning_of_several_places_is_printed_once(capsys):
    def program(_):
        warnings.warn("careful", stacklevel=1)
        warnings.warn("careful, too", stacklevel=1)
        warnings.warn("careful", stacklevel=1)

    assert run(program, []) == 0
    assert capsys.readouterr().err == "warning: careful\nwarning: careful, too\n"


@pytest.mark.filterwarnings("always:careful")
def test_warnings_are_sentences_without_a_place_in_the_code(capsys):
    before = warnings.showwarning
    assert run(lambda _: warnings.warn("careful", stacklevel=1), []) == 0
    assert capsys.readouterr().err == "warning: careful\n"
    assert warnings.showwarning is before
