"""The weights of pixels come from the training images alone, and go where the network goes."""

import numpy as np
import pytest
import torch

from analogmed.cli.main import main
from analogmed.foundation.seeds import derive_seed
from analogmed.models.classification.region_of_interest import PixelWeights
from analogmed.training import load_checkpoint

LENGTHS = {"train": 24, "val": 8, "test": 12}
OPTIONS = "{reduction: 2, side: 2, model: {options: {features: [2, 2, 2], hidden: 2}}}"


@pytest.fixture
def task(tmp_path):
    """Settings of a task whose parts have images of different brightness, and its images."""
    generator = np.random.default_rng(0)
    content = {}
    for number, (part, n) in enumerate(LENGTHS.items()):
        content[f"{part}_images"] = generator.integers(
            60 * number, 60 * number + 80, size=(n, 32, 32), dtype=np.uint8
        )
        content[f"{part}_labels"] = np.arange(n, dtype=np.uint8)[:, None] % 2
    np.savez_compressed(tmp_path / "data.npz", **content)
    return ["--task", "medmnist", "--task.root", str(tmp_path / "data.npz")], content


@pytest.mark.slow
def test_training_fits_the_weights_once_and_each_checkpoint_has_them(task, tmp_path):
    pytest.importorskip("minisom")
    settings, content = task
    common = [*settings, "--epochs", "1", "--validate_every", "1", "--batch_size", "8"]
    network = ["--model", "region_of_interest", "--model.options", OPTIONS]
    main(["train", *common, *network, "--training", "hwa", "--out", str(tmp_path / "hwa")])
    digital, aware = (load_checkpoint(tmp_path / name).network for name in ("hwa/digital", "hwa"))
    expected = PixelWeights((32, 32), "multiply", side=2)
    images = content["train_images"].astype(np.float32) / np.float32(127.5) - 1
    expected.fit_to(images[:, None], derive_seed(0, "fit", "weigh"))  # with no other image
    for name, buffer in expected.state_dict().items():
        torch.testing.assert_close(digital.weigh.state_dict()[name], buffer)
        torch.testing.assert_close(aware.weigh.state_dict()[name], buffer)
    assert not torch.equal(expected.usual, torch.ones(4, 256))
