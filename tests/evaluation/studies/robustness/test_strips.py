"""Strips of an evaluation: signals with their images, and predictions on chips over time."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from analogmed.config import Experiment, SweepConfig, TaskConfig
from analogmed.evaluation import evaluate
from analogmed.evaluation.studies.robustness.strips import _shown, choose_images, write_strips
from analogmed.foundation.time_constants import DAY_S
from analogmed.models import build_model
from analogmed.report.page.strips import strip_section
from analogmed.tables.robustness import STRIP_IMAGES, STRIP_SIGNALS
from analogmed.training import CheckpointInfo, save_checkpoint


def test_images_of_a_strip_are_the_first_with_the_most_classes_and_then_the_rarest():
    labels = np.array([0, 0, 1, 0, 0, 0, 0, 1, 2, 0, 0, 2])[:, None]
    assert choose_images(labels, most=3) == slice(6, 9)
    assert choose_images(np.zeros((5, 1)), most=3) == slice(0, 3)
    assert choose_images(labels, most=20) == slice(0, 20)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An evaluation of a network of one state-space layer on the ECG phantom."""
    root = tmp_path_factory.mktemp("strips")
    small = {"phantom_patients": 8, "phantom_size": 32, "apart": ["V", "F"]}
    config = TaskConfig("phantom_ecg", options=small, root=root)
    task, options = config.load(), {"features": 4, "state": 2, "layers": 1}
    torch.manual_seed(0)
    network = build_model("s4d", in_channels=12, out_channels=4, spatial_dims=1, **options)
    info = CheckpointInfo("s4d", 12, 4, 1, "digital", task.name, task.classes, options=options)
    checkpoint = save_checkpoint(root / "net.safetensors", network, info)
    experiment = Experiment(
        config,
        (checkpoint,),
        sweep=SweepConfig(chips=3, times_s=(0.0, 1.0, DAY_S)),
        out=root / "run",
    )
    with pytest.warns(UserWarning, match="stays digital"):
        evaluate(experiment)
    return task, network.eval(), experiment


def test_tables_have_the_signal_and_the_probabilities_of_all_chips(run):
    task, network, experiment = run
    signals = STRIP_SIGNALS.read(experiment.folder)
    images = STRIP_IMAGES.read(experiment.folder)
    assert images["time_s"].drop_duplicates().fillna(-1).tolist() == [-1, 0, 1, DAY_S]
    assert set(images.loc[images["time_s"].notna(), "n_chips"]) == {3}
    assert (images["least"] <= images["probability"]).all()
    assert (images["probability"] <= images["largest"]).all()
    assert (images["largest"] > images["least"]).any()
    of_image = images.groupby(["case", "second", "time_s"], dropna=False)["probability"]
    np.testing.assert_allclose(of_image.sum(), 1, atol=3e-4)
    for case in task.test:
        own = images[(images["case"] == case.case_id) & images["time_s"].isna()]
        if own.empty:
            continue
        sample, strip = task.read(case), task.strip(case)
        lead = signals[signals["case"] == case.case_id]
        (first,) = (n for n in range(len(sample.label)) if _fits(own, sample, strip, n, task))
        count = own["second"].nunique()
        with torch.inference_mode():
            found = network(torch.from_numpy(sample.image[first : first + count])).softmax(1)
        assert own["probability"].tolist() == pytest.approx(found.flatten().tolist(), abs=6e-5)
        peak = round(own["second"].iloc[0] * strip.rate)
        middle = sample.image[first, task.channels.index("II"), task.window[0] // 2]
        assert lead["value"].iloc[peak] == pytest.approx(middle, abs=6e-4)


def _fits(own, sample, strip, first, task):
    """Return whether the images of a strip can start at an image of the case."""
    seconds = own["second"].drop_duplicates().to_numpy()
    places = strip.places[first : first + len(seconds)] / strip.rate
    references = own.groupby("second", sort=False)["reference"].first().tolist()
    labels = [task.classes[index] for index in sample.label[first : first + len(seconds), 0]]
    return labels == references and np.allclose(places - places[0], seconds - seconds[0])


def test_strips_of_segments_show_the_beats_in_them(tmp_path):
    small = {"phantom_patients": 6, "phantom_size": 32, "segment_s": 6.4, "window_s": 1.28}
    config = TaskConfig("phantom_ecg", options=small, root=tmp_path)
    task, options = config.load(), {"features": 4, "state": 2, "layers": 1, "every_step": True}
    torch.manual_seed(0)
    network = build_model("s4d", in_channels=12, out_channels=4, spatial_dims=1, **options)
    info = CheckpointInfo("s4d", 12, 4, 1, "digital", task.name, task.classes, options=options)
    checkpoint = save_checkpoint(tmp_path / "net.safetensors", network, info)
    sweep = SweepConfig(chips=1, times_s=(0.0,))
    with pytest.warns(UserWarning, match="stays digital"):
        evaluate(Experiment(config, (checkpoint,), sweep=sweep, out=tmp_path / "run"))
    images = STRIP_IMAGES.read(tmp_path / "run")
    assert len(images)
    for case in task.test:
        own = images[(images["case"] == case.case_id) & images["time_s"].isna()]
        if own.empty:
            continue
        sample, strip = task.read(case), task.strip(case)
        beats = task.kind.references(sample.label)
        scored = replace(sample, label=beats)
        (first,) = (n for n in range(len(beats)) if _fits(own, scored, strip, n, task))
        shown = slice(first, first + own["second"].nunique())
        with torch.inference_mode():
            logits = network.eval()(torch.from_numpy(sample.image))
        found = task.kind.scored_logits(logits, sample.label)[shown].softmax(1)
        assert own["probability"].tolist() == pytest.approx(found.flatten().tolist(), abs=6e-5)


def test_a_page_shows_each_case(run):
    folder = run[2].folder
    images, signals = STRIP_IMAGES.read(folder), STRIP_SIGNALS.read(folder)
    (section,) = strip_section(images, signals, "run1")
    assert len(section.figures) == images["case"].nunique()
    assert section.figures[0].alt.startswith("Worst case: synthetic, p00")
    assert "chips at t0, 1 s, 1 day, from left to right. Markers: means over 3" in section.text
    assert "true class of each beat" in section.text and "image" not in section.text
    slider = section.slider
    assert slider["event"] == "beat"
    assert slider["stops"] == ["run digitally", "t0", "1 s", "1 day"]
    assert slider["start"] == {"stop": 3}
    first = images[images["case"] == images["case"].iloc[0]]
    own = first[first["class"] == first["reference"]]
    means = own.groupby(own["time_s"].fillna(-1.0))["probability"].mean()
    assert slider["cases"][0]["values"] == [[f"{value:.2f}" for value in means]]
    for svg in (section.figures[0].svg, section.figures[0].narrow):
        marks = set(re.findall(r'<g id="run1-strip0(?:-n)?-stop(\d)-0-\d"', svg))
        assert marks == {"0", "1", "2", "3"}
    assert list(strip_section(images[images["time_s"].isna()], signals, "run1")) == []


def test_long_sweeps_are_shown_at_few_times():
    short, long = (SweepConfig(times_s=tuple(map(float, range(n)))) for n in (8, 9))
    assert _shown(short).times_s == short.times_s
    assert _shown(long).times_s == (0.0,)
    assert _shown(replace(long, times_s=(*long.times_s, DAY_S))).times_s == (0.0, DAY_S)


def test_classes_apart_are_predicted_and_in_no_mean(run):
    folder = run[2].folder
    rows = pd.read_parquet(folder / "results.parquet")
    digital = rows[rows["time_s"].isna()].groupby("class")["value"].mean()
    (summary,) = pd.read_csv(folder / "summary.csv").to_dict("records")
    assert set(digital.index) == {"N", "S", "V", "F"}
    assert summary["auroc_digital"] == pytest.approx(digital[["N", "S"]].mean())


def test_no_strip_is_written_where_the_score_is_undefined(run, tmp_path):
    task, _, experiment = run
    table = pd.read_parquet(experiment.folder / "results.parquet").assign(value=np.nan)
    write_strips(experiment.for_task(task), task, [], table, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_examples_no_strip_is_written_and_old_ones_are_removed(run):
    experiment = run[2]
    assert (experiment.folder / STRIP_IMAGES.file).is_file()
    with pytest.warns(UserWarning, match="stays digital"):
        evaluate(replace(experiment, examples=0))
    assert not (experiment.folder / STRIP_IMAGES.file).exists()
    assert (experiment.folder / "summary.csv").is_file()
