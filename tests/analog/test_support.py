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
    WeightNoiseType,
    WeightRemapType,
)
from torch import nn

from analogmed.analog import convert, create_rpu_config
from analogmed.errors import ConfigError

REFUSED = {
    "forward.mv_type": AnalogMVType.BIT_WISE,
    "forward.bound_management": BoundManagementType.ITERATIVE,
    "forward.noise_management": NoiseManagementType.MAX,
    "forward.w_noise_type": WeightNoiseType.PCM_READ,
    "forward.w_noise": 0.1,
    "forward.ir_drop": 1.0,
    "forward.out_noise_std": 0.1,
    "forward.out_nonlinearity": 0.1,
    "forward.slope_calibration": 0.5,
    "forward.v_offset_std": 0.1,
    "forward.r_series": 0.1,
    "forward.w_read_asymmetry_dtod": 0.1,
    "modifier.type": WeightModifierType.PCM_NOISE,
    "modifier.pdrop": 0.1,
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
    "mapping.learn_out_scaling": True,
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
    config.forward.w_noise, config.modifier.pdrop = 0.1, 0.2
    with pytest.raises(ConfigError, match=r"forward.w_noise = 0.1, modifier.pdrop = 0.2"):
        convert(nn.Sequential(nn.Linear(3, 3)), config)


def test_aihwkits_own_default_is_refused_for_its_bound_management():
    with pytest.raises(ConfigError, match="bound_management"):
        convert(nn.Sequential(nn.Linear(3, 3)), TorchInferenceRPUConfig())


@pytest.mark.parametrize("kind", [QuantizedTorchInferenceRPUConfig, TorchInferenceRPUConfigIRDropT])
def test_a_configuration_of_another_torch_tile_is_refused(kind):
    config = kind()
    assert isinstance(config, TorchInferenceRPUConfig)
    with pytest.raises(ConfigError, match="tile_class"):
        convert(nn.Sequential(nn.Linear(3, 3)), config)


@pytest.mark.parametrize("config", [InferenceRPUConfig(), {"tile_size": 3}, None])
def test_anything_but_a_torch_inference_configuration_is_refused(config):
    with pytest.raises(ConfigError, match=f"got {type(config).__name__}"):
        convert(nn.Sequential(nn.Linear(3, 3)), config)
