"""The wheel is complete: its files, and a page that is written from it."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import analogmed

ROOT = Path(analogmed.__file__).parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE")
DATA = (
    "report/page/templates/page.html.j2",
    "report/page/templates/page.css",
    "report/page/templates/page.js",
    "search/benchmark/data/medbench.parquet",
    "checkpoints/phantom_brain/unet-hwa.safetensors",
    "configs/lgg-train.yaml",
    "py.typed",
)


def pip(*arguments):
    subprocess.run(
        [sys.executable, "-m", "pip", *map(str, arguments), "--no-deps", "--quiet"], check=True
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the sources beside the tests and without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("analogmed", "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in SOURCES:
        shutil.copy(ROOT / name, source)
    pip("wheel", source, "--no-build-isolation", "--no-index", "--wheel-dir", folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_a_wheel_holds_all_modules_and_data_and_no_tests(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "analogmed").rglob("*.py")} | {
        f"analogmed/{name}" for name in DATA
    }
    assert package - names == set()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"analogmed"}


@pytest.mark.slow
def test_a_wheel_has_the_files_of_the_package_that_documents_name_and_a_bounded_size(wheel):
    pages = (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
    named = {
        name
        for page in pages
        for name in re.findall(r"(?<![\w./-])analogmed/[\w./-]+\.\w+", page.read_text("utf-8"))
        if not name.endswith(".md") and "NAME" not in name
    }
    with zipfile.ZipFile(wheel) as archive:
        missing = named - set(archive.namelist())
        metadata = next(name for name in archive.namelist() if name.endswith("/METADATA"))
        assert "\nVersion: 0.2.0\n" in archive.read(metadata).decode()
    assert named
    assert missing == set()
    assert wheel.stat().st_size < 8e6


@pytest.mark.slow
def test_an_installed_wheel_writes_a_page(wheel, make_run, tmp_path):
    run, site = make_run(tmp_path / "run"), tmp_path / "site"
    pip("install", wheel, "--no-index", "--target", site)
    code = "import analogmed, sys; print(analogmed.__file__)"
    environment = os.environ | {"PYTHONPATH": str(site)}
    for command, found in (
        (["-c", code], str(site / "analogmed" / "__init__.py")),
        (["-m", "analogmed.report", str(run)], "report.html"),
    ):
        done = subprocess.run(
            [sys.executable, *command],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env=environment,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert found in done.stdout
    assert "<html" in (run / "report.html").read_text(encoding="utf-8")
