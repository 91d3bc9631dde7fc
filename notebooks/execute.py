"""Execute notebooks, and store their outputs without times and other traces of the machine.

``python notebooks/execute.py [NAME ...]`` executes the notebooks of this folder in place, each in a
temporary working directory and on one thread: all of them, or those of the given names.
"""

import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from ipykernel.kernelspec import write_kernel_spec
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

FOLDER = Path(__file__).parent
LIMIT_S = 1800
_BAR = re.compile(r"[^\r\n]*\d+(?:/\d+|\w+) \[[^\r\n]*\]\s*")
_TQDM_WARNING = re.compile(r"[^\n]*TqdmWarning[^\n]*\n?(?:  [^\n]*\n?)?")
"""Warning of a library that imports the bars of notebooks, in two lines."""
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def execute(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Execute all cells with this interpreter, and store their outputs in the notebook.

    Args:
        notebook: notebook to change.
        folder: folder for the kernel's description; its folder ``work`` is the working directory.
    """
    work = folder / "work"
    work.mkdir()
    write_kernel_spec(folder / "kernels" / "python3")
    specs = KernelSpecManager(kernel_dirs=[str(folder / "kernels")], ensure_native_kernel=False)
    NotebookClient(
        notebook,
        timeout=LIMIT_S,
        startup_timeout=LIMIT_S,
        record_timing=False,
        km=AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs),
        resources={"metadata": {"path": str(work)}},
    ).execute(cleanup_kc=True)
    notebook.metadata = nbformat.from_dict(METADATA)
    _remove_traces(notebook, work)


def _remove_traces(notebook: nbformat.NotebookNode, work: Path) -> None:
    """Remove progress bars, and the working directory from paths in outputs."""
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        for output in cell.outputs:
            if output.get("name") == "stderr":
                text = _TQDM_WARNING.sub("", output["text"])
                output["text"] = _BAR.sub("", text).strip("\r\n")
        cell.outputs = [o for o in cell.outputs if o.get("text", "-")]
        for output in cell.outputs:
            for texts in (output, output.get("data", {})):
                for kind in {"text", "text/plain", "text/html"} & set(texts):
                    texts[kind] = texts[kind].replace(f"{work}/", "")


def main(names: list[str]) -> None:
    """Execute the notebooks of these names in place, or all."""
    for path in [FOLDER / name for name in names] or sorted(FOLDER.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
        with TemporaryDirectory() as folder:
            execute(notebook, Path(folder))
        nbformat.write(notebook, path)
        print(path.name)


if __name__ == "__main__":
    main(sys.argv[1:])
