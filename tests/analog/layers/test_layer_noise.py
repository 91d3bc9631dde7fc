"""Output noise of whole layers: its distribution in closed form, and its independence.

Correct noise exceeds a bound about once in a million runs; seeds are fixed.
"""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from analogmed.analog import Chip, calibrate, convert, create_rpu_config
from analogmed.analog.engines.select import compiles
from analogmed.analog.tile.quantise import step_size

FALSE_ALARM = 1e-6
BACKENDS = ["torch", "auto"]  # auto is compiled wherever that can be
NOISE = 0.04
EXACT_CHIP = {
    "prog_noise_scale": 0.0,
    "read_noise_scale": 0.0,
    "drift_scale": 0.0,
    "drift_compensation": "none",
}


def z_limit(comparisons: int) -> float:
    """Bound on the largest of so many standard normal statistics."""
    return float(stats.norm.isf(FALSE_ALARM / comparisons / 2))


# ADC; in the coarse one noise decides between few codes, in the clipping one sums go past the bound
CONVERTERS = {
    "8 bits": {},
    "coarse": {"dac_steps": 14, "adc_steps": 62, "out_bound": 2.0},
    "clipping": {"adc_steps": 63, "out_bound": 0.8},
    "no ADC": {"adc_steps": 0, "out_bound": 50.0},
    "abs_max": {"noise_management": "abs_max", "input_range": False, "adc_steps": 126},
    "channelwise": {"remap": "channelwise", "adc_steps": 126},
}


@pytest.mark.filterwarnings("ignore:calibrate. sums of")  # of the clipping converters
@pytest.mark.parametrize("computer", [*BACKENDS, "aihwkit"])
@pytest.mark.parametrize("converters", CONVERTERS)
@torch.no_grad()
def test_outputs_have_the_cumulants_of_rounded_and_clipped_normal_noise(
    converters, computer, oracle
):
    """Mean, variance, skewness and kurtosis of every output; those of three row tiles add up."""
    draws = 20_000
    config = create_rpu_config("pcm", tile_size=(16, 24), out_noise=NOISE, **CONVERTERS[converters])
    backend = "torch" if computer == "aihwkit" else computer
    analog = convert(nn.Sequential(nn.Linear(40, 30)).eval(), config, backend=backend)[0]
    vector = torch.randn(1, 40)
    calibrate(nn.Sequential(analog), [vector], quantile=0.9)
    batch = vector.expand(draws, -1).contiguous()
    found = (oracle if computer == "aihwkit" else lambda layer, x: layer(x))(analog, batch)
    assert_cumulants(found.double().numpy() - analog.bias.double().numpy(), analog, vector)


def assert_cumulants(found: np.ndarray, analog: nn.Module, vector: Tensor) -> None:
    exact = exact_cumulants(analog, vector.double().numpy()[0])
    open_to_noise = exact[1] > 1e-3 * exact[1].max()  # elsewhere the ADC clips nearly always
    assert open_to_noise.mean() > 0.7
    mean, variance, third, fourth = exact[:, open_to_noise]
    centred = found[:, open_to_noise] - mean
    draws, columns = centred.shape
    z_mean = centred.mean(0) / np.sqrt(variance / draws)
    z_variance = (np.square(centred).mean(0) - variance) / np.sqrt(
        (fourth + 2 * variance**2) / draws
    )
    for z in (z_mean, z_variance):
        assert np.abs(z).max() < z_limit(columns)
        chance = stats.chi2.sf((z**2).sum(), columns)
        assert FALSE_ALARM < chance < 1 - FALSE_ALARM
    standard = centred / np.sqrt(variance)
    skewness, kurtosis = third / variance**1.5, fourth / variance**2 + 3
    for power, expected in ((3, skewness), (4, kurtosis)):
        values = standard**power
        z = (values.mean(0) - expected) / (values.std(0) / math.sqrt(draws))
        assert np.abs(z).max() < z_limit(columns) + 1  # the deviation is an estimate itself


def exact_cumulants(analog: nn.Module, vector: np.ndarray) -> np.ndarray:
    """First four cumulants of each output without bias, shape (4, columns)."""
    io = analog.rpu_config.forward
    dac_step, adc_step = step_size(io.inp_res, io.inp_bound), step_size(io.out_res, io.out_bound)
    total = np.zeros((4, analog.out_features))
    for index, (row, (start, stop)) in enumerate(
        zip(analog.reference_rows(), analog.grid.rows, strict=True)
    ):
        part = vector[start:stop]
        if analog.input_range is None:
            full = np.abs(part).max()
        else:
            full = float(analog.input_range[index])
        codes = np.clip(np.round(np.clip(part / full, -1, 1) / dac_step) * dac_step, -1, 1)
        sums = row.weight[0].detach().double().numpy() @ codes
        scale = row.scale[0].double().numpy() * full
        cumulants = adc_cumulants(sums, io.out_noise, adc_step, io.out_bound)
        total += cumulants * scale ** np.arange(1, 5)[:, None]
    return total


def adc_cumulants(sums: np.ndarray, noise: float, step: float, bound: float) -> np.ndarray:
    """Of a sum with normal noise, rounded to steps and clipped, shape (4, columns)."""
    if step == 0:  # the bound is out of reach
        return np.stack([sums, np.full_like(sums, noise**2), 0 * sums, 0 * sums])
    codes = np.arange(-math.ceil(bound / step), math.ceil(bound / step) + 1)
    values = np.clip(codes * step, -bound, bound)
    edges = np.concatenate([[-np.inf], (codes[:-1] + 0.5) * step, [np.inf]])
    shares = np.diff(stats.norm.cdf((edges[:, None] - sums) / noise), axis=0)
    mean = values @ shares
    moments = [((values[:, None] - mean) ** n * shares).sum(0) for n in (2, 3, 4)]
    return np.stack([mean, moments[0], moments[1], moments[2] - 3 * moments[0] ** 2])


# layers whose products do not overlap, and shapes of their inputs; two or three rows of tiles
LAYERS = {
    "linear": (lambda: nn.Linear(50, 30), (32, 40, 50)),
    "conv1d": (lambda: nn.Conv1d(10, 30, 5, stride=2, groups=2), (8, 10, 203)),
    "conv2d": (lambda: nn.Conv2d(5, 30, 3, padding=1), (4, 5, 37, 39)),
    "conv3d": (lambda: nn.Conv3d(2, 14, 3, padding=1), (2, 2, 12, 13, 14)),
    "conv3d_one_volume": (lambda: nn.Conv3d(2, 14, 3, padding=1), (1, 2, 12, 13, 14)),
    "transposed2d": (lambda: nn.ConvTranspose2d(50, 5, 2, 2), (4, 50, 19, 20)),
    "transposed3d": (lambda: nn.ConvTranspose3d(50, 3, 2, 2), (2, 50, 9, 10, 11)),
    "linear abs_max": (lambda: nn.Linear(50, 30), (32, 40, 50)),
    "conv2d abs_max": (lambda: nn.Conv2d(5, 30, 3), (4, 5, 38, 39)),
}
ABS_MAX = {"noise_management": "abs_max", "input_range": False}


class SideBySide(nn.Module):
    """Two layers see the same input, one after the other, and then again."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.stack([layer(inputs) for layer in [*self.layers] * 2])


@pytest.fixture(scope="module", params=itertools.product(LAYERS, BACKENDS), ids="-".join)
def noise(request: pytest.FixtureRequest) -> np.ndarray:
    """Of two reads, two forwards, two uses and two layers, over the expected deviation.

    Shape (reads, forwards, uses and layers, *output of a layer).
    """
    torch.default_generator.manual_seed(0)
    case, backend = request.param
    make, shape = LAYERS[case]
    managed = "abs_max" in case
    inputs = torch.randn(shape).sign() if managed else torch.randn(shape)  # the largest is 1
    chip = without_adc([make(), make()], inputs, backend, **(ABS_MAX if managed else {}))
    readings = [chip.at(0.0, read) for read in range(2)]
    drawn = torch.stack([torch.stack([read(inputs) for _ in range(2)]) for read in readings])
    deviations = torch.stack([deviation(layer) for layer in chip.model.layers] * 2)
    channel = -1 if "linear" in case else 4
    broadcast = [1] * drawn.ndim
    broadcast[2], broadcast[channel] = deviations.shape
    return ((drawn - noiseless(chip.model, inputs)) / deviations.reshape(broadcast)).numpy()


def without_adc(layers: list[nn.Module], inputs: Tensor, backend: str, **hardware: object) -> Chip:
    """A chip that holds the weights exactly, and adds nothing but output noise."""
    exact = {"prog_noise_scale": 0.0, "read_noise_scale": 0.0, "drift_scale": 0.0}
    config = create_rpu_config(
        "pcm",
        tile_size=(20, 24),
        out_noise=NOISE,
        adc_steps=0,
        out_bound=1e9,
        drift_compensation="none",
        **exact,
        **hardware,
    )
    analog = convert(SideBySide(layers).eval(), config, backend=backend)
    return Chip(calibrate(analog, [inputs], quantile=0.99))


def deviation(layer: nn.Module) -> Tensor:
    """Of each output channel; the variances of the row tiles add up."""
    scales = torch.stack([row.scale for row in layer.reference_rows()])  # (rows, groups, columns)
    if layer.input_range is not None:
        scales = scales * layer.input_range[:, None, None]
    variance = (NOISE * scales).double().square().sum(0)
    if getattr(layer, "transposed", False):  # one column tile: all taps have the same scale
        variance = variance.reshape(layer.out_channels, -1)[:, 0]
    return variance.detach().flatten().sqrt()


def noiseless(model: nn.Module, inputs: Tensor) -> Tensor:
    model = copy.deepcopy(model)
    for layer in model.layers:
        layer.rpu_config.forward.out_noise = 0.0
    with torch.no_grad():
        return model(inputs).double()


@pytest.mark.slow
def test_noise_of_a_layer_has_the_moments_of_the_normal_distribution(noise):
    n = noise.size
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((noise**power).mean() - moment) < z_limit(4) * math.sqrt(variance / n)
    assert stats.kstest(noise.ravel(), stats.norm.cdf).pvalue > FALSE_ALARM


def test_noise_is_equally_large_at_all_positions_and_columns(noise):
    """The variance over everything else, for each index of each axis."""
    for axis in range(noise.ndim):
        others = tuple(a for a in range(noise.ndim) if a != axis)
        count = noise.size // noise.shape[axis]
        z = (np.square(noise).mean(others) - 1) / math.sqrt(2 / count)
        assert np.abs(z).max() < z_limit(len(z)) + 0.5  # chi-square has a longer tail


@pytest.mark.slow
def test_noise_is_independent_between_positions_columns_samples_uses_layers_and_reads(noise):
    """At every shift along every axis: the largest of all circular autocorrelations."""
    for values in (noise, (np.square(noise) - 1) / math.sqrt(2)):
        spectrum = np.abs(np.fft.fftn(values)) ** 2
        correlations = np.fft.ifftn(spectrum).real.ravel()[1:] / math.sqrt(noise.size)
        # a shift by half of an axis of even length finds each pair twice
        assert np.abs(correlations).max() < z_limit(noise.size) * math.sqrt(2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_row_of_tiles_has_noise_of_its_own(backend):
    inputs = torch.zeros(16, 40, 50)
    chip = without_adc([nn.Linear(50, 30, bias=False)], inputs, backend)
    read, layer = chip.at(0.0), chip.model.layers[0]
    rows = []
    for active in range(len(layer.grid.rows)):
        layer.input_range.data.fill_(1e-12)
        layer.input_range.data[active] = 1.0
        drawn = read.restart("same address")(inputs)[0].double()  # of the first use
        rows.append((drawn / drawn.std()).flatten())
    n = len(rows[0])
    for one, other in itertools.combinations(rows, 2):
        assert abs(float(one @ other)) / math.sqrt(n) < z_limit(3)
        assert abs(float((one**2 - 1) @ (other**2 - 1))) / math.sqrt(4 * n) < z_limit(3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_where_taps_of_a_transposed_convolution_overlap_their_variances_add_up(stride, backend):
    inputs = torch.randn(8, 50, 9, 8)
    layer = nn.ConvTranspose2d(50, 2, 3, stride, padding=1)
    chip = without_adc([layer], inputs, backend)
    reading = chip.at(0.0)
    taps = deviation(chip.model.layers[0]).square()
    spread = copy.deepcopy(layer).double().requires_grad_(requires_grad=False)
    spread.weight.data = taps[None, :, None, None].expand(1, 2, 3, 3).clone()
    spread.in_channels = 1
    variance = spread(torch.ones(1, 1, 9, 8, dtype=torch.float64)) - spread.bias[:, None, None]
    forwards = 40
    quiet = noiseless(chip.model, inputs)
    drawn = torch.cat([(reading(inputs) - quiet).flatten(0, 1) for _ in range(forwards)])
    ratio = (drawn.square().mean(0) / variance[0]).numpy()
    z = (ratio - 1) / math.sqrt(2 / len(drawn))
    assert np.abs(z).max() < z_limit(z.size) + 0.5  # chi-square has a longer tail


NETWORKS = {
    "linear": (lambda: nn.Sequential(nn.Linear(40, 70), nn.ReLU(), nn.Linear(70, 9)), (7, 33, 40)),
    "conv1d": (
        lambda: nn.Sequential(nn.Conv1d(3, 24, 5), nn.ReLU(), nn.ConvTranspose1d(24, 5, 2, 2)),
        (7, 3, 211),
    ),
    "conv2d": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(64, 8, 2, 2)
        ),
        (7, 3, 80, 81),  # so large that the engine cuts the batch by itself
    ),
    "conv3d": (
        lambda: nn.Sequential(
            nn.Conv3d(3, 12, 3, padding=1), nn.ReLU(), nn.ConvTranspose3d(12, 4, 3, 2)
        ),
        (7, 3, 10, 9, 8),
    ),
}


HARDWARE = {"range": {}, "abs_max": ABS_MAX}


def compiled_reading(case: str, hardware: str, *, layers: int | None = None, **converters: int):
    """The network, or its first layers, on a chip; and images."""
    make, shape = NETWORKS[case]
    images = torch.rand(shape)
    config = create_rpu_config("pcm", tile_size=48, **HARDWARE[hardware], **converters)
    if not compiles(config.forward):
        pytest.skip("torch computes this hardware, and draws in the order of computation")
    analog = convert(make()[:layers].eval(), config, backend="numba")
    return Chip(calibrate(analog, [images]), seed=1).at(3600.0), images


@pytest.mark.parametrize("hardware", HARDWARE)
@pytest.mark.parametrize("split", [[1, 6], [3, 3, 1], [1] * 7])
@pytest.mark.parametrize("case", NETWORKS)
def test_compiled_noise_of_an_image_does_not_depend_on_its_batch(case, split, hardware):
    """Converters off: rounding would let the last bit of a convolution decide."""
    reading, images = compiled_reading(case, hardware, dac_steps=0, adc_steps=0)
    whole = reading.restart("case")(images)
    reading.restart("case")
    parts = torch.cat([reading(part) for part in images.split(split)])
    assert (parts - whole).abs().max() < 1e-5 * whole.abs().max()
    assert (reading(images) - whole).abs().max() > 1e-3 * whole.abs().max()


@pytest.mark.parametrize("hardware", HARDWARE)
@pytest.mark.parametrize("case", NETWORKS)
def test_compiled_outputs_do_not_depend_on_the_number_of_threads(case, hardware):
    reading, images = compiled_reading(case, hardware, dac_steps=0, adc_steps=0)
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 2, 3, 5):
            torch.set_num_threads(number)
            found.append(reading.restart("case")(images))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert (other - found[0]).abs().max() < 1e-5 * found[0].abs().max()


@pytest.mark.parametrize("hardware", HARDWARE)
@pytest.mark.parametrize("case", NETWORKS)
def test_with_converters_batch_and_threads_move_a_first_layer_by_single_steps(case, hardware):
    """There the inputs are the same to the last bit; behind it, roundings would add up."""
    reading, images = compiled_reading(case, hardware, layers=1)
    whole = reading.restart("case")(images)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        reading.restart("case")
        parts = torch.cat([reading(part) for part in images.split(3)])
    finally:
        torch.set_num_threads(threads)
    assert ((parts - whole).abs() > 1e-5 * whole.abs().max()).double().mean() < 2e-3
