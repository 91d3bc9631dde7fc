"""The table of effects: complete, and correct for every engine that it names."""

import dataclasses

import pytest
import torch
from aihwkit.simulator.configs.configs import TorchInferenceRPUConfigIRDropT
from aihwkit.simulator.parameters.enums import (
    AnalogMVType,
    BoundManagementType,
    NoiseManagementType,
    WeightNoiseType,
)
from aihwkit.simulator.parameters.io import IOParameters, IOParametersIRDropT
from torch import nn

from analogmed.analog import convert, create_rpu_config
from analogmed.analog.description import support
from analogmed.analog.description.effects import EFFECTS, FIELDS, effects_of, not_computed
from analogmed.analog.engines import select as engines
from analogmed.foundation.errors import ConfigError

ABS_MAX, CONSTANT, WORST, NONE = (
    NoiseManagementType[name] for name in ("ABS_MAX", "CONSTANT", "ABS_MAX_NP_SUM", "NONE")
)
# of each effect: the fields that switch it on, and for each of its fields another value
CHANGES = {
    "perfect tiles": ({}, {"is_perfect": True}),
    "the input converter": ({}, {"inp_res": 1 / 20, "inp_bound": 0.5}),
    "the output converter": ({}, {"out_res": 1 / 20, "out_bound": 0.5, "out_scale": 0.7}),
    "output noise": ({}, {"out_noise": 0.1}),
    "noise management by each input vector": (
        {"noise_management": ABS_MAX},
        {"noise_management": NoiseManagementType.MAX, "nm_thres": 0.3},
    ),
    "noise management by a constant": (
        {"noise_management": CONSTANT, "nm_thres": 4.0},
        {"noise_management": ABS_MAX, "nm_thres": 0.7},
    ),
    "noise management by the worst sum": (
        {"noise_management": WORST, "out_bound": 0.5},
        {"noise_management": ABS_MAX, "nm_thres": 0.01, "max_bm_res": 1e-3},
    ),
    "weight noise": (
        {"w_noise_type": WeightNoiseType.ADDITIVE_CONSTANT, "w_noise": 0.05},
        {"w_noise_type": WeightNoiseType.PCM_READ, "w_noise": 0.1},
    ),
    "input noise": ({}, {"inp_noise": 0.1}),
    "stochastic rounding of inputs": ({}, {"inp_sto_round": True}),
    "stochastic rounding of outputs": ({}, {"out_sto_round": True}),
    "asymmetry of inputs": ({}, {"inp_asymmetry": 0.1}),
    "asymmetry of outputs": ({}, {"out_asymmetry": 0.1}),
    "saturation": ({"out_nonlinearity": 0.5}, {"out_nonlinearity": 0.7, "slope_calibration": 0.5}),
    "static IR drop": (
        {"ir_drop": 1.0, "out_res": -1.0},
        {"ir_drop": 2.0, "ir_drop_g_ratio": 1e5},
    ),
    "inputs as pulses in time": (
        {"ir_drop": 1.0, "inp_res": 1 / 254},
        {
            "mv_type": AnalogMVType.BIT_WISE,
            "split_mode_bit_shift": 4,
            "ir_drop": 0.5,
            "ir_drop_rs": 1.0,
            "ir_drop_segments": 4,
            "ir_drop_time_step_resolution_scale": 8.0,
            "ir_drop_v_read": 0.2,
            "ir_drop_integration_sum": True,
            "adc_quantization": False,
            "adc_frequency": 1.0,
        },
    ),
}
BESIDE = {  # what a change needs besides, to have an effect
    "split_mode_bit_shift": {"mv_type": AnalogMVType.SPLIT_MODE},
    "ir_drop_segments": {"adc_quantization": False, "out_res": -1.0, "ir_drop_rs": 1.0},
}
REFUSED = {
    "several passes": {"mv_type": AnalogMVType.POS_NEG_SEPARATE},
    "bound management": {"bound_management": BoundManagementType.ITERATIVE},
    "noise management by an average": {"noise_management": NoiseManagementType.AVERAGE_ABS_MAX},
    "spread of the output noise": {"out_noise_std": 0.1},
    "spread of the saturation": {"out_nonlinearity": 0.1, "out_nonlinearity_std": 0.2},
    "voltage offsets": {"v_offset_std": 0.1},
    "series resistance": {"r_series": 0.1},
    "asymmetry of reads": {"w_read_asymmetry_dtod": 0.1},
}
BY_NAME = {effect.name: effect for effect in EFFECTS}


def configuration(effect, changes):
    """Tiles with converters and little noise, and with an effect."""
    if effect == "inputs as pulses in time":
        config = TorchInferenceRPUConfigIRDropT()
        config.mapping.max_input_size = config.mapping.max_output_size = 32
        config.mapping.weight_scaling_omega = 1.0
        config.forward.bound_management = BoundManagementType.NONE
        config.forward.noise_management = NONE
    else:
        config = create_rpu_config("pcm", tile_size=32, modifier="none")
        config.forward.out_noise = 0.01
    for name, value in changes.items():
        setattr(config.forward, name, value)
    return config


def outputs_of(config, kind):
    """The output of one layer on the engine that computes it; its type is checked."""
    torch.manual_seed(0)
    backend = "torch" if kind == "torch" else "auto"
    model = convert(nn.Sequential(nn.Conv2d(6, 8, 3)), config, backend=backend)
    model.train(kind == "training")
    inputs = torch.randn(2, 6, 5, 5)
    types = {
        "torch": engines.TorchEngine,
        "reading": engines.DirectEngine,
        "vectors": engines.Im2colEngine,
        "training": engines.TrainingEngine,
    }
    with torch.set_grad_enabled(kind == "training"):
        torch.manual_seed(1)
        return type(engines.engine_for(model[0], inputs)) is types[kind], model(inputs).detach()


CLAIMS = [
    (effect.name, field, kind)
    for effect in EFFECTS
    for field in (CHANGES[effect.name][1] if effect.name in CHANGES else ())
    for kind in effect.engines
]


@pytest.mark.parametrize(("effect", "field", "kind"), CLAIMS)
def test_every_field_changes_the_output_of_every_engine_that_computes_its_effect(
    effect, field, kind
):
    base, changes = CHANGES[effect]
    base = base | BESIDE.get(field, {})
    if kind == "vectors" and effect in (
        "the input converter",
        "the output converter",
        "output noise",
    ):
        base = base | {"noise_management": ABS_MAX}
    changed = configuration(effect, base | {field: changes[field]})
    is_on_it, found = outputs_of(changed, kind)
    assert is_on_it
    assert BY_NAME[effect] in effects_of(changed.forward) or field == "noise_management"
    assert not torch.equal(found, outputs_of(configuration(effect, base), kind)[1])


def test_the_changes_cover_every_field_of_every_effect():
    computed = [effect for effect in EFFECTS if effect.engines]
    assert {effect.name: set(effect.fields) for effect in computed} == {
        name: set(changes) for name, (_, changes) in CHANGES.items()
    }
    others = {effect.name for effect in EFFECTS if not effect.engines}
    assert others == {*REFUSED, "read noise that depends on the batch"}


@pytest.mark.parametrize("io", [IOParameters, IOParametersIRDropT])
def test_every_field_of_aihwkit_has_its_effect(io):
    assert {field.name for field in dataclasses.fields(io)} <= FIELDS


@pytest.mark.parametrize("effect", CHANGES)
def test_an_engine_is_not_chosen_for_an_effect_that_it_does_not_compute(effect):
    base, changes = CHANGES[effect]
    field = BY_NAME[effect].fields[0]
    config = configuration(effect, base | ({} if base else {field: changes[field]}))
    for kind in ("reading", "vectors", "training"):
        missing = effect in not_computed(kind, config.forward)
        assert missing == (kind not in BY_NAME[effect].engines)
        if missing and kind != "vectors":
            assert not outputs_of(config, kind)[0]


@pytest.mark.parametrize("perfect", [False, True])
@pytest.mark.parametrize("effect", REFUSED)
def test_an_effect_that_no_engine_computes_is_refused(effect, perfect):
    config = configuration(effect, REFUSED[effect])
    config.forward.is_perfect = perfect
    assert BY_NAME[effect] in effects_of(config.forward)
    with pytest.raises(ConfigError, match=f"forward.{BY_NAME[effect].fields[0]} = "):
        convert(nn.Sequential(nn.Linear(3, 3)), config)


def test_backend_numba_names_what_it_does_not_compute():
    config = configuration("", {"inp_noise": 0.1, "out_asymmetry": 0.2})
    message = "backend 'numba': not implemented for input noise, asymmetry of outputs. Use backend"
    with pytest.raises(ConfigError, match=message):
        convert(nn.Sequential(nn.Linear(3, 3)), config, backend="numba")


@pytest.mark.parametrize("section", support._KNOWN)
def test_a_field_that_the_analog_layers_do_not_know_is_refused(section, monkeypatch):
    """As a later aihwkit may have one."""
    config = configuration("", {})
    owner, _, name = section.rpartition(".")
    parent = getattr(config, owner) if owner else config
    own = getattr(parent, name)
    newer = dataclasses.make_dataclass("Newer", [("novel", float, 0.0)], bases=(type(own),))
    known = {field.name: getattr(own, field.name) for field in dataclasses.fields(own)}
    setattr(parent, name, newer(**known))
    convert(nn.Sequential(nn.Linear(3, 3)), config)
    getattr(parent, name).novel = 0.5
    with pytest.raises(ConfigError, match=rf"{section}\.novel = 0.5"):
        convert(nn.Sequential(nn.Linear(3, 3)), config)
