"""Studies replace and remove only files that runs have written."""

import pytest

from analogmed.evaluation.studies.mitigation.study import measure_mitigation
from analogmed.evaluation.studies.placement.study import place_layers
from analogmed.evaluation.studies.sensitivity.settings import PlacementConfig, SensitivityConfig
from analogmed.evaluation.studies.sensitivity.study import sensitivity
from analogmed.evaluation.studies.uncertainty.settings import MitigationConfig, UncertaintyConfig
from analogmed.evaluation.studies.uncertainty.study import measure_uncertainty
from analogmed.foundation.errors import ConfigError


@pytest.mark.parametrize(
    ("study", "config", "names"),
    [
        (sensitivity, SensitivityConfig, ["ranking.csv", "figures/layers.png"]),
        (place_layers, PlacementConfig, ["placements.csv", "placement.yaml"]),
        (measure_mitigation, MitigationConfig, ["summary.csv", "figures/mitigation.png"]),
        (measure_uncertainty, UncertaintyConfig, ["comparison.csv", "figures/maps_unet_t0.png"]),
    ],
)
def test_files_of_other_origin_are_refused_before_the_data_are_read(study, config, names, tmp_path):
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("of the user")
        with pytest.raises(ConfigError, match=rf"replace or remove {name}, which no run"):
            study(config(out=tmp_path))
        assert path.read_text() == "of the user"
        path.unlink()
    assert not (tmp_path / "units").exists()
