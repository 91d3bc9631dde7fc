import math

import pytest
import torch

from analogmed.search.supernet.similarity import mean_cosine


def test_cosines_follow_their_formula_and_are_averaged_over_pairs_of_tasks():
    weights = {
        "brain": [torch.tensor([[1.0, 0.0]])],
        "spleen": [torch.tensor([[1.0, 1.0]])],
        "liver": [torch.tensor([[0.0, -2.0]])],
    }
    assert mean_cosine({"brain": weights["brain"], "spleen": weights["spleen"]}) == pytest.approx(
        1 / math.sqrt(2)
    )
    assert mean_cosine(weights) == pytest.approx((1 / math.sqrt(2) + 0 - 1 / math.sqrt(2)) / 3)


def test_layers_of_unequal_shape_and_operations_without_weights_do_not_count():
    first = {
        "brain": [torch.ones(1, 3), torch.ones(2)],
        "spleen": [torch.ones(1, 4), torch.ones(2)],
    }
    assert mean_cosine(first) == pytest.approx(1.0)
    assert mean_cosine({"brain": [torch.ones(3)], "spleen": [torch.ones(4)]}) == 0.0
    assert mean_cosine({"brain": [], "spleen": []}) == 0.0
    assert mean_cosine({"brain": [torch.ones(3)]}) == 0.0
    assert mean_cosine({"brain": [torch.zeros(3)], "spleen": [torch.ones(3)]}) == 0.0
