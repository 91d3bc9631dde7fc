import re
from functools import reduce
from operator import getitem
from pathlib import Path

import yaml

from analogmed.config import to_plain
from analogmed.training import TrainConfig

DOCUMENT = Path(__file__).parents[2] / "docs" / "training.md"


def test_the_table_of_settings_tells_their_defaults():
    rows = re.findall(r"^\| `([\w.]+)` \| `([^`]+)` \|", DOCUMENT.read_text(), re.MULTILINE)
    defaults = to_plain(TrainConfig())
    told = {name: yaml.safe_load(value) for name, value in rows}
    assert told == {name: reduce(getitem, name.split("."), defaults) for name in told}
    modifiers = {f"hardware.{name}" for name in ("modifier", "drop_connect", "clip", "remap")}
    assert modifiers | {"noise.ramp", "loss.distillation"} <= told.keys()
