import subprocess
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import programs
import pytest


@pytest.fixture(scope="module", autouse=True)
def programs_are_copies(program: Callable[[str, str], ModuleType]) -> Iterator[None]:
    """Programs that experiments run in processes of their own start as copies, in less time."""

    def run(command: Sequence[str], **_: Any) -> "subprocess.CompletedProcess[str]":
        _python, _m, module, *words = command
        return programs.run(module, *words)

    copies = SimpleNamespace(run=run, DEVNULL=subprocess.DEVNULL, PIPE=subprocess.PIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program("experiments", "_programs"), "subprocess", copies)
        yield
