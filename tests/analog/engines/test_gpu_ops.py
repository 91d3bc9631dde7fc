"""The GPU's passes against the CPU's: on a GPU, or through Triton's interpreter.

``test_gpu_kernels.py`` runs these tests in the interpreter where there is no GPU.
"""

import copy
import math
import os

import pytest
import torch
from torch import nn

from analogmed.analog import Chip, calibrate, convert, create_rpu_config
from analogmed.analog.engines import select as engines
from analogmed.analog.engines.converters import (
    ClippingRecord,
    Converters,
    OutputStage,
    TileRowInput,
)
from analogmed.analog.engines.cpu.ops import NumbaOps
from analogmed.analog.engines.direct import DirectEngine
from analogmed.analog.tile.noise_stream import NoiseAddress
from analogmed.analog.tile.quantise import step_size

pytest.importorskip("triton")
GPU = torch.cuda.is_available()
if not GPU and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("no GPU: test_gpu_kernels.py runs these interpreted", allow_module_level=True)

from analogmed.analog.engines.gpu.ops import TritonOps  # noqa: E402

DEVICE = "cuda" if GPU else "cpu"
LAST = torch.channels_last
PLAIN = torch.contiguous_format
NO_CONVERTERS = Converters(0, 0, math.inf, math.inf, noise=1.0)
DRAW = NoiseAddress(0xFEDCBA9876543210, first_sample=0xFFFFFFFE, samples=4, use=2)


def to_device(values):
    return values.to(DEVICE) if isinstance(values, torch.Tensor) else values


def on_both(sums, total, readout, *, first=0, record=False, dtype=torch.float32):
    """What both kinds of passes make of copies of the same numbers: total, count, fits, codes."""
    found = []
    for ops, move in ((NumbaOps(), lambda x: x), (TritonOps(), to_device)):
        own = copy.copy(readout.__dict__)
        own |= {name: ops.by_column(move(own[name])) for name in ("scale", "bias")}
        own |= {name: move(own[name]) for name in ("spread", "factor")}
        moved, target = move(sums.clone()), move(total.clone())
        kept = ClippingRecord(*(torch.empty_like(moved, dtype=t) for t in (torch.uint8, dtype)))
        count = ops.add_outputs(
            moved, target, OutputStage(**own), first=first, record=kept if record else None
        )
        found.append((target.cpu(), count, kept.fits.cpu(), kept.codes.cpu()))
    return found


def readout_of(converters, columns, *, row=0, draw=DRAW, **fields):
    generator = torch.Generator().manual_seed(2)
    scale, bias = torch.rand(2, columns, generator=generator) + 0.5
    return OutputStage(converters, scale, bias, draw, row, **fields)


# shape of the sums, memory format, first entry, entries of the whole batch
PARTS = {
    "whole blocks": ((4, 4, 16, 16), PLAIN, 0, 4),
    "whole blocks, channels last": ((4, 4, 16, 16), LAST, 0, 4),
    "odd sizes": ((4, 7, 13, 11), PLAIN, 0, 4),
    "odd sizes, channels last": ((4, 7, 13, 11), LAST, 0, 4),
    "later entries": ((2, 7, 13, 11), PLAIN, 1, 4),
    "from the middle of a sample": ((5, 150), PLAIN, 27, 40),
    "a batch that its samples do not divide": ((3, 150), PLAIN, 2, 7),
    "one column": ((4, 1, 30, 40), LAST, 0, 4),
    "one position": ((4, 900, 1, 1), LAST, 0, 4),
    "one number a sample": ((4, 1), PLAIN, 0, 4),
    "volumes": ((1, 5, 8, 9, 7), torch.channels_last_3d, 2, 4),
}


def part(name):
    shape, layout, first, batch = PARTS[name]
    sums = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    total = torch.zeros(batch, *shape[1:]).contiguous(memory_format=layout)
    return sums.contiguous(memory_format=layout), total, first


@pytest.mark.parametrize("name", PARTS)
def test_each_element_gets_the_noise_that_it_gets_on_a_cpu(name):
    sums, total, first = part(name)
    readout = OutputStage(
        NO_CONVERTERS, torch.ones(sums.shape[1]), torch.zeros(sums.shape[1]), DRAW, 3
    )
    (expected, *_), (found, *_) = on_both(torch.zeros_like(sums), total, readout, first=first)
    assert expected[first : first + len(sums)].std() > 0.5
    assert (found - expected).abs().max() < 1e-5


def test_the_noise_is_normal():
    sums = torch.zeros(16, 1024)
    readout = OutputStage(NO_CONVERTERS, torch.ones(1024), torch.zeros(1024), DRAW, 0)
    _, (noise, *_) = on_both(sums, sums, readout)
    n = noise.numel()
    assert abs(noise.mean()) < 5 / n**0.5
    assert abs(noise.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs((noise**4).mean() - 3) < 5 * (96 / n) ** 0.5


@pytest.mark.parametrize("word", ["key", "first_sample", "use", "row"])
def test_every_part_of_the_address_changes_the_noise(word):
    sums, total, _ = part("whole blocks")
    fields = {"key": 1, "first_sample": 4, "use": 0}
    other = fields | ({word: 3 << 33 if word == "key" else 9} if word in fields else {})
    noise = [
        on_both(
            torch.zeros_like(sums),
            total,
            readout_of(NO_CONVERTERS, 4, row=row, draw=NoiseAddress(samples=4, **words)),
        )[1][0]
        for words, row in ((fields, 1), (other, 2 if word == "row" else 1))
    ]
    assert abs(torch.corrcoef(torch.stack([n.flatten() for n in noise]))[0, 1]) < 0.08


@pytest.mark.parametrize(("row", "adc_step"), [(0, 1.0), (2, 0.0)])
@pytest.mark.parametrize("name", ["odd sizes", "odd sizes, channels last", "later entries"])
def test_the_adc_rounds_clamps_scales_and_adds_as_on_a_cpu(name, row, adc_step):
    sums, total, first = part(name)
    converters = Converters(0, adc_step, math.inf, 3.0, noise=0.5)
    readout = readout_of(converters, sums.shape[1], row=row)
    total += torch.randn(total.shape)
    (expected, *_), (found, *_) = on_both(3 * sums, total, readout, first=first)
    assert (found - expected).abs().gt(1e-5).double().mean() < 1e-4
    untouched = torch.ones(len(total), dtype=bool)
    untouched[first : first + len(sums)] = False
    assert torch.equal(found[untouched], total[untouched])


@pytest.mark.parametrize("layout", [PLAIN, LAST])
@pytest.mark.parametrize(
    ("shares", "names"), [(1, ("spread",)), (2, ("spread", "factor")), (6, ("factor",))]
)
def test_noise_and_factor_of_each_position_are_those_of_a_cpu(layout, shares, names):
    def positions():
        values = torch.rand(3, shares, 19, 9) + 0.1
        return values.contiguous(memory_format=layout)

    sums = (2 * torch.randn(3, 6, 19, 9)).contiguous(memory_format=layout)
    total = torch.randn(5, 6, 19, 9).contiguous(memory_format=layout)
    fields = {"spread": positions(), "factor": positions()}
    taken = {name: fields[name] for name in names}
    converters = Converters(0, 1.0, math.inf, 5.0, noise=0.3)
    readout = readout_of(converters, 6, row=1, draw=NoiseAddress(7, samples=5), **taken)
    (expected, *_), (found, *_) = on_both(sums, total, readout, first=2)
    assert (found - expected).abs().gt(1e-5).double().mean() < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
@pytest.mark.parametrize("name", ["odd sizes, channels last", "later entries"])
def test_a_record_holds_clamped_codes_and_what_the_bound_clipped(name, dtype):
    sums, total, first = part(name)
    readout = readout_of(Converters(0, 1.0, math.inf, 4.0, noise=0.0), sums.shape[1])
    codes = (3 * sums).round()
    fits = codes.abs() <= 4
    _, (outputs, count, kept_fits, kept_codes) = on_both(
        3 * sums, total, readout, first=first, record=True, dtype=dtype
    )
    assert count == (~fits).sum() > 0
    assert torch.equal(kept_fits.bool(), fits)
    assert torch.equal(kept_codes.float(), codes.clamp(-4, 4))
    along = (1, -1, *(1,) * (sums.ndim - 2))
    expected = codes.clamp(-4, 4) * readout.scale.view(along) + readout.bias.view(along)
    torch.testing.assert_close(outputs[first : first + len(sums)], expected)


def test_halves_are_rounded_to_even_and_large_numbers_kept():
    values = torch.tensor(
        [
            *(0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.49999997, -0.49999997),
            *(4194304.5, 8388607.5, -8388607.5, 8388609.0, 16777218.0, -3e38),
            *(math.inf, -math.inf, math.nan),
        ]
    )
    converters = Converters(1.0, 1.0, math.inf, math.inf, noise=0.0)
    codes = TritonOps().to_codes(to_device(values[None]), math.inf, converters, PLAIN).cpu()[0]
    assert torch.equal(codes.nan_to_num(7.5), values.round().nan_to_num(7.5))
    one = OutputStage(
        converters, torch.ones(len(values)), torch.zeros(len(values)), NoiseAddress(0), 0
    )
    _, (outputs, *_) = on_both(values[None], torch.zeros(1, len(values)), one)
    assert torch.equal(outputs[0].nan_to_num(7.5), values.round().nan_to_num(7.5))


SLICES = {
    "whole": lambda x: x,
    "channels": lambda x: x[:, 3:8],
    "one channel": lambda x: x[:, 4:5],
    "entries": lambda x: x[1:],
    "every other column": lambda x: x[..., ::2],
    "turned": lambda x: x.mT,
    "repeated": lambda x: x[:1].expand(3, -1, -1, -1),
    "channels of groups": lambda x: x.unflatten(1, (2, 5))[:, :, 1:4].flatten(1, 2),
}


@pytest.mark.parametrize("taken", SLICES)
@pytest.mark.parametrize("layout", [PLAIN, LAST])
@pytest.mark.parametrize("dac_step", [0.0, 1 / 127])
def test_the_dac_gives_the_codes_of_the_definition(taken, layout, dac_step):
    inputs = torch.randn(3, 10, 21, 20).contiguous(memory_format=layout)
    seen = SLICES[taken](inputs)
    converters = Converters(dac_step, 0, 1 / (dac_step or 1.0), math.inf, 0.0)
    codes = TritonOps().to_codes(SLICES[taken](to_device(inputs)), 1.5, converters, layout)
    expected = seen.clamp(-1.5, 1.5) / 1.5 / (dac_step or 1.0)
    expected = expected.round() if dac_step else expected
    assert codes.is_contiguous(memory_format=layout)
    assert (codes.cpu() - expected).abs().gt(1e-5).double().mean() < 1e-4


def test_several_rows_of_tiles_see_their_channels():
    pixels = to_device(torch.randn(2, 11, 13, 12).contiguous(memory_format=LAST))
    converters = Converters(1 / 127, 0, 127.0, math.inf, 0.0)
    rows = [
        TileRowInput(start, stop, limit, pixels.new_empty(2, 13, 12, stop - start))
        for start, stop, limit in ((0, 4, 1.0), (3, 10, 2.0), (10, 11, 0.5))
    ]
    TritonOps().to_row_codes(pixels, rows, converters)
    for row in rows:
        alone = TritonOps().to_codes(pixels[:, row.start : row.stop], row.limit, converters, LAST)
        assert torch.equal(row.codes, alone.movedim(1, -1))


# layer, input shape; tiles of 48 x 20 cut most of them in rows and columns, unevenly
LAYERS = {
    "linear": (lambda: nn.Linear(130, 50), (20, 130)),
    "linear_tokens": (lambda: nn.Linear(130, 50, bias=False), (2, 3, 5, 130)),
    "conv1d": (lambda: nn.Conv1d(20, 30, 5, stride=2, padding=2), (3, 20, 30)),
    "conv2d": (lambda: nn.Conv2d(20, 30, 3, padding=1), (2, 20, 9, 7)),
    "conv2d_grouped": (lambda: nn.Conv2d(24, 48, 3, padding=1, groups=2), (2, 24, 8, 8)),
    "conv3d": (lambda: nn.Conv3d(6, 10, 3, padding=1), (2, 6, 6, 5, 7)),
    "transposed2d": (lambda: nn.ConvTranspose2d(60, 8, 2, 2), (2, 60, 6, 5)),
}


@pytest.fixture
def engine(use_engine):
    """The GPU's engine on whatever device there is."""
    own = DirectEngine(TritonOps())

    def choose(layer, inputs):
        return engines.engine_for(layer, inputs) if layer.engine == "torch" else own

    use_engine(choose)
    return own


def pair(case, **hardware):
    """The same calibrated layer on the GPU's engine and on the definition, and its input."""
    make, shape = LAYERS[case]
    inputs = torch.randn(shape)
    config = create_rpu_config("pcm", tile_size=(48, 20), **({"out_noise": 0.0} | hardware))
    model = nn.Sequential(make()).eval()
    compiled, plain = (convert(model, config, backend=name) for name in ("auto", "torch"))
    calibrate(plain, [inputs], quantile=0.99)
    compiled.load_state_dict(plain.state_dict())
    return compiled.to(DEVICE), plain.to(DEVICE), to_device(inputs)


def largest_step(layer):
    io = layer.rpu_config.forward
    scale = max(row.scale.max().item() for row in layer.reference_rows())
    return step_size(io.out_res, io.out_bound) * scale * float(layer.input_range.max())


@pytest.mark.parametrize("case", LAYERS)
@torch.no_grad()
def test_a_layer_gives_the_numbers_of_the_definition_up_to_one_step(engine, case):
    compiled, plain, inputs = pair(case)
    found, expected = compiled(inputs), plain(inputs)
    assert found.shape == expected.shape
    assert (found - expected).abs().gt(1e-5 * expected.abs().max()).double().mean() < 2e-3
    assert (found - expected).abs().max() <= 1.01 * largest_step(plain[0]) + 1e-5


@pytest.mark.parametrize("layout", [PLAIN, LAST])
@torch.no_grad()
def test_a_feature_map_keeps_its_memory_format(engine, layout):
    compiled, plain, inputs = pair("conv2d")
    inputs = inputs.contiguous(memory_format=layout)
    found = compiled(inputs)
    assert found.is_contiguous(memory_format=layout)
    assert (found - plain(inputs)).abs().gt(1e-5).double().mean() < 2e-3
    one_channel = torch.empty(2, 1, 4, 5, memory_format=layout)
    assert TritonOps().layout_of(one_channel) is layout


@pytest.mark.skipif(GPU, reason="a chip is programmed on the device of its model, with its draws")
def test_a_chip_gives_the_same_logits_on_both_engines(engine, use_engine):
    """Converters off: rounding would let the last bit of a convolution decide."""
    torch.manual_seed(0)
    shared = nn.Conv2d(6, 6, 3)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), shared, nn.ReLU(), shared,
        nn.ConvTranspose2d(6, 4, 2, 2), nn.Conv2d(4, 2, 1),
    ).eval()  # fmt: skip
    images = torch.rand(2, 3, 7, 7)
    config = create_rpu_config("pcm", tile_size=48, dac_steps=0, adc_steps=0)
    analog = calibrate(convert(model, config), [images])
    read = Chip(analog, seed=1).at(3600.0)
    found, other = read.restart("case")(images), read(images)
    use_engine(engines.engine_for)
    expected = read.restart("case")(images)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
    assert (other - expected).abs().max() > 1e-3 * expected.abs().max()
