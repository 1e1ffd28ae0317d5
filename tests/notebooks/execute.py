"""Execute the notebooks of the course again, and write those whose outputs are no longer what the code gives.

python tests/notebooks/execute.py            all of them
python tests/notebooks/execute.py NOTEBOOK   this one
"""

import argparse
import base64
import difflib
import os
import sys
import tempfile
from pathlib import Path
from unittest import mock

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))

from pictures import same_png

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))
_SETTINGS = "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"
_PICTURE = "image/png"
_KERNEL = "python3"


def execute(notebook, folder, timeout=60):
    """Run the cells in a new kernel, in a folder, without anyone's settings; the outputs are stored in them.

    Args:
        notebook: to execute.
        folder: in which its kernel works.
        timeout: seconds for a cell.
    """
    with tempfile.TemporaryDirectory() as settings, mock.patch.dict(os.environ):
        os.environ.update({name: os.path.join(settings, name) for name in _SETTINGS})
        os.environ.pop("MPLBACKEND", None)
        os.environ["NUMBA_DISABLE_JIT"] = "1"  # or an output would be that the loops are compiled, if they have to be
        if _KERNEL not in KernelSpecManager().find_kernel_specs():
            raise SystemExit(f'no kernel {_KERNEL!r} to run a notebook in: pip install -e ".[notebooks]"')
        client = NotebookClient(
            notebook, resources={"metadata": {"path": str(folder)}}, kernel_name=_KERNEL, timeout=timeout,
            record_timing=False,
        )  # fmt: skip
        return client.execute()


def again(path):
    """The notebook of a file with the outputs that its cells give now, and nothing of this machine."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        execute(notebook, folder)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": _KERNEL},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {name: value for name, value in cell.metadata.items() if name == "tags"}
        if cell.cell_type == "code":
            cell.outputs = [nbformat.from_dict(output) for output in _plain(cell.outputs)]
    return notebook


def _plain(outputs):
    """Outputs without metadata, what was printed in one piece."""
    plain = []
    for output in outputs:
        if output.output_type == "stream" and plain and plain[-1].get("name") == output.name:
            plain[-1]["text"] += output.text
            continue
        plain.append(output | ({"metadata": {}} if "metadata" in output else {}))
    return plain


def differences(stored, now):
    """What the outputs of a notebook show and those of its execution do not, in words; "" if they show the same."""
    said = []
    for number, (old, new) in enumerate(zip(stored.cells, now.cells, strict=True), 1):
        if old.cell_type != "code":
            continue
        where = f"cell {number} ({old.source.splitlines()[0]} ...)"
        lines = difflib.unified_diff(_texts(old), _texts(new), "stored", "now", lineterm="", n=1)
        if text := "\n".join(lines):
            said.append(f"{where}:\n{text}")
        drawn = pictures(old), pictures(new)
        if len(drawn[0]) != len(drawn[1]) or not all(map(same_png, *drawn)):
            said.append(f"{where}: a picture shows something else")
    return "\n".join(said)


def _texts(cell):
    """The lines of all outputs but pictures, with what kind of output they are."""
    texts = []
    for output in cell.outputs:
        data = output.get("data", {"": output.get("text", "") or "\n".join(output.get("traceback", []))})
        for kind, text in data.items():
            if kind != _PICTURE:
                texts += [f"[{' '.join([output.output_type, kind]).strip()}]", *text.splitlines()]
    return texts


def pictures(cell):
    """The PNG files among the outputs of a cell, as bytes."""
    return [base64.b64decode(each.data[_PICTURE]) for each in cell.outputs if _PICTURE in each.get("data", {})]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, default=NOTEBOOKS)
    for path in parser.parse_args().notebooks:
        now = again(path)
        if said := differences(nbformat.read(path, as_version=4), now):
            nbformat.write(now, path)
            print(f"{path.name} written:\n{said}")
        else:
            print(f"{path.name} shows what it gives")


if __name__ == "__main__":
    main()
