import ast
import os
import pkgutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import analogmed as am
from analogmed.config import SweepConfig


def loaded_after(code):
    """Modules of a fresh process after some code."""
    code += "\nimport sys; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_importing_the_package_imports_neither_torch_nor_aihwkit():
    loaded = loaded_after("import analogmed; dir(analogmed)")
    assert "analogmed" in loaded
    assert loaded.isdisjoint({"torch", "aihwkit", "monai", "numpy", "pandas"})


@pytest.mark.long
def test_every_module_of_the_package_imports_where_torchvision_cannot():
    names = [
        module.name
        for module in pkgutil.walk_packages(am.__path__, "analogmed.")
        if not module.name.endswith("__main__")
        and (find_spec("triton") or ".gpu." not in module.name)  # triton is optional
    ]
    blocked = "import sys; sys.modules['torchvision'] = None\n"  # import then raises ImportError
    assert set(names) <= loaded_after(blocked + "\n".join(f"import {name}" for name in names))


@pytest.mark.slow
def test_no_source_of_the_package_imports_torchvision():
    sources = [*Path(am.__path__[0]).rglob("*.py")]
    assert len(sources) > 50
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not any(name.name.startswith("torchvision") for name in node.names), source
            elif isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("torchvision"), source


def test_the_report_imports_neither_torch_nor_aihwkit():
    assert loaded_after("import analogmed.report").isdisjoint({"torch", "aihwkit", "monai"})


def test_every_public_name_is_there_and_listed():
    assert set(am.__all__) <= set(dir(am))
    for name in am.__all__:
        assert getattr(am, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"analogmed.*'nothing'"):
        am.nothing  # noqa: B018


def test_the_way_from_a_network_to_a_chip():
    model = am.build_model("unet", in_channels=3, out_channels=1, features=4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    config = am.create_rpu_config("pcm", tile_size=512)
    analog = am.convert(model, config)
    covered = am.coverage(analog)
    assert (covered.weight_share, covered.mac_share, covered.digital_layers) == (1.0, 1.0, {})
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    am.calibrate(analog, [images])
    chip = am.Chip(analog, seed=0)
    logits = chip.at(86_400.0, read=0)(images)
    assert logits.shape == (2, 1, 32, 32)
    assert torch.equal(am.Chip(analog, seed=0).at(86_400.0, read=0)(images), logits)
    assert not torch.equal(am.Chip(analog, seed=1).at(86_400.0, read=0)(images), logits)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    summary = am.map_tiles(model, (1, 3, 32, 32), tile_size=512).summary()
    assert summary["parameters"] == sum(p.numel() for p in model.parameters())


def test_a_trained_network_brings_its_input_ranges(tiny_digital, tiny_hwa):
    trained = am.load_checkpoint(tiny_hwa)
    analog = am.convert(trained.network, am.create_rpu_config("pcm"))
    assert am.load_input_ranges(analog, trained.input_ranges)
    state = analog.state_dict()
    for name, ranges in trained.input_ranges.items():
        assert torch.equal(state[f"{name}.input_range"], ranges)
    assert not am.load_input_ranges(analog, am.load_checkpoint(tiny_digital).input_ranges)


def test_the_way_from_a_task_to_results(tiny_task, tiny_digital, tmp_path):
    task = am.load_task("phantom_brain", root=tiny_task.root, **tiny_task.options)
    assert [len(cases) for cases in (task.train, task.validation, task.test)] == [3, 1, 2]
    experiment = am.Experiment(
        task=tiny_task,
        checkpoints=(tiny_digital,),
        sweep=SweepConfig(chips=1, times_s=(0.0,)),
        out=tmp_path / "run",
    )
    result = am.evaluate(experiment)
    assert len(result.table) == 2 * len(task.test)
    assert result.summary().loc[0, ["task", "model", "training"]].tolist() == [
        "phantom_brain",
        "unet",
        "digital",
    ]
