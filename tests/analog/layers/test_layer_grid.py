"""Every kind of layer on every kind of hardware, against aihwkit's own tiles, without noise.

The cases are a covering sample: every pair of settings that can occur in one layer occurs in a
case.
"""

import itertools
import math
import random

import pytest
import torch
from torch import nn

from analogmed.analog import calibrate, convert, create_rpu_config
from analogmed.analog.engines.select import engine_for
from analogmed.analog.tile.quantise import step_size

pytestmark = [
    pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel"),
    pytest.mark.filterwarnings("ignore:calibrate. sums of"),  # bounds are small on purpose
]

SETTINGS = {
    "kind": [
        *("Linear", "Conv1d", "Conv2d", "Conv3d"),
        *("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"),
    ],
    "kernel": ["1", "3", "2x3x1"],
    "stride": ["1", "2", "2x1x3"],
    "dilation": ["1", "1x2x2"],
    "border": ["none", "zeros", "2x0x1", "same", "reflect", "replicate", "circular"],
    "groups": [1, 2, 4],
    "output_padding": ["0", "1x0x1"],
    "bias": [True, False],
    "tile": [(512, 512), (48, 20), (20, 512), (512, 7), (17, 13)],
    "inputs": ["normal", "positive", "sparse", "8 bits"],
    "layout": ["contiguous", "channels last", "strided"],
    "fitting": [1.0, 0.99, 0.9],  # share of the inputs that the input range holds
    "bounds": [(1.0, 10.0), (1.0, 0.5), (0.75, 2.0)],  # of DAC and ADC; the second pair clips sums
    "dac_steps": [0, 254, 256, 15],
    "adc_steps": [0, 254, 256, 63],
    "remap": ["layerwise", "channelwise"],
    "management": ["range", "abs_max", "abs_max within range"],
}
_OF_CONVOLUTIONS = ("kernel", "stride", "dilation", "border", "groups", "output_padding")
NUMBER_OF_CASES = 150


def covering_sample() -> list[dict]:
    """Of many settings drawn at random, those that bring most pairs together for the first time."""
    draws = random.Random(0)
    covered: set = set()
    cases = []
    for _ in range(NUMBER_OF_CASES):
        candidates = [draw_case(draws) for _ in range(60)]
        best = max(candidates, key=lambda case: len(pairs(case) - covered))
        covered |= pairs(best)
        cases.append(best)
    return cases


def draw_case(draws: random.Random) -> dict:
    """Settings that torch accepts together."""
    case = {name: draws.choice(levels) for name, levels in SETTINGS.items()}
    if case["kind"] == "Linear":
        case = {name: level for name, level in case.items() if name not in _OF_CONVOLUTIONS}
    elif "Transpose" in case["kind"]:
        case["border"] = draws.choice(["none", "zeros", "2x0x1"])
        if case["kernel"] == "1":
            case["border"] = "none"
    else:
        del case["output_padding"]
        if case["border"] == "same":
            case["stride"] = "1"
    if case.get("output_padding") == "1x0x1":
        case["stride"], case["kernel"] = "2", "3"
    if case["inputs"] == "8 bits":  # the other managements have a test of their own
        case["management"] = "range"
    return case


def pairs(case: dict) -> set:
    return set(itertools.combinations(case.items(), 2))


CASES = covering_sample()


def name_of(case: dict) -> str:
    return "-".join(str(level).replace(" ", "_") for level in case.values())


def sizes(text: str, dimensions: int) -> tuple[int, ...]:
    """One number for all axes, or the first ones of three."""
    numbers = [int(part) for part in text.split("x")]
    return tuple((numbers * 3)[:dimensions])


def layer_of(case: dict) -> nn.Module:
    if case["kind"] == "Linear":
        return nn.Linear(70, 30, case["bias"])
    dimensions = int(case["kind"][-2])
    shape = {name: sizes(case[name], dimensions) for name in ("stride", "dilation")}
    kernel = sizes(case["kernel"], dimensions)
    border = case["border"]
    if border in ("same", "none"):
        shape["padding"] = "same" if border == "same" else 0
    else:
        shape["padding"] = sizes(border if border[0].isdigit() else "1", dimensions)
    if border in ("reflect", "replicate", "circular"):
        shape["padding_mode"] = border
    if "output_padding" in case:
        shape["output_padding"] = sizes(case["output_padding"], dimensions)
    return getattr(nn, case["kind"])(
        24, 12, kernel, groups=case["groups"], bias=case["bias"], **shape
    )


def inputs_of(case: dict) -> torch.Tensor:
    if case["kind"] == "Linear":
        shape = (100, 70)
    else:
        shape = {1: (8, 24, 64), 2: (3, 24, 13, 15), 3: (2, 24, 8, 9, 8)}[int(case["kind"][-2])]
    values = torch.randn(shape)
    if case["inputs"] == "8 bits":  # many lie half-way between two codes of the DAC
        values = (values * 50).round().clamp(-127, 127) / 127
    elif case["inputs"] == "positive":
        values = values.abs()
    elif case["inputs"] == "sparse":
        values = values.relu()
    if case["layout"] == "channels last":
        return values.movedim(1, -1).contiguous().movedim(-1, 1)
    if case["layout"] == "strided":
        return values.repeat_interleave(2, -1)[..., ::2]
    return values


def analog_of_case(case: dict, backend: str) -> tuple[nn.Module, torch.Tensor]:
    inp_bound, out_bound = case["bounds"]
    config = create_rpu_config(
        "pcm",
        tile_size=case["tile"],
        dac_steps=case["dac_steps"],
        adc_steps=case["adc_steps"],
        inp_bound=inp_bound,
        out_bound=out_bound,
        out_noise=0.0,
        remap=case["remap"],
        noise_management="none" if case["management"] == "range" else "abs_max",
        input_range=case["management"] != "abs_max",
    )
    layer, inputs = layer_of(case), inputs_of(case)
    model = convert(nn.Sequential(layer).eval(), config, backend=backend)
    calibrate(model, [inputs], quantile=case["fitting"])
    return model[0], inputs


@pytest.mark.parametrize("case", CASES, ids=name_of)
@torch.no_grad()
def test_a_layer_equals_aihwkits_tiles_but_for_single_steps(case, oracle):
    analog, inputs = analog_of_case(case, "torch")
    expected = oracle(analog, inputs)
    rounding = 1e-5 * expected.abs().max()
    largest = one_step_of_each_tile(analog, inputs) + rounding
    torch.default_generator.manual_seed(0)
    compiled, same_inputs = analog_of_case(case, "auto")  # compiled wherever that can be
    assert torch.equal(inputs, same_inputs)
    for backend, layer in (("torch", analog), ("auto", compiled)):
        found = layer(inputs)
        assert found.shape == expected.shape, backend
        difference = (found - expected).abs()
        assert (difference > rounding).double().mean() < 2e-3, backend
        assert difference.max() <= largest, backend


def one_step_of_each_tile(analog: nn.Module, inputs: torch.Tensor) -> float:
    """What an output can differ by if every row tile that feeds it is one step off.

    That is a step of the ADC; where the DAC scales each vector by itself, a step of the DAC too.
    """
    io = analog.rpu_config.forward
    step = step_size(io.out_res, io.out_bound)
    if io.noise_management.name == "ABS_MAX":
        step += step_size(io.inp_res, io.inp_bound)
    ranges = analog.input_range
    full = inputs.abs().max() if ranges is None else ranges.detach()
    largest = torch.stack([row.scale.max() for row in analog.reference_rows()])
    overlapping = math.prod(analog.kernel_size) if getattr(analog, "transposed", False) else 1
    return 1.01 * step * overlapping * float((largest * full).sum())


@torch.no_grad()
def test_auto_is_compiled_code_for_static_input_ranges():
    model, inputs = nn.Sequential(nn.Linear(5, 3)).eval(), torch.zeros(2, 5)
    engines = [
        engine_for(convert(model, create_rpu_config("pcm"), backend=backend)[0], inputs)
        for backend in ("auto", "numba", "torch")
    ]
    assert engines[0] is engines[1] is not engines[2]


def test_the_sample_covers_every_pair_that_can_meet():
    draws, covered = random.Random(1), set().union(*map(pairs, CASES))
    assert all(pairs(draw_case(draws)) <= covered for _ in range(10_000))


@pytest.mark.parametrize(
    ("input_range", "backend"),
    [
        (False, "torch"),
        (False, "auto"),
        (True, "torch"),  # compiled code divides by range and size at once
    ],
)
@torch.no_grad()
def test_inputs_half_way_between_codes_are_scaled_as_aihwkit_scales_them(
    input_range, backend, oracle
):
    """An 8-bit image holds many of them; the last bit of the scaled value decides."""
    config = create_rpu_config(
        "pcm", noise_management="abs_max", input_range=input_range, out_noise=0.0
    )
    analog = convert(nn.Sequential(nn.Conv2d(6, 8, 3)).eval(), config, backend=backend)[0]
    images = torch.randint(0, 256, (8, 6, 24, 24)) / 255
    difference = (analog(images) - oracle(analog, images)).abs()
    assert (difference > 1e-5).double().mean() < 2e-3
