import os
import subprocess
import sys
from importlib.metadata import version

import pytest


@pytest.mark.parametrize("program", [["analogmed.eval"], ["analogmed", "train"]])
def test_an_aihwkit_that_cannot_be_imported_is_a_sentence_with_the_versions(program, tmp_path):
    package = tmp_path / "aihwkit"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('libtorch.so: undefined symbol')\n")
    done = subprocess.run(
        [sys.executable, "-m", *program, "--out", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: torch {version('torch')} and aihwkit ")
    assert "do not fit each other (libtorch.so: undefined symbol); install with" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_another_error_while_a_program_is_imported_names_its_log(tmp_path):
    (tmp_path / "jsonargparse.py").write_text("raise RuntimeError('broken')\n")
    done = subprocess.run(
        [sys.executable, "-m", "analogmed.eval", "--help"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
    )
    assert done.returncode == 70
    assert "did not expect this error: RuntimeError: broken. Report it with" in done.stderr
    assert "traceback, which is in " in done.stderr
    assert "Traceback" not in done.stderr
