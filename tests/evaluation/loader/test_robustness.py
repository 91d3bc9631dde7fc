import numpy as np
import pytest
import torch
from monai.data import DataLoader as MonaiLoader
from monai.data import Dataset
from monai.inferers import SlidingWindowInferer
from monai.metrics import ConfusionMatrixMetric, DiceMetric, compute_dice
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import analogmed as am
from analogmed.evaluation.passes import chip_seed
from analogmed.foundation.errors import ConfigError

DAY_S = 86_400.0


def values(result, **where):
    rows = result.values
    for name, value in where.items():
        rows = rows[rows[name] == value]
    return rows["value"].to_numpy(dtype=float)


def dice(network, images, labels):
    return compute_dice((network(images) > 0).float(), labels.float()).numpy().ravel()


def test_the_digital_scores_are_those_of_the_network_before_its_conversion(
    result, network, images, labels
):
    expected = dice(network, images, labels)
    np.testing.assert_allclose(values(result, hardware="digital"), expected, rtol=1e-6)


def test_scores_on_a_chip_are_those_of_the_chip_at_that_time(result, analog, images, labels):
    chip = am.Chip(analog, seed=chip_seed(0, "Sequential", 1))
    snapshot = chip.at(DAY_S)
    snapshot.restart("loader")
    found = values(result, hardware="pcm", chip=1, time_s=DAY_S)
    np.testing.assert_allclose(found, dice(snapshot, images, labels), rtol=1e-6)


def test_the_table_has_the_mean_and_the_drop_of_each_time_with_intervals(result):
    table = result.table
    assert list(table.index) == ["digital", "t0", "1 day"]
    day = values(result, hardware="pcm", time_s=DAY_S).mean()
    assert table.loc["1 day", "dice"] == pytest.approx(day)
    assert table.loc["1 day", "drop"] == pytest.approx(table.loc["digital", "dice"] - day)
    on_chip = table.drop("digital")
    assert (on_chip["low"] <= on_chip["dice"]).all() and (on_chip["dice"] <= on_chip["high"]).all()
    assert "1 day" in str(result) and "5 patients, 3 chips" in str(result)
    assert "<table" in result._repr_html_()


def test_the_plot_draws_the_scores_on_the_chip_and_the_digital_baseline(result, tmp_path):
    drawing = result.plot(tmp_path / "scores.svg").read_text(encoding="utf-8")
    assert drawing.count("this network, on the chip") == 1
    assert drawing.count("this network, run digitally") == 1


def test_an_ideal_chip_loses_nothing(network, images, labels):
    ideal = am.convert(network, "ideal")
    table = am.robustness(ideal, [(images, labels)], times=["1 year"], chips=2).table
    assert table.loc["1 year", "drop"] == 0


def test_the_network_is_as_before(analog, images, labels):
    before = {name: tensor.clone() for name, tensor in analog.state_dict().items()}
    am.robustness(analog, [(images, labels)], times=[0], chips=2)
    after = analog.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_loaders_of_torch_and_monai_and_any_batch_size_give_the_same_values(
    result, analog, images, labels
):
    cases = [{"scan": x, "seg": y} for x, y in zip(images, labels, strict=True)]
    runs = [
        am.robustness(
            analog,
            DataLoader(TensorDataset(images, labels[:, 0]), batch_size=2),
            times=[0, DAY_S],
            chips=3,
        ),
        am.robustness(
            analog,
            MonaiLoader(Dataset(cases), batch_size=3),
            times=["t0", "24 h"],
            chips=3,
            keys=("scan", "seg"),
        ),
    ]
    for run in runs:
        np.testing.assert_allclose(values(run), values(result))


def test_a_function_and_a_metric_of_monai_score_as_the_metric_of_that_name(
    result, analog, images, labels
):
    def overlap(prediction, reference):
        both = (prediction * reference).sum()
        return 2 * both / (prediction.sum() + reference.sum())

    for metric, name in ((overlap, "overlap"), (DiceMetric(), "DiceMetric")):
        run = am.robustness(analog, [(images, labels)], metric=metric, times=[0, DAY_S], chips=3)
        assert name in run.table.columns
        np.testing.assert_allclose(values(run), values(result), rtol=1e-6)


def test_several_classes_are_scored_from_indices_or_from_channels(images):
    torch.manual_seed(1)
    network = nn.Conv2d(1, 3, 3, padding=1)
    analog = am.calibrate(am.convert(network), [images])
    indices = torch.randint(0, 3, (5, 1, 16, 16), generator=torch.Generator().manual_seed(2))
    channels = nn.functional.one_hot(indices[:, 0], 3).movedim(-1, 1)
    runs = [
        am.robustness(analog, [(images, form)], times=[0], chips=2) for form in (indices, channels)
    ]
    assert set(runs[0].values["class"]) == {"class 1", "class 2"}
    np.testing.assert_allclose(values(runs[0]), values(runs[1]))
    monai = am.robustness(analog, [(images, indices)], metric=DiceMetric(False), times=[0], chips=2)
    means = runs[0].values.groupby(["hardware", "chip", "case"], dropna=False)["value"].mean()
    assert monai.values["value"].mean() == pytest.approx(means.mean(), rel=1e-6)


def test_a_metric_of_monai_that_counts_is_aggregated_for_each_image(result, analog, images, labels):
    """The F1 score of one class is its Dice."""
    counted = ConfusionMatrixMetric(metric_name="f1 score")
    run = am.robustness(analog, [(images, labels)], metric=counted, times=[0, DAY_S], chips=3)
    np.testing.assert_allclose(values(run), values(result), rtol=1e-6)
    several = ConfusionMatrixMetric(metric_name=["precision", "recall"])
    with pytest.raises(ConfigError, match="'ConfusionMatrixMetric': it computes 2 values"):
        am.robustness(analog, [(images, labels)], metric=several, times=[0], chips=2)


def test_images_of_one_patient_count_as_one(analog, images, labels):
    patients = ["a", "a", "a", "b", "b"]
    run = am.robustness(analog, [(images, labels)], times=[0], chips=2, patients=patients)
    assert set(run.curves["n_patients"]) == {2}


def test_larger_images_are_seen_through_a_sliding_window(analog):
    images = torch.rand(2, 1, 24, 24)
    labels = (images > 0.5).long()
    inferer = SlidingWindowInferer((16, 16), overlap=0.5)
    run = am.robustness(analog, [(images, labels)], times=[0], chips=2, inferer=inferer)
    assert run.table["dice"].notna().all()


def test_a_drop_of_a_distance_is_an_increase(analog, images, labels):
    def mean_distance(prediction, reference):
        return (prediction - reference).abs().float().mean()

    for options in ({}, {"lower_is_better": True}):
        run = am.robustness(
            analog, [(images, labels)], metric=mean_distance, times=0, chips=2, **options
        )
        table = run.table
        assert table.loc["t0", "drop"] == pytest.approx(table["mean_distance"].diff().iloc[-1])
        assert (
            table.loc["t0", "drop_low"] <= table.loc["t0", "drop"] <= table.loc["t0", "drop_high"]
        )
        assert "lower is better" in str(run)


def test_images_that_are_in_no_mean_and_missing_intervals_are_reported(analog, images, labels):
    emptied = labels.clone()
    emptied[:2] = 0
    run = am.robustness(analog, [(images, emptied)], times=0, chips=1)
    assert "2 of 5 images are in no mean" in str(run)
    assert "no intervals" in str(run)
    whole = am.robustness(analog, [(images, labels)], times=0, chips=2)
    assert whole.notes == []


def test_images_in_half_precision_are_calibrated_and_evaluated(network, images, labels):
    analog = am.calibrate(am.convert(network), [images.half()])
    assert (
        am.robustness(analog, [(images.half(), labels)], times=0, chips=2).table.notna().any().all()
    )
