"""Random layers on random hardware: compiled engines against the reference engine.

``python tests/analog/layers/test_random_layers.py 10000`` runs more cases, ``... 1 417`` case 417.
"""

import dataclasses
import random
import sys

import pytest
import torch
from torch import Tensor, nn

from analogmed.analog import convert, create_rpu_config
from analogmed.analog.engines import select as engines
from analogmed.analog.engines.cpu.training_ops import NumbaTrainingOps
from analogmed.analog.tile.quantise import step_size

pytestmark = pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel")

CASES = 350
CHANNELS = (1, 1, 1, 2, 2, 3, 4, 6, 12, 20)
LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
CONVOLUTIONS = {
    1: (nn.Conv1d, nn.ConvTranspose1d),
    2: (nn.Conv2d, nn.ConvTranspose2d),
    3: (nn.Conv3d, nn.ConvTranspose3d),
}


@dataclasses.dataclass
class Case:
    """A layer, its input, its hardware, and how large the parts are that it is computed in."""

    layer: nn.Module
    inputs: Tensor
    hardware: dict[str, object]
    row_split: str
    part_elements: int | None

    def __str__(self) -> str:
        shape, strides = tuple(self.inputs.shape), self.inputs.stride()
        where = f"{self.layer} on {shape} with strides {strides}"
        return f"{where}, {self.hardware}, {self.row_split}, parts of {self.part_elements}"


def random_case(seed: int, *, vectors: bool) -> Case:
    """A case with static input ranges, or with a scale for each input vector."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    layer, inputs = _linear(draw) if draw.random() < 0.1 else _convolution(draw)
    if draw.random() < 0.3:
        inputs = inputs.abs()
    if draw.random() < 0.2:
        inputs *= torch.rand(inputs.shape[:-1])[..., None] < 0.5
    parts = draw.choice((1, 64, 1000, 1 << 24, None))
    split = draw.choice(("even", "channels"))
    return Case(layer, inputs, _hardware(draw, vectors=vectors), split, parts)


def _linear(draw: random.Random) -> tuple[nn.Module, Tensor]:
    rows, columns = draw.randint(1, 80), draw.randint(1, 30)
    shape = [draw.randint(1, 4) for _ in range(draw.randint(1, 3))]
    return nn.Linear(rows, columns, bias=draw.random() < 0.5), torch.randn(*shape, rows)


def _convolution(draw: random.Random) -> tuple[nn.Module, Tensor]:
    axes = draw.choice((1, 2, 2, 2, 3, 3))
    plain, transposed = CONVOLUTIONS[axes]
    groups = draw.choice((1, 1, 1, 2, 3))
    channels, outputs = (groups * draw.choice(CHANNELS) for _ in range(2))
    most = {1: 9, 2: 7, 3: 5}[axes]
    kernel, stride, dilation, padding = (
        tuple(draw.choice(choices) for _ in range(axes))
        for choices in (range(1, most + 1), (1, 1, 2, 3), (1, 1, 2), (0, 0, 1, 2))
    )
    options = {"stride": stride, "dilation": dilation, "groups": groups}
    options |= {"bias": draw.random() < 0.5}
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    if draw.random() < 0.3:
        layer = transposed(channels, outputs, kernel, **options)
        sizes = [draw.randint(1, 5) for _ in range(axes)]
    else:
        mode = draw.choice(("zeros",) * 4 + ("reflect", "circular", "same"))
        options |= {"padding_mode": mode, "padding": padding}
        if mode == "same":
            options |= {"padding_mode": "zeros", "padding": "same", "stride": 1}
        layer = plain(channels, outputs, kernel, **options)
        around = [2 * p if mode in ("zeros", "circular") else 0 for p in padding]
        least = [max(1, r - a, p + 1) for r, a, p in zip(reach, around, padding, strict=True)]
        sizes = [n + draw.choice((0, 0, 1, 2, 3, 5)) for n in least]
    inputs = torch.randn(draw.randint(1, 4), channels, *sizes)
    return layer, _laid_out(inputs, draw)


def _laid_out(inputs: Tensor, draw: random.Random) -> Tensor:
    kind = draw.choice(("plain", "plain", "last", "last", "wide"))
    if kind == "last" and inputs.ndim in LAST:
        return inputs.to(memory_format=LAST[inputs.ndim])
    if kind == "wide":
        return inputs.repeat_interleave(2, -1)[..., ::2]
    return inputs


def _hardware(draw: random.Random, *, vectors: bool) -> dict[str, object]:
    chosen: dict[str, object] = {
        "tile_size": (draw.choice((7, 20, 48, 100, 256)), draw.choice((5, 20, 256))),
        "dac_steps": draw.choice((0, 0, 7, 254)),
        "adc_steps": draw.choice((0, 0, 0, 31, 254)),
        "out_bound": draw.choice((0.5, 1.5, 3.0, 10.0)),
        "inp_bound": draw.choice((1.0, 1.0, 0.75)),
        "remap": draw.choice(("none", "channelwise")),
        "input_range": draw.random() < 0.8,
        "input_range_keep": draw.choice((0.5, 0.95)),
        "learned_out_scale": draw.choice(("none", "none", "tile", "column")),
    }
    if vectors:
        chosen["noise_management"] = "abs_max"
    return chosen


def pair(case: Case) -> tuple[nn.Module, nn.Module]:
    """The layer on compiled code and on the definition; its row tiles have their own ranges."""
    config = create_rpu_config("pcm", out_noise=0.0, modifier="none", **case.hardware)
    model = nn.Sequential(case.layer)
    compiled, plain = (
        convert(model, config, backend=name, row_split=case.row_split) for name in ("auto", "torch")
    )
    layer = compiled[0]
    if layer.input_range is not None:
        layer.input_range.data.uniform_(0.3, 1.5)
    if layer.out_scale is not None:
        layer.out_scale.data.uniform_(0.5, 1.5)
    plain.load_state_dict(compiled.state_dict())
    return compiled, plain


def steps_apart(layer: nn.Module) -> float:
    """How far outputs may lie apart if a rounding flips in every row of tiles."""
    io = layer.rpu_config.forward
    rows = layer.reference_rows()
    ranges = [1.0] * len(rows) if layer.input_range is None else layer.input_range.tolist()
    largest = [row.scale.max().item() * abs(r) for row, r in zip(rows, ranges, strict=True)]
    return step_size(io.out_res, io.out_bound) * sum(largest)


def check_outputs(case: Case) -> None:
    compiled, plain = (model.eval() for model in pair(case))
    with torch.no_grad():
        engine = engines.engine_for(compiled[0], compiled[0].batched(case.inputs))
        assert engine is not engines._TORCH
        found, expected = compiled(case.inputs), plain(case.inputs)
    assert found.shape == expected.shape
    difference, size = (found - expected).abs(), 1 + expected.abs().max()
    step = steps_apart(compiled[0])
    if case.hardware.get("noise_management"):
        step *= max(1.0, float(case.inputs.abs().max()))
    assert difference.max() <= 1.01 * step + 1e-5 * size
    assert difference.mean() <= 0.1 * step + 1e-5 * size


def gradients(model: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    inputs = inputs.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    outputs = model(inputs)
    weighting = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(1))
    (outputs * weighting).sum().backward()
    found = {"output": outputs.detach(), "input": inputs.grad}
    return found | {name: value.grad for name, value in model.named_parameters()}


def check_gradients(case: Case) -> None:
    compiled, plain = (model.train() for model in pair(case))
    engine = engines.engine_for(compiled[0], compiled[0].batched(case.inputs))
    assert isinstance(engine, engines.TrainingEngine)
    found, expected = gradients(compiled, case.inputs), gradients(plain, case.inputs)
    rounds = bool(case.hardware["adc_steps"])
    tolerance = 0.05 if rounds else 1e-4
    step = steps_apart(compiled[0]) * found["output"].numel() ** 0.5
    sizes = {name: value.norm() for name, value in expected.items()}
    if "0.input_range" in sizes:  # a difference of sums that nearly cancel each other
        through = (expected["input"] * case.inputs).norm() + sizes["output"] + step
        sizes["0.input_range"] += 10 * through / compiled[0].input_range.detach().min()
    sizes["output"] += 5 * step
    for name, value in expected.items():
        error = (found[name] - value).norm()
        assert error <= tolerance * sizes[name] + 1e-5, f"{name}: {error} of {sizes[name]}"


def run(seed: int) -> None:
    for check, vectors in ((check_outputs, False), (check_outputs, True), (check_gradients, False)):
        case = random_case(seed, vectors=vectors)
        with pytest.MonkeyPatch.context() as patch:
            for ops in NumbaTrainingOps.__mro__[:2]:
                patch.setattr(ops, "part_elements", case.part_elements)
            try:
                check(case)
            except Exception as error:
                raise AssertionError(f"case {seed}, {check.__name__}: {case}: {error}") from error


@pytest.mark.exhaustive
@pytest.mark.parametrize("block", range(7))
def test_compiled_engines_give_the_outputs_and_gradients_of_the_definition(block):
    for seed in range(block, CASES, 7):
        run(seed)


if __name__ == "__main__":
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    failed = 0
    for seed in range(first, first + count):
        try:
            run(seed)
        except AssertionError as error:
            failed += 1
            print(error)
    print(f"{failed} of {count} cases failed")
