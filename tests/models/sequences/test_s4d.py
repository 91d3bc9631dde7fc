"""Diagonal state-space layers."""

import math

import pytest
import torch

from analogmed.models.sequences.s4d import S4DKernel, S4DLayer


def recurrent(kernel, inputs):
    """Return the outputs of the recurrence of a kernel, step by step."""
    exponent, output = kernel.recurrence()
    transition, state = exponent.exp(), torch.zeros_like(exponent)[None]
    outputs = []
    for step in inputs.unbind(-1):
        state = transition * state + step[..., None]
        outputs.append(2 * (output * state).sum(-1).real + kernel.d * step)
    return torch.stack(outputs, -1)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
def test_the_convolution_is_the_recurrence(dtype, tolerance):
    torch.manual_seed(0)
    kernel = S4DKernel(8, 16).to(dtype)
    inputs = torch.randn(2, 8, 300, dtype=dtype)
    with torch.no_grad():
        torch.testing.assert_close(
            kernel(inputs), recurrent(kernel, inputs), atol=tolerance, rtol=tolerance
        )


def test_the_kernel_of_one_real_mode_is_a_geometric_series():
    kernel = S4DKernel(1, 2)
    with torch.no_grad():
        kernel.a_imag.zero_()
        kernel.log_a_real.fill_(math.log(3.0))
        kernel.log_dt.fill_(math.log(0.1))
        kernel.c.copy_(torch.tensor([[[1.0, 0.0]]]))
        response = kernel.kernel(20)[0]
    first = 2 * (1 - math.exp(-0.3)) / 3
    expected = first * torch.exp(-0.3 * torch.arange(20.0))
    torch.testing.assert_close(response, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("channels", "state", "weights"), [(32, 32, 4_224), (64, 64, 16_640)])
def test_a_layer_has_the_weights_of_its_formula(channels, state, weights):
    layer = S4DLayer(channels, state)
    own = sum(p.numel() for part in (layer.kernel, layer.mix) for p in part.parameters())
    assert own == weights == channels * (2 * state + 2 * channels + 4)


def test_products_are_those_of_the_recurrence():
    kernel, inputs = S4DKernel(3, 4), torch.zeros(2, 3, 10)
    assert kernel.count_macs(inputs, inputs) == 2 * 3 * 10 * (4 * 4 + 1)


def test_lower_precision_outside_leaves_the_kernel_in_single_precision():
    kernel = S4DKernel(2, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert kernel(torch.randn(1, 2, 12, dtype=torch.bfloat16)).dtype is torch.float32
