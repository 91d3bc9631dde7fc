import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analogmed.config import Experiment, SweepConfig
from analogmed.data import Case, Sample, Task
from analogmed.evaluation import evaluate
from analogmed.evaluation.examples import choose_cases, write_examples
from analogmed.evaluation.planes import choose_planes
from analogmed.evaluation.studies.uncertainty.examples import Examples
from analogmed.evaluation.studies.uncertainty.maps import UncertaintyMaps
from analogmed.foundation.errors import DataError
from analogmed.training import load_checkpoint

TIMES_S = (0.0, 86_400.0)


@pytest.fixture(scope="module")
def evaluated(tiny_task, tiny_digital, tmp_path_factory):
    experiment = Experiment(
        task=tiny_task,
        checkpoints=(tiny_digital,),
        sweep=SweepConfig(chips=2, times_s=TIMES_S),
        out=tmp_path_factory.mktemp("eval"),
    )
    return experiment, evaluate(experiment).table


@pytest.fixture(scope="module")
def written(evaluated, tmp_path_factory):
    experiment, table = evaluated
    checkpoints = [load_checkpoint(path) for path in experiment.checkpoints]
    task, folder = experiment.task.load(), tmp_path_factory.mktemp("run")
    paths = write_examples(experiment, task, checkpoints, table, folder, n_cases=2)
    return task, [dict(np.load(path, allow_pickle=False)) for path in paths]


def on_chip(dice, times_s=TIMES_S):
    rows = [
        {"metric": "dice", "time_s": time_s, "case": case, "value": value, "note": ""}
        for case, value in dice.items()
        for time_s in times_s
    ]
    return pd.DataFrame(rows)


def volume(spacing=(4.0, 2.0, 1.0)):
    label = np.zeros((1, 5, 6, 7), np.uint8)
    label[0, 3, 1:5, 2:4] = 1
    label[0, 2, 2, 2] = 1
    image = np.arange(label.size, dtype=np.float32).reshape(1, *label.shape)
    return Sample(image, label, spacing, Case("a", "a", (), ()))


def task(tmp_path, spatial_dims, unit):
    return Task(
        name="t", root=tmp_path, spatial_dims=spatial_dims, channels=("ct",), classes=("spleen",),
        window=(5, 6, 7)[3 - spatial_dims :], spacing_unit=unit, train=(), validation=(), test=(),
        read=lambda case: volume(),
    )  # fmt: skip


def test_the_dice_of_an_example_is_that_of_the_sweeps_first_chip(evaluated, written):
    table = evaluated[1]
    for arrays in written[1]:
        rows = table[(table["metric"] == "dice") & (table["case"] == about(arrays)["case"])]
        digital = rows[rows["hardware"] == "digital"]["value"]
        chip = rows[rows["chip"] == 0].sort_values("time_s")["value"]
        assert arrays["dice_digital"].tolist() == digital.tolist()
        assert arrays["dice"][0].tolist() == chip.tolist()


def test_the_slice_is_the_one_with_the_largest_reference(written):
    whole, examples = written
    by_id = {case.case_id: case for case in whole.test}
    for arrays in examples:
        sample = whole.read(by_id[about(arrays)["case"]])
        assert (arrays["label_slice"] > 0).sum() == (sample.label > 0).sum(axis=(1, 2)).max()
        assert arrays["pred_slice"].shape == (1, 2, 32, 32)
        assert arrays["image_slice"].shape == (3, 32, 32)
        assert arrays["image_slice"].min() == 0 and arrays["image_slice"].max() == 255


def test_the_worst_and_the_best_are_named(written):
    worst, best = written[1]
    assert (about(worst)["place"], about(best)["place"]) == ("worst", "best")
    assert about(worst)["case"] != about(best)["case"]


def test_no_example_is_written_for_none(evaluated, tmp_path):
    experiment, table = evaluated
    assert write_examples(experiment, experiment.task, [], table, tmp_path, n_cases=0) == []
    assert list(tmp_path.iterdir()) == []


def test_cases_are_spread_over_the_ranks():
    dice = {f"case{rank}": rank / 10 for rank in range(5)}
    shuffled = on_chip({name: dice[name] for name in ("case3", "case0", "case4", "case1", "case2")})
    assert choose_cases(shuffled, 3) == {"worst": "case0", "median": "case2", "best": "case4"}
    assert choose_cases(shuffled, 1) == {"median": "case2"}
    assert choose_cases(shuffled, 2) == {"worst": "case0", "best": "case4"}
    assert list(choose_cases(shuffled, 9)) == [
        "worst", "rank-2-of-5", "median", "rank-4-of-5", "best",
    ]  # fmt: skip
    assert choose_cases(on_chip({"a": 0.5}), 3) == {"only": "a"}


def test_ranks_are_those_of_one_day_or_else_of_the_last_time():
    table = pd.concat(
        [
            on_chip({"a": 0.1, "b": 0.9}, (86_400.0,)),
            on_chip({"a": 0.9, "b": 0.1}, (0.0, 2_592_000.0)),
        ]
    )
    assert choose_cases(table, 2) == {"worst": "a", "best": "b"}
    later = table[table["time_s"] != 86_400.0]
    assert choose_cases(later, 2) == {"worst": "b", "best": "a"}


def test_cases_without_a_dice_are_not_chosen():
    assert choose_cases(on_chip({"a": np.nan, "b": 0.5}), 3) == {"only": "b"}
    with pytest.raises(DataError, match="no Dice on a chip"):
        choose_cases(on_chip({"a": np.nan}), 3)


def test_a_case_without_the_structure_is_not_the_worst():
    spurious = on_chip({"empty": 0.0}).assign(note="spurious structure")
    assert choose_cases(pd.concat([on_chip({"a": 0.5}), spurious]), 3) == {"only": "a"}


def test_volumes_are_cut_along_three_axes_and_stand_upright(tmp_path):
    sample = volume()
    planes = choose_planes(sample, task(tmp_path, 3, "mm"))
    assert [plane.name for plane in planes] == ["axial", "coronal", "sagittal"]
    assert [plane.index for plane in planes] == [3, 2, 2]
    axial, coronal, sagittal = (plane.cut(sample.label) for plane in planes)
    assert np.array_equal(axial, sample.label[0, 3, ::-1])
    assert np.array_equal(coronal, sample.label[0, ::-1, 2])
    assert np.array_equal(sagittal, sample.label[0, ::-1, :, 2])


def test_pictures_do_not_depend_on_the_order_of_the_axes(tmp_path):
    sample = volume()
    turned = Sample(
        sample.image.transpose(0, 1, 4, 3, 2),
        sample.label.transpose(0, 3, 2, 1),
        sample.spacing[::-1],
        sample.case,
    )
    whole = task(tmp_path, 3, "mm")
    for one, other in zip(
        choose_planes(sample, whole), choose_planes(turned, replace(whole, axes="xyz")), strict=True
    ):
        assert (one.name, one.index) == (other.name, other.index)
        assert np.array_equal(one.cut(sample.label), other.cut(turned.label))
        assert one.spacing(sample.spacing) == other.spacing(turned.spacing)


def test_planes_have_the_names_of_their_axes(tmp_path):
    sample, whole = volume(), task(tmp_path, 3, "mm")
    turned = Sample(  # X, Z, Y: sagittal slices first
        sample.image.transpose(0, 1, 4, 2, 3),
        sample.label.transpose(0, 3, 1, 2),
        tuple(sample.spacing[axis] for axis in (2, 0, 1)),
        sample.case,
    )
    for one, other in zip(
        choose_planes(sample, whole), choose_planes(turned, replace(whole, axes="xzy")), strict=True
    ):
        assert (one.name, one.index) == (other.name, other.index)
        assert np.array_equal(one.cut(sample.label), other.cut(turned.label))
        assert one.spacing(sample.spacing) == other.spacing(turned.spacing)
    of_files = replace(whole, axes="zyx", is_oriented=False)
    assert [plane.name for plane in choose_planes(sample, of_files)] == ["z", "y", "x"]


def test_maps_of_uncertainty_are_in_the_first_plane_of_the_page(tmp_path):
    sample, whole = volume(), task(tmp_path, 3, "mm")
    entropy = sample.label.astype(float)
    maps = UncertaintyMaps(entropy[:, None], *[entropy] * 5, n_chips=2, n_reads=1)
    found = Examples({sample.case.case_id: "worst"})
    found.add(("t", "unet", "digital", "chips", 0.0), sample, maps, whole)
    axial = choose_planes(sample, whole)[0]
    assert np.array_equal(found.arrays["worst_reference"], axial.cut(sample.label))
    assert np.array_equal(found.arrays["worst_0_entropy"], axial.cut(sample.label))
    assert np.array_equal(found.arrays["worst_image"][..., 0], axial.cut(sample.image[:, 0]))


def test_slices_with_x_first_are_turned(tmp_path):
    sample = volume()
    stack = Sample(sample.image[0, :, None], sample.label[0], (4.0, 2.0, 1.0), sample.case)
    turned = Sample(
        stack.image.swapaxes(2, 3), stack.label.swapaxes(1, 2), (4.0, 1.0, 2.0), sample.case
    )
    slices = task(tmp_path, 2, "mm")
    (one,) = choose_planes(stack, slices)
    (other,) = choose_planes(turned, replace(slices, axes="zxy"))
    assert np.array_equal(one.cut(stack.label), other.cut(turned.label))
    assert one.spacing(stack.spacing) == other.spacing(turned.spacing) == (2.0, 1.0)


def test_images_without_a_voxel_size_are_not_turned(tmp_path):
    sample = volume()
    stack = Sample(sample.image[0, :, None], sample.label[0], (2.0, 1.0), sample.case)
    (plane,) = choose_planes(stack, task(tmp_path, 2, "px"))
    assert (plane.name, plane.index) == ("slice", 3)
    assert np.array_equal(plane.cut(stack.label), stack.label[3])


def about(arrays):
    return json.loads(str(arrays["about"]))
