"""Blocks of code in the documentation run, or name programs, options and targets that exist."""

import ast
import importlib
import re
import shlex
import tomllib
from functools import cache
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import analogmed as am
from analogmed.cli.parse import build_parser, parse
from analogmed.config import Experiment
from analogmed.search.objectives import Goal
from analogmed.search.settings import SearchConfig
from analogmed.search.space.space import Space
from analogmed.search.strategy import Context
from analogmed.search.supernet.settings import SupernetConfig

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]
BLOCK = re.compile(r"(?:^<!-- not run: (.+?) -->\n+)?^```(\w*)\n(.*?)^```", re.M | re.S)
KINDS = {"", "sh", "python", "yaml", "toml"}
"""Languages of blocks; without one, a block is output, a layout or a formula."""

ELSEWHERE = {
    "tutorials/your-network.md": "tests/journeys/test_your_network.py",
    "how-to/cost.md": "tests/hardware/test_documentation.py",
}
"""Pages all of whose blocks another test runs."""


def blocks(page, kind):
    """Return reason not to run, and text, of each block of a kind on a page."""
    found = BLOCK.findall(page.read_text("utf-8"))
    return [(reason, text) for reason, language, text in found if language == kind]


def lines_of(page):
    for _, text in blocks(page, "sh"):
        for line in re.sub(r"\\\n\s*", "", text).splitlines():
            yield shlex.split(line, comments=True)


COMMANDS = [words for page in PAGES for words in lines_of(page) if words]


def test_blocks_have_a_known_language():
    languages = {language for page in PAGES for _, language, _ in BLOCK.findall(page.read_text())}
    assert languages == KINDS


def test_every_command_is_one_that_a_test_checks():
    """Those of analogmed are parsed in ``tests/cli/test_main.py``."""
    own = {"analogmed", "torchrun", "make"}
    others = [
        words
        for words in COMMANDS
        if words[0] not in own
        and not (words[0] == "python" and words[1].startswith(("experiments/", "benchmarks/")))
    ]
    assert others == [["source", ".venv/bin/activate"]]


def test_targets_of_make_exist():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = {words[1] for words in COMMANDS if words[0] == "make"}
    assert targets >= {"eval", "test"}
    assert all(re.search(rf"^{target}:.* ## ", makefile, re.MULTILINE) for target in targets)


def options_of(script):
    """Options that a program and the shared files of its folder add to a parser."""
    return set().union(*map(options_in, (script, *script.parent.glob("_*.py"))))


@cache
def options_in(path):
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    calls = (node for node in nodes if isinstance(node, ast.Call))
    added = (call for call in calls if getattr(call.func, "attr", "") == "add_argument")
    options = {a.value for call in added for a in call.args if isinstance(a, ast.Constant)}
    if not {"parse", "Experiment"} <= {node.id for node in nodes if isinstance(node, ast.Name)}:
        return options
    targets = (node.target for node in nodes if isinstance(node, ast.AnnAssign))
    fields = (target.id for target in targets if isinstance(target, ast.Name))  # further ones
    settings = build_parser(Experiment, "", "")._option_string_actions
    return {*options, *settings, *(f"--{field}" for field in fields)}


def test_experiments_and_benchmarks_have_the_options_that_pages_name():
    inline = [
        shlex.split(line)
        for page in PAGES
        for line in re.findall(r"`(python (?:experiments|benchmarks)/[^`]+)`", page.read_text())
    ]
    programs = [w for w in (*COMMANDS, *inline) if w[0] == "python" and w[1].endswith(".py")]
    assert len(programs) > 20
    unknown = {
        (script, word.partition("=")[0])
        for _, script, *words in programs
        for word in takewhile(lambda word: word != "--", words)  # others are of another program
        if word.startswith("--") and word.partition("=")[0] not in options_of(ROOT / script)
    }
    assert unknown == set()


def test_settings_files_are_read(tmp_path):
    ((_, text),) = blocks(DOCS / "explanation" / "shared-weights.md", "yaml")
    path = tmp_path / "supernet.yaml"
    path.write_text(text)
    config = parse(SupernetConfig, ["--config", str(path)], prog="search supernet")
    assert [config.task.name, *(task.name for task in config.more_tasks)] == [
        "phantom_brain",
        "phantom_nuclei",
    ]


def test_the_six_lines_of_the_readme_are_those_of_the_tutorial():
    five, *_ = blocks(DOCS / "tutorials" / "own-network.md", "python")
    assert five in blocks(ROOT / "README.md", "python")


def test_a_chip_is_described(capsys):
    ((_, text),) = blocks(DOCS / "how-to" / "chips.md", "python")
    names = {}
    exec(text, names)
    assert names["config"].forward.out_noise == 0.02
    assert am.coverage(names["analog"]).weight_share == 1
    assert capsys.readouterr().out


@pytest.mark.slow
def test_a_chip_is_a_module(capsys):
    _, (_, text), _ = blocks(DOCS / "tutorials" / "own-network.md", "python")
    names = {}
    exec(text, names)
    assert names["mask"].shape == names["logits"].shape
    assert names["mask"].dtype == torch.bool
    assert "tiles" in capsys.readouterr().out


def test_a_network_is_trained_for_the_chip_in_a_loop_of_ones_own():
    *_, (_, text) = blocks(DOCS / "tutorials" / "own-network.md", "python")
    torch.manual_seed(0)
    images = torch.rand(4, 1, 8, 8)
    loader = DataLoader(TensorDataset(images, (images > 0.5).float()), batch_size=2)
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1))
    names = {"net": net, "epochs": 2, "training_loader": loader}
    names["loss_function"] = nn.BCEWithLogitsLoss()
    exec(text, names)
    analog, noise = names["analog"], names["noise"]
    trained = {name: value for name, value in analog.named_parameters() if value.requires_grad}
    for name, before in net.named_parameters():
        assert not torch.equal(trained[name], before)
    with torch.no_grad(), noise.step(0):
        first = analog(images)
    with torch.no_grad(), noise.step(1):
        assert not torch.equal(analog(images), first)
    assert am.Chip(analog, seed=0).at("1 day")(images).isfinite().all()


@pytest.mark.slow
def test_training_and_evaluation_take_keywords(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANALOGMED_CACHE", str(tmp_path))
    ((_, text),) = blocks(DOCS / "how-to" / "training.md", "python")
    names = {}
    exec(text, names)
    assert names["checkpoint"].is_file()
    assert names["result"].experiment.sweep.times_s == (0, 86400)
    assert "unet" in capsys.readouterr().out


def test_the_benchmark_table_is_queried():
    ((_, text),) = blocks(DOCS / "explanation" / "evidence" / "benchmark-table.md", "python")
    names = {}
    exec(text, names)
    assert names["bench"].evaluate(names["genotype"])["dice_1d"] > 0


def test_a_strategy_of_ones_own_proposes_new_networks():
    names = {}
    exec(blocks(DOCS / "how-to" / "search.md", "python")[0][1], names)
    space = Space(depths=(1,), blocks=("B", "C"))
    strategy = names["never_twice"](Context(space, Goal(), 5, 0, lambda _: {}, {}))
    first = strategy.propose([], 0, np.random.default_rng(0))
    known = [SimpleNamespace(genotype=first)]
    assert strategy.propose(known, 1, np.random.default_rng(0)) != first


def test_the_settings_of_a_search_are_valid():
    text = blocks(DOCS / "how-to" / "search.md", "python")[1][1]
    (call,) = re.findall(r"SearchConfig\(.*\)(?=\))", text)
    config = eval(call, {"SearchConfig": SearchConfig})
    assert config.objectives == ("dice_1d",)


def test_a_network_that_classifies_is_evaluated_from_python():
    ((_, text),) = blocks(DOCS / "how-to" / "classification.md", "python")
    names = {}
    exec(text, names)
    assert names["result"].metric == "auroc"
    assert list(names["result"].table.index) == ["digital", "t0", "1 day"]


def test_an_entry_point_belongs_to_a_group_of_plugins():
    ((_, text),) = blocks(DOCS / "how-to" / "search.md", "toml")
    assert set(tomllib.loads(text)["project"]["entry-points"]) == {"analogmed.search"}


def test_modules_and_names_that_blocks_import_exist():
    imports = {
        (node.module, alias.name)
        for page in PAGES
        for _, text in blocks(page, "python")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and node.module.startswith("analogmed")
        for alias in node.names
    }
    assert len(imports) > 10
    assert all(hasattr(importlib.import_module(module), name) for module, name in imports)


def test_python_that_is_not_run_says_why():
    run = {
        *("how-to/chips.md", "how-to/classification.md", "how-to/training.md"),
        *("tutorials/own-network.md", "explanation/evidence/benchmark-table.md"),
    }
    open_ = {
        page.relative_to(DOCS).as_posix()
        for page in DOCS.rglob("*.md")
        for reason, _ in blocks(page, "python")
        if not reason
    }
    assert open_ == {*run, *ELSEWHERE, "how-to/search.md"}
