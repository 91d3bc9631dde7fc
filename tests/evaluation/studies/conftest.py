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
    """Function that interrupts a study after its first unit, and resumes it in two processes.

    The study has run once without interruption in one process, on one thread, into the run folder
    of its settings. Here its store is outside of the run folder.
    """

    def check(study: Callable[[Any], Any], config: Any) -> None:
        folder, store = tmp_path / "interrupted", tmp_path / "store"
        resumed = replace(config, out=folder, store=str(store))
        stored: list[str] = []
        original = Store.write

        def write_one(self: Store, *result: Any) -> str:
            stored.append(original(self, *result))
            raise KeyboardInterrupt

        with (
            monkeypatch.context() as patch,
            pytest.raises(KeyboardInterrupt, match=r"1 of \d+ units are stored in .*Rerun"),
        ):
            patch.setattr(Store, "write", write_one)
            study(resumed)
        assert len(stored) == 1
        assert units_in(store) == set(stored)
        found = study(replace(resumed, engine=EngineConfig(workers=2, threads=1)))
        whole = units_in(config.out)
        assert found.reuse.startswith(f"1 of {len(whole)} units are reused from {store}, computed")
        assert units_in(store) == whole
        assert not (folder / "units").exists()
        assert content_of(folder) == content_of(config.out)
        assert study(resumed).reuse.startswith(f"{len(whole)} of {len(whole)} units are reused")

    return check
