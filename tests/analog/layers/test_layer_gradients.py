"""Outputs and gradients in training: against aihwkit's tiles, and a plain definition in float64.

The plain definition unfolds the input vectors with ``Tensor.unfold``, tile by tile. Its gradient is
autograd's, straight through rounding and 0 where a converter clips. Only the gradient of an input
range follows a rule of aihwkit.
"""

import copy
import itertools
import math
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from analogmed.analog import calibrate, convert, create_rpu_config
from analogmed.analog.tile.quantise import step_size

BACKENDS = ["torch", "auto"]  # auto is compiled wherever that can be

# layer and input shape; tiles of 20 x 14 cut all of them in rows, most of them within a channel
CASES = {
    "linear": (lambda: nn.Linear(50, 30), (64, 50)),
    "linear tokens": (lambda: nn.Linear(50, 30, bias=False), (4, 16, 50)),
    "conv1d": (lambda: nn.Conv1d(10, 16, 5, stride=2, padding=2), (4, 10, 40)),
    "conv2d": (lambda: nn.Conv2d(7, 16, 3, padding=1), (2, 7, 13, 12)),
    "conv2d pointwise": (lambda: nn.Conv2d(50, 16, 1), (2, 50, 9, 9)),
    "conv2d strided, dilated, grouped": (
        lambda: nn.Conv2d(12, 16, (3, 2), (2, 1), (2, 0), (2, 3), groups=2),
        (2, 12, 16, 15),
    ),
    "conv2d reflect": (
        lambda: nn.Conv2d(7, 16, 3, padding=1, padding_mode="reflect"),
        (2, 7, 13, 12),
    ),
    "conv3d": (lambda: nn.Conv3d(3, 16, 3, padding=1), (2, 3, 8, 7, 6)),
    "conv3d one volume": (lambda: nn.Conv3d(3, 16, (3, 1, 3), 1, 1, (2, 1, 1)), (1, 3, 8, 7, 6)),
    "transposed1d": (lambda: nn.ConvTranspose1d(50, 8, 5, 2, 1, dilation=2), (4, 50, 12)),
    "transposed2d": (lambda: nn.ConvTranspose2d(50, 6, 2, 2), (2, 50, 9, 8)),
    "transposed2d overlapping, grouped": (
        lambda: nn.ConvTranspose2d(50, 6, 3, 2, 1, output_padding=1, groups=2),
        (2, 50, 9, 8),
    ),
    "transposed3d": (lambda: nn.ConvTranspose3d(50, 4, (3, 2, 2), 2), (2, 50, 4, 5, 4)),
}
ABS_MAX = {"noise_management": "abs_max"}
HARDWARE = {
    "wide ADC": {"out_bound": 16.0},
    "ADC clips": {"out_bound": 1.0},
    "DAC clips": {"inp_bound": 0.75, "out_bound": 1.0},
    "no DAC": {"dac_steps": 0, "out_bound": 1.0},
    "no ADC": {"adc_steps": 0, "out_bound": 1.0},
    "channelwise": {"remap": "channelwise", "out_bound": 1.0},
    "abs_max": ABS_MAX | {"input_range": False, "out_bound": 2.0},
    "abs_max within range": ABS_MAX | {"out_bound": 2.0},
    "discretised weights": {"modifier": "discretize", "out_bound": 1.0},
}


def training_layer(case: str, backend: str, **hardware) -> tuple[nn.Module, Tensor]:
    """A layer in training whose row tiles have different input ranges, some of them too small."""
    make, shape = CASES[case]
    options = {"tile_size": (20, 14), "dac_steps": 256, "adc_steps": 256, "modifier": "none"}
    config = create_rpu_config("pcm", out_noise=0.0, input_range_keep=0.95, **(options | hardware))
    inputs = torch.randn(shape)
    model = calibrate(convert(nn.Sequential(make()), config, backend=backend), [inputs])
    layer = model[0].train()
    if layer.input_range is not None:
        layer.input_range.data *= torch.linspace(0.4, 1.2, len(layer.grid.rows))
    return layer, inputs


def on_both(case: str, **hardware) -> tuple[dict[str, nn.Module], Tensor]:
    """The same layer on each backend, and its inputs."""
    layers = {}
    for backend in BACKENDS:
        torch.default_generator.manual_seed(0)
        layers[backend], inputs = training_layer(case, backend, **hardware)
    return layers, inputs


def gradients(layer: nn.Module, inputs: Tensor, weighting: Tensor) -> dict[str, Tensor]:
    """Output, and gradients of its weighted sum."""
    inputs = inputs.clone().requires_grad_()
    outputs = layer(inputs)
    (outputs * weighting.to(outputs)).sum().backward()
    found = {"output": outputs.detach(), "input": inputs.grad}
    for name, parameter in layer.named_parameters():
        found[name] = parameter.grad
    return found


@pytest.mark.parametrize("hardware", HARDWARE)
@pytest.mark.parametrize("case", CASES)
def test_output_and_gradients_equal_a_plain_definition_in_double_precision(case, hardware):
    layers, inputs = on_both(case, **HARDWARE[hardware])
    weighting = torch.randn(layers["torch"](inputs).shape)
    plain = Plain(layers["torch"])
    expected = gradients(plain, inputs.double(), weighting)
    if plain.input_range is not None:
        expected["input_range"] += plain.range_rule()
    for backend, layer in layers.items():
        found = gradients(layer, inputs, weighting)
        assert found.keys() == expected.keys(), backend
        if hardware == "abs_max within range":  # clipped inputs tie for the largest: many gradients
            del found["input_range"]
        for name in found:
            pair = found[name], expected[name]
            pair = without_flips(*pair) if name == "output" else pair
            assert relative_error(*pair) < 1e-3, (backend, name)
    clipped = plain.clipped_share
    assert clipped == 0 if HARDWARE[hardware]["out_bound"] == 16.0 else 0.002 < clipped < 0.7


@dataclass
class _Seen:
    """What one row of tiles sees: its feature map after clamping, and its range."""

    clamped: Tensor
    limit: Tensor


class Plain(nn.Module):
    """An analog layer by its definition, in float64."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.weight = nn.Parameter(layer.weight.detach().double())
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().double())
        self.input_range = None
        if layer.input_range is not None:
            self.input_range = nn.Parameter(layer.input_range.detach().double())
        self.layer = (layer,)  # not a submodule
        self.config = layer.rpu_config

    def forward(self, inputs: Tensor) -> Tensor:
        (layer,) = self.layer
        self.seen, self.outputs, self.clipped = [], 0, 0
        if isinstance(layer, nn.Linear):
            flat = inputs.flatten(0, -2)
            columns = self.columns(flat[:, :, None], self.weight[None])  # (N, 1, 1, columns)
            columns = columns[:, 0, 0].unflatten(0, inputs.shape[:-1])
            return columns if self.bias is None else columns + self.bias
        if layer.padding_mode != "zeros":
            pads = layer._reversed_padding_repeated_twice
            inputs = F.pad(inputs, pads, mode=layer.padding_mode)
        grouped = self.weight.unflatten(0, (layer.groups, -1))
        if layer.transposed:  # (groups, rows, columns)
            columns = self.columns(inputs, grouped.flatten(2).transpose(1, 2))
            outputs = self.overlapped(columns, inputs.shape[2:])
        else:
            columns = self.columns(inputs, grouped.flatten(2))
            outputs = columns.transpose(2, 3).flatten(1, 2)
            outputs = outputs.unflatten(2, self.positions)
        if self.bias is None:
            return outputs
        return outputs + self.bias.reshape(-1, *(1,) * (outputs.ndim - 2))

    @property
    def clipped_share(self) -> float:
        """Of the ADC's outputs."""
        return self.clipped / self.outputs

    def columns(self, inputs: Tensor, matrix: Tensor) -> Tensor:
        """The products of all tiles: (B, C, *positions) to (B, groups, positions, columns)."""
        total = 0
        for index, (start, stop) in enumerate(even_parts(matrix.shape[2], 20)):
            limit = None if self.input_range is None else self.input_range[index]
            vectors = self.vectors(inputs, limit, start, stop)
            parts = [
                self.tile(vectors, matrix[:, left:right, start:stop])
                for left, right in even_parts(matrix.shape[1], 14)
            ]
            row = torch.cat(parts, 3)
            total = total + (row if limit is None else row * limit)
        return total

    def vectors(self, inputs: Tensor, limit: Tensor | None, start: int, stop: int) -> Tensor:
        """What the rows [start, stop) see, in units of the range: (B, groups, positions, rows)."""
        (layer,) = self.layer
        convolves = not isinstance(layer, nn.Linear) and not layer.transposed
        volume = math.prod(layer.kernel_size) if convolves else 1
        first, last = start // volume, -(-stop // volume)
        part = inputs.unflatten(1, (layer.groups, -1))[:, :, first:last]
        if limit is not None:
            part = part.clamp(-limit.detach(), limit.detach())
            part.retain_grad()
            self.seen.append(_Seen(part, limit))
            part = part / limit
        if not convolves:
            return part.flatten(3).transpose(2, 3)
        if layer.padding_mode == "zeros":
            part = F.pad(part, layer._reversed_padding_repeated_twice)
        axes = len(layer.kernel_size)
        for axis, (kernel, stride, dilation) in enumerate(
            zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)
        ):
            part = part.unfold(3 + axis, dilation * (kernel - 1) + 1, stride)[..., ::dilation]
        self.positions = part.shape[3 : 3 + axes]
        patches = part.flatten(3, 2 + axes).flatten(4)  # (B, groups, channels, positions, taps)
        rows = patches.transpose(2, 3).flatten(3)
        return rows[..., start - first * volume : stop - first * volume]

    def tile(self, vectors: Tensor, weight: Tensor) -> Tensor:
        """One tile in each group: (B, groups, positions, rows) to (..., columns)."""
        io = self.config.forward
        columnwise = self.config.mapping.weight_scaling_columnwise
        scale = weight.detach().abs().amax(2 if columnwise else (1, 2), keepdim=True)
        weight = weight / scale
        if self.config.modifier.type.name == "DISCRETIZE":
            largest = weight.detach().abs().amax((1, 2), keepdim=True)
            weight = rounded(weight / largest, 2 * self.config.modifier.res) * largest
        own = 1.0
        if io.noise_management.name == "ABS_MAX":
            own = vectors.abs().amax(3, keepdim=True)
            own = torch.where(own > 0, own, 1.0)
        codes = rounded(vectors / own, step_size(io.inp_res, io.inp_bound))
        codes = codes.clamp(-io.inp_bound, io.inp_bound)
        sums = rounded(codes @ weight.mT, step_size(io.out_res, io.out_bound))
        self.outputs += sums.numel()
        self.clipped += int((sums.abs() > io.out_bound).sum())
        return sums.clamp(-io.out_bound, io.out_bound) * own * scale.mT

    def overlapped(self, columns: Tensor, sizes: torch.Size) -> Tensor:
        """Add up the taps of a transposed convolution where they fall on the same output."""
        (layer,) = self.layer
        taps = columns.transpose(2, 3).flatten(1, 2).unflatten(2, sizes)
        taps = taps.unflatten(1, (layer.out_channels, *layer.kernel_size))
        full = [
            (n - 1) * s + d * (k - 1) + 1 + extra
            for n, s, d, k, extra in zip(
                sizes,
                layer.stride,
                layer.dilation,
                layer.kernel_size,
                layer.output_padding,
                strict=True,
            )
        ]
        canvas = taps.new_zeros(len(taps), layer.out_channels, *full)
        for tap in itertools.product(*map(range, layer.kernel_size)):
            where = [
                slice(t * d, t * d + s * (n - 1) + 1, s)
                for t, d, s, n in zip(tap, layer.dilation, layer.stride, sizes, strict=True)
            ]
            canvas[(..., *where)] += taps[(slice(None), slice(None), *tap)]
        crop = [slice(p, n - p) for p, n in zip(layer.padding, full, strict=True)]
        return canvas[(..., *crop)]

    def range_rule(self) -> Tensor:
        """aihwkit's push on each range: wider for clipped inputs that ask for it, or decay."""
        ranges = self.config.pre_post.input_range
        pushes = []
        for seen in self.seen:
            gradient, limit = seen.clamped.grad, seen.limit.detach()
            upper = gradient[seen.clamped >= limit].clamp(max=0).sum()
            lower = gradient[seen.clamped <= -limit].clamp(min=0).sum()
            fitting = (seen.clamped.abs() < limit).double().mean()
            decay = ranges.decay * limit * (fitting > ranges.input_min_percentage)
            pushes.append((upper - lower) * limit + decay)
        return torch.stack(pushes)


def rounded(values: Tensor, step: float) -> Tensor:
    """To multiples of the step; the gradient passes straight."""
    if step == 0:
        return values
    return values + ((values / step).round() * step - values).detach()


def even_parts(size: int, limit: int) -> list[tuple[int, int]]:
    """The fewest parts of at most ``limit``, the larger ones first."""
    edges = [0, *itertools.accumulate(map(len, torch.arange(size).tensor_split(-(-size // limit))))]
    return list(itertools.pairwise(edges))


@pytest.mark.parametrize("adc_steps", [254, 256])
@pytest.mark.parametrize("management", ["none", "abs_max"])
@pytest.mark.parametrize("case", CASES)
def test_gradients_equal_aihwkits_where_outputs_of_the_adc_clip(
    case, management, adc_steps, oracle_tiles
):
    options = {"noise_management": management, "adc_steps": adc_steps, "out_bound": 1.0}
    layers, inputs = on_both(case, **options, input_range=management == "none")
    tiles_of, apply_tiles = oracle_tiles
    arrays = tiles_of(layers["torch"])
    theirs = inputs.clone().requires_grad_()
    expected = apply_tiles(layers["torch"], arrays, theirs)
    weighting = torch.randn_like(expected)
    (expected * weighting).sum().backward()
    weight_gradient = torch.stack([gradient_of_tiles(array) for array in arrays])
    for backend, layer in layers.items():
        found = gradients(layer, inputs, weighting)
        assert relative_error(found["output"], expected.detach()) < 1e-3, backend
        assert relative_error(found["input"], theirs.grad) < 1e-3, backend
        twin = copy.deepcopy(layer)
        twin.weight.data = layer.weight.grad
        assert relative_error(twin.weight_matrix().detach(), weight_gradient) < 1e-3, backend


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "case", ["linear", "linear tokens", "conv2d pointwise", "transposed2d", "transposed3d"]
)
def test_input_ranges_of_several_rows_of_tiles_have_aihwkits_gradients(case, backend, oracle_tiles):
    """On one column tile; aihwkit has a range for each, analogmed one for the row."""
    layer, inputs = training_layer(case, backend, tile_size=(20, 512), out_bound=1.0)
    tiles_of, apply_tiles = oracle_tiles
    arrays = tiles_of(layer)
    expected = apply_tiles(layer, arrays, inputs)
    weighting = torch.randn_like(expected)
    (expected * weighting).sum().backward()
    ranges = torch.cat([row[0].input_range.grad for row in arrays[0].array])
    found = gradients(layer, inputs, weighting)["input_range"]
    assert len(found) == 3
    torch.testing.assert_close(found, ranges, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("make", "shape", "tile", "more"),
    [
        (lambda: nn.Linear(40, 16), (200, 40), (40, 16), False),
        (lambda: nn.Linear(40, 16), (200, 40), (40, 4), True),
        (lambda: nn.Conv2d(8, 16, 1), (2, 8, 9, 9), (8, 16), False),
        (lambda: nn.Conv2d(8, 16, 3, padding=1), (2, 8, 9, 9), (36, 16), True),
    ],
)
def test_aihwkit_widens_a_range_more_where_tiles_or_patches_share_an_input(
    make, shape, tile, more, backend, oracle_tiles
):
    """It adds up what each tile and patch asks for; here, what they ask for together counts."""
    config = create_rpu_config(
        "pcm", tile_size=tile, modifier="none", out_noise=0.0, input_range_decay=0.0
    )
    layer = convert(nn.Sequential(make()), config, backend=backend)[0]
    layer.input_range.data.fill_(1.5)
    inputs = torch.randn(shape)
    tiles_of, apply_tiles = oracle_tiles
    arrays = tiles_of(layer.train())
    expected = apply_tiles(layer, arrays, inputs)
    weighting = torch.randn_like(expected)
    (expected * weighting).sum().backward()
    theirs = torch.stack([sum(t.input_range.grad for t in row) for row in arrays[0].array])
    through = gradients(layer.eval(), inputs, weighting)["input_range"].clone()  # without the rule
    layer.zero_grad()
    ours = gradients(layer.train(), inputs, weighting)["input_range"] - through
    theirs = theirs.flatten() - through
    assert (ours < 0).all()
    if more:
        assert (theirs < 1.3 * ours).all()
    else:
        torch.testing.assert_close(theirs, ours, rtol=0.05, atol=0.1)


def gradient_of_tiles(array: nn.Module) -> Tensor:
    """Of the digital weight: aihwkit's hook divides the mapped weight's by the squared scale."""
    rows = [
        torch.cat([t.tile.weight.grad * t.get_mapping_scales().reshape(-1, 1) for t in row])
        for row in array.array
    ]
    return torch.cat(rows, 1)


def without_flips(found: Tensor, expected: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs but for 2 in 1,000: those between two codes round as the processor has it."""
    kept = (found - expected).abs().flatten().argsort()[: -math.ceil(0.002 * found.numel())]
    return found.flatten()[kept], expected.flatten()[kept]


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


NOISES = {
    "add_normal": {"modifier": "add_normal", "modifier_std": 0.1},
    "mult_normal": {"modifier": "mult_normal", "modifier_std": 0.3},
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("case", CASES)
def test_backward_goes_through_the_same_noisy_weights_as_forward(case, noise, backend):
    """Without converters a layer is linear: <g, f(v) - f(0)> = <v, gradient of <g, f>>."""
    linear = {"dac_steps": 0, "adc_steps": 0, "input_range": False, "inp_bound": 1e6}
    layer, inputs = training_layer(case, backend, **NOISES[noise], **linear, out_bound=1e6)

    def forward(values: Tensor) -> Tensor:
        torch.manual_seed(5)
        return layer(values)

    probe = inputs.clone().requires_grad_()
    outputs = forward(probe)
    weighting = torch.randn_like(outputs)
    (outputs * weighting).sum().backward()
    through_input = (probe.grad * inputs).sum(dtype=torch.float64)
    with torch.no_grad():
        zero = forward(torch.zeros_like(inputs))
        change = ((outputs - zero) * weighting).sum(dtype=torch.float64)
        clean = copy.deepcopy(layer).eval()(inputs)
    noisy = relative_error(outputs.detach(), clean)
    size = float((outputs * weighting).detach().norm())
    assert abs(float(change - through_input)) < 1e-4 * size
    assert 0.02 < noisy < 0.6
    # straight through: the weight's gradient is the one without noise
    plain = Plain(layer)
    expected = gradients(plain, inputs.double(), weighting)
    assert relative_error(layer.weight.grad, expected["weight"]) < 1e-4


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES)
def test_output_noise_leaves_the_gradient_as_it_is_where_nothing_clips(case, backend):
    layer, inputs = training_layer(case, backend, out_bound=16.0)
    weighting = torch.randn(layer(inputs).shape)
    quiet = gradients(layer, inputs, weighting)
    for parameter in layer.parameters():
        parameter.grad = None
    layer.rpu_config.forward.out_noise = 0.04
    noisy = gradients(layer, inputs, weighting)
    assert not torch.equal(noisy.pop("output"), quiet.pop("output"))
    ranges = noisy.pop("input_range"), quiet.pop("input_range")
    assert torch.isfinite(ranges[0]).all()  # in these, what the ADC adds is worth more or less
    for name, gradient in noisy.items():
        assert relative_error(gradient, quiet[name]) < 1e-5, name
