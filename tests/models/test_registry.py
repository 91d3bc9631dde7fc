import subprocess
import sys

import pytest
import torch
from torch import nn

from analogmed.foundation.errors import ConfigError
from analogmed.models import build_model, describe_model, model_names, model_options
from analogmed.models import required_divisor as divisor_of

SMALL = {
    "attention_unet": {"channels": (4, 8, 8, 8, 8)},
    "dynunet": {"window": 32, "filters": (4, 8, 8, 8)},
    "swin_unetr": {"feature_size": 12},
    "unet": {"features": 2},
    "unetpp": {"features": (4, 4, 4, 8, 8, 4)},
}


def test_the_five_networks_are_listed():
    assert set(SMALL) <= set(model_names())


@pytest.mark.slow
@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("name", sorted(SMALL))
def test_logits_have_the_size_of_the_image_and_are_finite(name, spatial_dims):
    torch.manual_seed(0)
    size = 64 if name == "swin_unetr" else 32
    model = build_model(
        name, in_channels=2, out_channels=3, spatial_dims=spatial_dims, **SMALL[name]
    ).eval()
    products = []
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            module.register_forward_hook(lambda _module, _inputs, output: products.append(output))
    with torch.no_grad():
        logits = model(torch.randn(1, 2, *[size] * spatial_dims))
    assert logits.shape == (1, 3, *[size] * spatial_dims)
    assert logits.isfinite().all()
    assert torch.equal(logits, products[-1])  # no sigmoid or softmax after the last convolution


@pytest.mark.parametrize("name", ["attention_unet", "dynunet", "unet", "unetpp"])
def test_one_dimensional_networks_are_built_too(name):
    options = {**SMALL[name], **({"window": 64} if name == "dynunet" else {})}
    model = build_model(name, in_channels=2, out_channels=1, spatial_dims=1, **options)
    assert model(torch.rand(2, 2, 32)).shape == (2, 1, 32)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_sizes_that_the_divisor_allows_pass_through_the_network(name):
    divisor = divisor_of(name, spatial_dims=2, **SMALL[name])
    size = [3 * step for step in divisor]
    model = build_model(name, in_channels=1, out_channels=1, **SMALL[name]).eval()
    with torch.no_grad():
        assert model(torch.rand(1, 1, *size)).shape == (1, 1, *size)


@pytest.mark.parametrize(
    ("name", "options", "divisor"),
    [
        ("unet", {}, (16, 16)),
        ("unetpp", {}, (16, 16)),
        ("swin_unetr", {"spatial_dims": 3}, (32, 32, 32)),
        ("swin_unetr", {"patch_size": 4}, (1024, 1024)),
        ("attention_unet", {}, (16, 16)),
        ("attention_unet", {"channels": (4, 8), "strides": (4,)}, (4, 4)),
        ("dynunet", {}, (64, 64)),
        ("dynunet", {"spatial_dims": 3}, (16, 16, 16)),
    ],
)
def test_divisor_is_the_product_of_the_strides(name, options, divisor):
    assert divisor_of(name, **options) == divisor


def test_a_misspelt_name_gets_the_nearest_one():
    with pytest.raises(ConfigError, match=r"unknown model 'unetp'; did you mean 'unetpp'\?"):
        build_model("unetp", in_channels=1, out_channels=1)


def test_an_unknown_option_gets_the_nearest_one():
    message = r"model 'unet': unknown option 'feature'; did you mean 'features'\?"
    with pytest.raises(ConfigError, match=message):
        build_model("unet", in_channels=1, out_channels=1, feature=8)
    with pytest.raises(ConfigError, match=message):
        divisor_of("unet", feature=8)


@pytest.mark.parametrize(
    "wrong",
    [
        {"spatial_dims": 4},
        {"spatial_dims": "2"},
        {"in_channels": "3"},
        {"in_channels": 0},
        {"out_channels": True},
    ],
)
def test_the_common_arguments_are_checked(wrong):
    arguments = {"in_channels": 1, "out_channels": 1, **wrong}
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        build_model("unet", **arguments)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_every_network_describes_each_of_its_options(name):
    text = describe_model(name)
    assert model_options(name)
    for option in model_options(name):
        assert f"{option}: " in text


@pytest.mark.slow
def test_listing_the_names_does_not_import_monai():
    code = (
        "import sys; from analogmed.models import model_names; model_names(); "
        "assert 'monai' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A package on the path that defines its own networks."""
    (tmp_path / "own_networks.py").write_text(
        "from torch import nn\n"
        "def head(in_channels, out_channels, spatial_dims, width=1):\n"
        "    '''A head of own making.'''\n"
        "    return nn.Conv2d(in_channels, out_channels, width, padding='same')\n"
        "head.required_divisor = 8\n"
        "def free(**anything):\n"
        "    return nn.Conv2d(anything['in_channels'], anything['out_channels'], anything['k'])\n"
        "def broken(in_channels, out_channels, spatial_dims):\n"
        "    raise KeyError('no such backbone')\n"
        "def number(in_channels, out_channels, spatial_dims):\n"
        "    return 3\n"
        "not_callable = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("own_networks", None)


def install(folder, *lines):
    metadata = folder / "own_networks-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: own-networks\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("\n".join(["[analogmed.models]", *lines]))


def test_any_factory_can_be_named_by_module(own_module):
    model = build_model("own_networks:head", in_channels=2, out_channels=3, width=5)
    assert isinstance(model, nn.Conv2d)
    assert model.weight.shape == (3, 2, 5, 5)
    assert divisor_of("own_networks:head") == (8, 8)


def test_a_factory_of_any_options_gets_them_all_and_need_not_name_a_divisor(own_module):
    model = build_model("own_networks:free", in_channels=2, out_channels=3, k=3)
    assert model.weight.shape == (3, 2, 3, 3)
    assert divisor_of("own_networks:free", k=3) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_networks:haed", "did you mean 'head'"),
        ("no_such_package.models:net", "cannot import 'no_such_package.models'"),
        ("own_networks:not_callable", "expected a factory"),
        ("own_networks:broken", "no such backbone"),
        ("own_networks:number", "returned int; expected .* torch module"),
    ],
)
def test_a_factory_that_does_not_work_is_refused_by_name(own_module, name, message):
    with pytest.raises(ConfigError, match=message) as raised:
        build_model(name, in_channels=1, out_channels=1)
    assert name in str(raised.value)


def test_a_plugin_is_listed_described_and_built(own_module):
    install(own_module, "own_head = own_networks:head")
    assert "own_head" in model_names()
    assert describe_model("own_head") == "A head of own making."
    assert divisor_of("own_head", spatial_dims=3) == (8, 8, 8)
    assert isinstance(build_model("own_head", in_channels=1, out_channels=1), nn.Conv2d)
    with pytest.raises(ConfigError, match="did you mean 'own_head'"):
        build_model("own_hed", in_channels=1, out_channels=1)


def test_a_plugin_that_cannot_be_loaded_is_named_with_its_package(own_module):
    install(own_module, "gone = own_networks:gone")
    with pytest.raises(ConfigError, match="plugin own_networks:gone of own-networks"):
        build_model("gone", in_channels=1, out_channels=1)
    assert build_model("unet", in_channels=1, out_channels=1, features=2)


def test_a_plugin_cannot_take_the_name_of_a_built_in_network(own_module):
    install(own_module, "unet = own_networks:head")
    with pytest.raises(ConfigError, match=r"more than once \(analogmed itself, own_networks:head"):
        build_model("unet", in_channels=1, out_channels=1)
