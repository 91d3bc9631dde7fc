from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analogmed.execution.settings import EngineConfig
from analogmed.execution.store import Store

VARYING = {"environment.json", "experiment.yaml", ".analogmed-files", ".analogmed-lock"}
"""Files with times, versions or the name of the run folder."""


def content_of(folder: Path) -> dict[str, bytes]:
    """Return all tables and figures of a run folder."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in VARYING]
    names = {path.relative_to(folder).as_posix(): path for path in files}
    return {n: path.read_bytes() for n, path in names.items() if not n.startswith("units/")}


def units_in(folder: Path) -> set[str]:
    """Return the keys of all stored units."""
    return Store(folder).keys()


@pytest.fixture
def check_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[Any], Any], Any], None]:
    """Function that interrupts a study after its first unit, and runs it again.

    The study has run once without interruption, into the run folder of its settings.
    """

    def check(study: Callable[[Any], Any], config: Any) -> None:
        stored: list[str] = []
        original = Store.write

        def write(self: Store, *result: Any) -> str:
            stored.append(original(self, *result))
            if len(stored) == 1:
                raise KeyboardInterrupt
            return stored[-1]

        monkeypatch.setattr(Store, "write", write)
        folder = tmp_path / "interrupted"
        with pytest.raises(KeyboardInterrupt, match=r"1 of \d+ units are stored in .*Rerun"):
            study(replace(config, out=folder))
        assert units_in(folder) == set(stored)
        found = study(replace(config, out=folder))
        whole = units_in(config.out)
        assert len(stored) == len(whole)
        assert units_in(folder) == set(stored) == whole
        assert found.reuse.startswith(f"1 of {len(whole)} units are reused from {folder}, computed")
        assert content_of(folder) == content_of(config.out)
        assert study(replace(config, out=folder)).reuse.startswith(f"{len(whole)} of {len(whole)} ")
        assert len(stored) == len(whole)

    return check


@pytest.fixture
def check_two_workers(tmp_path: Path) -> Callable[[Callable[[Any], Any], Any], None]:
    """Function that runs a study in two processes, with its store outside of the run folder.

    The study has run once in one process, into the run folder of its settings, on one thread.
    """

    def check(study: Callable[[Any], Any], config: Any) -> None:
        folder, store = tmp_path / "two", tmp_path / "store"
        engine = EngineConfig(workers=2, threads=1)
        study(replace(config, out=folder, store=str(store), engine=engine))
        assert not (folder / "units").exists()
        assert units_in(store) == units_in(config.out)
        assert content_of(folder) == content_of(config.out)

    return check
