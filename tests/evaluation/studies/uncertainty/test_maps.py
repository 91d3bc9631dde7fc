import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analogmed.evaluation.studies.uncertainty.maps import (
    UncertaintyStream,
    entropy,
)
from analogmed.foundation.errors import NonFiniteError, ShapeError
from analogmed.kinds.segmentation import SEGMENTATION, classes_of
from analogmed.network.inference import to_classes

probabilities = SEGMENTATION.positions


def streamed(passes):
    """Maps of passes (chips, reads, N, K, *spatial)."""
    stream = UncertaintyStream()
    for chip, reads in enumerate(passes):
        for prob in reads:
            stream.add(torch.as_tensor(prob), chip)
    return stream.maps()


def drawn(chips, reads, voxels, *, chip_std, read_std, seed=0):
    """Passes about 0.5 whose two variances are known, (chips, reads, 1, 1, voxels)."""
    rng = np.random.default_rng(seed)
    between = rng.normal(0, chip_std, (chips, 1, 1, 1, voxels))
    return 0.5 + between + rng.normal(0, read_std, (chips, reads, 1, 1, voxels))


def test_two_passes_have_the_variance_and_entropies_of_the_closed_form():
    maps = streamed(np.array([0.2, 0.6]).reshape(1, 2, 1, 1, 1))
    assert maps.mean.item() == pytest.approx(0.4)
    assert maps.variance.item() == pytest.approx((0.6 - 0.2) ** 2 / 2)

    def h(p):
        return -p * math.log(p) - (1 - p) * math.log(1 - p)

    assert maps.entropy.item() == pytest.approx(h(0.4))
    assert maps.expected_entropy.item() == pytest.approx((h(0.2) + h(0.6)) / 2)
    assert maps.mutual_information.item() == pytest.approx(h(0.4) - (h(0.2) + h(0.6)) / 2)


def test_sure_passes_that_disagree_are_all_mutual_information():
    maps = streamed(np.array([0.0, 1.0]).reshape(2, 1, 1, 1, 1))
    assert maps.mutual_information.item() == pytest.approx(math.log(2))
    assert maps.expected_entropy.item() == 0.0


def test_unsure_passes_that_agree_have_no_mutual_information():
    maps = streamed(np.full((2, 3, 1, 1, 4), 0.5))
    assert maps.entropy == pytest.approx(np.full((1, 4), math.log(2)))
    assert np.abs(maps.mutual_information).max() < 1e-12
    assert np.abs(maps.variance).max() == 0.0


def test_variance_components_are_those_of_the_analysis_of_variance():
    passes = drawn(4, 3, 50, chip_std=0.05, read_std=0.02)
    maps = streamed(passes)
    values = passes[:, :, 0, 0]
    within = values.var(axis=1, ddof=1).mean(axis=0)
    between = values.mean(axis=1).var(axis=0, ddof=1) - within / 3
    assert maps.read_variance[0] == pytest.approx(within)
    assert maps.chip_variance[0] == pytest.approx(between)
    assert maps.variance[0] == pytest.approx(np.clip(within + between, 0, None))


def test_variance_components_are_unbiased():
    maps = streamed(drawn(3, 2, 200_000, chip_std=0.025, read_std=0.05))
    assert maps.read_variance.mean() == pytest.approx(0.05**2, rel=0.02)
    assert maps.chip_variance.mean() == pytest.approx(0.025**2, rel=0.05)
    assert (maps.chip_variance < 0).any()


def test_reads_without_noise_leave_all_variance_to_the_chips():
    maps = streamed(drawn(5, 2, 20, chip_std=0.05, read_std=0.0))
    assert np.abs(maps.read_variance).max() < 1e-15
    assert maps.chip_variance == pytest.approx(maps.variance)


def test_what_cannot_be_split_is_nan():
    one_chip = streamed(drawn(1, 3, 5, chip_std=0.05, read_std=0.05))
    assert np.isnan(one_chip.chip_variance).all()
    assert (one_chip.variance == one_chip.read_variance).all()
    one_read = streamed(drawn(3, 1, 5, chip_std=0.05, read_std=0.05))
    assert np.isnan(one_read.read_variance).all()
    assert np.isfinite(one_read.variance).all()
    assert np.isnan(streamed(np.full((1, 1, 1, 1, 2), 0.3)).variance).all()


def test_one_logit_and_two_that_say_the_same_give_the_same_maps():
    logits = torch.randn(2, 3, 2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    binary = streamed(torch.stack([torch.stack([probabilities(r) for r in c]) for c in logits]))
    both = torch.cat([torch.zeros_like(logits), logits], 3)
    double = streamed(torch.stack([torch.stack([probabilities(r) for r in c]) for c in both]))
    for name in ("variance", "read_variance", "chip_variance", "entropy", "mutual_information"):
        assert getattr(binary, name) == pytest.approx(getattr(double, name), abs=1e-6)
    assert binary.mean[:, 0] == pytest.approx(double.mean[:, 1], abs=1e-6)


def test_entropy_of_k_equal_classes_is_ln_k():
    assert entropy(torch.full((1, 4, 2), 0.25)).tolist() == [[pytest.approx(math.log(4))] * 2]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=12))
def test_streaming_equals_keeping_all_passes(values):
    maps = streamed(np.array(values).reshape(1, -1, 1, 1, 1))
    assert maps.mean.item() == pytest.approx(np.mean(values), abs=1e-12)
    assert maps.variance.item() == pytest.approx(np.var(values, ddof=1), abs=1e-12)


@pytest.mark.parametrize(
    ("prob", "error", "message"),
    [
        (torch.full((1, 1, 2), torch.nan), NonFiniteError, "2 NaN or Inf of 2"),
        (torch.tensor([[[-3.0, 4.0]]]), ValueError, r"range from -3 to 4: put logits through"),
        (torch.full((1, 3, 2), 0.5), ValueError, "must add up to 1"),
        (torch.rand(4), ShapeError, r"shape \(N, K, \*spatial\)"),
    ],
)
def test_what_is_no_probability_is_refused(prob, error, message):
    with pytest.raises(error, match=message):
        UncertaintyStream().add(prob)


def test_passes_that_do_not_belong_together_are_refused():
    stream = UncertaintyStream()
    stream.add(torch.rand(1, 1, 2), "a")
    with pytest.raises(ShapeError, match=r"\(1, 1, 3\), the first had \(1, 1, 2\)"):
        stream.add(torch.rand(1, 1, 3), "a")
    stream.add(torch.rand(1, 1, 2), "b")
    with pytest.raises(ValueError, match="chip 'a' comes again"):
        stream.add(torch.rand(1, 1, 2), "a")
    stream.add(torch.rand(1, 1, 2), "b")
    with pytest.raises(ValueError, match=r"equally many reads, but have \[1, 2\]"):
        stream.maps()
    with pytest.raises(ValueError, match="no pass"):
        UncertaintyStream().maps()


@pytest.mark.parametrize("classes", [1, 3])
def test_classes_of_probabilities_are_those_of_the_logits(classes):
    logits = torch.randn(2, classes, 4, 4, generator=torch.Generator().manual_seed(0))
    assert np.array_equal(classes_of(probabilities(logits).numpy()), to_classes(logits).numpy())
