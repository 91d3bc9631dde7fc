"""The demo: two trainings of a network on two kinds of chip, on few patients."""

from contextlib import redirect_stdout
from io import StringIO

import pytest
import yaml

from analogmed.cli.evaluation import DemoConfig
from analogmed.cli.programs.demo import NETWORKS, experiments, run
from analogmed.evaluation.preparation import checkpoint_paths
from analogmed.evaluation.settings import Experiment
from analogmed.execution.settings import EngineConfig
from analogmed.foundation.errors import ConfigError
from analogmed.report.findings import findings
from analogmed.report.runs import read_run
from analogmed.training import load_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return DemoConfig(
        presets=("reram", "pcm"),
        patients=2,
        chips=2,
        engine=EngineConfig(),
        out=tmp_path_factory.mktemp("demo"),
    )


@pytest.fixture(scope="module")
def printed(settings):
    text = StringIO()
    with redirect_stdout(text):
        run(settings)
    return text.getvalue()


def test_its_patients_are_none_that_a_network_was_trained_on(settings):
    first, second = experiments(settings)
    assert first.task == second.task
    assert [path.stem for path in first.checkpoints] == list(NETWORKS)
    split = yaml.safe_load((settings.out / "split.yaml").read_text(encoding="utf-8"))
    trained = {
        name
        for path in checkpoint_paths(Experiment())
        for name in load_checkpoint(path).info.patients
    }
    assert len(split["test"]) == 2 and not trained & set(split["test"])
    assert split["train"] and set(split["train"]) <= trained


def test_its_times_are_those_that_the_chips_are_defined_at(settings):
    reram, pcm = experiments(settings)
    assert reram.sweep.times_s == (1.0, 86_400.0, 172_800.0)
    assert pcm.sweep.times_s == (0.0, 86_400.0, 2_592_000.0)


def test_its_sentences_are_the_findings_of_its_tables_largest_loss_first(settings, printed):
    runs = [read_run(settings.out / preset) for preset in settings.presets]
    runs.sort(key=lambda run: run.tables["summary"]["drop_1d"].max(), reverse=True)
    said = [findings(run)[0] for run in runs]
    places = [" ".join(printed.split()).index(sentence) for sentence in said]
    assert places == sorted(places)
    for run_, sentence in zip(runs, said, strict=True):
        for row in run_.tables["summary"].to_dict("records"):
            assert f"{abs(row['drop_1d']):.3f}" in sentence


def test_its_page_starts_with_the_largest_loss(settings, printed):
    page = (settings.out / "report.md").read_text(encoding="utf-8")
    first = page.partition("- After a day")[2].partition("\n")[0]
    assert first and printed.partition("After a day")[2].startswith(first[:20])
    assert str(settings.out / "report.html") in printed
    assert max(map(len, printed.splitlines()[:-1])) <= 80


def test_a_preset_that_is_not_known_is_refused():
    with pytest.raises(ConfigError, match="reramm"):
        DemoConfig(presets=("reramm",))
    with pytest.raises(ConfigError, match="at least one preset"):
        DemoConfig(presets=())
