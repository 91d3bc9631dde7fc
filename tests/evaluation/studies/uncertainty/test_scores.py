"""Scores for the diagrams, for tasks with several classes."""

import numpy as np
import torch

from analogmed.evaluation.studies.uncertainty.maps import UncertaintyStream
from analogmed.evaluation.studies.uncertainty.scores import Scores
from analogmed.report.figures import uncertainty as uncertainty_figures
from analogmed.report.figures.uncertainty import reliability_diagram, uncertainty_density

ADDRESS = ("task", "unet", "digital", "deterministic", float("nan"))


class Sample:
    """The part of a sample that scores read."""

    def __init__(self, label):
        self.label, self.spacing = label, (1.0, 1.0)
        self.case = type("Case", (), {"case_id": "a", "patient_id": "p"})


class Task:
    classes, spacing_unit = ("a", "b", "c"), "px"


def scores_of(prob):
    stream = UncertaintyStream()
    stream.add(torch.from_numpy(np.array(prob, dtype=np.float32)))
    label = np.zeros((1, *prob.shape[2:]), dtype=np.uint8)
    label[0, 0, 0] = 1
    scores = Scores(15, 3)
    scores.add(ADDRESS, Sample(label), stream.maps(), Task)
    return scores


def test_the_entropy_of_four_equal_classes_is_in_the_bin_of_its_value(tmp_path):
    """ln 4 is 1.386 nats, beyond 1."""
    density = scores_of(np.full((1, 4, 8, 8), 0.25)).density_table()
    whole = density[(density["region"] == "image") & (density["measure"] == "entropy")]
    filled = whole[whole["count"] > 0]
    assert filled["count"].tolist() == [64]
    assert filled["bin_low"].item() < np.log(4) < filled["bin_high"].item()
    assert uncertainty_density(density, tmp_path / "density.png").is_file()


def test_measures_up_to_1_have_the_bins_up_to_1():
    density = scores_of(np.eye(4)[np.zeros(64, int)].T.reshape(1, 4, 8, 8)).density_table()
    assert density["bin_high"].max() == 1.0
    whole = density[(density["region"] == "image") & (density["measure"] == "entropy")]
    assert whole["count"].tolist() == [64, *[0] * (len(whole) - 1)]


def test_the_reliability_diagram_shows_confidences_below_a_half(tmp_path, monkeypatch):
    """Of four classes the most probable one has a probability of 0.25 or more."""
    figures = []
    monkeypatch.setattr(
        uncertainty_figures, "save_figure", lambda figure, path: figures.append(figure) or path
    )
    prob = np.broadcast_to(np.array([0.28, 0.24, 0.24, 0.24])[None, :, None, None], (1, 4, 8, 8))
    reliability_diagram(scores_of(prob).reliability_table(), tmp_path / "reliability.png")
    assert all(axes.get_xlim()[0] < 0.28 for axes in figures[0].axes)
