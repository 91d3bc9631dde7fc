import re
import runpy
import shlex
import sys
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import analogmed as am
from analogmed.cli.commands import find_command
from analogmed.cli.evaluation import EvalConfig
from analogmed.cli.parse import parse
from analogmed.cli.programs import evaluate as evaluation
from analogmed.cli.programs import models
from analogmed.cli.programs import train as training
from analogmed.cli.settings import ExportConfig, ImportConfig
from analogmed.foundation.errors import ConfigError, LeakageError

pytestmark = pytest.mark.slow

DOCUMENT = Path(__file__).parents[2] / "docs" / "tutorials" / "your-network.md"
SHORT = {
    "train": ["--epochs", "1", "--validate_every", "1", "--validation_chips", "1"],
    "eval": ["--sweep.chips", "1", "--sweep.times_s", "0", "--examples", "0"],
}
PROGRAMS = {
    "train": (am.TrainConfig, training.run),
    "eval": (EvalConfig, evaluation.run),
    "models import": (ImportConfig, models.run_import),
    "models export": (ExportConfig, models.run_export),
}


def blocks():
    """Kind and text of each block, with windows of the size of the tiny volumes."""
    text = DOCUMENT.read_text(encoding="utf-8").replace("[32, 96, 96]", "[16, 16, 16]")
    text = text.replace("[96, 96, 32]", "[16, 16, 16]")
    return re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def write_case(folder):
    random = np.random.default_rng(int(folder.name[1:]))
    label = np.zeros((16, 16, 16), np.uint8)
    label[4:11, 5:12, 3:10] = 1
    folder.mkdir(parents=True)
    image = random.normal(100, 10, label.shape).astype(np.float32) + 80 * label
    for name, data in (("img", image), ("seg", label)):
        nib.save(nib.Nifti1Image(data, np.eye(4)), folder / f"{folder.name}_{name}.nii.gz")


def run_command(line):
    program, *words = shlex.split(line)
    assert program == "analogmed"
    name, arguments = find_command(words)
    settings, run = PROGRAMS[name]
    run(parse(settings, [*arguments, *SHORT.get(name, [])], prog=name))


def run_block(kind, text):
    named = re.match(r"# (\S+\.\w+)\n", text)
    if named:
        Path(named[1]).write_text(text)
    elif kind == "python":
        Path("block.py").write_text(text)
        runpy.run_path("block.py")
    else:
        for line in re.sub(r"\\\n\s*", "", text).splitlines():
            run_command(line)


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """A folder in which every block of the document was run, in its order."""
    folder = tmp_path_factory.mktemp("newcomer")
    for number in range(1, 6):
        write_case(folder / "data" / "mine" / f"p{number:02}")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*expected about 0.860")  # it is not trained
            for kind, text in blocks():
                run_block(kind, text)
                if text.startswith("# my_nets.py"):
                    unet = runpy.run_path("my_nets.py")["unet"]
                    torch.manual_seed(0)
                    torch.save(unet(1, 1, 3).state_dict(), "theirs.pt")
        yield folder
    sys.modules.pop("my_nets", None)


def test_the_checkpoint_holds_the_weights_of_the_state_dict(followed):
    found = am.load_checkpoint(followed / "mine.safetensors", factories=["my_nets:unet"])
    theirs = torch.load(followed / "theirs.pt", weights_only=True)
    own = found.network.state_dict()
    assert own.keys() == theirs.keys()
    assert all(torch.equal(own[name], theirs[name]) for name in theirs)


def test_the_network_and_its_twin_for_the_chip_are_evaluated_on_the_test_patients(followed):
    table = pd.read_csv(followed / "runs" / "mine-both" / "results.csv")
    assert set(table["training"]) == {"digital", "hwa"}
    assert set(table["case"]) == {"p04", "p05"}


def test_the_one_for_the_chip_remembers_the_patients_of_its_start(followed):
    found = am.load_checkpoint(followed / "runs" / "mine-hwa", factories=["my_nets:unet"])
    assert set(found.info.patients) == {"p01", "p02", "p03"}


def test_a_patient_that_was_learned_from_is_refused_under_test(followed):
    split = {"train": ["p05"], "validation": ["p04"], "test": ["p01"]}
    (followed / "other.yaml").write_text(yaml.safe_dump(split))
    line = next(text for kind, text in blocks() if kind == "sh" and "mine-eval" in text)
    with pytest.raises(LeakageError, match="trained on 1 of the test patients"):
        run_command(f"{line.strip()}-other --task.split_file other.yaml")


def test_the_advice_for_missing_options_is_what_the_document_says(followed):
    with pytest.raises(ConfigError, match="needs the options images, label, classes") as refused:
        am.load_task("nifti", followed / "data" / "mine")
    advice = re.search(r'--task\.options "\{(.*)\}"', str(refused.value))
    assert advice is not None
    assert advice[1] in DOCUMENT.read_text(encoding="utf-8")
    options = yaml.safe_load(f"{{{advice[1]}}}")
    assert am.load_task("nifti", followed / "data" / "mine", **options).classes == ("tumour",)


def test_a_patient_is_read_from_the_name_of_a_case(followed):
    pattern = re.search(r"`'(\^.*?)'` makes `(\w+)` and `(\w+)` one", DOCUMENT.read_text("utf-8"))
    assert pattern is not None
    assert {re.search(pattern[1], name)[1] for name in pattern.group(2, 3)} == {"p01"}


def test_the_data_have_their_own_name_in_tables(followed):
    table = pd.read_csv(followed / "runs" / "mine-eval" / "results.csv")
    assert set(table["task"]) == {"my tumours"}


def test_the_settings_of_a_run_repeat_it_from_another_folder(followed, tmp_path, monkeypatch):
    run = followed / "runs" / "mine-eval"
    monkeypatch.chdir(tmp_path)
    again = f"analogmed eval --config {run}/experiment.yaml --out {tmp_path}/again"
    with pytest.warns(UserWarning, match=r"expected about 0\.860 .*task\.options\.axes"):
        run_command(again)  # the network of the document is not trained
    assert (tmp_path / "again/results.csv").read_bytes() == (run / "results.csv").read_bytes()


def test_other_axes_than_those_of_the_network_are_refused(followed, monkeypatch):
    monkeypatch.chdir(followed)
    line = next(text for kind, text in blocks() if kind == "sh" and "mine-eval" in text)
    with pytest.raises(ConfigError, match=r"trained on arrays with the axes xyz; .* has zyx"):
        run_command(f"{line.strip()}-zyx --task.options.axes zyx")
