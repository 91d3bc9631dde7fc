import dataclasses
import doctest
import math

import pytest
import torch
from aihwkit.inference import (
    GlobalDriftCompensation,
    PCMLikeNoiseModel,
    ReRamCMONoiseModel,
    ReRamWan2022NoiseModel,
)
from aihwkit.inference.noise.hermes import HermesNoiseModel
from aihwkit.nn import AnalogLinear
from aihwkit.simulator.configs import TorchInferenceRPUConfig
from aihwkit.simulator.parameters.enums import (
    BoundManagementType,
    NoiseManagementType,
    WeightClipType,
    WeightModifierType,
    WeightNoiseType,
    WeightRemapType,
)
from torch import nn

from analogmed.analog import PRESETS, Chip, Hardware, convert, create_rpu_config
from analogmed.analog.description import aihwkit_config
from analogmed.analog.description.support import check_support
from analogmed.analog.tile.modifier import modify
from analogmed.foundation.errors import ConfigError


def field(config, path):
    for name in path.split("."):
        config = getattr(config, name)
    return config


PCM = {
    "mapping.max_input_size": 512,
    "mapping.max_output_size": 512,
    "mapping.digital_bias": True,
    "forward.is_perfect": False,
    "forward.inp_res": 1 / 254,
    "forward.out_res": 1 / 254,
    "forward.inp_bound": 1.0,
    "forward.out_bound": 10.0,
    "forward.inp_noise": 0.0,
    "forward.out_noise": 0.04,
    "forward.noise_management": NoiseManagementType.NONE,
    "forward.bound_management": BoundManagementType.NONE,
    "pre_post.input_range.enable": True,
    "pre_post.input_range.learn_input_range": True,
    "pre_post.input_range.init_from_data": 50,
    "pre_post.input_range.init_std_alpha": 3.0,
    "pre_post.input_range.decay": 0.01,
    "pre_post.input_range.input_min_percentage": 0.995,
    "modifier.type": WeightModifierType.ADD_NORMAL,
    "modifier.std_dev": 0.06,
    "modifier.rel_to_actual_wmax": True,
    "clip.type": WeightClipType.LAYER_GAUSSIAN,
    "clip.sigma": 2.0,
    "remap.type": WeightRemapType.LAYERWISE_SYMMETRIC,
    "noise_model.__class__": PCMLikeNoiseModel,
    "noise_model.g_max": 25.0,
    "noise_model.prog_noise_scale": 1.0,
    "noise_model.read_noise_scale": 1.0,
    "noise_model.drift_scale": 1.0,
    "drift_compensation.__class__": GlobalDriftCompensation,
}
ANALOGNAS = PCM | {
    "mapping.max_input_size": 256,
    "mapping.max_output_size": 255,
    "forward.inp_res": 1 / 256,
    "forward.out_res": 1 / 256,
    "forward.noise_management": NoiseManagementType.ABS_MAX,
    "forward.out_noise": 0.1,
    "forward.out_bound": 20.0,
    "pre_post.input_range.enable": False,
    "modifier.std_dev": 0.05,
    "clip.type": WeightClipType.FIXED_VALUE,
    "clip.fixed_value": 1.0,
    "remap.type": WeightRemapType.NONE,
}
del ANALOGNAS["clip.sigma"]
EXPECTED = {
    "pcm": PCM,
    "analognas": ANALOGNAS,
    "analognas-as-coded": ANALOGNAS | {"modifier.type": WeightModifierType.NONE},
    "hermes": PCM
    | {
        "mapping.max_input_size": 256,
        "mapping.max_output_size": 256,
        "noise_model.__class__": HermesNoiseModel,
        "noise_model.g_max": 20.7,  # aihwkit: the largest characterised for two devices
    },
    "reram": {
        "noise_model.__class__": ReRamWan2022NoiseModel,
        "noise_model.g_max": 40.0,
        "noise_model.noise_scale": 1.0,
        "drift_compensation": None,
    },
    "reram_cmo": {
        "noise_model.__class__": ReRamCMONoiseModel,
        "noise_model.g_max": 88.199997,
        "noise_model.g_min": 9.0,
        "drift_compensation": None,
    },
    "ideal": {
        "forward.is_perfect": True,
        "noise_model.prog_noise_scale": 0.0,
        "noise_model.read_noise_scale": 0.0,
        "noise_model.drift_scale": 0.0,
        "modifier.type": WeightModifierType.NONE,
        "clip.type": WeightClipType.NONE,
        "drift_compensation": None,
    },
}


@pytest.mark.parametrize("preset", EXPECTED)
def test_a_preset_is_the_table_of_the_design(preset):
    config = create_rpu_config(preset)
    assert {path: field(config, path) for path in EXPECTED[preset]} == EXPECTED[preset]


def test_every_preset_is_in_the_table_above():
    assert set(EXPECTED) == set(PRESETS)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_a_genuine_configuration_that_both_sides_take(preset):
    config = create_rpu_config(preset)
    assert type(config) is TorchInferenceRPUConfig
    check_support(config)
    AnalogLinear(3, 2, rpu_config=config)


@pytest.mark.parametrize("name", ["read_noise_scale", "drift_scale"])
def test_a_scale_that_the_noise_model_does_not_have_is_refused(name):
    with pytest.raises(ConfigError, match=rf"hardware.{name}: .*one scale .*prog_noise_scale"):
        Hardware("reram", **{name: 0.0})
    assert Hardware("reram", prog_noise_scale=0.5, **{name: 0.5}).prog_noise_scale == 0.5


ARGUMENTS = {
    "perfect": (True, {"forward.is_perfect": True}),
    "tile_size": ((64, 32), {"mapping.max_input_size": 64, "mapping.max_output_size": 32}),
    "row_copies": (4, {"mapping.row_copies": 4}),
    "dac_steps": (14, {"forward.inp_res": 1 / 14}),
    "adc_steps": (0, {"forward.out_res": -1.0}),
    "inp_bound": (0.9, {"forward.inp_bound": 0.9}),
    "out_bound": (7.0, {"forward.out_bound": 7.0}),
    "inp_noise": (0.01, {"forward.inp_noise": 0.01}),
    "out_noise": (0.02, {"forward.out_noise": 0.02}),
    "noise_management": ("abs_max", {"forward.noise_management": NoiseManagementType.ABS_MAX}),
    "input_range": (False, {"pre_post.input_range.enable": False}),
    "input_range_decay": (0.1, {"pre_post.input_range.decay": 0.1}),
    "input_range_keep": (0.9, {"pre_post.input_range.input_min_percentage": 0.9}),
    "modifier": ("mult_normal", {"modifier.type": WeightModifierType.MULT_NORMAL}),
    "modifier_std": (0.1, {"modifier.std_dev": 0.1}),
    "modifier_coeffs": ((0.1, 0.2), {"modifier.coeffs": [0.0105392, 0.0768, -0.046925]}),
    "modifier_clip": (0.7, {"modifier.dorefa_clip": 0.7}),
    "modifier_t_inference_s": (60.0, {"modifier.pcm_t_inference": 60.0}),
    "drop_connect": (
        0.1,
        {"modifier.pdrop": 0.1, "modifier.type": WeightModifierType.ADD_NORMAL},
    ),
    "learned_out_scale": (
        "column",
        {"mapping.learn_out_scaling": True, "mapping.out_scaling_columnwise": True},
    ),
    "weight_noise": (
        "additive",
        {"forward.w_noise_type": WeightNoiseType.ADDITIVE_CONSTANT, "forward.w_noise": 0.0},
    ),
    "weight_noise_std": (0.02, {"forward.w_noise": 0.0}),  # acts with a kind of noise only
    "clip": ("none", {"clip.type": WeightClipType.NONE}),
    "clip_sigma": (3.0, {"clip.sigma": 3.0}),
    "clip_value": (1.0, {"clip.fixed_value": -1.0}),  # acts with clip="fixed" only
    "remap": (
        "channelwise",
        {
            "remap.type": WeightRemapType.CHANNELWISE_SYMMETRIC,
            "mapping.weight_scaling_columnwise": True,
        },
    ),
    "noise_model": ("state_independent", {"noise_model.g_max": 25.0}),
    "g_max_us": (20.0, {"noise_model.g_max": 20.0}),
    "prog_noise_scale": (0.5, {"noise_model.prog_noise_scale": 0.5}),
    "read_noise_scale": (0.5, {"noise_model.read_noise_scale": 0.5}),
    "drift_scale": (0.5, {"noise_model.drift_scale": 0.5}),
    "drift_compensation": ("none", {"drift_compensation": None}),
    "acceptance_range_percent": (0.2, {"noise_model.g_max": 25.0}),  # of reram_cmo only
}


FIELDS = [f.name for f in dataclasses.fields(Hardware) if f.name != "preset"]


@pytest.mark.parametrize("name", FIELDS)
def test_each_argument_sets_its_field(name):
    value, expected = ARGUMENTS[name]
    config = create_rpu_config("pcm", **{name: value})
    assert {path: field(config, path) for path in expected} == expected
    assert str(create_rpu_config("pcm", **{name: None})) == str(create_rpu_config("pcm"))


TOGETHER = [
    (
        {"modifier": "poly", "modifier_coeffs": (0.1, 0.2)},
        {"modifier.type": WeightModifierType.POLY, "modifier.coeffs": [0.1, 0.2]},
    ),
    (
        {"modifier": "prog_noise"},  # the fit to PCM devices in uS, which aihwkit divides by g_max
        {"modifier.coeffs": PCMLikeNoiseModel().prog_coeff, "modifier.g_max": 25.0},
    ),
    (
        {"modifier": "pcm_noise", "g_max_us": 20.0},
        # aihwkit's fit in uS is for 25 uS; PCMLikeNoiseModel rescales it likewise
        {"modifier.type": WeightModifierType.PCM_NOISE, "modifier.g_max": 25.0},
    ),
    (
        {"modifier": "dorefa", "dac_steps": 14},
        {"modifier.type": WeightModifierType.DOREFA, "modifier.res": 2 / 14},
    ),
    (
        {"modifier": "discretize_add_normal", "dac_steps": 0},
        {"modifier.type": WeightModifierType.DISCRETIZE_ADD_NORMAL, "modifier.res": 2 / 254},
    ),
    ({"modifier": "discretize"}, {"modifier.res": 1 / 254}),
    (
        {"modifier": "none", "drop_connect": 0.2},
        {"modifier.type": WeightModifierType.DROP_CONNECT, "modifier.pdrop": 0.2},
    ),
    (
        {"weight_noise": "pcm_read", "weight_noise_std": 0.03},
        {"forward.w_noise_type": WeightNoiseType.PCM_READ, "forward.w_noise": 0.03},
    ),
    (
        {"learned_out_scale": "tile"},
        {"mapping.learn_out_scaling": True, "mapping.out_scaling_columnwise": False},
    ),
]


@pytest.mark.parametrize(("arguments", "expected"), TOGETHER)
def test_arguments_that_act_together_set_their_fields(arguments, expected):
    config = create_rpu_config("pcm", **arguments)
    assert {path: field(config, path) for path in expected} == expected
    check_support(config)


BAD = [
    ("perfect", "no"),
    ("acceptance_range_percent", 0.02),
    ("input_range", 1),
    ("tile_size", 0),
    ("tile_size", 256.5),
    ("tile_size", (256, 0)),
    ("tile_size", (1, 2, 3)),
    ("tile_size", True),
    ("row_copies", 0),
    ("row_copies", 2.5),
    ("dac_steps", -1),
    ("adc_steps", 254.5),
    ("inp_bound", 0.0),
    ("out_bound", -1.0),
    ("inp_noise", -0.1),
    ("out_noise", float("nan")),
    ("out_noise", "0.1"),
    ("input_range_decay", -0.1),
    ("input_range_keep", 1.1),
    ("input_range_keep", 0.0),
    ("modifier_std", float("inf")),
    ("modifier_coeffs", ()),
    ("modifier_coeffs", (0.1, float("nan"))),
    ("modifier_coeffs", 0.1),
    ("modifier_clip", 0.0),
    ("modifier_t_inference_s", -1.0),
    ("drop_connect", 1.0),
    ("drop_connect", -0.1),
    ("learned_out_scale", "columns"),
    ("weight_noise", "pcm"),
    ("weight_noise_std", -0.1),
    ("clip_sigma", 0.0),
    ("clip_value", 0.0),
    ("g_max_us", 0.0),
    ("prog_noise_scale", -1.0),
    ("read_noise_scale", -1.0),
    ("drift_scale", -1.0),
    ("noise_management", "max"),
    ("modifier", "add"),
    ("clip", "gaussian"),
    ("remap", "layer"),
    ("noise_model", "pmc"),
    ("drift_compensation", "globl"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_value_outside_its_range_is_refused_with_name_and_value(name, value):
    with pytest.raises(ConfigError, match=f"hardware.{name}") as caught:
        create_rpu_config("pcm", **{name: value})
    assert repr(value) in str(caught.value)


def test_each_argument_is_tried():
    assert {name for name, _ in BAD} == set(FIELDS)


@pytest.mark.parametrize(
    ("call", "hint"),
    [
        (lambda: Hardware("pcn"), "did you mean 'pcm'"),
        (lambda: create_rpu_config("pcn"), "did you mean 'pcm'"),
        (lambda: create_rpu_config("pcm", out_nois=0.1), "did you mean 'out_noise'"),
        (lambda: Hardware("pcm", noise_model="hermess"), "did you mean 'hermes'"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(call, hint):
    with pytest.raises(ConfigError, match=hint):
        call()


@pytest.mark.parametrize(
    ("arguments", "limit"),
    [
        ({"noise_model": "hermes"}, "10.35 uS|20.7 uS"),  # pcm's 25 uS is beyond that chip
        ({"noise_model": "reram_cmo", "g_max_us": 5.0}, "g_min"),
        ({"noise_model": "reram_wan2022"}, "fit is for 40 uS"),
    ],
)
def test_a_conductance_beyond_the_noise_model_is_refused_with_the_preset_to_take(arguments, limit):
    with pytest.raises(ConfigError, match=limit) as caught:
        create_rpu_config("pcm", **arguments)
    assert f"preset '{arguments['noise_model'].removesuffix('_wan2022')}'" in str(caught.value)


@pytest.mark.parametrize(("percent", "sigma_us"), [(0.2, 0.04382), (2.0, 0.46283)])
def test_the_acceptance_range_selects_the_fit_of_the_programming_noise(percent, sigma_us):
    model = create_rpu_config("reram_cmo", acceptance_range_percent=percent).noise_model
    target = torch.full((200_000,), 40.0)
    error = model.apply_programming_noise_to_conductance(target) - target
    assert error.std().item() == pytest.approx(sigma_us, rel=0.01)  # Falcone et al., 0.2 and 2 %


@pytest.mark.parametrize(
    ("preset", "value", "hint"),
    [("reram_cmo", 0.02, "expected 0.2 or 2"), ("pcm", 2.0, "'pcm' has no acceptance range")],
)
def test_an_acceptance_range_without_a_fit_is_refused(preset, value, hint):
    with pytest.raises(ConfigError, match=hint):
        Hardware(preset, acceptance_range_percent=value)


MID = torch.linspace(-0.7, 0.7, 200_000).reshape(1, 400, 500)


def spread(config):
    """Standard deviation of the modifier on weights of middle size, the largest being 1."""
    weight = MID.clone()
    weight[0, 0, 0] = 1.0
    return (modify(weight, ((0, 400),), config.modifier) - weight).std().item()


@pytest.mark.parametrize("g_max_us", [25.0, 50.0])
@pytest.mark.parametrize("kind", ["poly", "prog_noise", "pcm_noise"])
def test_a_modifier_of_devices_has_the_size_of_their_noise_at_any_conductance(kind, g_max_us):
    """Closed form of the programming noise of PCM; ``pcm_noise`` adds its read noise."""
    w = MID.double().abs()
    relative = (0.26348 + 1.9650 * w - 1.1731 * w**2) / 25
    expected = (relative**2).mean()
    if kind == "pcm_noise":
        read = (0.0088 / w.clamp(min=1e-9) ** 0.65).clamp(max=0.2)
        expected = expected + ((w * read) ** 2).mean() * math.log((20 + 250e-9) / 500e-9)
    config = create_rpu_config("pcm", modifier=kind, g_max_us=g_max_us)
    assert spread(config) == pytest.approx(math.sqrt(expected), rel=0.03)
    half = create_rpu_config("pcm", modifier=kind, g_max_us=g_max_us, modifier_std=0.5)
    assert spread(half) < 0.6 * spread(config)


@pytest.mark.parametrize("kind", ["poly", "prog_noise"])
@pytest.mark.parametrize("g_max_us", [None, 10.0])
def test_hermes_trains_with_the_programming_noise_of_hermes(kind, g_max_us):
    w = MID.double().abs()
    fit = [0.16603222, 4.71806468, -8.48101252, 4.68961419] if g_max_us is None else None
    model = create_rpu_config("hermes", g_max_us=g_max_us).noise_model
    fit, reference = fit or model.prog_coeff, model.prog_coeff_g_max_reference
    relative = sum(c * w**power for power, c in enumerate(fit)) / reference
    config = create_rpu_config("hermes", modifier=kind, g_max_us=g_max_us)
    assert spread(config) == pytest.approx((relative**2).mean().sqrt().item(), rel=0.02)


def test_a_modifier_without_devices_keeps_the_presets_size_and_a_given_one_is_kept():
    assert Hardware("pcm").modifier_std == 0.06
    assert Hardware("pcm", modifier="mult_normal").modifier_std == 0.06
    assert Hardware("pcm", modifier="poly").modifier_std == 1.0
    assert Hardware("pcm", modifier="poly", modifier_std=0.06).modifier_std == 0.06


def test_perfect_hardware_does_not_clip_at_an_input_range():
    model = nn.Sequential(nn.Linear(8, 4)).eval()
    inputs = 100 * torch.randn(16, 8)
    off = {"prog_noise_scale": 0.0, "read_noise_scale": 0.0, "drift_scale": 0.0}
    analog = convert(model, create_rpu_config("pcm", perfect=True, **off))
    assert analog[0].input_range is None
    torch.testing.assert_close(analog(inputs), model(inputs))
    torch.testing.assert_close(
        Chip(analog, seed=0).at(0.0)(inputs), model(inputs), rtol=1e-4, atol=1e-3
    )


def test_the_examples_in_the_documentation_run():
    assert doctest.testmod(aihwkit_config) == (0, 2)
