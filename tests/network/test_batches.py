import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor

from analogmed.foundation.errors import ConfigError
from analogmed.network.batches import images_of, labels_of

IMAGES, LABELS = torch.arange(8.0).view(2, 1, 4), torch.ones(2, 1, 4)


@pytest.mark.parametrize(
    "batch",
    [
        IMAGES,
        (IMAGES, LABELS),
        [IMAGES, LABELS, "names"],
        {"image": IMAGES, "label": LABELS},
        IMAGES.numpy(),
        MetaTensor(IMAGES),
        {"image": MetaTensor(IMAGES), "label": LABELS},
    ],
    ids=["tensor", "tuple", "list", "mapping", "array", "metatensor", "monai"],
)
def test_images_of_all_common_batches_are_plain_tensors(batch):
    images = images_of(batch)
    assert type(images) is torch.Tensor
    torch.testing.assert_close(images, IMAGES)


def test_labels_come_second_or_by_their_key():
    for batch in ((IMAGES, LABELS), {"image": IMAGES, "label": LABELS}):
        torch.testing.assert_close(labels_of(batch), LABELS)
    torch.testing.assert_close(labels_of({"seg": LABELS}, key="seg"), LABELS)


def test_a_loader_of_monai_yields_images_and_labels():
    cases = [{"image": IMAGES[i].numpy(), "label": LABELS[i].numpy()} for i in range(2)]
    (batch,) = DataLoader(Dataset(cases), batch_size=2)
    torch.testing.assert_close(images_of(batch), IMAGES)
    torch.testing.assert_close(labels_of(batch), LABELS)


@pytest.mark.parametrize(
    ("read", "batch", "sentence"),
    [
        (images_of, {"img": IMAGES}, "no entry 'image', but 'img'. Give .* keys="),
        (images_of, "scan.nii.gz", "expected 'image' as a tensor .* got str"),
        (images_of, (), "expected at least 1 entries"),
        (labels_of, IMAGES, "expected images with labels"),
        (labels_of, np.zeros(3), "expected images with labels"),
        (labels_of, (IMAGES,), "expected at least 2 entries"),
        (labels_of, (IMAGES, "label.nii"), "expected 'label' as a tensor .* got str"),
    ],
)
def test_another_form_is_refused_with_what_was_expected(read, batch, sentence):
    with pytest.raises(ConfigError, match=sentence):
        read(batch)
