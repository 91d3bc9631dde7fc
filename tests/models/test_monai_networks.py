import pytest
import torch
from monai.networks import nets

from analogmed import coverage, create_rpu_config
from analogmed.analog import Chip, calibrate, convert
from analogmed.foundation.errors import ConfigError
from analogmed.models import build_model, required_divisor
from analogmed.models.monai_networks import plan_stages


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_swin_unetr_has_the_62_million_parameters_of_the_paper():
    model = build_model("swin_unetr", in_channels=4, out_channels=3, spatial_dims=3)
    assert parameters(model) == 62_191_941


def test_unetpp_is_monais_network_without_its_three_intermediate_heads():
    torch.manual_seed(0)
    features = (4, 4, 8, 8, 16, 4)
    ours = build_model("unetpp", in_channels=1, out_channels=2, features=features)
    theirs = nets.BasicUNetPlusPlus(2, 1, 2, features=features)
    assert parameters(theirs) - parameters(ours) == 3 * (4 * 2 + 2)
    ours.load_state_dict(theirs.state_dict(), strict=False)
    image = torch.rand(1, 1, 32, 32)
    torch.testing.assert_close(ours(image), theirs(image)[0])


def test_unetpp_gives_every_parameter_a_gradient():
    model = build_model("unetpp", in_channels=1, out_channels=1, features=(4, 4, 8, 8, 16, 4))
    model(torch.rand(1, 1, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_dynunet_is_monais_network():
    torch.manual_seed(0)
    ours = build_model("dynunet", in_channels=1, out_channels=2, window=32, filters=(4, 4, 8, 8))
    kernels, strides = plan_stages(2, 32)
    torch.manual_seed(0)
    theirs = nets.DynUNet(2, 1, 2, kernels, strides, strides[1:], filters=(4, 4, 8, 8))
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    image = torch.rand(1, 1, 32, 32)
    assert torch.equal(ours(image), theirs(image))


def test_attention_unet_is_monais_network():
    ours = build_model(
        "attention_unet", in_channels=1, out_channels=2, channels=(4, 8, 16), strides=(2, 2)
    )
    theirs = nets.AttentionUnet(2, 1, 2, channels=(4, 8, 16), strides=(2, 2))
    ours.load_state_dict(theirs.state_dict())


@pytest.mark.parametrize(
    ("window", "spacing", "halvings"),
    [
        ((40, 56, 40), (1, 1, 1), (3, 3, 3)),
        ((128, 128, 128), (1, 1, 1), (5, 5, 5)),
        ((192, 160, 64), (0.79, 0.79, 1.6), (5, 5, 4)),
    ],
)
def test_dynunet_halves_as_nnunets_published_plans(window, spacing, halvings):
    # num_pool_per_axis of hippocampus, brain tumour and spleen in nnU-Net's plans
    divisor = required_divisor("dynunet", spatial_dims=3, window=window, spacing=spacing)
    assert divisor == tuple(2**times for times in halvings)


def test_dynunet_waits_with_thick_slices_and_keeps_their_kernels_flat():
    kernels, strides = plan_stages(3, (192, 160, 64), (0.79, 0.79, 1.6))
    assert strides == [(1, 1, 1), (2, 2, 1)] + [(2, 2, 2)] * 4
    assert kernels == [(3, 3, 1)] + [(3, 3, 3)] * 5


def test_dynunet_halves_an_isotropic_window_until_four_positions_stay():
    _, strides = plan_stages(2, 256)
    assert strides == [(1, 1)] + [(2, 2)] * 6  # 256 = 4 * 2**6
    assert plan_stages(2) == plan_stages(2, 256)
    assert plan_stages(3) == plan_stages(3, 96)
    assert plan_stages(2) != plan_stages(2, 96)


def test_dynunet_goes_on_where_one_axis_is_exhausted():
    assert required_divisor("dynunet", spatial_dims=3, window=(96, 96, 8)) == (16, 16, 2)


def test_dynunet_asks_for_padding_where_the_window_is_no_multiple():
    assert required_divisor("dynunet", window=100) == (16, 16)  # 100, 50, 25, 13, 7


def test_dynunet_keeps_the_size_of_an_anisotropic_volume():
    model = build_model(
        "dynunet",
        in_channels=1,
        out_channels=2,
        spatial_dims=3,
        window=(32, 32, 8),
        spacing=(1, 1, 4),
        filters=(4, 4, 8, 8),
    ).eval()
    assert model(torch.rand(1, 1, 32, 32, 8)).shape == (1, 2, 32, 32, 8)


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("dynunet", {"window": 8}, "window"),
        ("dynunet", {"window": (64, 64, 64)}, "window"),
        ("dynunet", {"spacing": (1.0, 0.0)}, "spacing"),
        ("dynunet", {"spacing": (1.0, float("nan"))}, "spacing"),
        ("dynunet", {"window": 64, "filters": (8, 8)}, "filters"),
        ("unetpp", {"features": (8, 8)}, "features"),
        ("unetpp", {"upsample": "bilinear"}, "upsample"),
        ("attention_unet", {"strides": (2, 2)}, "strides"),
        ("swin_unetr", {"feature_size": 47}, "feature_size"),
        ("swin_unetr", {"spatial_dims": 1}, "spatial_dims"),
    ],
)
def test_options_that_do_not_fit_are_refused_by_name(name, options, named):
    with pytest.raises(ConfigError, match=named):
        build_model(name, in_channels=1, out_channels=1, **options)


@pytest.mark.parametrize("norm", ["batch", ["instance", {"affine": False}]])
def test_norm_is_a_name_or_as_yaml_writes_it_a_list(norm):
    for name, options in (
        ("unetpp", {"features": [4, 4, 8, 8, 16, 4]}),
        ("dynunet", {"window": 32, "filters": [4, 4, 8, 8]}),
    ):
        model = build_model(name, in_channels=1, out_channels=1, norm=norm, **options)
        assert model(torch.rand(2, 1, 32, 32)).shape == (2, 1, 32, 32)


SUPERVISED = {
    "unetpp": {"features": (4, 4, 8, 8, 16, 4)},
    "dynunet": {"window": 64, "filters": (4, 4, 8, 8, 16)},
}


def twins(name, out_channels=2):
    """A network with deep supervision and one without, with the same weights."""
    torch.manual_seed(0)
    shape = {"in_channels": 1, "out_channels": out_channels, **SUPERVISED[name]}
    plain = build_model(name, **shape)
    supervised = build_model(name, **shape, deep_supervision=True)
    report = supervised.load_state_dict(plain.state_dict(), strict=False)
    assert not report.unexpected_keys
    assert all(key.startswith("deep_supervision_heads") for key in report.missing_keys)
    return plain, supervised


def test_unetpp_supervises_the_heads_of_monais_network_deepest_first():
    torch.manual_seed(0)
    features = SUPERVISED["unetpp"]["features"]
    theirs = nets.BasicUNetPlusPlus(2, 1, 2, features=features, deep_supervision=True)
    ours = build_model(
        "unetpp", in_channels=1, out_channels=2, features=features, deep_supervision=True
    )
    weights = theirs.state_dict()
    for head, monais in enumerate(("final_conv_0_3", "final_conv_0_2", "final_conv_0_1")):
        for part in ("weight", "bias"):
            weights[f"deep_supervision_heads.{head}.{part}"] = weights.pop(f"{monais}.{part}")
    ours.load_state_dict(weights)
    image = torch.rand(1, 1, 32, 32)
    logits = ours(image)
    assert isinstance(logits, tuple)
    for own, monais in zip(logits, reversed(theirs(image)), strict=True):
        torch.testing.assert_close(own, monais)


@pytest.mark.parametrize("res_block", [False, True])
def test_dynunet_supervises_the_heads_of_monais_network_at_their_resolution(res_block):
    torch.manual_seed(0)
    ours = build_model(
        "dynunet",
        in_channels=1,
        out_channels=2,
        spatial_dims=3,
        window=(32, 32, 8),
        spacing=(1, 1, 4),
        filters=(4, 4, 8, 8),
        res_block=res_block,
        deep_supervision=True,
    )
    kernels, strides = plan_stages(3, (32, 32, 8), (1, 1, 4))
    theirs = nets.DynUNet(
        3,
        1,
        2,
        kernels,
        strides,
        strides[1:],
        filters=(4, 4, 8, 8),
        res_block=res_block,
        deep_supervision=True,
        deep_supr_num=1,
    )
    theirs.load_state_dict(ours.state_dict(), strict=False)
    head = theirs.deep_supervision_heads[0].conv.conv
    head.weight, head.bias = (
        getattr(ours.deep_supervision_heads[0], p) for p in ("weight", "bias")
    )
    image = torch.rand(1, 1, 32, 32, 8)
    final, coarse = ours(image)
    enlarged = torch.nn.functional.interpolate(coarse, final.shape[2:])
    torch.testing.assert_close(torch.stack([final, enlarged], 1), theirs(image))
    assert coarse.shape == (1, 2, 16, 16, 8)  # halved as the second stage is


def test_dynunet_has_nnunets_number_of_heads():
    # nnU-Net has one for each stage of the decoder but gives the coarsest the weight 0
    _, model = twins("dynunet")
    assert [tuple(h.shape[2:]) for h in model(torch.rand(1, 1, 64, 64))] == [
        (64, 64),
        (32, 32),
        (16, 16),
    ]


@pytest.mark.parametrize("name", SUPERVISED)
def test_supervised_network_gives_every_parameter_a_gradient(name):
    _, model = twins(name)
    sum(logits.sum() for logits in model(torch.rand(1, 1, 64, 64))).backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", SUPERVISED)
def test_supervised_network_is_evaluated_as_without_supervision(name):
    plain, supervised = twins(name)
    image = torch.rand(1, 1, 64, 64)
    logits = supervised.eval()(image)
    assert torch.equal(logits, plain.eval()(image))
    assert torch.equal(supervised.train()(image)[0], plain.train()(image))


@pytest.mark.slow
@pytest.mark.parametrize("name", SUPERVISED)
def test_a_chip_of_a_supervised_network_is_that_of_the_plain_one(name):
    image, readings = torch.rand(2, 1, 64, 64), []
    for model in twins(name):
        analog = calibrate(convert(model, create_rpu_config()), [image])
        readings.append(Chip(analog, seed=3).at(86400.0)(image))
        assert coverage(analog).weight_share == 1
    assert torch.equal(*readings)


@pytest.mark.parametrize("name", SUPERVISED)
def test_supervised_network_is_converted_after_training_and_trained_on_tiles(name):
    _, model = twins(name)
    image = torch.rand(1, 1, 64, 64)
    sum(logits.sum() for logits in model(image)).backward()
    analog = calibrate(convert(model, create_rpu_config()), [image]).train()
    heads = analog(image)
    assert [h.shape for h in heads] == [h.shape for h in model(image)]
    sum(logits.sum() for logits in heads).backward()
    assert all(p.grad is not None for p in analog.deep_supervision_heads.parameters())
