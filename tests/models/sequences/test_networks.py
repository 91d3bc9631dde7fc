"""Networks of signals: sizes, tiles, training and chips."""

import copy
import subprocess
import sys

import pytest
import torch

from analogmed.analog import Chip, TrainingNoise, calibrate, convert, coverage
from analogmed.foundation.errors import ConfigError, ShapeError
from analogmed.hardware import estimate, load_profile, map_tiles
from analogmed.models import build_model, required_divisor
from analogmed.network.probe import NetworkProbe
from analogmed.training import CheckpointInfo, load_checkpoint, save_checkpoint

SEGMENTS = {"segment": 10, "pool": 5, "channels": 2, "units": 7, "outputs": 3}
TINY = {
    "s4d": {"features": 4, "state": 4, "layers": 2},
    "s4d_ncp": {
        **{"features": 4, "state": 4, "layers": 1, "pool": 4, "units": 7},
        **{"outputs": 3},
    },
    "convlstm_cfc": SEGMENTS,
    "convlstm_ltc": SEGMENTS,
    "spiking_convlstm_cfc": SEGMENTS,
}
SHAPE = (3, 2, 20)
LEADS, CLASSES = 2, 3
DAY_S = 86_400.0
names = pytest.mark.parametrize("name", TINY)


def network(name):
    torch.manual_seed(0)
    return build_model(
        name, in_channels=LEADS, out_channels=CLASSES, spatial_dims=1, **TINY[name]
    ).eval()


def signals():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "options", "leads", "expected"),
    [
        ("s4d", {}, 12, 273_436),
        ("s4d_ncp", {}, 12, 242_636),
        ("s4d_ncp", {"size": "small"}, 12, 24_972),
        ("convlstm_cfc", {}, 12, 92_444),
        ("convlstm_cfc", {}, 1, 22_044),
        ("convlstm_ltc", {}, 12, 73_180),
        ("spiking_convlstm_cfc", {}, 12, 92_448),
    ],
)
def test_the_trainable_parameters_of_seven_classes_take_these_bytes(name, options, leads, expected):
    network = build_model(name, in_channels=leads, out_channels=7, spatial_dims=1, **options)
    size = sum(4 * p.numel() for p in network.parameters() if p.requires_grad)
    assert size == expected


@pytest.mark.parametrize(
    ("name", "options", "published"),
    [("s4d_ncp", {}, 242_000), ("s4d_ncp", {"size": "small"}, 25_000)],
)
def test_the_hybrid_networks_have_the_published_sizes(name, options, published):
    network = build_model(name, in_channels=12, out_channels=7, spatial_dims=1, **options)
    size = sum(4 * p.numel() for p in network.parameters() if p.requires_grad)
    assert size == pytest.approx(published, rel=0.02)


@names
def test_logits_of_a_signal_do_not_depend_on_the_others(name):
    model, batch = network(name), signals()
    NetworkProbe(name, LEADS, CLASSES, SHAPE[2:], logits_size=()).check(model, training=True)
    logits = model(batch)
    assert logits.shape == (SHAPE[0], CLASSES)
    torch.testing.assert_close(model(batch[1:2]), logits[1:2], atol=1e-5, rtol=0)


@names
def test_logits_of_every_step_are_those_of_the_signal_until_then(name):
    model, batch = network(name), signals()
    own = build_model(
        name,
        in_channels=LEADS,
        out_channels=CLASSES,
        spatial_dims=1,
        every_step=True,
        **TINY[name],
    ).eval()
    own.load_state_dict(model.state_dict())
    NetworkProbe(name, LEADS, CLASSES, SHAPE[2:]).check(own, training=True)
    (step,) = required_divisor(name, spatial_dims=1, **TINY[name])
    logits = own(batch)
    assert logits.shape == (SHAPE[0], CLASSES, SHAPE[2])
    for end in range(step, SHAPE[2] + 1, step):
        of_step = logits[..., end - step : end]
        assert torch.equal(of_step, of_step[..., :1].expand_as(of_step))
        if name == "s4d":  # classifies the mean over time
            expected = model.head(model.encoder(batch[..., :end])[..., -1])
        else:
            expected = model(batch[..., :end])
        torch.testing.assert_close(of_step[..., 0], expected, atol=2e-5, rtol=0)


@names
def test_every_step_is_true_or_false(name):
    with pytest.raises(ConfigError, match=r"every_step: expected true or false, got 'yes'"):
        build_model(
            name, in_channels=1, out_channels=2, spatial_dims=1, every_step="yes", **TINY[name]
        )


@pytest.mark.parametrize(
    ("name", "divisor"),
    [("s4d", 1), ("s4d_ncp", 4), ("convlstm_cfc", 10), ("spiking_convlstm_cfc", 10)],
)
def test_windows_are_multiples_of_a_step(name, divisor):
    assert required_divisor(name, spatial_dims=1, **TINY[name]) == (divisor,)


ON_TILES = {
    "s4d": {"encoder.0", "encoder.1.mix", "encoder.2.mix", "head"},
    "s4d_ncp": {"encoder.0", "encoder.1.mix", "head"},
    "convlstm_cfc": {"recurrence.gates", "head"},
    "convlstm_ltc": {"recurrence.gates", "head"},
    "spiking_convlstm_cfc": {"recurrence.neuron.conv", "head"},
}
CFC = {
    f"liquid.cells.{index}.{matrix}"
    for index in range(3)
    for matrix in ("ff1", "ff2", "time_a", "time_b")
}
DIGITAL = {
    "s4d": {"encoder.1.kernel", "encoder.2.kernel"},
    "s4d_ncp": {"encoder.1.kernel"},
    "convlstm_ltc": {"liquid"},
}


@names
def test_what_multiplies_a_weight_is_on_tiles_or_listed(name):
    report = coverage(convert(network(name), "pcm", backend="torch"), (1, *SHAPE[1:]))
    liquid = CFC if name.endswith("cfc") or name.endswith("ncp") else set()
    assert set(report.analog_layers) == ON_TILES[name] | liquid
    assert set(report.digital_layers) == DIGITAL.get(name, set())
    assert (report.digital_products, report.uncalled_layers, report.unused) == ({}, (), ())
    model = network(name)
    owned = {
        id(p)
        for layer in (*report.analog_layers, *report.digital_layers)
        for p in model.get_submodule(layer).parameters()
    }
    matrices = {n: p for n, p in model.named_parameters() if p.requires_grad and p.ndim >= 2}
    assert {n for n, p in matrices.items() if id(p) not in owned} == set()


@names
def test_ideal_tiles_give_the_digital_logits(name):
    model, batch = network(name), signals()
    if name == "spiking_convlstm_cfc":
        model.recurrence.neuron.threshold.data.fill_(0.05)  # no membrane is this close to it
    analog = convert(model, "ideal", backend="torch")
    torch.testing.assert_close(analog(batch), model(batch), atol=1e-4, rtol=0)


@names
def test_a_chip_is_calibrated_copied_and_read_over_time(name):
    batch = signals()
    analog = calibrate(convert(network(name), "pcm", backend="torch"), [batch])
    analog(batch).sum().backward()
    copied = copy.deepcopy(analog)
    chip = Chip(copied, seed=0)
    first, later = chip.at(0.0)(batch), chip.at(DAY_S)(batch)
    assert torch.equal(first, Chip(analog, seed=0).at(0.0)(batch))
    assert not torch.equal(first, later)
    assert later.isfinite().all()


@names
def test_hardware_aware_steps_change_all_weights_and_leave_masks(name):
    batch = signals()
    analog = calibrate(convert(network(name), "pcm", backend="torch"), [batch]).train()
    before = {n: p.detach().clone() for n, p in analog.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(analog.parameters(), 0.01, weight_decay=0.0)
    noise = TrainingNoise(analog, weights="chips", seed=0)
    for step in range(2):
        with noise.step(step):
            loss = torch.nn.functional.cross_entropy(analog(batch), torch.tensor([0, 1, 2]))
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
    parameters = dict(analog.named_parameters())
    still = {n for n, p in before.items() if torch.equal(p, parameters[n])}
    assert all(name.endswith("input_range") for name in still)
    for layer in analog.modules():
        if hasattr(layer, "masked_weight"):
            assert (layer.weight_matrix()[0][~layer.mask] == 0).all()


@names
def test_a_checkpoint_gives_the_same_logits(name, tmp_path):
    model, batch = network(name), signals()
    info = CheckpointInfo(
        model=name, in_channels=LEADS, out_channels=CLASSES, spatial_dims=1, training="digital",
        task="own", classes=("a", "b", "c"), patients=("p",), options=TINY[name], seed=0,
    )  # fmt: skip
    path = save_checkpoint(tmp_path / "network.safetensors", model, info)
    assert torch.equal(load_checkpoint(path).network(batch), model(batch))
    analog = convert(model, "pcm", backend="torch")
    path = save_checkpoint(tmp_path / "analog.safetensors", analog, info)
    assert torch.equal(load_checkpoint(path).network(batch), model(batch))


def test_tiles_time_and_products_count_all_steps():
    profile = load_profile("hermes-core")
    model = build_model("s4d_ncp", in_channels=12, out_channels=7, spatial_dims=1)
    mapped = map_tiles(model, (1, 12, 80), profile.tile_size)
    reuse = {layer.name: layer.reuse_factor for layer in mapped.layers}
    assert {reuse[f"liquid.cells.{index}.ff1"] for index in range(3)} == {10}
    assert (reuse["encoder.1.mix"], reuse["head"]) == (80, 1)
    kernels = {f"encoder.{index}.kernel": 64 * 80 * (4 * 32 + 1) for index in range(1, 5)}
    assert mapped.digital_macs == kernels
    cost = estimate(mapped, profile)
    by_layer = cost.table().groupby("layer")["time_ms"].sum()
    assert by_layer["liquid.cells.0.ff1"] == pytest.approx(10 * by_layer["head"])


@pytest.mark.parametrize(("leads", "steps"), [(12, 1_200), (1, 100)])
def test_a_convolutional_recurrence_is_used_for_each_lead_and_sample(leads, steps):
    model = build_model("convlstm_cfc", in_channels=leads, out_channels=7, spatial_dims=1)
    mapped = map_tiles(model, (1, leads, 100), 256)
    assert {layer.name: layer.reuse_factor for layer in mapped.layers}["recurrence.gates"] == steps


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("s4d", {"spatial_dims": 2}, "s4d takes signals"),
        ("convlstm_cfc", {"spatial_dims": 3}, "convlstm_cfc takes signals"),
        ("s4d", {"state": 3}, "expected an even number, 2 or more, got 3"),
        ("s4d", {"layers": 0}, "layers must be 1 or more"),
        ("s4d_ncp", {"size": "smal"}, "did you mean 'small'"),
        ("s4d_ncp", {"features": 0}, "features must be 1 or more"),
        ("s4d_ncp", {"units": 8, "outputs": 6}, "expected 3 or more than outputs"),
        ("convlstm_ltc", {"pool": 7}, r"expected a divisor of segment \(50\), got 7"),
        ("convlstm_ltc", {"kernel": 4}, "expected an odd number, got 4"),
        ("spiking_convlstm_cfc", {"threshold": 1.0}, "above 0 and below 1, got 1.0"),
    ],
)
def test_options_that_do_not_fit_are_refused(name, options, message):
    with pytest.raises(ConfigError, match=message):
        build_model(name, **{"in_channels": 2, "out_channels": 2, "spatial_dims": 1, **options})


def test_a_signal_that_is_no_multiple_of_a_segment_is_refused():
    with pytest.raises(ShapeError, match="expected a divisor of the 25 samples of a signal, got"):
        network("convlstm_cfc")(torch.zeros(1, LEADS, 25))


@pytest.mark.slow
def test_importing_the_package_loads_neither_ncps_nor_snntorch():
    code = (
        "import sys, analogmed, analogmed.models.registry as registry; "
        "registry.build_model('s4d', in_channels=1, out_channels=1, spatial_dims=1); "
        "print([name for name in ('ncps', 'snntorch') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
