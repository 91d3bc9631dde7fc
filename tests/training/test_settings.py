import math
from pathlib import Path

import pytest

from analogmed.config import ModelConfig
from analogmed.foundation.errors import ConfigError
from analogmed.training import (
    LoadingConfig,
    LossConfig,
    NoiseConfig,
    OptimizerConfig,
    TrainConfig,
)


@pytest.mark.parametrize(
    ("config_class", "name", "value"),
    [
        (TrainConfig, "epochs", 0),
        (TrainConfig, "batch_size", 0),
        (TrainConfig, "validate_every", 0),
        (TrainConfig, "validation_chips", 0),
        (TrainConfig, "patience", -1),
        (OptimizerConfig, "learning_rate", 0.0),
        (OptimizerConfig, "learning_rate", math.inf),
        (OptimizerConfig, "weight_decay", -1e-4),
        (OptimizerConfig, "gradient_norm", 0.0),
        (OptimizerConfig, "accumulate", 0),
        (OptimizerConfig, "ema", 1.0),
        (OptimizerConfig, "warm_up", -0.1),
        (OptimizerConfig, "momentum", math.nan),
        (OptimizerConfig, "momentum", 1.0),
        (OptimizerConfig, "warm_up", 1.0),
        (LossConfig, "dice", -1.0),
        (LossConfig, "temperature", 0.0),
        (LossConfig, "focal", 0.5),
        (LoadingConfig, "cache_bytes", -1),
        (LoadingConfig, "mixed_bytes", -1),
        (LoadingConfig, "foreground", 1.5),
        (NoiseConfig, "ramp", 1.1),
        (NoiseConfig, "every", 0),
    ],
)
def test_settings_outside_their_range_are_refused_by_name_and_value(config_class, name, value):
    with pytest.raises(ConfigError, match=rf"{name}.*got {value!r}"):
        config_class(**{name: value})


@pytest.mark.parametrize("value", [0.0, 0.999])
@pytest.mark.parametrize("name", ["momentum", "warm_up", "ema"])
def test_shares_from_0_to_below_1_are_accepted(name, value):
    assert getattr(OptimizerConfig(**{name: value}), name) == value


@pytest.mark.parametrize("value", [0.0, 1.0, 2.5])
def test_exponents_of_the_focal_loss_with_a_finite_gradient_are_accepted(value):
    assert LossConfig(focal=value).focal == value


@pytest.mark.parametrize("ages_s", [(-1.0, 0.0), (2.0, 1.0), (0.0, math.inf)])
def test_impossible_ages_of_chips_are_refused(ages_s):
    with pytest.raises(ConfigError, match="two finite times"):
        NoiseConfig(ages_s=ages_s)


def test_a_loss_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="are all 0"):
        LossConfig(dice=0, cross_entropy=0)


def test_only_hardware_aware_training_has_a_network_to_learn_from():
    with pytest.raises(ConfigError, match=r"loss\.distillation"):
        TrainConfig(loss=LossConfig(distillation=1.0))
    assert TrainConfig(training="hwa", loss=LossConfig(distillation=1.0)).loss.distillation == 1


def test_default_folders_hold_no_separator_of_a_factory_or_bundle():
    folder = TrainConfig(model=ModelConfig("package.module:factory")).folder
    assert folder == Path("runs/train/phantom_brain-package.module_factory-digital")
