"""Execution of all cells of the notebooks with this interpreter, on small settings."""

import gc
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"

# The client leaves sockets to the garbage collector, which is to come here and not in later tests.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
    ),
]


def read(name):
    return nbformat.read(FOLDER / name, as_version=nbformat.NO_CONVERT)


@pytest.fixture
def execute(program, tmp_path, monkeypatch):
    """Runs a notebook in a temporary folder, with settings in place of its own."""
    for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run_all_cells = program("notebooks", "execute").execute

    def run(name, settings):
        notebook = read(name)
        (place,) = (
            index
            for index, cell in enumerate(notebook.cells)
            if "parameters" in cell.metadata.get("tags", [])
        )
        notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(settings))
        run_all_cells(notebook, tmp_path)
        return notebook, tmp_path / "work"

    yield run
    gc.collect()


def printed(notebook, cell_id):
    (cell,) = (cell for cell in notebook.cells if cell.id == cell_id)
    return "".join(output.get("text", "") for output in cell.outputs)


def shown(notebook, cell_id, kind):
    (cell,) = (cell for cell in notebook.cells if cell.id == cell_id)
    return cell.outputs[-1]["data"][kind]


def pictures(notebook):
    """Cells that show one."""
    return {
        cell.id
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    }


def settings_of(task, **others):
    settings = {
        "data": f"TaskConfig(root=Path({str(task.root)!r}), options={task.options})",
        "times_s": "(0.0, DAY_S)",
        **others,
    }
    return "\n".join(f"{name} = {value}" for name, value in settings.items())


def test_a_newcomer_gets_from_data_to_the_report(execute, tiny_task):
    settings = settings_of(tiny_task, options='{"features": 2}', epochs=2, chips=2)
    notebook, work = execute("from_data_to_report.ipynb", settings)
    assert "100.0% of the weights" in printed(notebook, "convert")
    assert "| unet, digital |" in shown(notebook, "summary", "text/markdown")
    assert pictures(notebook) == {"cases", "train", "ages-figure", "figure"}
    page = work / "runs" / "notebook" / "eval" / "report.html"
    assert "<html" in page.read_text(encoding="utf-8")


def test_a_network_and_a_loader_are_enough(execute):
    notebook, work = execute("own_network.ipynb", 'chips, times = 2, ["t0", "1 day"]')
    assert pictures(notebook) == {"plot", "chip-figure"}
    for cell_id, words in {
        "data": ("phantom_brain", "patients"),
        "convert": ("weights on tiles", "100.0%"),
        "robustness": ("Dice", "1 day"),
        "hwa": ("Dice", "1 day"),
    }.items():
        assert all(word in shown(notebook, cell_id, "text/html") for word in words)
    page = work / "runs" / "notebook" / "dice.html"
    assert "single chips" in page.read_text(encoding="utf-8")


def test_uncertainty_is_measured_and_compared(execute, tiny_task, tiny_digital, tiny_hwa):
    checkpoints = f"(Path({str(tiny_digital)!r}), Path({str(tiny_hwa)!r}))"
    settings = settings_of(tiny_task, checkpoints=checkpoints, chips=2, reads=2)
    notebook, work = execute("uncertainty.ipynb", settings)
    assert pictures(notebook) == {"maps", "split-figure", "density", "reliability", "risk"}
    for cell_id, words in {
        "numbers": ("auroc_entropy", "hwa"),
        "claim": ("mean_variance", "says"),
    }.items():
        assert all(word in shown(notebook, cell_id, "text/html") for word in words)
    assert (work / "runs" / "notebook" / "uncertainty" / "comparison.csv").is_file()
