import json
import os
import subprocess
import sys
from importlib.metadata import version

from analogmed.execution.run_folder import describe_environment


def test_the_environment_says_what_a_run_depends_on():
    found = json.loads(json.dumps(describe_environment()))
    for package in ("torch", "aihwkit", "monai", "numpy"):
        assert found["versions"][package] == version(package)
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["command"] == sys.argv
    assert found["time"].endswith("+00:00")
    head = subprocess.run(
        ["git", "-C", __file__.rpartition("/")[0], "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    if head:
        assert found["git"]["commit"] == head


def test_a_machine_without_git_still_describes_its_environment(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert describe_environment()["git"] is None


def test_where_git_refuses_the_folder_nothing_is_said_of_its_state(monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    assert describe_environment()["git"] is None
