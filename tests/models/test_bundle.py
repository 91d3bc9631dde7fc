import json
import pickle
import time

import pytest
import torch
import yaml
from monai.networks import nets
from safetensors.torch import save_file

from analogmed.foundation.errors import CheckpointError, ConfigError, SecurityError
from analogmed.models import build_model

NETWORK = {
    "_target_": "UNet",
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 8],
    "strides": [2],
    "norm": "batch",
}


def inference_config(**network):
    """As in MONAI's model zoo: code everywhere but in the definition of the network."""
    return {
        "imports": ["$import glob", "$import os"],
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": {**NETWORK, **network},
        "network": "$@network_def.to(@device)",
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [96, 96], "overlap": 0.5},
        "run": ["$@evaluator.run()"],
    }


def theirs():
    return nets.UNet(2, 1, 2, channels=(4, 8), strides=(2,), norm="batch")


@pytest.fixture
def bundle(tmp_path):
    """A bundle folder with configuration, metadata and weights."""
    folder = tmp_path / "spleen_segmentation"
    for name in ("configs", "models", "docs"):
        (folder / name).mkdir(parents=True)
    (folder / "configs/inference.json").write_text(json.dumps(inference_config(), indent=4))
    (folder / "configs/metadata.json").write_text(json.dumps({"version": "0.5.0"}))
    torch.manual_seed(7)
    torch.save(theirs().state_dict(), folder / "models/model.pt")
    return folder


def configure(folder, config):
    (folder / "configs/inference.json").write_text(json.dumps(config))


def build(folder, **options):
    arguments = {"in_channels": 1, "out_channels": 2, "spatial_dims": 2, **options}
    return build_model(f"bundle:{folder}", **arguments)


def test_network_and_weights_are_those_of_the_bundle(bundle):
    torch.manual_seed(7)
    reference = theirs().eval()
    image = torch.rand(1, 1, 16, 16)
    torch.testing.assert_close(build(bundle).eval()(image), reference(image), rtol=0, atol=0)


def test_a_yaml_bundle_with_safetensors_is_read_too(bundle):
    (bundle / "configs/inference.json").unlink()
    (bundle / "configs/inference.yaml").write_text(yaml.safe_dump(inference_config()))
    state = torch.load(bundle / "models/model.pt", weights_only=True)
    (bundle / "models/model.pt").unlink()
    save_file(state, bundle / "models/model.safetensors")
    torch.testing.assert_close(dict(build(bundle).state_dict()), dict(state))


def test_weights_may_be_wrapped_as_a_training_checkpoint(bundle):
    torch.manual_seed(9)
    state = theirs().state_dict()
    torch.save({"model": state, "epoch": 3}, bundle / "models/model.pt")
    torch.testing.assert_close(dict(build(bundle).state_dict()), dict(state))


def test_references_to_plain_values_are_followed(bundle):
    config = inference_config(out_channels="@sizes::labels", channels="@channels", act="@act")
    config |= {"sizes": {"labels": "@sizes#2", "2": 2}, "channels": [4, "@deep"], "deep": 8}
    config |= {"act": ["RELU", {"inplace": True}]}
    configure(bundle, config)
    model = build(bundle, pretrained=False)
    assert model.out_channels == 2
    assert model.channels == [4, 8]


def test_a_full_class_path_and_nested_networks_are_built(bundle):
    config = inference_config()
    config["network_def"] = {
        "_target_": "torch.nn.Sequential",
        "_desc_": "two in a row",
    }
    configure(bundle, config)
    assert isinstance(build(bundle, pretrained=False), torch.nn.Sequential)
    configure(bundle, inference_config(_target_="monai.networks.nets.unet.UNet"))
    assert isinstance(build(bundle), nets.UNet)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"out_channels": "$len(@labels)"}, "network_def::out_channels"),
        ({"channels": [4, "$__import__('os').getpid()"]}, "network_def::channels::1"),
        ({"act": ["RELU", {"inplace": "$True"}]}, "network_def::act::1::inplace"),
        ({"norm": "@device"}, "network_def::norm"),
        ({"norm": "%other.json::norm"}, "network_def::norm"),
    ],
)
def test_expressions_in_the_network_are_refused_by_key(bundle, change, key):
    configure(bundle, inference_config(**change))
    with pytest.raises(SecurityError) as raised:
        build(bundle)
    assert f"'{key}'" in str(raised.value)
    assert str(bundle) in str(raised.value)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.Popen",
        "monai.networks.nets.unet.warnings.warn",
        "monai.networks.nets.densenet.load_state_dict_from_url",
        "monai.networks.netsx.UNet",
        "monai.bundle.ConfigParser",
        "torch.nn.functional.relu",
        "torch.nn.modules.module.Parameter",
        "NoSuchNetwork",
        "",
        7,
    ],
)
def test_only_network_classes_are_built(bundle, target):
    configure(bundle, inference_config(_target_=target))
    with pytest.raises(SecurityError, match="_target_"):
        build(bundle)


def test_a_nested_class_outside_the_networks_is_refused(bundle):
    configure(bundle, inference_config(dropout={"_target_": "builtins.eval", "source": "1"}))
    with pytest.raises(SecurityError, match="network_def::dropout::_target_"):
        build(bundle)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"in_channels": 4}, "in_channels 1; expected 4"),
        ({"out_channels": 3}, "out_channels 2; expected 3"),
        ({"spatial_dims": 3}, "spatial_dims 2; expected 3"),
    ],
)
def test_a_bundle_for_another_task_is_refused_with_both_numbers(bundle, asked, message):
    with pytest.raises(ConfigError, match=message):
        build(bundle, **asked)


def test_what_a_bundle_leaves_to_the_default_of_its_class_is_compared_too(bundle):
    config = inference_config()
    config["network_def"] = {"_target_": "SegResNet", "in_channels": 1, "out_channels": 2}
    configure(bundle, config)
    with pytest.raises(ConfigError, match="SegResNet has spatial_dims 3; expected 2"):
        build(bundle, pretrained=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"network_def": ', "line 1: not JSON"),
        ('{"network_def": {}, "network_def": {}}', "'network_def' occurs twice"),
        ('{"network": 1}', "expected a 'network_def'"),
        ('{"network_def": 3}', "no '_target_'"),
        ('{"network_def": {"_target_": "UNet", "spatial_dims": "@a"}}', "'@a', which is not there"),
        ('{"network_def": {"_target_": "@a"}, "a": "@b", "b": "@a"}', "refers to itself"),
        ('{"network_def": {"_target_": "UNet", "_mode_": "callable"}}', "_mode_"),
        ('{"network_def": {"_target_": "UNet", "img_size": 96}}', "UNet: .*img_size"),
    ],
)
def test_a_broken_configuration_is_refused_with_its_path(bundle, text, message):
    path = bundle / "configs/inference.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as raised:
        build(bundle)
    assert str(path) in str(raised.value)


def test_references_that_multiply_are_refused_at_once(bundle):
    """Forty references, each to twice the next, would be 2 ** 40 values."""
    chain = {f"a{i}": [f"@a{i + 1}"] * 2 for i in range(40)} | {"a40": 1}
    configure(bundle, inference_config(channels="@a0") | chain)
    start = time.perf_counter()
    with pytest.raises(ConfigError, match="'network_def' has more than 10000 values"):
        build(bundle)
    assert time.perf_counter() - start < 5


def test_aliases_of_yaml_that_multiply_are_refused_too(bundle):
    (bundle / "configs/inference.json").unlink()
    chain = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 2)}]" for i in range(1, 41)]
    lines = ["a0: &a0 1", *chain, "network_def: {_target_: UNet, channels: *a40}"]
    (bundle / "configs/inference.yaml").write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="more than 1048576 values once its aliases"):
        build(bundle)


def test_a_circle_of_references_is_shown(bundle):
    configure(bundle, inference_config(act="@a") | {"a": [1, "@b"], "b": {"c": "@a"}})
    message = r"'network_def::act::1::c' refers to itself through '@a' \(@a -> @b -> @a\)"
    with pytest.raises(ConfigError, match=message):
        build(bundle)


def test_what_is_nested_without_an_end_is_refused(bundle):
    (bundle / "configs/inference.json").unlink()
    path = bundle / "configs/inference.yaml"
    path.write_text("network_def: {_target_: UNet, channels: &own [*own]}")
    with pytest.raises(ConfigError, match="contains itself") as raised:
        build(bundle)
    assert str(path) in str(raised.value)


def test_a_reference_may_be_used_many_times(bundle):
    many = inference_config(channels=["@width"] * 2, strides=["@step"], kernel_size="@size")
    configure(
        bundle, many | {"width": 4, "step": 2, "size": ["@odd", "@odd"], "odd": 3, "other": "@size"}
    )
    assert build(bundle, pretrained=False).channels == [4, 4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("network_def: !!python/object/apply:os.getpid []", "not a plain YAML file"),
        ("network_def: 1\nnetwork_def: 2", "occurs twice"),
    ],
)
def test_yaml_that_is_not_plain_is_refused(bundle, text, message):
    (bundle / "configs/inference.json").unlink()
    (bundle / "configs/inference.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        build(bundle)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"configs/inference\.json"):
        build(tmp_path / "nowhere")


def test_missing_weights_are_an_error_unless_untrained_is_asked_for(bundle):
    (bundle / "models/model.pt").unlink()
    with pytest.raises(CheckpointError, match="pretrained=False"):
        build(bundle)
    assert isinstance(build(bundle, pretrained=False), nets.UNet)


def test_a_pickle_payload_is_refused_and_not_run(bundle, tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"weight": Payload()}, bundle / "models/model.pt")
    with pytest.raises(CheckpointError, match=r"model\.pt.*refused"):
        build(bundle)
    (bundle / "models/model.pt").write_bytes(pickle.dumps(Payload(), protocol=2))
    with pytest.raises(CheckpointError, match=r"model\.pt.*refused"):
        build(bundle)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
@pytest.mark.parametrize("kept", [0, 1000])
def test_truncated_weights_are_refused_with_their_path(bundle, name, kept):
    state = torch.load(bundle / "models/model.pt", weights_only=True)
    path = bundle / "models" / name
    if path.suffix == ".safetensors":
        save_file(state, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError) as raised:
        build(bundle)
    assert str(path) in str(raised.value)


def test_weights_that_do_not_fit_are_named(bundle):
    state = theirs().state_dict()
    names = sorted(state)
    state["extra.weight"] = torch.zeros(1)
    del state[names[0]]
    state[names[1]] = torch.zeros(3, 3, 3)
    torch.save(state, bundle / "models/model.pt")
    with pytest.raises(CheckpointError) as raised:
        build(bundle)
    for part in (f"missing: {names[0]}", "unknown: extra.weight", f"another shape: {names[1]}"):
        assert part in str(raised.value)


def test_weights_that_are_no_state_dict_are_refused(bundle):
    torch.save([1, 2], bundle / "models/model.pt")
    with pytest.raises(CheckpointError, match="expected a state dict"):
        build(bundle)


def test_two_logits_of_one_class_become_their_difference(bundle):
    """The softmax of two logits is the sigmoid of their difference."""
    torch.manual_seed(7)
    reference, image = theirs().eval(), torch.rand(1, 1, 16, 16)
    found = build(bundle, out_channels=1).eval()(image)
    assert found.shape == (1, 1, 16, 16)
    expected = torch.softmax(reference(image), dim=1)[:, 1:]
    torch.testing.assert_close(torch.sigmoid(found), expected)


def postprocessing(**arguments):
    return {
        "_target_": "Compose",
        "transforms": [{"_target_": "Activationsd", "keys": "pred", **arguments}],
    }


def test_masks_that_may_overlap_are_refused(bundle):
    configure(bundle, inference_config() | {"postprocessing": postprocessing(sigmoid=True)})
    with pytest.raises(ConfigError, match="'postprocessing' applies a sigmoid to each of 2"):
        build(bundle)
    configure(bundle, inference_config() | {"postprocessing": postprocessing(softmax=True)})
    assert isinstance(build(bundle), nets.UNet)
    one = inference_config(out_channels=1) | {"postprocessing": postprocessing(sigmoid=True)}
    configure(bundle, one)
    assert isinstance(build(bundle, out_channels=1, pretrained=False), nets.UNet)


@pytest.mark.parametrize(
    ("network", "argument"),
    [
        (
            {"_target_": "HoVerNet", "pretrained_url": "file:///etc/passwd"},
            "pretrained_url",
        ),
        ({"_target_": "EfficientNetBN", "model_name": "efficientnet-b0"}, "pretrained True"),
        ({"_target_": "ResNetFeatures", "model_name": "resnet18"}, "pretrained True"),
        ({"_target_": "DenseNet121", "pretrained": True}, "pretrained True"),
        ({"_target_": "DenseNet121", "pretrained": False, "progress": True}, "progress True"),
        ({"_target_": "TorchVisionFCModel", "weights": "DEFAULT"}, "weights 'DEFAULT'"),
        ({"_target_": "UNet", "act": "/etc/passwd"}, "act '/etc/passwd'"),
        ({"_target_": "UNet", "act": "https://example.org/a"}, "act 'https"),
    ],
)
def test_arguments_that_reach_files_or_the_internet_are_refused(bundle, network, argument):
    own = {"in_channels": 1, "out_channels": 2, "spatial_dims": 2}
    configure(bundle, {"network_def": own | network})
    with pytest.raises(SecurityError, match=f"has {argument}"):
        build(bundle, pretrained=False)


@pytest.mark.slow
def test_a_network_that_reads_files_only_when_asked_is_built(bundle):
    own = {"in_channels": 1, "out_channels": 2, "spatial_dims": 2}
    configure(bundle, {"network_def": own | {"_target_": "DenseNet121", "pretrained": False}})
    assert isinstance(build(bundle, pretrained=False), nets.DenseNet121)


def test_a_huge_network_is_refused_before_it_takes_memory(bundle):
    """A convolution of a million channels would have 9e12 weights."""
    configure(bundle, inference_config(channels=[1_000_000, 1_000_000]))
    with pytest.raises(CheckpointError, match="of another shape"):
        build(bundle)
    with pytest.raises(ConfigError, match="expected at most 268,435,456"):
        build(bundle, pretrained=False)
