"""The commands on the page of examples, run when the site is built: what they print and draw is what the page shows.

They run in `_build/examples`, where each leaves its output as `printed.txt` beside its files, until the command, the
example or the package changes.
"""

import hashlib
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
COMMAND = re.compile(r"^```\npython (examples/(\w+)\.py.*)\n```$", re.MULTILINE)


def run(command: str, name: str, folder: Path, package: bytes) -> None:
    """Run one, unless what it left in `folder`/runs/`name` is of the same command, example and package.

    Raises:
        RuntimeError: it fails.
    """
    script, *options = shlex.split(command)
    key = hashlib.sha256(command.encode() + (ROOT / script).read_bytes() + package).hexdigest()
    made = folder / "runs" / name
    made.mkdir(parents=True, exist_ok=True)
    if (made / "key").exists() and (made / "key").read_text() == key:
        return
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, ROOT / script, *options], cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"python {command}:\n{done.stderr}")
    (made / "printed.txt").write_text(done.stdout, encoding="utf-8")
    (made / "key").write_text(key)


def run_all(app: "Sphinx") -> None:
    """As many at a time as there are processors, each on one."""
    folder = Path(app.srcdir, "_build", "examples")
    commands = COMMAND.findall(Path(app.srcdir, "examples.md").read_text(encoding="utf-8"))
    package = b"".join(path.read_bytes() for path in sorted((ROOT / "scratchlstm").rglob("*.py")))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda command: run(*command, folder, package), commands))


def setup(app: "Sphinx") -> dict[str, Any]:
    app.connect("builder-inited", run_all)
    return {"parallel_read_safe": True}
