"""Modules import from rooms of lower ranks only, without a circle: a reader can begin at the bottom and go up."""

import ast
from pathlib import Path

import pytest

import scratchlstm

PACKAGE = Path(scratchlstm.__file__).parent

# rooms, the lowest first; those of one rank may import each other
RANKS = [
    "_support config backend rows",
    "preprocessing datasets utils",
    "gates activations initializers regularizers constraints",
    "cells kernels",
    "layers",
    "losses metrics schedules optimizers",
    "callbacks",
    "training",
    "models",
    "interop inspection",
    "gradcheck",
    "exercises mpi __main__",
]
RANK = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms.split()}
UNRANKED = {"__init__", "__main__", "__pycache__", "py.typed"}  # among the names at the top
COMING = {"exercises"}
MOST_NAMES = 27


class _Imports(ast.NodeVisitor):
    """(line, module, names) of each import, those inside functions included, those for a type checker left out."""

    def __init__(self, package):
        self.package, self.found = package.split("."), []

    def visit_If(self, node):
        only_for_types = ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for child in node.orelse if only_for_types else [node.test, *node.body, *node.orelse]:
            self.visit(child)

    def visit_Import(self, node):
        self.found += [(node.lineno, alias.name, []) for alias in node.names]

    def visit_ImportFrom(self, node):
        above = self.package[: len(self.package) - node.level + 1] if node.level else []
        module = ".".join([*above, *([node.module] if node.module else [])])
        self.found.append((node.lineno, module, [alias.name for alias in node.names]))


def read_imports(folder):
    """Module -> module of the same package that it imports -> line.

    `from package.room import module` imports the module, `from package.room import name` the room's `__init__`. From
    another room, `import package.room.module` runs the room's `__init__`, too; from inside it that has been run.
    """
    modules = {}
    for path in sorted(folder.rglob("*.py")):
        *rooms, name = path.relative_to(folder.parent).with_suffix("").parts
        modules[".".join(rooms if name == "__init__" else [*rooms, name])] = path
    edges = {}
    for module, path in modules.items():
        is_package = path.name == "__init__.py"
        imports = _Imports(module if is_package else module.rpartition(".")[0])
        imports.visit(ast.parse(path.read_text(encoding="utf-8")))
        edges[module] = {}
        for line, base, names in imports.found:
            if base.split(".")[0] != folder.name:
                continue
            targets = [f"{base}.{name}" if f"{base}.{name}" in modules else base for name in names] or [base]
            for target in targets:
                parts = target.split(".")
                parents = [".".join(parts[:n]) for n in range(2, len(parts))]
                for each in [target, *(room for room in parents if not f"{module}.".startswith(f"{room}."))]:
                    edges[module].setdefault(each, line)
        edges[module].pop(module, None)
    return edges


def circles(edges):
    """A shortest circle through each module that is on one, unless a circle before shows the module already."""
    found, seen = [], set()
    for start in edges:
        paths = {start: [start]}  # module -> a shortest way to it
        for module in (queue := [start]):
            for target in edges[module]:
                if target == start and start not in seen:
                    found.append(" -> ".join([*paths[module], start]))
                    seen.update(paths[module])
                if target in edges and target not in paths:
                    paths[target] = [*paths[module], target]
                    queue.append(target)
    return found


def upward(edges):
    """Each import of a room of a higher rank."""

    def rank(module):
        parts = module.split(".")
        return RANK[parts[1]] if len(parts) > 1 else len(RANKS)  # the package itself is above all

    return [
        f"{module} (line {line}) -> {target}"
        for module, targets in edges.items()
        for target, line in targets.items()
        if rank(target) > rank(module)
    ]


def test_there_is_no_circle():
    found = circles(read_imports(PACKAGE))
    assert not found, "\n".join(found)


def test_no_import_goes_up():
    found = upward(read_imports(PACKAGE))
    assert not found, "\n".join(found)


def test_few_names_at_the_top():
    there = {path.stem if path.suffix == ".py" else path.name for path in PACKAGE.iterdir()} - UNRANKED
    assert there <= RANK.keys()
    assert len(there | COMING) <= MOST_NAMES


@pytest.mark.parametrize(
    ("inside", "target", "circle"),
    [
        ("from package.layers.dense import Dense", "package.layers.dense", True),
        ("def f():\n    from package import layers", "package.layers", True),
        ("class A:\n    def f(self):\n        import package.training as t", "package.training", False),
        ("try:\n    from . import training\nexcept ImportError:\n    pass", "package.training", False),
        ("if not TYPE_CHECKING:\n    from .training import fit", "package.training", False),
        ("if TYPE_CHECKING:\n    pass\nelse:\n    from package import training", "package.training", False),
        ("from package import Model", "package", True),
        ("import package", "package", True),
    ],
)
def test_the_check_sees(inside, target, circle, tmp_path):
    """`inside` rows, which `layers.dense` imports, which the package imports."""
    edges = read_imports(_package(tmp_path, rows=inside))
    assert target in {each.split(" -> ")[1] for each in upward(edges)}
    assert bool(circles(edges)) == circle
    assert not circle or "package.layers.dense -> package.rows" in circles(edges)[0]


def test_a_room_imports_itself_from_its_modules(tmp_path):
    edges = read_imports(_package(tmp_path, **{"layers/dense": "from package.layers import Dense"}))
    assert circles(edges) == ["package.layers -> package.layers.dense -> package.layers"]
    assert not upward(edges)


@pytest.mark.parametrize(
    "inside",
    [
        "import os\nfrom typing import Any",
        "from package import backend",
        "if TYPE_CHECKING:\n    from package.layers import Dense",
        "import numpy.package",
    ],
)
def test_the_check_allows(inside, tmp_path):
    edges = read_imports(_package(tmp_path, rows=inside))
    assert not circles(edges)
    assert not upward(edges)


def _package(folder, **changed):
    """A package in `folder`; `changed`: module -> its text."""
    texts = {
        "__init__": "from package.layers import Dense",
        "backend": "",
        "rows": "",
        "layers/__init__": "from package.layers.dense import Dense",
        "layers/dense": "from package import backend, rows",
        "training": "",
    }
    for name, text in (texts | changed).items():
        path = folder / "package" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / "package"
