import dataclasses

import pytest
from aihwkit.simulator.configs import InferenceRPUConfig, TorchInferenceRPUConfig
from aihwkit.simulator.configs.configs import (
    QuantizedTorchInferenceRPUConfig,
    TorchInferenceRPUConfigIRDropT,
)
from aihwkit.simulator.parameters.enums import (
    AnalogMVType,
    BoundManagementType,
    NoiseManagementType,
    WeightClipType,
    WeightModifierType,
    WeightRemapType,
)
from torch import nn

from analogmed.analog import convert, create_rpu_config
from analogmed.foundation.errors import ConfigError

REFUSED = {
    "forward.mv_type": AnalogMVType.BIT_WISE,
    "forward.bound_management": BoundManagementType.ITERATIVE,
    "forward.noise_management": NoiseManagementType.AVERAGE_ABS_MAX,
    "forward.out_noise_std": 0.1,
    "forward.v_offset_std": 0.1,
    "forward.r_series": 0.1,
    "forward.w_read_asymmetry_dtod": 0.1,
    "modifier.per_batch_sample": True,
    "modifier.enable_during_test": True,
    "modifier.copy_last_column": True,
    "clip.type": WeightClipType.AVERAGE_CHANNEL_MAX,
    "remap.type": WeightRemapType.CHANNELWISE_SYMMETRIC,  # beside one scale a tile
    "remap.remapped_wmax": 0.8,
    "remap.max_scale_range": 2.0,
    "remap.max_scale_ref": 0.5,
    "mapping.digital_bias": False,
    "mapping.weight_scaling_omega": 0.6,
    "pre_post.input_range.manage_output_clipping": True,
}


@pytest.mark.parametrize("path", REFUSED)
def test_a_field_that_the_layers_do_not_follow_is_refused_by_name_and_value(path):
    config = create_rpu_config("pcm")
    *parents, name = path.split(".")
    owner = config
    for parent in parents:
        owner = getattr(owner, parent)
    assert name in {f.name for f in dataclasses.fields(owner)}
    setattr(owner, name, REFUSED[path])
    with pytest.raises(ConfigError, match=f"{path} = ") as caught:
        convert(nn.Sequential(nn.Linear(3, 3)), config)
    assert str(REFUSED[path]) in str(caught.value)


def test_all_refused_fields_are_named_at_once():
    config = create_rpu_config("pcm")
    config.forward.v_offset_std, config.modifier.per_batch_sample = 0.1, True
    with pytest.raises(ConfigError, match=r"v_offset_std = 0.1, modifier.per_batch_sample = True"):
        convert(nn.Sequential(nn.Linear(3, 3)), config)


COMBINATIONS = {
    "modifier.pdrop = 0.1": {"modifier.type": WeightModifierType.NONE, "modifier.pdrop": 0.1},
    "modifier.res = 254.0": {"modifier.type": WeightModifierType.DOREFA, "modifier.res": 254.0},
    "forward.out_nonlinearity_std = 0.2": {
        "forward.out_nonlinearity": 0.1,
        "forward.out_nonlinearity_std": 0.2,
    },
}


@pytest.mark.parametrize("message", COMBINATIONS)
def test_fields_that_do_not_go_together_are_refused_with_the_reason(message):
    config = create_rpu_config("pcm")
    for path, value in COMBINATIONS[message].items():
        parent, name = path.split(".")
        setattr(getattr(config, parent), name, value)
    with pytest.raises(ConfigError, match=message):
        convert(nn.Sequential(nn.Linear(3, 3)), config)


PULSES = {
    "ir_drop_segments = 7": {"ir_drop_segments": 7},
    "apply_xdep_pcm_read_noise": {"apply_xdep_pcm_read_noise": True},
    "forward.inp_res = -1": {"inp_res": -1.0},
    r"2\^bits - 2": {"inp_res": 1 / 250, "mv_type": AnalogMVType.SPLIT_MODE},
    "w_noise": {"w_noise": 0.1},
}


@pytest.mark.parametrize("message", PULSES)
def test_of_inputs_as_pulses_only_what_aihwkit_computes_for_each_vector_is_taken(message):
    config = TorchInferenceRPUConfigIRDropT()
    config.forward.bound_management = BoundManagementType.NONE
    config.mapping.weight_scaling_omega = 1.0
    convert(nn.Sequential(nn.Linear(3, 3)), config)
    for name, value in PULSES[message].items():
        setattr(config.forward, name, value)
    with pytest.raises(ConfigError, match=message):
        convert(nn.Sequential(nn.Linear(3, 3)), config)


def test_aihwkits_own_default_is_refused_for_its_bound_management():
    with pytest.raises(ConfigError, match="bound_management"):
        convert(nn.Sequential(nn.Linear(3, 3)), TorchInferenceRPUConfig())


def test_a_configuration_of_another_torch_tile_is_refused():
    config = QuantizedTorchInferenceRPUConfig()
    assert isinstance(config, TorchInferenceRPUConfig)
    with pytest.raises(ConfigError, match="tile_class"):
        convert(nn.Sequential(nn.Linear(3, 3)), config)


@pytest.mark.parametrize("config", [InferenceRPUConfig(), 3, None])
def test_anything_but_a_torch_inference_configuration_is_refused(config):
    with pytest.raises(ConfigError, match=f"got {type(config).__name__}"):
        convert(nn.Sequential(nn.Linear(3, 3)), config)
