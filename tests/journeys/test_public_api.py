import ast
import os
import pkgutil
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import analogmed as am
from analogmed.config import SweepConfig


def loaded_after(code):
    """Modules of a fresh process after some code."""
    code += "\nimport sys; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_importing_the_package_imports_neither_torch_nor_aihwkit():
    loaded = loaded_after("import analogmed; dir(analogmed)")
    assert "analogmed" in loaded
    assert loaded.isdisjoint({"torch", "aihwkit", "monai", "numpy", "pandas"})


@pytest.mark.slow
def test_every_module_of_the_package_imports_where_torchvision_cannot():
    names = [
        module.name
        for module in pkgutil.walk_packages(am.__path__, "analogmed.")
        if not module.name.endswith("__main__")
        and (find_spec("triton") or ".gpu." not in module.name)  # triton is optional
    ]
    blocked = "import sys; sys.modules['torchvision'] = None\n"  # import then raises ImportError
    assert set(names) <= loaded_after(blocked + "\n".join(f"import {name}" for name in names))


@pytest.mark.slow
def test_no_source_of_the_package_imports_torchvision():
    sources = [*Path(am.__path__[0]).rglob("*.py")]
    assert len(sources) > 50
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not any(name.name.startswith("torchvision") for name in node.names), source
            elif isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("torchvision"), source


def test_the_report_imports_neither_torch_nor_aihwkit():
    assert loaded_after("import analogmed.report").isdisjoint({"torch", "aihwkit", "monai"})


def test_every_public_name_is_there_and_listed_and_no_other():
    assert [name for name in dir(am) if not name.startswith("__")] == am.__all__
    for name in am.__all__:
        assert getattr(am, name).__doc__


def test_the_version_is_that_of_the_installed_package():
    assert am.__version__ == version("analogmed")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"analogmed.*'nothing'"):
        am.nothing  # noqa: B018


def test_the_way_from_a_network_to_a_chip():
    model = am.build_model("unet", in_channels=3, out_channels=1, features=4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    config = am.create_rpu_config("pcm", tile_size=512)
    analog = am.convert(model, config)
    covered = am.coverage(analog)
    assert (covered.weight_share, covered.mac_share, covered.digital_layers) == (1.0, 1.0, {})
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    am.calibrate(analog, [images])
    chip = am.Chip(analog, seed=0)
    logits = chip.at(86_400.0, read=0)(images)
    assert logits.shape == (2, 1, 32, 32)
    assert torch.equal(am.Chip(analog, seed=0).at(86_400.0, read=0)(images), logits)
    assert not torch.equal(am.Chip(analog, seed=1).at(86_400.0, read=0)(images), logits)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    summary = am.map_tiles(model, (1, 3, 32, 32), tile_size=512).summary()
    assert summary["parameters"] == sum(p.numel() for p in model.parameters())


def test_a_trained_network_brings_its_input_ranges(tiny_digital, tiny_hwa):
    trained = am.load_checkpoint(tiny_hwa)
    analog = am.convert(trained.network, am.create_rpu_config("pcm"))
    assert am.load_input_ranges(analog, trained.input_ranges)
    state = analog.state_dict()
    for name, ranges in trained.input_ranges.items():
        assert torch.equal(state[f"{name}.input_range"], ranges)
    assert not am.load_input_ranges(analog, am.load_checkpoint(tiny_digital).input_ranges)


def test_the_way_from_a_task_to_results(tiny_task, tiny_digital, tmp_path):
    task = am.load_task("phantom_brain", root=tiny_task.root, **tiny_task.options)
    assert [len(cases) for cases in (task.train, task.validation, task.test)] == [3, 1, 2]
    experiment = am.Experiment(
        task=tiny_task,
        checkpoints=(tiny_digital,),
        sweep=SweepConfig(chips=1, times_s=(0.0,)),
        out=tmp_path / "run",
    )
    result = am.evaluate(experiment)
    assert len(result.table) == 2 * len(task.test)
    assert result.summary().loc[0, ["task", "model", "training"]].tolist() == [
        "phantom_brain",
        "unet",
        "digital",
    ]


def deprecated_names():
    """Package, old name and new name of each entry of the tables of the lazy packages."""
    for path in sorted(Path(am.__path__[0]).rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "lazy_exports":
                parts = path.relative_to(Path(am.__path__[0]).parent).with_suffix("").parts
                package = ".".join(part for part in parts if part != "__init__")
                tables = [word.value for word in call.keywords if word.arg == "deprecated"]
                for old, new in ((o, n) for t in tables for o, n in ast.literal_eval(t).items()):
                    yield package, old, new


def test_a_deprecated_name_is_the_new_one_with_a_warning():
    names = list(deprecated_names())
    assert ("analogmed.report", "dice_over_time", "metric_over_time") in names
    for package, old, new in names:
        module = import_module(package)
        with pytest.warns(
            DeprecationWarning, match=rf"^{package}\.{old} is deprecated; use {new}$"
        ):
            found = getattr(module, old)
        assert found is getattr(module, new)
        assert old not in dir(module)


RELEASED = """
analogmed: CheckpointInfo Chip Experiment TrainConfig build_model calibrate convert coverage
    create_rpu_config evaluate load_checkpoint load_input_ranges load_task map_tiles
    save_checkpoint
analogmed.analog: Chip ChipReading Coverage Hardware PRESETS TrainingNoise WeightClipper
    calibrate convert coverage create_rpu_config from_aihwkit ignore_unused_parameters
    left_digital to_aihwkit
analogmed.config: CalibrationConfig DAY_S DEFAULT_TIMES_S EngineConfig Experiment HOUR_S
    Hardware MONTH_S ModelConfig SECOND_S SweepConfig T0_S TaskConfig YEAR_S
    require_at_least_one require_at_least_zero resolve_layers to_plain to_yaml
analogmed.data: Case Sample Task Volume check_duplicates check_leakage count_overlaps ct_window
    find_duplicates load_brats load_dsb2018 load_lgg load_msd load_nifti load_task read_image
    read_nifti read_to_end resize_image resize_label split_by_patient split_from_file task_names
    z_score
analogmed.evaluation: Decision Interval METRICS PairedTest Placed PlacementConfig Results
    Sensitivities SensitivityConfig VarianceComponents case_metrics compare_models difference
    enough evaluate expected_width holm over_time paired_test pilot_components place_layers
    plan_size rank ratio sensitivity std_between_chips summarise time_to_failure
    two_way_bootstrap variance_components
analogmed.evaluation.statistics: ChipMeans Decision Interval PairedTest VarianceComponents
    compare_models difference enough expected_width holm mean_over_chips paired_test
    pilot_components plan_size ratio std_between_chips time_to_failure two_way_bootstrap
    variance_components
analogmed.hardware: Agreement Block Cost Figures LayerTiles Level LookupTable Operation
    PLUGIN_GROUP PROFILES Packing Placement Profile Recorded RowSplit Stage TileMap Timing
    agreement describe_machine estimate load_profile map_tiles measure_networks
    measure_operations place profile_names read_table record
analogmed.models: Genotype Level PLUGIN_GROUP build_model describe_model divisible_by
    follows_window model_names model_options required_divisor window_of_task
analogmed.report: dice_over_time drop_per_model placement_curve render_costs render_layers
    render_placement render_sensitivity render_summary render_tiles reuse_per_layer
    sensitivity_heat_map slice_timeline source_bars tile_occupancy to_markdown training_curves
    write_report
analogmed.training: Checkpoint CheckpointInfo LoadingConfig LossConfig NoiseConfig
    OptimizerConfig TrainConfig load_checkpoint load_input_ranges load_out_scales
    load_trained_ranges save_checkpoint train
"""


@pytest.mark.slow
def test_every_public_name_of_the_last_release_is_still_imported():
    for line in RELEASED.replace("\n    ", " ").strip().splitlines():
        package, _, names = line.partition(": ")
        module = import_module(package)
        deprecated = {old for place, old, _ in deprecated_names() if place == package}
        assert set(names.split()) - deprecated <= {*module.__all__}
