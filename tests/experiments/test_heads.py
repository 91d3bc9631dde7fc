"""The functions of the experiment for the figure of the README."""

import numpy as np
import pytest

from analogmed.data import load_task


@pytest.fixture(scope="module")
def experiment(program):
    return program("experiments", "heads")


@pytest.fixture(scope="module")
def task():
    return load_task("phantom_brain", phantom_patients=10)


def test_heads_are_the_largest_slices_of_patients_that_no_network_has_seen(experiment, task):
    first, *others = sorted({case.patient_id for case in task.test})
    heads = experiment.heads_of(task, {first}, 2)
    unseen = [case for case in task.test if case.patient_id in others][:2]
    assert len(heads) == len(unseen) == 2
    for head, case in zip(heads, unseen, strict=True):
        sizes = (task.read(case).label > 0).sum((1, 2))
        assert head.reference.sum() == sizes.max() > 0


def test_the_figure_has_a_panel_per_head_network_and_time(experiment):
    random = np.random.default_rng(0)
    reference = np.zeros((8, 8), bool)
    reference[2:5, 2:5] = True
    heads = [experiment.Head(random.random((3, 8, 8)), reference)] * 2
    right, wrong = np.stack([reference] * 2), np.zeros((2, 8, 8), bool)
    masks = {name: [right, wrong] for name in experiment.NETWORKS}
    figure = experiment.draw(heads, masks, [1.0, 86_400.0], "caption")
    labels = [panel.get_xlabel() for panel in figure.axes]
    assert labels == ["Dice 1.00", "Dice 0.00"] * 4
    assert [panel.get_title() for panel in figure.axes[:2]] == ["1 s", "1 day"]
