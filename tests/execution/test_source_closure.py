import ast
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import analogmed
from analogmed.config import Experiment, SweepConfig
from analogmed.evaluation.studies.robustness.units import Plan
from analogmed.evaluation.studies.robustness.worker import Worker
from analogmed.execution.code_key import package_closure
from analogmed.execution.compute import evaluate
from analogmed.execution.source_closure import closure_of
from analogmed.foundation.errors import ConfigError
from analogmed.training import load_checkpoint

ROOT = Path(analogmed.__file__).parent

PACKAGE = {
    "__init__.py": "",
    "start.py": "import json\nimport numpy as np\nfrom closure_pkg.a import x\nfrom . import b\n",
    "a.py": "def x():\n    if True:\n        from .deep.c import late\n",
    "b.py": "HOMES = {'n': 'closure_pkg.d:function', 'no': 'closure_pkg.none', 'e': 'a.b'}\n",
    "d.py": "try:\n    import closure_pkg.e as e\nexcept ImportError:\n    pass\n",
    "e.py": "match 1:\n    case 1:\n        from closure_pkg.deep import *\n",
    "deep/__init__.py": "from .f import late\n",
    "deep/c.py": "late = 1\n",
    "deep/f.py": "late = 1\n",
    "unused.py": "",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    for name, text in PACKAGE.items():
        path = tmp_path / "closure_pkg" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "closure_pkg"


def of_package(package):
    return closure_of(["closure_pkg.start"], lambda top: top == package.name)


def test_imports_of_any_form_and_depth_are_found_without_running_code(package):
    closure = of_package(package)
    found = {path.relative_to(package).as_posix() for path in closure.files.values()}
    assert found == PACKAGE.keys() - {"unused.py"}
    assert closure.packages == {"numpy"}
    assert not any(name.startswith("closure_pkg") for name in sys.modules)


def test_a_module_that_is_no_python_is_refused_by_its_path(package):
    (package / "d.py").write_text("def (:\n")
    with pytest.raises(ConfigError, match=r"d\.py: cannot read this module"):
        of_package(package)


def test_packages_of_analogmed_only_collect_names():
    """The closure follows a name through ``__init__`` to its module, so this has to hold."""
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.FunctionDef, ast.If)
    for path in ROOT.rglob("__init__.py"):
        for node in ast.parse(path.read_text()).body:
            is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            assert is_docstring or isinstance(node, allowed), f"{path}, line {node.lineno}"


@pytest.fixture
def executed():
    """Collect the files of analogmed whose functions run."""
    files = set()

    def note(frame, event, _):
        code = frame.f_code
        if event == "call" and code.co_name != "<module>":
            files.add(code.co_filename)

    yield files, note
    sys.setprofile(None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [{}, {"backend": "torch"}, {"backend": "aihwkit"}, {"digital_layers": ("head",)}],
    ids=["default", "torch", "aihwkit", "digital layers"],
)
def test_every_function_that_computes_a_unit_is_in_a_file_that_the_key_covers(
    tiny_task, tiny_hwa, tmp_path, executed, settings
):
    sweep = SweepConfig(chips=1, times_s=(0.0,))
    metrics = ("dice", "hd95", "nsd")
    experiment = Experiment(task=tiny_task, checkpoints=(tiny_hwa,), sweep=sweep, metrics=metrics)
    experiment = replace(experiment, **settings)
    checkpoint = load_checkpoint(tiny_hwa)
    units = Plan(experiment, experiment.task.load(), [checkpoint]).units({tiny_hwa: 1})
    files, note = executed
    sys.setprofile(note)
    outcomes = [evaluate(Worker(experiment), u) for u in units]
    sys.setprofile(None)
    assert [outcome.failure or outcome.stop for outcome in outcomes] == [None, None]
    ran = {Path(file) for file in files if file.startswith(f"{ROOT}/")}
    covered = set(package_closure("analogmed.evaluation.studies.robustness.worker").files.values())
    assert len(ran) > 20
    assert ran <= covered
