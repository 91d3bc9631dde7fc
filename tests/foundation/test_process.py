import os

import pytest

from analogmed.foundation.process import available_cores


@pytest.mark.parametrize(("counted", "cores"), [(6, 6), (None, 1)])
def test_cores_are_counted_on_systems_without_affinity(counted, cores, monkeypatch):
    """macOS and Windows have no ``os.sched_getaffinity``."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: counted)
    assert available_cores() == cores
