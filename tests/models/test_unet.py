import pytest
import torch
from torch import nn

from analogmed.foundation.errors import ConfigError
from analogmed.models import build_model


def leaf_modules(model):
    return [module for module in model.modules() if not any(module.children())]


def test_has_the_parameters_and_leaf_modules_of_the_lgg_network():
    model = build_model("unet", in_channels=3, out_channels=1)
    leaves = leaf_modules(model)
    assert sum(p.numel() for p in model.parameters()) == 7_763_041
    assert len(leaves) == 63
    assert sum(isinstance(leaf, nn.Conv2d) for leaf in leaves) == 19
    assert sum(isinstance(leaf, nn.ConvTranspose2d) for leaf in leaves) == 4


def test_a_3d_network_has_three_dimensional_layers_only():
    model = build_model("unet", in_channels=1, out_channels=3, spatial_dims=3, features=2)
    kernels = {p.dim() for name, p in model.named_parameters() if "norm" not in name}
    assert kernels == {5, 1}  # weights, and the bias of transposed convolutions and the head


def test_parameters_follow_the_closed_form_of_the_width():
    width, in_channels, out_channels = 4, 2, 5
    model = build_model(
        "unet", in_channels=in_channels, out_channels=out_channels, features=width, spatial_dims=3
    )
    levels = [width * 2**depth for depth in range(5)]
    down = sum(
        27 * (a * b + b * b) + 4 * b for a, b in zip([in_channels, *levels], levels, strict=False)
    )
    up = sum(27 * (2 * w * w + w * w) + 4 * w + 8 * 2 * w * w + w for w in levels[:4])
    head = width * out_channels + out_channels
    assert sum(p.numel() for p in model.parameters()) == down + up + head


def test_output_is_logits_not_probabilities():
    torch.manual_seed(0)
    model = build_model("unet", in_channels=1, out_channels=1, features=4)
    nn.init.constant_(model.head.bias, -7.0)
    logits = model(torch.rand(2, 1, 32, 32))
    assert logits.max() < 0


def test_every_skip_reaches_the_output():
    torch.manual_seed(0)
    model = build_model("unet", in_channels=1, out_channels=1, features=4).eval()
    image = torch.rand(1, 1, 32, 32)
    reference = model(image)
    for level in range(1, 5):
        upconv = model.get_submodule(f"upconv{level}")
        handle = upconv.register_forward_hook(lambda *call: torch.zeros_like(call[2]))
        without_deeper_levels = model(image)
        handle.remove()
        assert without_deeper_levels.shape == reference.shape
        assert not torch.equal(without_deeper_levels, reference)
        assert without_deeper_levels.std() > 0


def test_dropout_makes_passes_differ_in_training_mode_only():
    torch.manual_seed(0)
    model = build_model("unet", in_channels=1, out_channels=1, features=4, dropout=0.5)
    image = torch.rand(1, 1, 32, 32)
    model.eval()
    assert torch.equal(model(image), model(image))
    for module in model.modules():
        if isinstance(module, nn.Dropout2d):
            module.train()
    assert not torch.equal(model(image), model(image))


@pytest.mark.parametrize(("option", "value"), [("features", 0), ("dropout", 1.0)])
def test_options_outside_their_range_are_refused(option, value):
    with pytest.raises(ConfigError, match=option):
        build_model("unet", in_channels=1, out_channels=1, **{option: value})
