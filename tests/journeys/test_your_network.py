import re
import runpy
import shlex
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import analogmed as am
from analogmed.cli.parse import parse
from analogmed.cli.programs import evaluate as evaluation
from analogmed.cli.programs import train as training
from analogmed.foundation.errors import ConfigError, LeakageError

pytestmark = pytest.mark.slow

DOCUMENT = Path(__file__).parents[2] / "docs" / "tutorials" / "your-network.md"
SHORT = {
    "analogmed.train": ["--epochs", "1", "--validate_every", "1", "--validation_chips", "1"],
    "analogmed.eval": ["--sweep.chips", "1", "--sweep.times_s", "0", "--examples", "0"],
}
PROGRAMS = {
    "analogmed.train": (am.TrainConfig, training.run),
    "analogmed.eval": (am.Experiment, evaluation.run),
}


def blocks():
    """Kind and text of each block, with windows of the size of the tiny volumes."""
    text = DOCUMENT.read_text(encoding="utf-8").replace("[32, 96, 96]", "[16, 16, 16]")
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
    python, flag, module, *arguments = shlex.split(line)
    assert (python, flag) == ("python", "-m")
    settings, run = PROGRAMS[module]
    run(parse(settings, [*arguments, *SHORT[module]], prog=module))


def run_block(kind, text):
    named = re.match(r"# (\S+\.\w+)\n", text)
    if named:
        Path(named[1]).write_text(text)
    elif kind == "python":
        Path("block.py").write_text(text)
        runpy.run_path("block.py")
    else:
        for line in text.splitlines():
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


def test_the_advised_forward_turns_the_axes_and_survives_conversion(followed):
    forward = re.search(r"`(def forward\(.*?)`", DOCUMENT.read_text("utf-8").replace("\n", " "))
    assert forward is not None
    names = {}
    source = "from monai.networks.nets import UNet\nclass Turned(UNet):\n    "
    exec(source + forward[1], names)
    shape = (3, 1, 1, (4, 8), (2,))
    turned, plain = names["Turned"](*shape).eval(), names["UNet"](*shape).eval()
    plain.load_state_dict(turned.state_dict())
    x, y, z = 8, 10, 12
    volume = torch.rand(1, 1, x, y, z, generator=torch.Generator().manual_seed(0))
    expected = plain(volume).permute(0, 1, 4, 3, 2)
    given = volume.permute(0, 1, 4, 3, 2)
    assert torch.equal(turned(given), expected)
    analog = am.convert(turned, am.create_rpu_config("ideal")).eval()
    torch.testing.assert_close(analog(given), expected, rtol=1e-4, atol=1e-5)
