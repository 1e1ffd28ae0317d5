"""Cells stacked on top of each other, for one `RNN`."""

from collections.abc import Mapping, Sequence
from typing import Any

from scratchlstm._support import checks, registry
from scratchlstm.cells.base import Cell


class StackedRNNCells(registry.Configured):
    """Cells that each take the output of the one before: `RNN(StackedRNNCells([LSTMCell(8), GRUCell(4)]))`.

    `RNN` runs the first cell over the whole sequence, then the second over its outputs, and so on. The result is the
    same as running all of them at every step, but each cell's outputs are kept for the whole sequence. States and
    parameters are those of all cells in order.

    Args:
        cells: at least one; nested lists are flattened.

    Raises:
        TypeError, ValueError: not cells.
    """

    def __init__(self, cells: Sequence[Any]) -> None:
        given = checks.instance("cells", cells, list | tuple, "a list of cells")
        if not given:
            raise ValueError("cells must hold at least one cell")
        parts = [as_cell(f"cells[{number}]", cell) for number, cell in enumerate(given)]
        self.cells: list[Cell] = []
        for part in parts:
            self.cells += part.cells if isinstance(part, StackedRNNCells) else [part]

    def get_config(self) -> dict[str, Any]:
        return {"cells": [registry.serialize(cell) for cell in self.cells]}


def as_cell(argument: str, given: Any) -> "Cell | StackedRNNCells":
    """A cell, from a cell, a list of cells, or a saved description.

    Raises:
        TypeError: it is none of these.
        ValueError: an unknown name.
    """
    if isinstance(given, list | tuple):
        return StackedRNNCells(given)
    if isinstance(given, StackedRNNCells):
        return given
    if isinstance(given, dict) and given.get("class_name") == "StackedRNNCells":
        return registry.resolve("cell", given, KNOWN, StackedRNNCells, argument)
    try:
        cell = registry.resolve("cell", given, KNOWN, Cell, argument)
    except TypeError as error:
        if isinstance(given, Mapping):
            raise
        raise TypeError(f"{argument} must be a cell such as LSTMCell(32), not {_no_cell(given)}") from error
    if not hasattr(cell, "seed"):
        raise TypeError(f"{type(cell).__name__}.__init__ does not call super().__init__(units, ...), but must")
    return cell


def _no_cell(given: Any) -> str:
    """What was given instead of a cell, and what to do."""
    name = type(given).__name__
    if isinstance(given, type):
        return f"the class {given.__name__}"
    if hasattr(given, "cell"):
        return f"{name}, a layer with its own cell: use it without RNN"
    return registry.stranger(given, KNOWN) if name in KNOWN or isinstance(given, str | int | None) else name


KNOWN: dict[str, Any] = {}  # the cells a saved model may contain; filled by `cells/__init__.py`
