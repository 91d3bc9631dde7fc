"""Two ranks on CPU against one process; test_programs.py has whole trainings in float32."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import torch

SCRIPT = Path(__file__).with_name("bfloat16_rank.py")


def in_one_process():
    """With torch's own batch normalisation, which keeps its statistics in float32."""
    spec = importlib.util.spec_from_file_location("bfloat16_rank", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.step()


def test_two_ranks_in_bfloat16_share_the_norms_of_one_process(tmp_path):
    """Statistics to float32, gradients to the 8 bits of bfloat16."""
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(tmp_path), str(rank)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=180)
        assert process.returncode == 0, errors
    expected = in_one_process()
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            limit = 1e-5 if "running" in name else 2**-7
            error = (found[name] - values).norm() / values.norm()
            assert error <= limit, (name, error)
