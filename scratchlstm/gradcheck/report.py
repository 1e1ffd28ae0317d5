"""What a check found, tensor by tensor, as a table."""

from dataclasses import dataclass, field

TOLERANCE = 1e-7


@dataclass
class Row:
    """One tensor of a report.

    Attributes:
        tensor: its name.
        shape: its shape.
        numerical: norm-relative difference between the analytic and the numerical gradient.
        tensorflow: the same against TensorFlow's gradient; None where not compared.
        problem: what is wrong apart from numbers (a gradient missing or of another shape), or of a wrong gradient the
            gates whose blocks of columns are wrong.
    """

    tensor: str
    shape: tuple[int, ...]
    numerical: float | None = None
    tensorflow: float | None = None
    problem: str = ""
    tolerance: float = TOLERANCE

    @property
    def ok(self) -> bool:
        """Whether every comparison made is within the tolerance (NaN is not)."""
        errors = [error for error in (self.numerical, self.tensorflow) if error is not None]
        return not self.problem and bool(errors) and all(error <= self.tolerance for error in errors)


@dataclass
class Report:
    """The rows of one check; `print` shows the table."""

    title: str
    rows: list[Row] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there are rows and all of them are right."""
        return bool(self.rows) and all(row.ok for row in self.rows)

    def __str__(self) -> str:
        width = max([28, *(len(row.tensor) + 2 for row in self.rows)])
        lines = [self.title, f"  {'tensor':<{width}}{'shape':<14}{'vs numerical':>13}{'vs TensorFlow':>15}  verdict"]
        for row in self.rows:
            numbers = (f"{error:.1e}" if error is not None else "-" for error in (row.numerical, row.tensorflow))
            verdict = "ok" if row.ok else f"WRONG {row.problem}".rstrip()
            lines.append("  {:<{}}{:<14}{:>13}{:>15}  {}".format(row.tensor, width, str(row.shape), *numbers, verdict))
        return "\n".join(lines)
