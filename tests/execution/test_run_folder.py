import json
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analogmed.config import Experiment
from analogmed.execution.run_folder import (
    LOCK,
    WRITTEN,
    RunFolder,
    WrittenFiles,
    describe_run,
    in_run_folder,
    locked,
)
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.files import write_text_atomically
from analogmed.search.settings import SearchConfig

HOLD = """
import os, signal, sys
from analogmed.execution.run_folder import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other_run(tmp_path):
    """A process that holds the folder ``tmp_path / "run"``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_run_is_refused_until_the_first_ends_even_by_a_kill(tmp_path, other_run):
    folder = tmp_path / "run"
    expected = f"--out {folder}: another run is writing to this folder (process {other_run.pid} on "
    with pytest.raises(ConfigError, match=re.escape(expected)), locked(folder):
        pass
    other_run.send_signal(signal.SIGKILL)
    other_run.wait()
    with locked(folder):
        pass


@pytest.mark.slow
def test_a_run_inside_a_run_may_use_its_folder_and_does_not_release_it(tmp_path):
    with locked(tmp_path):
        with locked(tmp_path / "."):
            pass
        code = "import sys; from analogmed.execution.run_folder import locked\n"
        code += "with locked(sys.argv[1]): pass"
        second = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert "another run is writing to this folder" in second.stderr


def test_what_a_killed_run_was_writing_is_removed_and_the_rest_stays(tmp_path):
    (tmp_path / ".analogmed-0123456789abcdef").mkdir()
    (tmp_path / ".analogmed-0123456789abcdef" / ".tmpabcdef").write_text("half")
    kept = [tmp_path / name for name in (".tmpabcdef", ".analogmed-mine", ".state-x.safetensors")]
    for path in kept:
        path.write_text("of the user")
    with locked(tmp_path):
        assert set(tmp_path.iterdir()) == {*kept, tmp_path / LOCK}


def test_a_folder_without_locks_is_used_with_a_warning(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.warns(UserWarning, match="has no locks"), locked(tmp_path):
        pass


def test_a_function_of_settings_holds_their_folder(tmp_path):
    @dataclass
    class Config:
        folder: Path

    @in_run_folder
    def program(config):
        """Say what is in the folder."""
        return sorted(path.name for path in config.folder.iterdir())

    assert program(Config(tmp_path / "new")) == [LOCK]
    assert program.__doc__ == "Say what is in the folder."


def test_files_of_other_origin_are_refused_and_stay(tmp_path):
    (tmp_path / "examples").mkdir()
    for name in ("comparison.csv", "examples/mine.npz", "notes.txt"):
        (tmp_path / name).write_text("of the user")
    written = WrittenFiles(tmp_path)
    with pytest.raises(
        ConfigError, match=r"comparison\.csv, examples/mine\.npz, which no run"
    ) as caught:
        written.claim("results.csv", "comparison.csv", "examples/*.npz")
    assert "results of an earlier version may not be listed either. Move" in str(caught.value)
    written.remove("comparison.csv", "examples/*.npz")
    assert (tmp_path / "comparison.csv").exists()
    assert (tmp_path / "examples" / "mine.npz").exists()
    assert "comparison.csv" not in written


def test_a_folder_with_the_run_of_another_program_is_refused(tmp_path):
    (tmp_path / "training.yaml").write_text("epochs: 1")
    WrittenFiles(tmp_path).record("training.yaml", "environment.json")
    with pytest.raises(ConfigError, match=r"another program \(training\.yaml\).*another --out"):
        RunFolder(tmp_path, ["results.csv"]).begin()
    assert "results.csv" not in WrittenFiles(tmp_path)
    RunFolder(tmp_path, ["log.csv"], settings="training.yaml").begin()


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "[]", '{"versions": 1}', "\udcff"])
def test_a_damaged_environment_makes_no_file_one_of_a_run(tmp_path, text):
    (tmp_path / "results.csv").write_text("of the user")
    (tmp_path / "environment.json").write_text(text, errors="surrogateescape")
    with pytest.raises(ConfigError, match=r"replace or remove results\.csv, which no run"):
        WrittenFiles(tmp_path).claim("results.csv")


def test_files_of_an_earlier_run_are_replaced_and_removed(tmp_path):
    first = WrittenFiles(tmp_path)
    first.claim("comparison.csv", "examples/*.npz")
    first.record("examples/0.npz")
    for name in ("comparison.csv", "examples/0.npz"):
        write_text_atomically(tmp_path / name, "x")
    second = WrittenFiles(tmp_path)
    second.claim("comparison.csv", "examples/*.npz")
    second.remove("comparison.csv", "examples/*.npz")
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [WRITTEN]
    assert "comparison.csv" not in second


def test_a_name_that_was_reserved_in_vain_is_free_after_the_run(tmp_path):
    with locked(tmp_path):
        WrittenFiles(tmp_path).claim("comparison.csv", "results.csv")
        write_text_atomically(tmp_path / "results.csv", "x")
    (tmp_path / "comparison.csv").write_text("of the user")
    with pytest.raises(ConfigError, match=r"replace or remove comparison\.csv, which"):
        WrittenFiles(tmp_path).claim("comparison.csv", "results.csv")


def test_a_folder_of_an_older_version_is_taken_over(tmp_path):
    (tmp_path / "results.csv").write_text("x")
    with pytest.raises(ConfigError, match=r"results\.csv"):
        WrittenFiles(tmp_path).claim("results.csv")
    about = json.dumps({"versions": {"analogmed": "0.1.0"}})
    (tmp_path / "environment.json").write_text(about)
    WrittenFiles(tmp_path).claim("results.csv")
    (tmp_path / "comparison.csv").write_text("of the user, after that")
    with pytest.raises(ConfigError, match=r"comparison\.csv"):
        WrittenFiles(tmp_path).claim("results.csv", "comparison.csv")


def test_files_that_a_run_writes_only_sometimes_are_those_of_the_last_run(tmp_path):
    (tmp_path / "maps_of_the_user.txt").write_text("of the user")
    for names in (("a.csv", "b.csv", "maps_1.png"), ("a.csv",)):
        written = WrittenFiles(tmp_path)
        written.renew(["a.csv"], ["b.csv", "maps_*.png"])
        written.record(*names)
        for name in names:
            write_text_atomically(tmp_path / name, "x")
        written.settle()
    assert {p.name for p in tmp_path.iterdir()} == {"a.csv", "maps_of_the_user.txt", WRITTEN}
    assert set((tmp_path / WRITTEN).read_text().split()) == {"a.csv"}
    (tmp_path / "b.csv").write_text("of the user")
    with pytest.raises(ConfigError, match=r"replace or remove b\.csv, which no run"):
        WrittenFiles(tmp_path).renew(["a.csv"], ["b.csv"])


URL = "s3://KEY:SECRET@bucket/sweep"


def test_credentials_reach_no_file_of_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["eval", "--store", URL])
    describe_run(Experiment(store=URL), tmp_path)
    describe_run(SearchConfig(storage=URL), tmp_path, "search.yaml")
    texts = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert texts.keys() == {"experiment.yaml", "search.yaml", "environment.json"}
    for text in texts.values():
        assert "s3://***@bucket/sweep" in text and "SECRET" not in text


NAMES = ("a.csv", "b.csv", "deep/c.npz", "deep/d.npz")


@pytest.mark.exhaustive
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["user", "claim", "write", "remove", "settle"]), st.sampled_from(NAMES)
        ),
        max_size=20,
    )
)
def test_no_order_of_steps_loses_a_file_of_the_user(tmp_path_factory, steps):
    """A file belongs to whoever created it while the name was free."""
    folder = tmp_path_factory.mktemp("run")
    written, of_user = WrittenFiles(folder), set()
    for what, name in steps:
        path = folder / name
        if what == "user" and not path.exists() and name not in written:
            path.parent.mkdir(exist_ok=True)
            path.write_text("user")
            of_user.add(name)
        elif what == "claim":
            if name in of_user:
                with pytest.raises(ConfigError, match=re.escape(name)):
                    written.claim(name)
            else:
                written.claim(name)
        elif what == "write" and name in written:
            write_text_atomically(path, "run")
        elif what == "remove":
            written.remove(name, "deep/*.npz")
        elif what == "settle":
            written.settle()
    for name in of_user:
        assert (folder / name).read_text() == "user"


@pytest.mark.exhaustive
def test_of_many_starts_at_once_one_runs(tmp_path):
    started = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    losers = []
    while len(losers) < 7:
        losers += [p for p in started if p.poll() is not None and p not in losers]
    (winner,) = (p for p in started if p not in losers)
    assert winner.communicate("")[0] == "held\n"
    assert all("another run is writing" in p.communicate()[1] for p in losers)
