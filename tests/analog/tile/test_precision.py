"""Products of tiles are computed without TF32."""

import pytest
import torch
from torch import nn

from analogmed.analog import calibrate, convert, create_rpu_config
from analogmed.analog.tile.precision import full_precision

CUDA = torch.device("cuda")


def settings():
    backends = torch.backends
    return (
        backends.cudnn.conv.fp32_precision,
        backends.cuda.matmul.fp32_precision,
        backends.mkldnn.matmul.fp32_precision,
    )


@pytest.fixture
def restored():
    before, name = settings(), torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(name)
    cudnn, cuda, mkldnn = torch.backends.cudnn, torch.backends.cuda, torch.backends.mkldnn
    cudnn.conv.fp32_precision, cuda.matmul.fp32_precision, mkldnn.matmul.fp32_precision = before


def by_default():
    pass


def by_name():
    torch.set_float32_matmul_precision("high")


def by_backend():
    torch.backends.cuda.matmul.fp32_precision = "tf32"


@pytest.mark.parametrize("choose", [by_default, by_name, by_backend])
@pytest.mark.usefixtures("restored")
def test_a_product_on_a_gpu_is_free_of_tf32_and_the_users_choice_comes_back(choose):
    choose()
    before = settings()
    assert "tf32" in before
    with pytest.raises(ZeroDivisionError), full_precision(CUDA):
        assert settings()[:2] == ("ieee", "ieee")
        assert torch.get_float32_matmul_precision() == "highest"
        raise ZeroDivisionError
    assert settings() == before


@pytest.mark.usefixtures("restored")
def test_a_product_on_a_cpu_leaves_the_settings_alone():
    before = settings()
    with full_precision(torch.device("cpu")):
        assert settings() == before


def to_tf32(values):
    """Round to 10 bits behind the point, halves away from zero, as cuDNN converts."""
    bits = values.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


@torch.no_grad()
def test_weights_in_tf32_would_move_outputs_to_other_codes_and_codes_of_a_dac_would_not(
    monkeypatch,
):
    """Why the setting is changed: a share of about 1 in 100 outputs, with 8-bit converters."""
    assert torch.equal(to_tf32(torch.arange(-127.0, 128.0)), torch.arange(-127.0, 128.0))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1)).eval()
    images = torch.randn(2, 64, 24, 24)
    config = create_rpu_config("pcm", tile_size=256, out_noise=0.0)
    analog = calibrate(convert(model, config, backend="torch"), [images])
    layer, exact = analog[0], analog(images)
    product = layer.kernel_product
    # the DAC's codes stay whole: the input is not rounded
    monkeypatch.setattr(
        layer, "kernel_product", lambda inputs, kernel: product(inputs, to_tf32(kernel))
    )
    moved = (analog(images) - exact).abs() > 1e-5 * exact.abs().max()
    assert 1e-3 < moved.double().mean() < 0.1
