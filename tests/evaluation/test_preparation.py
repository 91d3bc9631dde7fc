import shutil

import pytest

from analogmed.config import Experiment
from analogmed.evaluation.preparation import prepare
from analogmed.evaluation.studies.mitigation.study import measure_mitigation
from analogmed.evaluation.studies.uncertainty.settings import MitigationConfig
from analogmed.foundation.errors import ConfigError


def test_the_shipped_unet_is_the_default_single_network():
    prepared = prepare(Experiment(), networks="one")
    (checkpoint,) = prepared.checkpoints
    assert (checkpoint.info.model, checkpoint.info.training) == ("unet", "digital")
    assert [path.name for path in prepared.config.checkpoints] == ["unet-digital.safetensors"]
    assert prepared.config.digital_layers == ()


def test_networks_of_one_model_and_training_are_an_ensemble_or_an_error(
    tiny_task, tiny_digital, tmp_path
):
    copy = shutil.copy(tiny_digital, tmp_path / "copy.safetensors")
    both = Experiment(task=tiny_task, checkpoints=(tiny_digital, copy))
    assert prepare(both, networks="ensembles").config.checkpoints == (tiny_digital, copy)
    with pytest.raises(ConfigError, match=r"copy\.safetensors and .* are both unet with digital"):
        prepare(both, networks="distinct")


def test_mitigations_of_two_networks_are_not_mixed(tiny_task, tiny_digital, tmp_path):
    copy = shutil.copy(tiny_digital, tmp_path / "copy.safetensors")
    config = MitigationConfig(
        task=tiny_task, checkpoints=(tiny_digital, copy), out=tmp_path / "run"
    )
    with pytest.raises(ConfigError, match="are both unet with digital training"):
        measure_mitigation(config)
