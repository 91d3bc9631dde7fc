import torch
from aihwkit.simulator.parameters.pre_post import InputRangeParameter
from aihwkit.simulator.tiles.inference_torch import InputRangeForward
from hypothesis import given, settings
from hypothesis import strategies as st

from analogmed.analog.tile.range_gradient import pass_range_gradient


@given(
    limit=st.floats(0.1, 4.0),
    decay=st.sampled_from([0.0, 0.01, 0.5]),
    keep=st.floats(0.5, 0.999),
    relative=st.booleans(),
    seed=st.integers(0, 100),
)
@settings(max_examples=60, deadline=None)
def test_values_and_both_gradients_equal_aihwkits(limit, decay, keep, relative, seed):
    ranges = InputRangeParameter(
        decay=decay, input_min_percentage=keep, gradient_relative=relative, gradient_scale=0.7
    )
    draw = torch.Generator().manual_seed(seed)
    gradient = torch.randn(300, generator=draw)
    values = torch.randn(300, generator=draw).clamp(-limit, limit)
    results = []
    for function in (pass_range_gradient, InputRangeForward.apply):
        inputs = values.clone().requires_grad_()
        parameter = torch.tensor(limit, requires_grad=True)
        outputs = function(inputs, parameter, ranges)
        outputs.backward(gradient)
        results.append((outputs.detach(), inputs.grad, parameter.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_inputs_that_ask_to_be_larger_widen_the_range():
    limit = torch.tensor(1.0, requires_grad=True)
    clipped = torch.tensor([1.0, -1.0, 0.2])
    ranges = InputRangeParameter(decay=0.0)
    # a loss that falls when the clipped inputs grow in size
    pass_range_gradient(clipped, limit, ranges).backward(torch.tensor([-1.0, 1.0, -9.0]))
    assert limit.grad.item() == -2.0


def test_a_range_that_everything_fits_decays():
    limit = torch.tensor(2.0, requires_grad=True)
    ranges = InputRangeParameter(decay=0.01, input_min_percentage=0.9)
    pass_range_gradient(torch.zeros(10), limit, ranges).backward(torch.ones(10))
    torch.testing.assert_close(limit.grad, torch.tensor(0.02))
