"""Programs reject networks that do not return logits, and accept those that change their input."""

from dataclasses import replace

import pytest
import torch

from analogmed.config import Experiment, Hardware, ModelConfig, SweepConfig
from analogmed.evaluation import evaluate
from analogmed.foundation.errors import ConfigError
from analogmed.training import CheckpointInfo, load_checkpoint, save_checkpoint, train

NETS = """
import torch
from torch import nn


class Plain(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.last = nn.Conv2d(4, out_channels, 3, padding=1)

    def forward(self, x):
        return self.last(self.first(x - 0.3).relu())


class InPlace(Plain):
    def forward(self, x):
        x -= 0.3
        return self.last(self.first(x).relu())


class Sigmoid(Plain):
    def forward(self, x):
        return super().forward(x).sigmoid()


class Dict(Plain):
    def forward(self, x):
        return {"out": super().forward(x)}


class Listed(Plain):
    def __init__(self, *channels):
        super().__init__(*channels)
        self.more = [nn.Conv2d(1, 1, 1)]


def plain(in_channels, out_channels, spatial_dims):
    return Plain(in_channels, out_channels)


def in_place(in_channels, out_channels, spatial_dims):
    return InPlace(in_channels, out_channels)


def sigmoid(in_channels, out_channels, spatial_dims):
    return Sigmoid(in_channels, out_channels)


def of_dict(in_channels, out_channels, spatial_dims):
    return Dict(in_channels, out_channels)


def listed(in_channels, out_channels, spatial_dims):
    return Listed(in_channels, out_channels)
"""
MODULE = "nets_of_the_check"


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nets")
    (folder / f"{MODULE}.py").write_text(NETS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield __import__(MODULE)


@pytest.fixture
def saved(nets, tiny_task, tmp_path):
    task = tiny_task.load()

    def save(name):
        info = CheckpointInfo(
            model=f"{MODULE}:{name}",
            in_channels=task.in_channels,
            out_channels=task.out_channels,
            spatial_dims=task.spatial_dims,
            training="digital",
            task=task.name,
            classes=task.classes,
            patients=(),
        )
        network = getattr(nets, name)(task.in_channels, task.out_channels, task.spatial_dims)
        return save_checkpoint(tmp_path / f"{name}.safetensors", network, info)

    return save


def experiment_of(path, task, out):
    return Experiment(
        task=task,
        checkpoints=(path,),
        factories=(f"{MODULE}:{path.stem}",),
        hardware=Hardware("ideal"),
        sweep=SweepConfig(chips=2, times_s=(0.0, 86_400.0)),
        examples=0,
        out=out,
    )


def test_evaluation_refuses_probabilities_and_names_the_checkpoint(saved, tiny_task, tmp_path):
    path = saved("sigmoid")
    with pytest.raises(ConfigError, match=r"sigmoid\.safetensors .*returns probabilities"):
        evaluate(experiment_of(path, tiny_task, tmp_path / "run"))
    assert not (tmp_path / "run" / "results.csv").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_ideal_chips_of_an_in_place_network_are_the_digital_network(saved, tiny_task, tmp_path):
    tables = [
        evaluate(experiment_of(saved(name), tiny_task, tmp_path / name)).table
        for name in ("in_place", "plain")
    ]
    for table in tables:
        dice = table.query("metric == 'dice'")
        runs = dice.groupby(["chip", "time_s"], dropna=False)["value"].apply(list)
        assert len(runs) == 5
        assert all(run == pytest.approx(runs.iloc[0], nan_ok=True) for run in runs)
    first, second = (table["value"].to_list() for table in tables)
    assert first == pytest.approx(second, nan_ok=True)


def test_a_network_with_layers_in_a_plain_list_is_not_saved(saved):
    with pytest.raises(ConfigError, match=r"cannot write .*more\[0\] \(Conv2d\).*nn\.ModuleList"):
        saved("listed")


def test_training_refuses_a_network_before_its_first_step(nets, tiny_training, tmp_path):
    model = ModelConfig(f"{MODULE}:of_dict")
    with pytest.raises(ConfigError, match=f"^{MODULE}:of_dict: .*a dict with the keys 'out'"):
        train(replace(tiny_training, model=model, out=tmp_path / "run"))


@pytest.mark.slow
def test_a_teacher_sees_the_images_that_the_network_was_given(
    saved, tiny_training, tiny_task, tmp_path
):
    """With distillation, an in-place network is trained as the same network out of place."""
    weights = []
    for name in ("in_place", "plain"):
        config = replace(
            tiny_training,
            training="hwa",
            hardware=Hardware("ideal"),
            model=ModelConfig(f"{MODULE}:{name}"),
            init=saved(name),
            loss=replace(tiny_training.loss, distillation=0.5),
            epochs=1,
            validate_every=1,
            validation_chips=1,
            out=tmp_path / f"run-{name}",
        )
        trained = load_checkpoint(train(config), factories=(f"{MODULE}:{name}",))
        weights.append(trained.network.state_dict())
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
