"""The Python of README.md runs as it is printed."""

import re
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

README = Path(__file__).parents[2] / "README.md"


def test_six_lines_evaluate_a_network_from_a_loader(tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    images = torch.rand(4, 1, 16, 16)
    loader = DataLoader(TensorDataset(images, (images > 0.5).long()), batch_size=2)
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 1, 1))
    block = re.search(r"## Your own network.*?```python\n(.*?)```", README.read_text(), re.S)
    monkeypatch.chdir(tmp_path)
    exec(block[1], {"net": net, "training_loader": loader, "test_loader": loader})
    printed = " ".join(capsys.readouterr().out.split())
    assert "Dice of Sequential on PCM chips" in printed
    assert "mean over 4 patients, 5 chips; with its 95 % confidence interval" in printed
    assert "1 day" in printed and "Drop: Dice digital minus on the chip" in printed
    assert {path.name for path in tmp_path.iterdir()} == {"dice.png", "dice.html"}
    for drawn in tmp_path.iterdir():
        assert drawn.name in block[1] and drawn.stat().st_size > 0
