"""The key of a unit covers all code of analogmed that computes it, in every study."""

import sys
from pathlib import Path

import pytest

import analogmed
from analogmed.config import SweepConfig
from analogmed.evaluation.studies.mitigation.compute import (
    MitigationCompute,
    inputs_of_units,
    units_of_network,
)
from analogmed.evaluation.studies.sensitivity.ablations import AblationSetting
from analogmed.evaluation.studies.sensitivity.compute import AblationCompute, AblationPlan
from analogmed.evaluation.studies.sensitivity.settings import SensitivityConfig
from analogmed.evaluation.studies.uncertainty.compute import UncertaintyCompute, UncertaintyPlan
from analogmed.evaluation.studies.uncertainty.settings import MitigationConfig, UncertaintyConfig
from analogmed.execution.code_key import package_closure
from analogmed.execution.compute import evaluate
from analogmed.training import load_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:the temperature ran")]
ROOT = Path(analogmed.__file__).parent


def mitigation(settings, checkpoint):
    config = MitigationConfig(images=2, **settings)
    inputs = inputs_of_units(config, config.task.load())
    return MitigationCompute, config, units_of_network(checkpoint, config, inputs)


def ablations(settings, checkpoint):
    config = SensitivityConfig(every_nth_slice=4, **settings)
    plan = AblationPlan(config, config.task.load(), checkpoint)
    setting = AblationSetting("only_digital", "head", config.hardware, frozenset({"head"}))
    return AblationCompute, config, [plan.digital, *plan.on_chips([setting])]


def uncertainty(settings, checkpoint):
    config = UncertaintyConfig(dropout=0.1, **settings)
    task = config.task.load()
    plan = UncertaintyPlan(config, task, [checkpoint])
    ranks = {task.test[0].case_id: "worst"}
    sources = [plan.source(source, [checkpoint], ranks) for source in ("chips", "mc_dropout")]
    return UncertaintyCompute, config, [plan.dice(checkpoint), *sources]


@pytest.mark.parametrize("study", [mitigation, ablations, uncertainty])
def test_every_function_that_computes_a_unit_is_in_a_file_that_the_key_covers(
    study, tiny_task, tiny_digital
):
    settings = {
        "task": tiny_task,
        "checkpoints": (tiny_digital,),
        "sweep": SweepConfig(chips=1, times_s=(0.0,)),
    }
    compute, config, units = study(settings, load_checkpoint(tiny_digital))
    files = set()

    def note(frame, event, _):
        if event == "call" and frame.f_code.co_name != "<module>":
            files.add(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        worker = compute(config)
        outcomes = [evaluate(worker, unit) for unit in units]
    finally:
        sys.setprofile(None)
    assert [outcome.failure or outcome.stop for outcome in outcomes] == [None] * len(units)
    ran = {Path(file) for file in files if file.startswith(f"{ROOT}/")}
    assert len(ran) > 20
    assert ran <= set(package_closure(compute.__module__).files.values())
