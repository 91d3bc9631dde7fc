import io
import json
import logging
import math
import re
import shutil
from dataclasses import replace
from itertools import count
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from monai.losses import DiceCELoss
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from analogmed.analog import Hardware
from analogmed.config import CalibrationConfig, ModelConfig, TaskConfig, to_plain
from analogmed.foundation.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    LeakageError,
    NonFiniteError,
)
from analogmed.models import build_model
from analogmed.training import (
    LossConfig,
    NoiseConfig,
    OptimizerConfig,
    TrainConfig,
    load_checkpoint,
    loop,
    network_run,
    preparation,
    save_checkpoint,
    train,
)
from analogmed.training.checkpoint.sources import patients_seen
from analogmed.training.distributed import Ranks
from analogmed.training.history import EpochRecord
from analogmed.training.preparation import digital_stage, with_heads
from analogmed.training.sampling.patches import PatchSampler
from analogmed.training.state.state import load_latest
from analogmed.training.validation import MeanScore

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def the_start_is_not_kept():
    """Tests here look at the network after training, however it scores; see test_start.py."""
    start = EpochRecord(0, 0, math.nan, math.nan, math.nan, 0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_validated_start", lambda *_: start)
        yield


def weights(path):
    return load_checkpoint(path).network.state_dict()


def equal(state, other):
    return state.keys() == other.keys() and all(torch.equal(state[n], other[n]) for n in state)


def loss_of(network, task):
    sampler = PatchSampler(task, task.train, batch_size=16, seed=9)
    loss = DiceCELoss(sigmoid=True, batch=True)
    with torch.no_grad():
        return sum(loss(network.eval()(x), y).item() for x, y in sampler.epoch(0)) / len(sampler)


@pytest.fixture
def short(tiny_training, tmp_path):
    """A digital run of one epoch."""
    return replace(tiny_training, epochs=1, out=tmp_path / "short")


def hwa_epoch(tiny_training, tiny_digital, out):
    """A hardware-aware run of one epoch, from the digital network."""
    return replace(
        tiny_training,
        training="hwa",
        model=ModelConfig(),
        init=tiny_digital,
        epochs=1,
        validation_chips=1,
        optimizer=OptimizerConfig(learning_rate=1e-3),
        out=out,
    )


@pytest.fixture
def short_hwa(tiny_training, tiny_digital, tmp_path):
    """Settings of such a run, in a folder of the test's own."""
    return hwa_epoch(tiny_training, tiny_digital, tmp_path / "short-hwa")


@pytest.fixture(scope="module")
def plain_hwa(tiny_training, tiny_digital, tmp_path_factory):
    """Checkpoint of such a run."""
    out = tmp_path_factory.mktemp("plain") / "hwa"
    return train(hwa_epoch(tiny_training, tiny_digital, out))


@pytest.fixture(scope="module")
def trained_hwa(plain_hwa):
    """Its weights."""
    return weights(plain_hwa)


def write_two_class_task(root, n_cases=5):
    """Volumes in the Decathlon's layout: a bright block over a dark one, and noise."""
    draw, entries = np.random.default_rng(0), []
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for case in range(n_cases):
        label = np.zeros((32, 32, 4), dtype=np.uint8)
        row, column = draw.integers(4, 14, 2)
        label[row : row + 10, column : column + 10] = 1
        label[row : row + 10, column + 8 : column + 14] = 2
        image = 100.0 + np.array([0, 50, -50])[label] + draw.normal(0, 5, label.shape)
        for folder, data in (("imagesTr", image.astype(np.float32)), ("labelsTr", label)):
            nib.save(nib.Nifti1Image(data, np.eye(4)), root / folder / f"case_{case}.nii.gz")
        entries.append({k: f"./{k}sTr/case_{case}.nii.gz" for k in ("image", "label")})
    description = {
        "name": "blocks",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "bright", "2": "dark"},
        "numTraining": n_cases,
        "training": entries,
    }
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def validation_dice(path, task):
    mean_dice = MeanScore(
        task, task.validation, limit_bytes=2**30, batch_size=4, device=torch.device("cpu")
    )
    return mean_dice([load_checkpoint(path).network])


def test_training_lowers_the_loss_and_keeps_the_network_of_its_score(tiny_training, tiny_digital):
    task = tiny_training.task.load()
    trained = load_checkpoint(tiny_digital)
    torch.manual_seed(0)
    start = build_model("unet", in_channels=3, out_channels=1, features=4)
    assert loss_of(trained.network, task) < loss_of(start, task)
    assert trained.info.score == pytest.approx(validation_dice(tiny_digital, task), abs=1e-6)


def test_the_checkpoint_says_what_was_trained_on_whom(tiny_training, tiny_digital):
    info, task = load_checkpoint(tiny_digital).info, tiny_training.task.load()
    assert (info.model, info.options, info.training) == ("unet", {"features": 4}, "digital")
    assert (info.task, info.classes) == ("phantom_brain", task.classes)
    assert set(info.patients) == {c.patient_id for c in (*task.train, *task.validation)}
    assert set(info.patients).isdisjoint(c.patient_id for c in task.test)
    assert info.hardware == {}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(short, tmp_path):
    first = train(short).read_bytes()
    torch.manual_seed(77)
    assert train(replace(short, out=tmp_path / "again")).read_bytes() == first
    other = train(replace(short, seed=1, out=tmp_path / "other"))
    assert not equal(weights(other), weights(short.path))


def test_the_generator_of_the_user_is_left_as_it_was(short):
    before = torch.get_rng_state()
    train(short)
    assert torch.equal(torch.get_rng_state(), before)


def test_hardware_aware_training_starts_from_the_digital_weights(short_hwa, tiny_digital):
    """At a vanishing learning rate all but weight clipping and normalisation is as before."""
    barely = replace(
        short_hwa,
        optimizer=OptimizerConfig(learning_rate=1e-12, weight_decay=0.0),
        hardware=Hardware("ideal", remap="none"),
    )
    start, end = weights(tiny_digital), weights(train(barely))
    for name in start:
        if name.endswith("weight"):
            torch.testing.assert_close(end[name], start[name], rtol=0, atol=1e-8)


def test_hardware_aware_training_keeps_digital_weights_and_learned_ranges(tiny_digital, tiny_hwa):
    digital, hwa = load_checkpoint(tiny_digital), load_checkpoint(tiny_hwa)
    assert hwa.info.training == "hwa"
    assert hwa.info.hardware == to_plain(Hardware())
    assert hwa.network.state_dict().keys() == digital.network.state_dict().keys()
    assert not equal(hwa.network.state_dict(), digital.network.state_dict())
    assert all((ranges > 0).all() for ranges in hwa.input_ranges.values())
    assert hwa.input_ranges
    assert digital.input_ranges == {}


def test_hardware_aware_training_is_reproducible(short_hwa, plain_hwa):
    assert train(short_hwa).read_bytes() == plain_hwa.read_bytes()


def test_the_network_of_hardware_aware_training_is_that_of_init(
    short_hwa, plain_hwa, tiny_digital, tmp_path
):
    assert load_checkpoint(plain_hwa).info.options == {"features": 4}
    train(replace(short_hwa, model=ModelConfig("unet"), out=tmp_path / "named"))
    for model in (ModelConfig("unetpp"), ModelConfig("unet", {"features": 8})):
        with pytest.raises(ConfigError, match=f"{tiny_digital} holds unet .* model says"):
            train(replace(short_hwa, model=model, out=tmp_path / "refused"))


def test_a_volume_task_is_trained_in_3d(tmp_path):
    task = TaskConfig(
        "phantom_spleen",
        root=tmp_path,
        size=(16, 32, 32),
        options={"phantom_patients": 4, "phantom_size": 32},
    )
    model = ModelConfig("unet", {"features": 2})
    config = TrainConfig(task=task, model=model, epochs=1, batch_size=2, out=tmp_path / "net")
    found = load_checkpoint(train(config))
    assert (found.info.spatial_dims, found.info.task) == (3, "phantom_spleen")
    assert found.network(torch.zeros(1, 1, 16, 32, 32)).shape == (1, 1, 16, 32, 32)


def test_several_classes_are_trained_with_one_logit_each_and_the_background(tmp_path):
    task = TaskConfig(
        "msd",
        root=write_two_class_task(tmp_path / "Task90_Blocks"),
        spatial_dims=2,
        options={"window": [32, 32]},
    )
    config = TrainConfig(
        task=task,
        model=ModelConfig("unet", {"features": 4}),
        epochs=2,
        batch_size=4,
        optimizer=OptimizerConfig(learning_rate=0.01),
        out=tmp_path / "net",
    )
    path = train(config)
    info = load_checkpoint(path).info
    assert (info.out_channels, info.classes) == (3, ("bright", "dark"))
    assert info.score == pytest.approx(validation_dice(path, task.load()), abs=1e-6)


def test_a_loss_that_is_no_number_stops_with_epoch_and_batch(short, monkeypatch):
    """Both are counted from 1, as in the log."""
    losses = iter([0.5, 0.5, math.nan])
    monkeypatch.setattr(
        network_run,
        "make_loss",
        lambda *_: lambda images, outputs, _: outputs.mean() * 0 + next(losses),
    )
    with pytest.raises(NonFiniteError, match=r"loss is nan in epoch 1, batch 3;.*was not written"):
        train(short)
    assert not short.path.exists()
    assert (short.folder / "stopped.safetensors").is_file()


def test_weights_that_are_no_numbers_stop_before_they_are_kept(short, monkeypatch):
    def spoil(learner):
        step(learner)
        with torch.no_grad():
            learner._model.head.bias.fill_(math.nan)
            learner._average = None

    step = loop.StepOptimizer.step
    monkeypatch.setattr(loop.StepOptimizer, "step", spoil)
    monkeypatch.setattr(
        network_run,
        "make_loss",
        lambda *_: lambda images, outputs, _: 0 * outputs[0].nan_to_num().sum(),
    )
    with pytest.raises(NonFiniteError, match=r"after epoch 1: NaN or Inf in the weights: head"):
        train(short)
    assert not short.path.exists()
    with pytest.raises(CheckpointError, match="NaN or Inf"):
        load_checkpoint(short.folder / "stopped.safetensors")


def test_a_diverging_run_is_stopped_with_epoch_and_batch(short):
    config = replace(
        short,
        epochs=10,
        validate_every=1,
        optimizer=OptimizerConfig(learning_rate=1e30, gradient_norm=1e30),
    )
    with pytest.raises(NonFiniteError, match=r"epoch \d+.*learning_rate"):
        train(config)


GREEDY = """
import torch
from torch import nn

class Greedy(nn.Conv2d):
    def forward(self, images):
        if self.training == self.greedy_in_training:
            torch.empty(2**58, dtype=torch.uint8)
        return super().forward(images)

def network(in_channels, out_channels, spatial_dims, training):
    found = Greedy(in_channels, out_channels, 3, padding=1)
    found.greedy_in_training = training
    return found
"""


@pytest.mark.parametrize("training", [True, False], ids=["step", "validation"])
def test_a_run_that_needs_more_memory_than_there_is_says_what_to_change(
    training, short, tmp_path, monkeypatch
):
    (tmp_path / "greedy.py").write_text(GREEDY)
    monkeypatch.syspath_prepend(tmp_path)
    model = ModelConfig("greedy:network", {"training": training})
    with pytest.raises(ConfigError, match=r"256\.0 PiB more .* batch_size: 2 takes 50%.*window"):
        train(replace(short, model=model))


def test_a_part_of_the_split_without_cases_is_refused(short):
    for name, shares in (("validation", (0.7, 0.0, 0.3)), ("training", (0.0, 0.7, 0.3))):
        task = replace(short.task, shares=shares)
        with pytest.raises(DataError, match=f"phantom_brain has no {name} case"):
            train(replace(short, task=task))


def test_a_task_with_other_channels_than_init_is_refused_with_both_numbers(
    short_hwa, tiny_digital, tmp_path
):
    task = TaskConfig("msd", root=write_two_class_task(tmp_path / "blocks"), spatial_dims=2)
    with pytest.raises(ConfigError, match=rf"{tiny_digital} has 3 input and 1 output.*1 .* and 3"):
        train(replace(short_hwa, task=task))


def test_a_window_that_the_network_cannot_halve_is_refused_before_training(short):
    task = replace(short.task, size=(40, 40))
    with pytest.raises(ConfigError, match=r"unet takes sizes divisible by .*16.*\(40, 40\)"):
        train(replace(short, task=task))


def test_an_output_that_cannot_be_written_is_refused_before_the_data_are_read(short, tmp_path):
    (tmp_path / "file").touch()
    nowhere = TaskConfig("lgg", root=tmp_path / "nothing")
    for out in (tmp_path / "file" / "net", tmp_path / "file"):
        with pytest.raises(ConfigError, match="cannot write"):
            train(replace(short, task=nowhere, out=out))


def test_calibration_takes_as_few_images_as_asked_for(short_hwa):
    few = replace(short_hwa, calibration=CalibrationConfig(images=1, quantile=1.0))
    assert load_checkpoint(train(few)).input_ranges


def test_a_start_that_has_seen_the_test_patients_is_refused(short_hwa):
    seen = load_checkpoint(short_hwa.init).info.patients
    task = replace(short_hwa.task, split_seed=3)
    leaked = set(seen) & {case.patient_id for case in task.load().test}
    with pytest.raises(LeakageError, match=min(leaked)):
        train(replace(short_hwa, task=task))
    assert not short_hwa.path.exists()


def test_a_network_carries_the_patients_of_its_start(short_hwa, tmp_path):
    task = short_hwa.task.load()
    first, *others = sorted({case.patient_id for case in task.train})
    split = {
        "train": others,
        "validation": [case.patient_id for case in task.validation],
        "test": [case.patient_id for case in task.test],
    }
    (tmp_path / "split.json").write_text(json.dumps(split))
    narrowed = replace(short_hwa.task, split_file=tmp_path / "split.json")
    path = train(replace(short_hwa, task=narrowed))
    assert first in load_checkpoint(path).info.patients


def test_the_patients_of_a_start_are_carried_under_another_name_of_the_data(short_hwa):
    task, start = short_hwa.task.load(), load_checkpoint(short_hwa.init)
    first, *others = start.info.patients
    kept = tuple(case for case in task.train if case.patient_id in others)
    renamed = replace(task, name="renamed", train=kept)
    assert first in patients_seen(renamed, [start])
    strangers = tuple(replace(case, patient_id=f"x{case.patient_id}") for case in kept)
    apart = replace(renamed, train=strangers, validation=(), test=())
    assert set(patients_seen(apart, [start])) == {case.patient_id for case in strangers}


def test_layers_that_shall_stay_digital_get_no_input_range(short_hwa):
    ranges = load_checkpoint(train(replace(short_hwa, digital_layers=("encoder*",)))).input_ranges
    assert ranges
    assert not any(name.startswith("encoder") for name in ranges)


def test_without_a_start_hardware_aware_training_first_trains_digitally(short, tmp_path):
    digital = replace(short, optimizer=OptimizerConfig(), out=tmp_path / "a" / "digital")
    config = replace(digital, training="hwa", out=tmp_path / "a")
    assert digital_stage(config) == digital
    assert digital_stage(replace(config, init=short.path)) is None


def test_both_stages_train_a_network_with_the_same_heads():
    model = ModelConfig("unetpp", {"features": [4, 4, 8, 8, 8, 4]})
    config = TrainConfig(model=model, training="hwa", loss=LossConfig(deep_supervision=True))
    both = with_heads(config)
    assert both.model.options == {**model.options, "deep_supervision": True}
    assert digital_stage(both).model == both.model
    with pytest.raises(ConfigError, match=r"needs loss\.deep_supervision"):
        with_heads(replace(both, loss=LossConfig()))


def test_a_refused_run_leaves_its_folder_as_it_was(short):
    train(short)
    before = {path.name: path.read_bytes() for path in short.folder.iterdir() if path.is_file()}
    with pytest.raises(ConfigError, match="--restart true"):
        train(replace(short, epochs=7))
    assert before == {p.name: p.read_bytes() for p in short.folder.iterdir() if p.is_file()}


class StopHereError(Exception):
    pass


@pytest.mark.parametrize(
    ("training", "settings"),
    [
        ("digital", {}),
        ("hwa", {"noise": NoiseConfig(weights="chips", ramp=0.5)}),
        (
            "hwa",
            {
                "backend": "aihwkit",
                "noise": NoiseConfig(weights="modifier", ramp=0.5, ranges="learned"),
            },
        ),
    ],
    ids=["digital", "chips", "aihwkit"],
)
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    training, settings, tiny_training, tiny_digital, tmp_path, monkeypatch
):
    """With an average, a ramp, steps of several batches, and a stop in the middle of an epoch."""
    config = replace(
        tiny_training,
        training=training,
        init=tiny_digital if training == "hwa" else None,
        model=ModelConfig() if training == "hwa" else tiny_training.model,
        epochs=3,
        validate_every=1,
        validation_chips=1,
        optimizer=OptimizerConfig(learning_rate=1e-3, accumulate=2, ema=0.9),
        out=tmp_path / "whole",
        **settings,
    )
    train(config)
    broken = replace(config, out=tmp_path / "broken")
    add, batches = loop.TrainingLog.batch, count()

    def stop_in_the_second_epoch(log, loss, step):
        add(log, loss, step)
        if next(batches) == 8:
            raise StopHereError

    with monkeypatch.context() as patch, pytest.raises(StopHereError):
        patch.setattr(loop.TrainingLog, "batch", stop_in_the_second_epoch)
        train(broken)
    assert len(list(broken.folder.glob("state-*"))) == 1
    train(broken)
    assert broken.path.read_bytes() == config.path.read_bytes()
    tables = [pd.read_csv(c.folder / "log.csv").drop(columns="seconds") for c in (config, broken)]
    pd.testing.assert_frame_equal(*tables)
    assert sorted(path.name for path in broken.folder.glob("state-*")) == [
        "state-000002.safetensors",
        "state-000003.safetensors",
    ]


def test_a_run_is_not_resumed_on_data_that_have_grown(tmp_path, monkeypatch):
    """It would continue with other patients, and forget those of its first epochs."""
    root = write_two_class_task(tmp_path / "Task90_Blocks")
    config = TrainConfig(
        task=TaskConfig("msd", root=root, spatial_dims=2, options={"window": [32, 32]}),
        model=ModelConfig("unet", {"features": 2}),
        epochs=2,
        batch_size=4,
        out=tmp_path / "net",
    )

    def stop_after_the_first_state(*_):
        raise StopHereError

    with monkeypatch.context() as patch, pytest.raises(StopHereError):
        patch.setattr(loop.TrainingLog, "write", stop_after_the_first_state)
        train(config)
    before = set(load_latest(config.folder).patients["Task90_Blocks train"])
    shutil.copytree(write_two_class_task(tmp_path / "more", n_cases=6), root, dirs_exist_ok=True)
    assert before - {case.patient_id for case in config.task.load().train}
    with pytest.raises(DataError, match=r"net began with \(.*--restart true"):
        train(config)


def test_looking_at_a_network_does_not_change_its_training(short_hwa, tmp_path):
    often = replace(short_hwa, epochs=2, validate_every=1, out=tmp_path / "often")
    seldom = replace(often, validate_every=2, out=tmp_path / "seldom")
    found = [load_latest(train(config).parent) for config in (often, seldom)]
    assert equal(found[0].model, found[1].model)


def test_a_finished_run_is_not_repeated_unless_asked_for(short):
    written = train(short).stat().st_mtime_ns
    assert train(short).stat().st_mtime_ns == written
    assert train(replace(short, restart=True)).stat().st_mtime_ns > written


def test_other_settings_in_the_same_folder_are_refused_with_the_difference(short):
    train(short)
    with pytest.raises(ConfigError, match=r"seed: 0 -> 3"):
        train(replace(short, seed=3))
    assert load_checkpoint(train(replace(short, seed=3, restart=True))).info.seed == 3


def test_a_run_goes_on_from_the_same_start_by_any_path_but_not_from_a_changed_one(
    short_hwa, tiny_digital, tmp_path, monkeypatch
):
    monkeypatch.chdir(tiny_digital.parent.parent)
    folder = tiny_digital.parent.name
    written = train(replace(short_hwa, init=folder)).stat().st_mtime_ns
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(tiny_digital.read_bytes())
    for init in (tiny_digital, tiny_digital.parent, f"../{Path.cwd().name}/{folder}/", moved):
        assert train(replace(short_hwa, init=init)).stat().st_mtime_ns == written
    start = load_checkpoint(moved)
    save_checkpoint(moved, start.network, replace(start.info, score=0.0))
    with pytest.raises(ConfigError, match=rf"init: {folder} \(SHA-256 .*\) -> {moved} \(SHA-256"):
        train(replace(short_hwa, init=moved))


def test_the_run_folder_tells_the_run(short):
    train(replace(short, epochs=2, validate_every=2))
    log = pd.read_csv(short.folder / "log.csv")
    assert log["epoch"].tolist() == [1, 2]
    assert log["dice"].isna().tolist() == [True, False]
    assert log["dice"].iloc[1] == pytest.approx(load_checkpoint(short.folder).info.score)
    assert log["learning_rate"].iloc[1] == 0
    board = EventAccumulator(str(short.folder / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("loss")] == log["step"].tolist()
    assert [event.value for event in board.Scalars("loss")] == pytest.approx(log["loss"].tolist())
    assert (short.folder / "curves.png").stat().st_size > 10_000


def test_each_validation_is_told_to_the_log_and_nothing_to_the_terminal(short, caplog, capfd):
    with caplog.at_level(logging.INFO, "analogmed.training"):
        train(replace(short, epochs=5, validate_every=2))
    told = [record.getMessage() for record in caplog.records]
    log = pd.read_csv(short.folder / "log.csv").set_index("epoch")
    assert len(told) == 3
    for line, epoch in zip(told, (2, 4, 5), strict=True):
        row = log.loc[epoch]
        best = log["dice"][:epoch].max()
        assert line.startswith(
            f"unet digital on phantom_brain: epoch {epoch}/5, loss {row['loss']:.3f}, "
            f"validation Dice {row['dice']:.3f}, best {best:.3f}, 00:"
        )
    assert told[-1].endswith(" 00:00 left")
    assert capfd.readouterr() == ("", "")


def test_long_epochs_without_a_validation_are_told_too(short, caplog, monkeypatch):
    monkeypatch.setattr("analogmed.training.log._SILENCE_S", 0.0)
    with caplog.at_level(logging.INFO, "analogmed.training"):
        train(replace(short, epochs=2, validate_every=2))
    first, second = (record.getMessage() for record in caplog.records)
    assert "epoch 1/2" in first
    assert "Dice" not in first
    assert "epoch 2/2" in second


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_loss_dice_and_the_time_left(short, monkeypatch):
    screen = Terminal()
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", screen)
        train(replace(short, epochs=2, validate_every=1))
    last = screen.getvalue().split("\r")[-1]
    dice = pd.read_csv(short.folder / "log.csv")["dice"][0]  # the last one when the bar moved last
    assert re.search(r"unet digital on phantom_brain: 100%.* \d+/\d+ \[\d\d:\d\d<00:00, ", last)
    assert re.search(rf"step=\d+, loss=\d\.\d{{3}}, dice={dice:.3f}, best={dice:.3f}\]", last)


def test_training_stops_early_where_nothing_gets_better(short):
    still = replace(
        short,
        epochs=50,
        validate_every=1,
        patience=2,
        optimizer=OptimizerConfig(learning_rate=1e-30),
    )
    train(still)
    scores = pd.read_csv(short.folder / "log.csv")["dice"]
    assert len(scores) < 50
    assert scores[:-2].max() >= scores[-2:].max()
    train(still)
    assert len(pd.read_csv(short.folder / "log.csv")) == len(scores)


def test_a_class_that_no_training_case_holds_is_told_by_name(tmp_path):
    root = write_two_class_task(tmp_path / "Task90_Blocks")
    for path in (root / "labelsTr").iterdir():
        image = nib.load(path)
        label = np.asarray(image.dataobj) % 2
        nib.save(nib.Nifti1Image(label.astype(np.uint8), image.affine), path)
    config = TrainConfig(
        task=TaskConfig("msd", root=root, spatial_dims=2, options={"window": [32, 32]}),
        model=ModelConfig("unet", {"features": 2}),
        epochs=1,
        out=tmp_path / "net",
    )
    with (
        pytest.warns(UserWarning, match="no training case of .* holds dark"),
        pytest.warns(UserWarning, match=r"no label file .* the values of dark \[2\]"),
    ):
        train(config)


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": LossConfig(distillation=1.0, temperature=2.0)},
        {"noise": NoiseConfig(norms="frozen")},
        {"noise": NoiseConfig(ranges="learned")},
        {"noise": NoiseConfig(ramp=0.3)},
        {"noise": NoiseConfig(every=1)},
        {"noise": NoiseConfig(ages_s=(0.0, 1.0))},
        {"hardware": Hardware(learned_out_scale="column")},
        {"hardware": Hardware(clip="none")},
        {"hardware": Hardware(remap="none"), "noise": NoiseConfig(weights="modifier")},
        {
            "precision": "bfloat16",
            "activation_checkpointing": True,
            "digital_layers": ("encoder*",),  # products of tiles stay in float32
        },
        {
            "backend": "torch",
            "hardware": Hardware(modifier="poly", drop_connect=0.05),
            "noise": NoiseConfig(weights="modifier"),
        },
        {"hardware": Hardware(modifier="dorefa"), "noise": NoiseConfig(weights="modifier")},
        {"backend": "aihwkit", "noise": NoiseConfig(weights="modifier")},
    ],
    ids=str,
)
def test_every_way_of_hardware_aware_training_gives_its_own_network_for_chips(
    settings, short_hwa, trained_hwa
):
    found = load_checkpoint(train(replace(short_hwa, **settings)))
    assert found.info.training == "hwa"
    assert 0 <= found.info.score <= 1
    own = found.network.state_dict()
    assert not equal(own, trained_hwa)
    assert all(values.isfinite().all() for values in own.values())


def statistics(state):
    return {name: value for name, value in state.items() if "running" in name}


def test_frozen_norms_keep_the_statistics_of_the_digital_network(
    short_hwa, trained_hwa, tiny_digital
):
    frozen = statistics(weights(train(replace(short_hwa, noise=NoiseConfig(norms="frozen")))))
    learned, start = statistics(trained_hwa), statistics(weights(tiny_digital))
    assert start
    assert equal(frozen, start)
    assert not any(torch.equal(learned[n], start[n]) for n in start if "running_mean" in n)


def test_norms_are_frozen_halfway_with_the_statistics_averaged_until_then(short_hwa):
    config = replace(short_hwa, epochs=2, noise=NoiseConfig(norms="late"))
    found = statistics(weights(train(config)))
    first = load_file(config.folder / "state-000001.safetensors")
    averaged = {name: first[f"learner.average.weight:{name}"] for name in found}
    assert found
    assert equal(found, averaged)
    assert not equal(found, {name: first[f"model.{name}"] for name in found})


@pytest.mark.parametrize("norms", ["frozen", "learned"])
def test_instance_norms_with_running_statistics_are_frozen_too(short_hwa, norms):
    setup = preparation.set_up(replace(short_hwa, noise=NoiseConfig(norms=norms)), Ranks())
    setup.model.add_module("instance", nn.InstanceNorm2d(2, track_running_stats=True))
    next(iter(network_run.NetworkTraining(setup).batches(0)))
    assert setup.model.training
    assert setup.model.instance.training == (norms == "learned")


@pytest.mark.parametrize(("norms", "first"), [("frozen", 0), ("late", 5), ("learned", 11)])
def test_the_first_epoch_of_frozen_norms(norms, first):
    assert NoiseConfig(norms=norms).first_frozen_epoch(11) == first


def test_computing_activations_again_changes_no_bit(short_hwa, trained_hwa):
    frugal = replace(short_hwa, activation_checkpointing=True)
    assert equal(weights(train(frugal)), trained_hwa)


def test_deep_supervision_trains_all_heads(tiny_task, tmp_path):
    config = TrainConfig(
        task=tiny_task,
        model=ModelConfig("unetpp", {"features": [4, 4, 8, 8, 8, 4]}),
        loss=LossConfig(deep_supervision=True),
        epochs=1,
        batch_size=4,
        out=tmp_path / "net",
    )
    found = load_checkpoint(train(config))
    assert found.network(torch.zeros(1, 3, 32, 32)).shape == (1, 1, 32, 32)
    assert len(found.network.train()(torch.zeros(1, 3, 32, 32))) == 4
    hwa = replace(
        config, training="hwa", init=config.folder, model=ModelConfig(), loss=LossConfig()
    )
    with pytest.raises(ConfigError, match="give both the same value"):
        train(replace(hwa, out=tmp_path / "hwa"))
