"""Mistakes on the command line and in files: each ends in one clear sentence, or works."""

import re
import sys
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

from analogmed.__main__ import main
from analogmed.cli.parse import parse
from analogmed.config import Experiment
from analogmed.data.plausibility import check_plausible
from analogmed.foundation.errors import ConfigError
from analogmed.models import build_model
from analogmed.training import CheckpointInfo, TrainConfig, save_checkpoint

SHAPE = (16, 16, 16)
OPTIONS = {
    "images": ["*_img.nii"],
    "label": "*_seg.nii",
    "classes": {"tumour": [1]},
    "modality": "MR",
    "window": [16, 16, 16],
}


def write_case(folder, *, low=0.0, labelled=True, label_shape=SHAPE):
    folder.mkdir(parents=True)
    random = np.random.default_rng(len(folder.parent.name) + int(folder.name[1:]))
    label = np.zeros(label_shape, np.uint8)
    label[4:11, 5:12, 3:10] = 1
    image = random.normal(300, 40, SHAPE).clip(1).astype(np.int16)
    image[:2] = low
    files = {"img": image, "seg": label} if labelled else {"img": image}
    for name, data in files.items():
        nib.save(nib.Nifti1Image(data, np.eye(4)), folder / f"{folder.name}_{name}.nii")


def write_network(path, in_channels=1):
    network = build_model(
        "unet", in_channels=in_channels, out_channels=1, spatial_dims=3, features=2
    )
    info = CheckpointInfo(
        "unet", in_channels, 1, 3, "digital", "nifti", ("tumour",), options={"features": 2}
    )
    save_checkpoint(path, network, info)
    return network


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working directory with scans, networks and files of settings."""
    root = tmp_path_factory.mktemp("mistakes")
    for number in range(1, 6):
        write_case(root / "mr" / f"p{number}")
        write_case(root / "ct" / f"p{number}", low=-1000)
    for number in range(1, 4):
        write_case(root / "shapes" / f"p{number}", label_shape=(16, 16, 15))
        write_case(root / "unlabelled" / f"p{number}", labelled=number > 1)
    write_case(root / "one" / "p1")
    write_network(root / "two_channels.safetensors", in_channels=2)
    torch.save(write_network(root / "net.safetensors").state_dict(), root / "theirs.pt")
    (root / "empty").mkdir()
    for name, text in FILES.items():
        (root / name).write_text(text)
    return root


FILES = {
    "a_file": "x",
    "tabs.yaml": "task:\n\tname: nifti\n",
    "train.yaml": "task: {name: nifti}\nepochs: 3\ntraining: hwa\n",
    "section.yaml": "task: {name: nifti, axes: xyz}\n",
    "json.yaml": '{"seed": 3, "task": {"name": "nifti"}}',
    "empty.yaml": "# nothing\n",
    "text.yaml": "just words\n",
    "split.yaml": "train: [p1]\nvalidation: [p2]\ntest: [p9]\n",
}


def of_task(root="mr", **options):
    options = {key: value for key, value in (OPTIONS | options).items() if value is not None}
    text = yaml.safe_dump(options, default_flow_style=True, width=1000).strip()
    return ["--task", "nifti", "--task.root", root, "--task.options", text]


def evaluation(root="mr", *more, network="net.safetensors", **options):
    networks = [network] if isinstance(network, str) else network
    words = [*of_task(root, **options), "--checkpoints", *networks]
    return ["eval", *words, *more]


def training(root="mr", *more, **options):
    return ["train", *of_task(root, **options), "--out", "runs/train", *more]


MISTAKES = {
    "axes": (evaluation(axes="zxy"), 2, r"axes: expected 'zyx' or 'xyz', got 'zxy'"),
    "spacing": (evaluation(spacing_mm=[1, 1]), 2, "spacing_mm: expected three voxel sizes"),
    "classes as a list": (evaluation(classes=["tumour"]), 2, r"classes: expected a mapping .*\["),
    "classes as a text": (evaluation(classes="tumour"), 2, "classes: expected a mapping .*tumour"),
    "a label that is text": (evaluation(classes={"a": "b"}), 2, "whole numbers as label values of"),
    "a label that is no integer": (evaluation(classes={"a": 1.5}), 2, "whole numbers.*got 1.5"),
    "a label that never occurs": (
        evaluation(classes={"tumour": [7]}),
        2,
        r"no label file of \d cases contains the values of tumour \[7\]; they contain 0, 1",
    ),
    "a label that never occurs in training": (
        training(classes={"tumour": [7]}), 2, r"the values of tumour \[7\]; they contain 0, 1",
    ),
    "a network of other channels": (
        evaluation(network="two_channels.safetensors"), 2, "has 2 input and 1 output channels",
    ),
    "a folder without a network": (evaluation(network="empty"), 1, "no network.safetensors"),
    "a network that is not there": (evaluation(network="nt.safetensors"), 1, "no such file"),
    "a state dict": (evaluation(network="theirs.pt"), 1, "pickle.*save_checkpoint"),
    "one network twice": (
        evaluation(network=["net.safetensors", "net.safetensors"]), 2, "are both unet with digital",
    ),
    "a root that is a file": (evaluation("a_file"), 2, "a_file: a file, not a folder"),
    "a root that is not there": (evaluation("nothing"), 2, "nothing: no such folder"),
    "a pattern of images without a match": (
        evaluation(images=["*_t1.nii"]), 1, r"no file matches .*\*_t1\.nii; .*p1/p1_img\.nii",
    ),
    "a pattern of labels without a match": (
        evaluation(label="*_mask.nii"), 1, r"'\*_mask\.nii' matches 0 files.*p1_img\.nii",
    ),
    "a list of labels": (evaluation(label=["*_seg.nii"]), 2, "label: expected one text"),
    "a modality that is a number": (evaluation(modality=3), 2, "modality: expected one text"),
    "another shape of the label": (
        training("shapes"), 1, r"16, 16, 16\), but .*16, 16, 15",
    ),
    "a case without a label": (evaluation("unlabelled"), 1, "p1: pattern .* matches 0 files"),
    "a time without a unit": (evaluation("mr", "--sweep.times_s", "1", "day"), 2, "time 'day'"),
    "a negative time": (evaluation("mr", "--sweep.times_s", "-1 day"), 2, "0 s or more"),
    "no chip": (evaluation("mr", "--sweep.chips", "0"), 2, "sweep.chips must be 1 or more"),
    "a misspelt chip": (evaluation("mr", "--hardware", "hermess"), 2, "did you mean 'hermes'"),
    "an unknown option": (evaluation("mr", "--chips", "3"), 2, "did you mean '--sweep.chips'"),
    "an option of the data set": (
        ["eval", "--task.axes", "xyz"], 2, r"unknown option --task\.axes.* --task\.options\.axes",
    ),
    "an option of the network": (
        ["train", "--model.features", "8"], 2, r"are written --model\.options\.features",
    ),
    "a misspelt option of the data set": (evaluation(widow=[16, 16, 16]), 2, "mean 'window'"),
    "a list twice": (
        evaluation("mr", "--checkpoints", "a"), 2, "--checkpoints: expected all values after one",
    ),
    "tabs": (["eval", "--config", "tabs.yaml"], 2, r"tabs\.yaml, line 2: .* not tabs"),
    "settings of another command": (
        ["eval", "--config", "train.yaml"],
        2,
        r"train\.yaml: settings of analogmed train, .* not have epochs, training",
    ),
    "an option in the wrong section": (
        ["eval", "--config", "section.yaml"], 2, "task: unknown key 'axes'.* under options",
    ),
    "an empty file": (["eval", "--config", "empty.yaml"], 2, r"empty\.yaml: .* an empty file"),
    "a file of text": (["eval", "--config", "text.yaml"], 2, "must hold a mapping of settings"),
    "a folder as a file": (["eval", "--config", "empty"], 2, "empty: not a regular file"),
    "a file that is not there": (["eval", "--config", "no.yaml"], 2, "cannot read no.yaml"),
    "a run folder below a file": (evaluation("mr", "--out=a_file/x"), 2, "cannot write to a_file"),
    "a report of an empty folder": (["report", "empty"], 1, "empty is no run folder"),
    "a report of no folder": (["report", "nothing"], 1, "nothing: no such folder"),
    "one patient": (training("one"), 1, "expected 3 patients or more.* got 1"),
    "a window that cannot be halved": (
        evaluation(window=[16, 16, 15]), 2, r"divisible by .*\(16, 16, 15\)",
    ),
    "a window as a number": (evaluation(window=16), 2, "needs 3 positive integers"),
    "a window of two numbers": (evaluation(window=[16, 16]), 2, "needs 3 positive integers"),
    "a size that cannot be halved": (
        [*evaluation(window=None), "--task.size", "15", "15", "15"], 2, r"divisible by",
    ),
    "an unknown patient in a split": (
        evaluation("mr", "--task.split_file", "split.yaml"), 2, "patients p9 are not in the data",
    ),
    "a split that is not there": (evaluation("mr", "--task.split_file=no.yaml"), 2, "no.yaml"),
    "shares beyond 1": (evaluation("mr", "--task.shares", "0.5", "0.5", "0.5"), 2, "add up to"),
    "four dimensions": (evaluation("mr", "--task.spatial_dims", "4"), 2, "spatial_dims"),
    "more names than channels": (
        evaluation(images=["*_img.nii", "*_i*.nii"], channels=["a"]), 2, "1 names for 2 patterns",
    ),
    "options that are no mapping": (["eval", "--task.options", "images"], 2, "task.options"),
    "missing options": (["eval", "--task", "nifti", "--task.root", "mr"], 2, "needs the options"),
    "no epoch": (training("mr", "--epochs", "0"), 2, "epochs must be 1 or more"),
    "a device that is not there": (
        evaluation("mr", "--device", "gpu"), 2, "device 'gpu' is not there: expected cpu, cuda, or",
    ),
    "metrics with a comma": (
        evaluation("mr", "--metrics", "dice,hd95"), 2, "'dice,hd95'; separate .*: dice hd95",
    ),
    "no value": (evaluation("mr", "--out"), 2, "--out: expected one argument after it, got none"),
    "half a chip": (
        evaluation("mr", "--sweep.chips", "1.5"), 2, "sweep.chips: expected a whole number, got 1",
    ),
    "a misspelt metric": (evaluation("mr", "--metrics", "dise"), 2, "did you mean 'dice'"),
    "a module that is not there": (
        training("mr", "--model", "no_nets:unet"), 2, "cannot import 'no_nets'.* PYTHONPATH",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_in_one_sentence(name, folder, monkeypatch, capsys):
    words, status, message = MISTAKES[name]
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["analogmed", *words])
    found = main()
    err = capsys.readouterr().err
    assert found == status, err
    assert err.startswith("error: ") and err.count("\n") == 1
    assert re.search(message, err), err


WORKS = {
    "one pattern as a text": (evaluation(images="*_img.nii"), "task", None),
    "JSON in a YAML file": (["eval", "--config", "json.yaml"], "seed", 3),
    "a day": (["eval", "--sweep.times_s", "0", "1 day"], "sweep.times_s", (0.0, 86_400.0)),
    "days in a list": (["eval", "--sweep.times_s=[t0, 30d]"], "sweep.times_s", (0.0, 2_592_000.0)),
    "a negative seed": (["eval", "--seed", "-1"], "seed", -1),
    "a number twice": (["eval", "--seed", "1", "--seed", "2"], "seed", 2),
    "ages in days": (["train", "--noise.ages_s", "1 h", "2d"], "noise.ages_s", (3600.0, 172_800.0)),
}


@pytest.mark.parametrize("name", WORKS)
def test_what_is_meant_is_understood(name, folder, monkeypatch):
    (command, *words), setting, expected = WORKS[name]
    monkeypatch.chdir(folder)
    settings = parse(Experiment if command == "eval" else TrainConfig, words, prog=command)
    if expected is None:
        assert settings.task.load().in_channels == 1
        return
    for part in setting.split("."):
        settings = getattr(settings, part)
    assert settings == expected


@pytest.mark.parametrize(
    ("root", "modality", "message"),
    [
        ("mr", "CT", r"channel img has values from 0 to .* set task\.options\.intensity"),
        (
            "ct",
            "MR",
            r"from -1000 to .* like a CT .*set task\.options\.intensity to ct",
        ),
    ],
)
def test_intensities_of_another_modality_are_reported(root, modality, message, folder, monkeypatch):
    monkeypatch.chdir(folder)
    task = parse(Experiment, of_task(root, modality=modality), prog="eval").task.load()
    with pytest.warns(UserWarning, match=message):
        check_plausible(task, task.test)


@pytest.mark.parametrize(("root", "modality"), [("mr", "MR"), ("ct", "CT")])
def test_intensities_of_the_modality_are_not_reported(root, modality, folder, monkeypatch):
    monkeypatch.chdir(folder)
    task = parse(Experiment, of_task(root, modality=modality), prog="eval").task.load()
    check_plausible(task, task.test)


def test_a_class_that_is_rare_is_not_searched_in_all_label_files(folder, monkeypatch):
    monkeypatch.chdir(folder)
    words = of_task(classes={"tumour": [1], "edema": [2, 3]})
    task = parse(Experiment, words, prog="eval").task.load()
    with pytest.warns(UserWarning, match="no label file of 20 cases contains .*edema"):
        check_plausible(task, task.test * 30)


def test_without_any_class_the_message_names_the_options_of_the_data_set(folder, monkeypatch):
    monkeypatch.chdir(folder)
    task = parse(Experiment, of_task(classes={"tumour": [7]}), prog="eval").task.load()
    with pytest.raises(ConfigError, match=r"task\.options\.classes; .*task\.split_file"):
        check_plausible(task, task.test)
    of_msd = replace(task, read=replace(task.read, classes_from="labels in dataset.json"))
    with pytest.raises(ConfigError, match=r"Correct labels in dataset\.json"):
        check_plausible(of_msd, task.test)


def test_one_class_of_several_that_never_occurs_is_reported(folder, monkeypatch):
    monkeypatch.chdir(folder)
    words = of_task(classes={"tumour": [1], "edema": [2, 3]})
    task = parse(Experiment, words, prog="eval").task.load()
    with pytest.warns(UserWarning, match=r"values of edema \[2, 3\]; they contain 0, 1"):
        check_plausible(task, task.test)
