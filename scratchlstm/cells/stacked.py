"""Cells on top of each other, for one `RNN`."""

from collections.abc import Mapping, Sequence
from typing import Any

from scratchlstm._support import checks, registry
from scratchlstm.cells.base import Cell


class StackedRNNCells(registry.Configured):
    """Cells of which each takes the output of the one before: `RNN(StackedRNNCells([LSTMCell(8), GRUCell(4)]))`.

    `RNN` runs the first over the whole sequence, then the second over its outputs, and so on: the same as all of them
    at every step, but each cell's outputs are kept for the whole sequence. Its states and parameters are those of all
    cells in their order.

    Args:
        cells: at least one; a list of them inside counts as its cells.

    Raises:
        TypeError, ValueError: no cells.
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
    """A cell, cells in a list, or the saved description of one.

    Raises:
        TypeError: none of them.
        ValueError: the name of no cell.
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
        raise TypeError(f"{type(cell).__name__}.__init__ must call super().__init__(units, ...), which it does not")
    return cell


def _no_cell(given: Any) -> str:
    """What came instead of a cell, and what to do."""
    name = type(given).__name__
    if isinstance(given, type):
        return f"the class {given.__name__}"
    if hasattr(given, "cell"):
        return f"{name}, which is a layer with a cell of its own: use it without RNN"
    return registry.stranger(given, KNOWN) if name in KNOWN or isinstance(given, str | int | None) else name


KNOWN: dict[str, Any] = {}  # the cells that a saved model may name; `cells/__init__.py` lists them
