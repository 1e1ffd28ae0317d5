"""The results of a check, tensor by tensor, as a table."""

from dataclasses import dataclass, field
from html import escape

from scratchlstm._support import notebook

TOLERANCE = 1e-7
_COLUMNS = ["tensor", "shape", "vs numerical", "vs TensorFlow", "verdict"]


@dataclass
class Row:
    """One tensor of a report.

    Attributes:
        tensor: its name.
        shape: its shape.
        numerical: norm-relative difference between the analytic and the numerical gradient.
        tensorflow: the same against TensorFlow's gradient; None if not compared.
        problem: what else is wrong (a gradient missing or of the wrong shape), or in a recurrent layer where a gradient
            is wrong: in which gates' blocks of columns, at which steps, or only over several steps.
    """

    tensor: str
    shape: tuple[int, ...]
    numerical: float | None = None
    tensorflow: float | None = None
    problem: str = ""
    tolerance: float = TOLERANCE

    @property
    def ok(self) -> bool:
        """Whether all comparisons are within the tolerance (NaN is not)."""
        errors = [error for error in (self.numerical, self.tensorflow) if error is not None]
        return not self.problem and bool(errors) and all(error <= self.tolerance for error in errors)

    @property
    def differs(self) -> bool:
        """Whether it differs from the numerical gradient."""
        return self.numerical is not None and not self.numerical <= self.tolerance

    def cells(self) -> list[str]:
        """The cells of the report's table for it."""
        errors = (f"{error:.1e}" if error is not None else "-" for error in (self.numerical, self.tensorflow))
        return [self.tensor, str(self.shape), *errors, "ok" if self.ok else f"WRONG {self.problem}".rstrip()]


@dataclass(repr=False)
class Report:
    """The results of one check: a table, in a notebook or printed, followed by the diagnosis.

    Attributes:
        title: what was checked.
        rows: one for each tensor.
        diagnosis: what is wrong in a recurrent layer, in words, one line per mistake; empty if all is right or the
            mistake is not recognised.
    """

    title: str
    rows: list[Row] = field(default_factory=list)
    diagnosis: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there are rows and all are right."""
        return bool(self.rows) and all(row.ok for row in self.rows)

    def __repr__(self) -> str:
        width = max([28, *(len(row.tensor) + 2 for row in self.rows)])
        lines = [self.title]
        for name, shape, numerical, tensorflow, verdict in [_COLUMNS, *(row.cells() for row in self.rows)]:
            lines.append(f"  {name:<{width}}{shape:<14}{numerical:>13}{tensorflow:>15}  {verdict}")
        return "\n".join([*lines, *(f"  {line}" for line in self.diagnosis)])

    def _repr_html_(self) -> str:
        """The table for a notebook, with wrong rows marked."""
        wrong = [number for number, row in enumerate(self.rows) if not row.ok]
        table = notebook.table(self.title, _COLUMNS, (row.cells() for row in self.rows), wrong)
        return table + "".join(f"<p>{escape(line)}</p>" for line in self.diagnosis)
