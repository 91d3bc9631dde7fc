"""The committed notebooks: their outputs exist, are small, and name no machine."""

import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
MOST_BYTES = 1_000_000
TRACES = r"(?<![\w./])/(home|root|tmp|work|Users|private)/|site-packages|\\u001b"
"""Absolute paths, and control characters of a terminal, in outputs as JSON."""


def test_there_are_three_notebooks():
    assert [path.stem for path in NOTEBOOKS] == [
        "from_data_to_report",
        "own_network",
        "uncertainty",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_with_outputs_and_without_traces_of_a_machine(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"] == METADATA
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) > 8
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert all("execution" not in cell["metadata"] for cell in code)
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {
        "stream",
        "display_data",
        "execute_result",
    }
    assert {output["name"] for output in outputs if output["output_type"] == "stream"} <= {"stdout"}
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    texts = json.dumps(
        [{**output, "data": {**output.get("data", {}), "image/png": ""}} for output in outputs]
    )
    assert not re.search(TRACES, texts)
    assert path.stat().st_size < MOST_BYTES
