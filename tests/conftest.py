import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real test data sets, which are not part of the repository."""
    beside_the_repository = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ANALOGMED_SHARED_DATA", beside_the_repository))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; set ANALOGMED_SHARED_DATA to their folder")
    return folder
