"""A checkpoint contains the weights of the network that it describes, when saved and loaded."""

import dataclasses
import json
import struct
import warnings

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from analogmed.analog import Hardware, calibrate, convert
from analogmed.analog.description.aihwkit_config import rpu_config_of
from analogmed.foundation.errors import CheckpointError, ConfigError
from analogmed.models import build_model
from analogmed.models.outline import outline_of
from analogmed.network.weights import weights_of
from analogmed.training import CheckpointInfo, load_checkpoint, save_checkpoint
from analogmed.training.checkpoint.file import read_file, write_file

INFO = CheckpointInfo(
    model="unet",
    in_channels=3,
    out_channels=1,
    spatial_dims=2,
    training="digital",
    task="phantom_brain",
    classes=("tumour",),
    options={"features": 2},
    score=0.5,
)


def network(seed=0):
    torch.manual_seed(seed)
    return build_model("unet", in_channels=3, out_channels=1, features=2).eval()


def changed(path, **tensors):
    """Replace tensors of a checkpoint, with a valid digest."""
    description, own = read_file(path)
    write_file(path, description, own | tensors)
    return path


@pytest.fixture
def path(tmp_path):
    return save_checkpoint(tmp_path / "net.safetensors", network(), INFO)


@pytest.fixture
def images():
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def tied(**_):
    """Two layers, the second with the transposed weight of the first: a tied autoencoder."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = nn.Parameter(model[0].weight.data.t())
    return model


def test_weights_tied_by_transposition_are_two_tensors_of_the_file():
    model = tied()
    weights = weights_of(model)
    assert torch.equal(weights["0.weight"].t(), weights["1.weight"])
    assert weights["0.weight"].data_ptr() != weights["1.weight"].data_ptr()


def test_the_same_weight_under_two_names_is_one_tensor_of_the_file():
    layer = nn.Linear(3, 3)
    assert set(weights_of(nn.Sequential(layer, layer))) == {"0.weight", "0.bias"}


def test_a_network_tied_by_transposition_computes_the_same_after_loading(tmp_path, monkeypatch):
    monkeypatch.setattr("analogmed.models.unet.tied", tied, raising=False)
    factory = "analogmed.models.unet:tied"
    info = dataclasses.replace(INFO, model=factory, options={})
    model = tied()
    path = save_checkpoint(tmp_path / "net.safetensors", model, info)
    found = load_checkpoint(path, factories=[factory]).network
    inputs = torch.randn(5, 4)
    assert torch.equal(found(inputs), model(inputs))


def test_weights_that_share_a_part_of_a_storage_are_written(tmp_path):
    whole = torch.rand(8)
    model = nn.Module()
    model.a, model.b = nn.Parameter(whole), nn.Parameter(whole[:4])
    save_file(weights_of(model), tmp_path / "w.safetensors")
    assert torch.equal(weights_of(model)["b"], whole[:4])


def pruned(model):
    prune.l1_unstructured(model.encoder1.conv1, "weight", amount=0.5)
    return model


def masked_weight(model):
    """The weight of the first convolution without the half of smallest magnitude."""
    weight = network().encoder1.conv1.weight.detach()
    limit = weight.abs().flatten().sort().values[weight.numel() // 2]
    return torch.where(weight.abs() < limit, 0.0, weight)


def with_old_weight_norm(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nn.utils.weight_norm(model.encoder1.conv1)
    return model


def nested(model):
    model.encoder1 = torch.compile(model.encoder1)
    return model


WRAPPED = {
    "compiled": torch.compile,
    "compiled inside": nested,
    "parallel": nn.DataParallel,
    "both": lambda model: torch.compile(nn.DataParallel(model)),
    "averaged": torch.optim.swa_utils.AveragedModel,
    "weight norm": lambda model: (parametrizations.weight_norm(model.encoder1.conv1), model)[1],
    "older weight norm": with_old_weight_norm,
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")  # in torch
@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_a_wrapped_network_is_written_as_the_plain_one(tmp_path, wrap):
    path = save_checkpoint(tmp_path / "net.safetensors", wrap(network()), INFO)
    found, plain = load_checkpoint(path).network.state_dict(), network().state_dict()
    for name, value in plain.items():
        torch.testing.assert_close(found[name], value)


def test_a_pruned_network_is_written_with_zeros(tmp_path):
    path = save_checkpoint(tmp_path / "net.safetensors", pruned(network()), INFO)
    found = load_checkpoint(path).network
    assert torch.equal(found.encoder1.conv1.weight, masked_weight(found))


def test_saving_leaves_a_pruned_network_as_it_was(tmp_path):
    model = pruned(network()).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    save_checkpoint(tmp_path / "net.safetensors", model, INFO)
    assert model.training
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_parametrisation_of_the_builder_stays(tmp_path, monkeypatch):
    def built(**_):
        return nn.Sequential(parametrizations.spectral_norm(nn.Linear(3, 3)))

    monkeypatch.setattr("analogmed.models.unet.built", built, raising=False)
    factory = "analogmed.models.unet:built"
    info = dataclasses.replace(INFO, model=factory, options={})
    path = save_checkpoint(tmp_path / "net.safetensors", built(), info)
    found = load_checkpoint(path, factories=[factory]).network
    assert parametrize.is_parametrized(found[0], "weight")


def test_a_network_in_training_on_tiles_may_be_wrapped(tmp_path, images):
    hardware = Hardware(tile_size=(32, 32))
    analog = convert(network(), rpu_config_of(hardware), digital_layers=["head"])
    calibrate(analog, [images])
    info = dataclasses.replace(INFO, training="hwa", hardware=dataclasses.asdict(hardware))
    path = save_checkpoint(tmp_path / "net.safetensors", nn.DataParallel(analog), info)
    found = load_checkpoint(path)
    assert found.info.digital_layers == ("head",)
    assert "encoder1.conv1" in found.input_ranges


def test_a_description_of_another_network_is_refused_at_saving(path):
    before = path.read_bytes()
    other = dataclasses.replace(INFO, options={"features": 4})
    with pytest.raises(CheckpointError, match=r"cannot write .*net.*weights of another shape"):
        save_checkpoint(path, network(), other)
    with pytest.raises(CheckpointError, match=r"cannot write .*unknown model 'une'"):
        save_checkpoint(path, network(), dataclasses.replace(INFO, model="une"))
    assert path.read_bytes() == before


def test_saving_and_loading_the_description_draw_no_random_number(tmp_path):
    model = network()
    state = torch.random.get_rng_state()
    save_checkpoint(tmp_path / "net.safetensors", model, INFO)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.slow
@pytest.mark.parametrize("length", [640, 896, 1152, 1408])
def test_a_header_length_that_looks_like_a_pickle_is_read(path, length):
    """A safetensors file begins with the length of its header: 640 is 0x0280."""
    _, tensors = read_file(path)
    first = dict(list(tensors.items())[:1])
    for padding in range(2000):
        text = json.dumps({"padding": " " * padding})
        write_file(path, text, first)
        if struct.unpack("<Q", path.read_bytes()[:8])[0] == length:
            break
    else:
        pytest.fail(f"no header of {length} bytes")
    assert path.read_bytes()[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
    found, weights = read_file(path)
    assert found == text
    assert weights.keys() == first.keys()


def test_equal_networks_are_equal_bytes_however_often_they_are_written(tmp_path):
    """safetensors writes several keys of metadata in a random order."""
    tensors = {"a": torch.zeros(1)}
    for number in range(20):
        write_file(tmp_path / f"{number}.safetensors", INFO.to_json(), tensors)
    assert len({(tmp_path / f"{number}.safetensors").read_bytes() for number in range(20)}) == 1


def test_a_changed_byte_of_the_weights_is_refused(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"net\.safetensors: the content has changed"):
        load_checkpoint(path)


def test_a_changed_description_is_refused(path):
    content = path.read_bytes().replace(b"tumour", b"kidney")
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="the content has changed since it was written"):
        load_checkpoint(path)


def test_a_file_without_digest_is_read_with_a_warning(path):
    description, tensors = read_file(path)
    save_file(tensors, path, metadata={"analogmed": description})  # which has no digest
    with pytest.warns(UserWarning, match=r"net\.safetensors: no digest in the header"):
        assert load_checkpoint(path).info == INFO


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["encoder1.conv1.weight", "encoder1.norm1.running_mean"])
def test_what_is_not_finite_is_refused_at_saving_and_loading(path, name, value):
    model = network()
    with torch.no_grad():
        model.state_dict()[name].flatten()[1] = value
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=rf"cannot write .*NaN or Inf in the weights: {name}"):
        save_checkpoint(path, model, INFO)
    assert path.read_bytes() == before
    changed(path, **{name: model.state_dict()[name]})
    with pytest.raises(CheckpointError, match=rf"net\.safetensors: NaN or Inf in the.*: {name};"):
        load_checkpoint(path)


def test_a_failed_training_is_recorded_but_not_loaded(path):
    model = network()
    nn.init.constant_(model.head.bias, float("nan"))
    save_checkpoint(path, model, INFO, finite=False)
    with pytest.raises(CheckpointError, match=r"NaN or Inf in the weights: head\.bias"):
        load_checkpoint(path)


def test_a_negative_running_variance_is_refused(path):
    changed(path, **{"encoder1.norm1.running_var": torch.tensor([1.0, -1e-3])})
    with pytest.raises(CheckpointError, match=r"negative.*encoder1\.norm1\.running_var"):
        load_checkpoint(path)


@pytest.mark.parametrize("kind", [torch.int32, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_weights_of_another_kind_of_number_are_refused(path, kind):
    weight = network().encoder1.conv1.weight.detach().to(kind)
    changed(path, **{"encoder1.conv1.weight": weight})
    found = rf"another kind of number: encoder1\.conv1\.weight {kind} instead of torch\.float32"
    with pytest.raises(CheckpointError, match=found):
        load_checkpoint(path)


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_of_another_precision_are_read(path, kind):
    weight = network().encoder1.conv1.weight.detach()
    changed(path, **{"encoder1.conv1.weight": weight.to(kind)})
    found = load_checkpoint(path).network.encoder1.conv1.weight
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, weight.to(kind).float())


@pytest.fixture
def trained_for_tiles(tmp_path, images):
    hardware = Hardware(tile_size=(8, 8))
    analog = convert(network(), rpu_config_of(hardware))
    calibrate(analog, [images])
    info = dataclasses.replace(INFO, training="hwa", hardware=dataclasses.asdict(hardware))
    return save_checkpoint(tmp_path / "net.safetensors", analog, info)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_an_input_range_that_is_none_is_refused(trained_for_tiles, value):
    name = "encoder1.conv1.input_range"
    ranges = read_file(trained_for_tiles)[1][name].clone()
    ranges[1] = value
    changed(trained_for_tiles, **{name: ranges})
    with pytest.raises(CheckpointError, match=r"input ranges of layer 'encoder1\.conv1' are"):
        load_checkpoint(trained_for_tiles)


@pytest.mark.parametrize("shape", [(5,), (3,), (), (4, 1)])
def test_another_number_of_input_ranges_than_row_tiles_is_refused(trained_for_tiles, shape):
    """3 channels of 3 x 3 are 27 rows, on tiles of 8 rows 4 tiles."""
    name = "encoder1.conv1.input_range"
    assert load_checkpoint(trained_for_tiles).input_ranges["encoder1.conv1"].shape == (4,)
    changed(trained_for_tiles, **{name: torch.ones(shape)})
    with pytest.raises(CheckpointError, match=r"'encoder1\.conv1' have shape .*expected \(4,\)"):
        load_checkpoint(trained_for_tiles)


def test_an_input_range_of_an_unknown_layer_is_refused(trained_for_tiles):
    changed(trained_for_tiles, **{"encoder9.input_range": torch.ones(1)})
    with pytest.raises(CheckpointError, match="input range of 'encoder9'; the network has no such"):
        load_checkpoint(trained_for_tiles)


def test_a_description_of_a_huge_network_takes_no_memory(path):
    """The network would have 17 billion weights; building it would end in the memory limit."""
    description, tensors = read_file(path)
    header = json.loads(description) | {"options": {"features": 12_000}}
    write_file(path, json.dumps(header), tensors)
    with pytest.raises(CheckpointError, match="weights of another shape: bottleneck"):
        load_checkpoint(path)


def test_an_outline_has_the_names_shapes_and_types_of_the_network():
    for name in ("unet", "unetpp", "attention_unet", "dynunet", "swin_unetr"):

        def build(name=name):
            return build_model(name, in_channels=2, out_channels=3, spatial_dims=2)

        outline, built = outline_of(build).state_dict(), build().state_dict()
        described = [{n: (t.shape, t.dtype) for n, t in s.items()} for s in (outline, built)]
        assert described[0] == described[1]
        assert all(t.is_meta for n, t in outline.items() if n.endswith("conv1.conv.weight"))


def test_a_network_that_reads_its_weights_is_built_up_to_a_limit():
    def build():
        layer = nn.Linear(100, 100)
        layer.total = layer.weight.sum().item()
        return layer

    assert not outline_of(build, most_values=20_000).weight.is_meta
    with pytest.raises(ConfigError, match="too large; expected at most 5,000 values"):
        outline_of(build, most_values=5_000)


def test_an_endless_network_is_refused(monkeypatch):
    monkeypatch.setattr("analogmed.models.outline.MOST_TENSORS", 100)

    def build():
        return nn.Sequential(*(nn.Linear(1, 1) for _ in iter(int, 1)))

    with pytest.raises(ConfigError, match="at most 100 tensors"):
        outline_of(build)


def test_a_bundle_of_a_checkpoint_has_to_be_allowed(path):
    description, tensors = read_file(path)
    model = "bundle:/somewhere"
    write_file(path, json.dumps(json.loads(description) | {"model": model}), tensors)
    with pytest.raises(
        CheckpointError, match=r"would call 'bundle:/somewhere'.*--factories bundle"
    ):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"in_channels": "3"},
        {"training": "analog"},
        {"classes": "tumour"},
        {"classes": [1]},
        {"patients": [None]},
        {"window": [1.5]},
        {"score": "0.7"},
        {"seed": None},
        {"row_split": "odd"},
        {"hardware": {"tile_size": "large"}},
        {"hardware": {"preset": 5}},
        {"options": {"in_channels": 3}},
        {"channels": {}},
    ],
)
def test_a_field_of_another_type_is_refused(path, changes):
    description, tensors = read_file(path)
    write_file(path, json.dumps(json.loads(description) | changes), tensors)
    with pytest.raises(CheckpointError, match=rf"net\.safetensors.*{next(iter(changes))}"):
        load_checkpoint(path)
