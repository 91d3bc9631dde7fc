import dataclasses
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from importlib import resources
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from analogmed.analog import Hardware, calibrate, convert, create_rpu_config, left_digital
from analogmed.foundation.errors import CheckpointError, ConfigError, LeakageError
from analogmed.models import build_model
from analogmed.network.weights import load_weights
from analogmed.training import (
    CheckpointInfo,
    load_checkpoint,
    load_input_ranges,
    save_checkpoint,
)
from analogmed.training.checkpoint.file import read_file, write_file

INFO = CheckpointInfo(
    model="unet",
    in_channels=3,
    out_channels=1,
    spatial_dims=2,
    training="digital",
    task="phantom_brain",
    classes=("tumour",),
    patients=("a", "b"),
    options={"features": 2},
    score=0.75,
    seed=3,
)


def network(seed=0, **options):
    torch.manual_seed(seed)
    return build_model("unet", in_channels=3, out_channels=1, **{"features": 2, **options})


def header_of(path):
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def rewrite(path, weights=None, **changes):
    """Another version of a checkpoint: other tensors, or another header."""
    description, tensors = read_file(path)
    tensors = tensors if weights is None else weights(tensors)
    write_file(path, json.dumps(json.loads(description) | changes), tensors)
    return path


@contextmanager
def largest_file(n_bytes):
    """Writes beyond this size fail, as they do on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def saved(tmp_path):
    return save_checkpoint(tmp_path / "net.safetensors", network(), INFO)


def test_a_network_comes_back_with_its_weights_and_its_description(saved):
    found = load_checkpoint(saved)
    assert found.info == INFO
    assert found.path == saved
    assert not found.network.training
    assert found.input_ranges == {}
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(found.network(images), network().eval()(images))


def test_an_analog_network_comes_back_digital_with_its_input_ranges(tmp_path):
    plain = network()
    analog = convert(plain, create_rpu_config("pcm", tile_size=8))
    calibrate(analog, [torch.rand(2, 3, 32, 32)])
    path = save_checkpoint(tmp_path / "net.safetensors", analog, INFO)
    found = load_checkpoint(path)
    for name, value in plain.state_dict().items():
        assert torch.equal(found.network.state_dict()[name], value), name
    for name, ranges in found.input_ranges.items():
        assert torch.equal(ranges, analog.get_submodule(name).input_range)
    again = convert(found.network, create_rpu_config("pcm", tile_size=8))
    assert load_input_ranges(again, found.input_ranges)
    assert all(
        torch.equal(again.get_submodule(n).input_range, r) for n, r in found.input_ranges.items()
    )


@pytest.mark.parametrize(
    ("backend", "digital"),
    [("torch", {"encoder1.conv1", "head"}), ("aihwkit", {"encoder1.conv1", "head", "upconv"})],
)
def test_layers_of_an_analog_network_that_are_digital_are_named(tmp_path, backend, digital):
    asked = ["encoder1.conv1", "head*"]
    analog = convert(network(), create_rpu_config("pcm"), digital_layers=asked, backend=backend)
    found = load_checkpoint(save_checkpoint(tmp_path / "net.safetensors", analog, INFO)).info
    assert {name.rstrip("1234") if "up" in name else name for name in found.digital_layers} == (
        digital
    )
    again = convert(network(), create_rpu_config("pcm"), digital_layers=found.digital_layers)
    assert left_digital(again) == found.digital_layers


def test_input_ranges_of_other_tiles_are_left_alone(tmp_path):
    analog = convert(network(), create_rpu_config("pcm", tile_size=8))
    calibrate(analog, [torch.rand(2, 3, 32, 32)])
    path = save_checkpoint(tmp_path / "net.safetensors", analog, INFO)
    ranges = load_checkpoint(path).input_ranges
    other = convert(network(), create_rpu_config("pcm", tile_size=512))
    before = {n: p.clone() for n, p in other.state_dict().items()}
    assert not load_input_ranges(other, ranges)
    assert not load_input_ranges(other, {})
    assert all(torch.equal(before[n], p) for n, p in other.state_dict().items())


@pytest.mark.slow
def test_a_network_that_registers_its_layers_twice_comes_back(tmp_path):
    options = {"in_channels": 1, "out_channels": 2, "spatial_dims": 2}
    model = build_model("dynunet", **options).eval()
    state = model.state_dict()
    assert len({t.data_ptr() for t in state.values()}) < len(state)
    info = dataclasses.replace(INFO, model="dynunet", options={}, **options)
    path = save_checkpoint(tmp_path / "net.safetensors", model, info)
    images = torch.rand(1, 1, 128, 128)
    with torch.no_grad():
        assert torch.equal(load_checkpoint(path).network(images), model(images))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_torch_pickle_is_refused_under_any_name(tmp_path, zipped):
    path = tmp_path / "net.safetensors"
    torch.save(network().state_dict(), path, _use_new_zipfile_serialization=zipped)
    advice = r"net\.safetensors is a pickle.*analogmed\.save_checkpoint.*tutorials/your-network\.md"
    with pytest.raises(CheckpointError, match=advice):
        load_checkpoint(path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_any_protocol_is_refused_and_never_run(tmp_path, protocol):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was_here"),)

    path = tmp_path / "net.safetensors"
    path.write_bytes(pickle.dumps(Payload(), protocol=protocol))
    with pytest.raises(CheckpointError, match=r"net\.safetensors"):
        load_checkpoint(path)
    assert not (tmp_path / "was_here").exists()


def test_code_that_a_checkpoint_names_is_not_run(saved, tmp_path):
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "hubconf.py").write_text(
        f"import os\nos.mkdir({str(tmp_path / 'was_here')!r})\ndef network(**_): ...\n"
    )
    options = {"repo_or_dir": str(repository), "model": "network", "source": "local"}
    rewrite(saved, model="torch.hub:load", options=options)
    with pytest.raises(CheckpointError, match=r"would call 'torch\.hub:load'.*factories"):
        load_checkpoint(saved)
    assert not (tmp_path / "was_here").exists()


def test_a_factory_that_the_user_names_is_called(saved):
    factory = "analogmed.models.unet:UNet"
    rewrite(saved, model=factory)
    assert load_checkpoint(saved, factories=[factory]).info.model == factory


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_a_truncated_checkpoint_is_refused_with_its_path(saved, share):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"net\.safetensors is damaged.*use an older one"):
        load_checkpoint(saved)


def test_a_missing_file_is_refused_with_its_path(tmp_path):
    path = tmp_path / "none.safetensors"
    with pytest.raises(CheckpointError, match=f"{path}: there is no such file"):
        load_checkpoint(path)


def test_a_run_folder_stands_for_its_network(saved):
    network_file = saved.rename(saved.parent / "network.safetensors")
    found = load_checkpoint(saved.parent)
    assert found.path == network_file
    assert found.info == INFO


def test_a_folder_without_a_network_is_refused_with_its_path(saved):
    with pytest.raises(
        CheckpointError, match=rf"{saved.parent}: this folder has no network\.safetensors; give"
    ):
        load_checkpoint(saved.parent)


def test_missing_extra_and_misshapen_weights_are_named(saved):
    def change(tensors):
        names = sorted(name for name in tensors if name.endswith("weight"))
        tensors["surplus"] = tensors.pop(names[0])
        tensors[names[1]] = torch.zeros(7)
        change.names = names
        return tensors

    rewrite(saved, change)
    missing, other = change.names[:2]
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(saved)
    message = str(caught.value)
    assert f"missing weights: {missing}" in message
    assert "unexpected weights: surplus" in message
    assert f"weights of another shape: {other} (7,) instead of" in message


def test_many_missing_weights_are_counted(saved):
    with pytest.raises(CheckpointError, match=r"missing weights: .* and \d+ more"):
        load_weights(network(), {}, "nothing")


def test_weights_that_do_not_fit_leave_the_network_as_it_was():
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError):
        load_weights(model, network(seed=1, features=4).state_dict(), "a larger network")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_safetensors_file_of_other_origin_is_refused(tmp_path):
    save_file(network().state_dict(), tmp_path / "net.safetensors")
    advice = r"no description.*analogmed\.save_checkpoint.*tutorials/your-network\.md"
    with pytest.raises(CheckpointError, match=advice):
        load_checkpoint(tmp_path / "net.safetensors")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "of another format than 1"),
        ({"novelty": 1}, "novelty"),
        ({"options": None}, "options must be a dict"),
        ({"model": 5}, "model must be a str"),
        ({"classes": None}, "header cannot be read"),
        ({"thresholds": [0.5, 0.5]}, "thresholds: expected none, or one for each of the 1 classes"),
        ({"thresholds": [float("nan")]}, "thresholds: expected a finite number .* got nan"),
        ({"thresholds": [1.5]}, "thresholds: expected a finite number at least 0 .* got 1.5"),
        ({"keeps_start": 1}, "keeps_start must be true or false, not 1"),
        ({"digital_layers": "head"}, "digital_layers must be a list of names, not 'head'"),
        ({"model": "nnunet"}, "cannot build its network.*unknown model 'nnunet'"),
        ({"options": {"in_channels": 3}}, "cannot build its network"),
        ({"options": {"feature": 3}}, "unknown option 'feature'"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused_with_its_path(saved, changes, message):
    rewrite(saved, **changes)
    with pytest.raises(CheckpointError, match=rf"net\.safetensors.*{message}"):
        load_checkpoint(saved)


def test_equal_networks_are_written_as_equal_bytes(saved, tmp_path):
    again = save_checkpoint(tmp_path / "again.safetensors", network(), INFO)
    assert again.read_bytes() == saved.read_bytes()


def test_a_full_disk_during_a_save_leaves_the_old_checkpoint(saved):
    before = saved.read_bytes()
    with largest_file(4096), pytest.raises(Exception, match=r"too large|I/O"):
        save_checkpoint(saved, network(seed=1), INFO)
    assert saved.read_bytes() == before
    assert load_checkpoint(saved).info == INFO
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.slow
def test_a_process_killed_during_a_save_leaves_the_old_checkpoint(saved):
    """The process dies when its new file has grown halfway."""
    before = saved.read_bytes()
    code = (
        "import resource, signal, sys\n"
        "from analogmed.training import load_checkpoint, save_checkpoint\n"
        "old = load_checkpoint(sys.argv[1])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) // 2},) * 2)\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "save_checkpoint(sys.argv[1], old.network, old.info)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(saved)], check=False)
    assert killed.returncode == -signal.SIGXFSZ
    assert saved.read_bytes() == before
    assert load_checkpoint(saved).info == INFO


def test_a_task_with_other_channels_is_refused_with_both_numbers(tiny_task, saved):
    task = tiny_task.load()
    INFO.check_fits(task, saved)
    for name, own in (("in_channels", 4), ("out_channels", 5), ("spatial_dims", 3)):
        with pytest.raises(ConfigError, match=rf"net\.safetensors has .*{own}.* needs 3 .*1 in 2D"):
            dataclasses.replace(INFO, **{name: own}).check_fits(task, saved)


_OTHER_AXES = r"axes zyx; task .* has xyz .* Set task\.options\.axes \(zyx or xyz\)"


@pytest.mark.parametrize(
    ("trained", "given", "fits"),
    [("xyz", "xyz", True), ("", "xyz", True), ("zyx", "", True), ("zyx", "xyz", False)],
)
def test_a_network_of_other_axes_is_refused(tiny_task, saved, trained, given, fits):
    info = dataclasses.replace(INFO, axes=trained)
    task = dataclasses.replace(tiny_task.load(), axes=given)
    with nullcontext() if fits else pytest.raises(ConfigError, match=_OTHER_AXES):
        info.check_fits(task, saved)


def test_axes_are_stored_and_files_without_them_are_those_of_older_versions(saved, tmp_path):
    info = dataclasses.replace(INFO, axes="xyz")
    written = save_checkpoint(tmp_path / "xyz.safetensors", network(), info)
    assert load_checkpoint(written).info.axes == "xyz"
    assert "axes" not in json.loads(header_of(saved)["analogmed"])
    assert load_checkpoint(saved).info.axes == ""


def test_a_task_describes_a_network_that_was_trained_elsewhere(tiny_task, tmp_path, monkeypatch):
    (tmp_path / "their_nets.py").write_text(
        "from analogmed.models import build_model\n"
        "def small(**shape):\n"
        "    return build_model('unet', **shape, features=2)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    task = dataclasses.replace(tiny_task.load(), axes="xyz")
    path = save_checkpoint(
        tmp_path / "net.safetensors",
        network(),
        task=task,
        factory="their_nets:small",
        patients=["a", 7],
        expected_score=0.8,
    )
    info = load_checkpoint(path, factories=["their_nets:small"]).info
    assert dataclasses.replace(info, score=0) == CheckpointInfo(
        "their_nets:small", 3, 1, 2, "digital", "phantom_brain", ("tumour",), ("a", "7"),
        window=(32, 32), channels=task.channels, axes="xyz", expected_score=0.8, score=0,
    )  # fmt: skip
    info.check_fits(task, path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "task, factory, patients missing"),
        ({"factory": "a:b"}, "task, patients missing"),
        ({"info": INFO, "factory": "a:b"}, "expected either info or task, .* got info and factory"),
        ({"task": None, "factory": "a:b", "patients": "p1"}, "task missing"),
    ],
)
def test_a_description_that_is_missing_or_given_twice_is_refused(tmp_path, given, message):
    with pytest.raises(ConfigError, match=message):
        save_checkpoint(tmp_path / "net.safetensors", network(), **given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"patients": "p1"}, "patients: expected a list of patients, got 'p1'"),
        ({"patients": [], "expected_score": 86}, "expected a Dice from 0 to 1, got 86"),
    ],
)
def test_patients_and_scores_that_cannot_be_are_refused(tiny_task, given, message):
    with pytest.raises(ConfigError, match=message):
        CheckpointInfo.of_task(tiny_task.load(), "unet", **given)


def test_an_expected_score_can_be_added_to_a_description(tmp_path, saved):
    path = save_checkpoint(tmp_path / "b.safetensors", network(), INFO, expected_score=0.8)
    assert load_checkpoint(path).info == dataclasses.replace(INFO, expected_score=0.8)
    with pytest.raises(ConfigError, match="expected_score: expected a number, got nan"):
        save_checkpoint(path, network(), INFO, expected_score=float("nan"))
    assert "expected_score" not in json.loads(header_of(saved)["analogmed"])


@pytest.mark.parametrize("given", [(0,), [0.5], ()])
def test_possible_thresholds_are_written_and_read_as_numbers(saved, given):
    info = dataclasses.replace(INFO, thresholds=given)
    again = CheckpointInfo.of_json(info.to_json(), saved)
    assert again.thresholds == info.thresholds == tuple(given)
    assert all(type(each) is float for each in again.thresholds)


@pytest.mark.parametrize("given", [(0.5, 0.5), (float("nan"),), (-0.1,)])
def test_impossible_thresholds_are_refused_before_they_are_written(given):
    with pytest.raises(ConfigError, match="thresholds: expected"):
        dataclasses.replace(INFO, thresholds=given)


def test_test_patients_of_the_training_are_refused_under_another_name_of_the_data(tiny_task, saved):
    volumes = dataclasses.replace(tiny_task.load(), axes="zyx")  # names of their data are free
    first = volumes.test[0]
    seen = CheckpointInfo.of_task(volumes, "unet", patients=[first.patient_id])
    again = CheckpointInfo.of_json(seen.to_json(), saved)
    assert again.scans == seen.scans != ()
    renamed = dataclasses.replace(first, patient_id="renamed")
    other = dataclasses.replace(volumes, name="knees", test=(renamed, *volumes.test[1:]))
    with pytest.raises(LeakageError, match=f"1 of the test .*renamed.*in data .*{seen.task}"):
        again.refuse_leakage(other, saved)
    others = dataclasses.replace(other, test=volumes.train)
    again.refuse_leakage(others, saved)


def test_records_of_signals_are_recognised_and_their_rate_is_kept(tiny_task, saved):
    signals = dataclasses.replace(tiny_task.load(), rate=100)
    seen = CheckpointInfo.of_task(signals, "unet", patients=[signals.test[0].patient_id])
    again = CheckpointInfo.of_json(seen.to_json(), saved)
    assert again.rate == 100
    renamed = dataclasses.replace(signals.test[0], patient_id="renamed")
    other = dataclasses.replace(signals, name="others", test=(renamed, *signals.test[1:]))
    with pytest.raises(LeakageError, match=r"1 of the test .*renamed"):
        again.refuse_leakage(other, saved)
    again.check_fits(signals, saved)
    with pytest.raises(ConfigError, match=r"signals of 100 samples per second; task .* has 200"):
        again.check_fits(dataclasses.replace(signals, rate=200), saved)
    assert '"rate"' not in INFO.to_json()


def test_patients_of_training_data_with_another_name_are_reported(tiny_task, saved):
    task = tiny_task.load()
    seen = dataclasses.replace(INFO, task="mine", patients=(task.test[0].patient_id,))
    with pytest.warns(UserWarning, match="trained on patients of mine .* 1 test patients"):
        seen.refuse_leakage(task, saved)


def test_the_header_is_readable_without_this_package(saved):
    header = json.loads(header_of(saved)["analogmed"])
    assert header["format"] == 1
    assert header["patients"] == ["a", "b"]


def test_a_file_from_before_a_field_of_the_hardware_is_for_the_field_left_alone():
    older = {"preset": "pcm", "tile_size": [64, 64]}
    info = dataclasses.replace(INFO, training="hwa", hardware=older)
    assert info.is_for(Hardware(tile_size=(64, 64)), "even")
    assert not info.is_for(Hardware(tile_size=(64, 64), out_noise=0.1), "even")
    assert not info.is_for(Hardware(tile_size=(64, 64)), "channels")
    assert not dataclasses.replace(info, hardware={"unheard_of": 1}).is_for(Hardware(), "even")
    assert not dataclasses.replace(info, hardware={}).is_for(Hardware(), "even")


def test_a_file_from_before_digital_layers_were_kept_does_not_know_them(tmp_path):
    analog = convert(network(), create_rpu_config("pcm"), digital_layers=["head"])
    path = save_checkpoint(tmp_path / "net.safetensors", analog, INFO)
    description, tensors = read_file(path)
    header = json.loads(description)
    assert header.pop("digital_layers") == ["head"]
    write_file(path, json.dumps(header), tensors)
    assert load_checkpoint(path).info == INFO


@pytest.mark.slow
def test_the_shipped_networks_are_for_the_default_hardware():
    folder = Path(str(resources.files("analogmed") / "checkpoints"))
    infos = [load_checkpoint(path).info for path in sorted(folder.glob("*/*-hwa.safetensors"))]
    assert {info.task for info in infos} >= {"phantom_brain", "phantom_ecg"}
    assert all(info.training == "hwa" and info.is_for(Hardware(), "even") for info in infos)


@pytest.mark.parametrize("what", ["classes", "channels"])
def test_names_in_another_order_than_in_the_training_are_refused(tiny_task, saved, what):
    """Without this, an evaluation swaps the Dice of two structures, with exit status 0."""
    names = {"classes": ("anterior", "posterior"), "channels": ("t1", "t2")}
    task = dataclasses.replace(tiny_task.load(), name="mine", **names)
    info = dataclasses.replace(INFO, in_channels=2, out_channels=3, task="mine", **names)
    info.check_fits(task, saved)
    dataclasses.replace(info, channels=()).check_fits(task, saved)  # from an older file
    turned = dataclasses.replace(task, **{what: getattr(task, what)[::-1]})
    for name in ("mine", "another"):
        with pytest.raises(ConfigError, match=rf"net\.safetensors: the {what} of the training.*"):
            info.check_fits(dataclasses.replace(turned, name=name), saved)
    other = dataclasses.replace(task, **{what: ("a", "b")})
    with pytest.raises(ConfigError, match=r"task mine has a, b; expected the same names"):
        info.check_fits(other, saved)
    with pytest.warns(UserWarning, match=r"task another has a, b; outputs are taken in this"):
        info.check_fits(dataclasses.replace(other, name="another"), saved)
