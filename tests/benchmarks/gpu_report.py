"""What gpu.py measured, judged by what was asked for, and written as one Markdown and one JSON file."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from scratchlstm.utils import atomic_write

OURS, TEXTBOOK = "scratchlstm", "op by op in CuPy"
EAGER, GRAPH, FLOAT32 = "PyTorch", "PyTorch, CUDA graph", "PyTorch, without TF32"

FASTEST = "version 3, forward"


class NotMeasured(Exception):
    """Why no time is given."""


def number(measured, name):
    """The number of that name.

    Raises:
        NotMeasured: there is none, but a reason.
    """
    if name not in measured:
        raise NotMeasured(measured["reason"])
    return measured[name]


def milliseconds(timing):
    """The median of a timing.

    Raises:
        NotMeasured: it has none.
    """
    return number(timing, "ms")


def ratio(times, *peers):
    """Our time by that of the fastest of the peers that could be measured.

    Raises:
        NotMeasured: we, or all of them, could not.
    """
    measured = [times[peer]["ms"] for peer in peers if "ms" in times[peer]]
    return milliseconds(times[OURS]) / (min(measured) if measured else milliseconds(times[peers[0]]))


def slowest(cases):
    """The largest ratio to cuDNN among cases.

    Raises:
        NotMeasured: there is none, or one of them was not measured and none of the others is above 1.
    """
    ratios, reasons = [], []
    for case in cases:
        try:
            ratios.append(ratio(case["times"], EAGER))
        except NotMeasured as reason:
            reasons.append(str(reason))
    if reasons and (not ratios or max(ratios) <= 1):
        raise NotMeasured(f"{len(reasons)} of {len(cases)} cases were not measured: {reasons[0]}")
    return max(ratios)


def largest_error(cases):
    """The largest error among cases, NaN where one is NaN.

    Raises:
        NotMeasured: a case was not measured.
    """
    for case, errors in cases.items():
        if "reason" in errors:
            raise NotMeasured(f"{case}: {errors['reason']}")
    return float(np.max([error for errors in cases.values() for error in errors.values()]))


@dataclass(frozen=True)
class Target:
    """Something asked for: a number that must not be above `limit`."""

    what: str
    asked: str
    limit: float
    form: str  # of the number, measured
    measure: Callable[[dict[str, Any]], float]


TARGETS = (
    Target(
        "the tutorial's training step, by the time of PyTorch (cuDNN, the faster of eager and CUDA graph)",
        "0.5 or less", 0.5, "{:.2f}", lambda found: ratio(found["step"], EAGER, GRAPH),
    ),
    Target(
        "an epoch of the tutorial (196 steps, 25,000 reviews)",
        "0.2 s or less", 0.2, "{:.3f} s", lambda found: milliseconds(found["epoch"]) / 1e3,
    ),
    Target(
        "the recurrence forward (T=100, B=128, H=60), by its latency floor",
        "3 or less", 3, "{:.1f}",
        lambda found: milliseconds(found["recurrence"]["times"][FASTEST]) / found["recurrence"]["floor ms"],
    ),
    Target(
        "the layer forward and backward, units to 128, by the time of cuDNN, the slowest of the sweep",
        "1 or less", 1, "{:.2f}", lambda found: slowest(found["layers"]),
    ),
    Target(
        "the same, units 192 to 1024",
        "2 or less", 2, "{:.2f}", lambda found: slowest(found["wide layers"]),
    ),
    Target(
        "float32 against the CPU, largest error relative to the norm",
        "1e-5 or less", 1e-5, "{:.1e}", lambda found: largest_error(found["accuracy"]["float32"]),
    ),
    Target(
        "float64 against the CPU",
        "1e-11 or less", 1e-11, "{:.1e}", lambda found: largest_error(found["accuracy"]["float64"]),
    ),
    Target(
        "from run to run, arrays that differ in a bit",
        "0", 0, "{:.0f}", lambda found: number(found["from run to run"], "different"),
    ),
)  # fmt: skip


def judge(target, found):
    """A row of the table of targets: asked, measured, and whether that is met, not met, or not measured and why."""
    row = {"what": target.what, "asked": target.asked, "measured": None}
    try:
        if found["quick"]:
            raise NotMeasured("--quick takes other, tiny sizes")
        row["measured"] = target.measure(found)
    except NotMeasured as reason:
        return row | {"verdict": "not measured", "reason": str(reason)}
    return row | {"verdict": "met" if row["measured"] <= target.limit else "not met"}


def markdown(found):
    """The report; `found` as it goes into the JSON file."""
    parts = [f"# scratchlstm on {found['card']}"]
    if found["quick"]:
        parts.append("A try-out with `--quick`: tiny sizes, no result.")
    parts += ["## Asked and measured", _targets(found["targets"])]
    parts += ["## Where", _table(("", ""), found["environment"].items())]
    parts += ["## Tests on the GPU", _counts(found["tests"])]
    parts += ["## compute-sanitizer", _table(("tool", ""), found["sanitizer"].items())]
    parts += [f"## A training step of the tutorial\n\n{found['data']}", _times(found["step"])]
    parts.append(f"An epoch with `fit`: {_ms(found['epoch'])}.")
    parts += ["## Launches and memory in a step", _table(("", "launches", "most memory taken"), _loads(found))]
    floor = found["recurrence"]["floor ms"]
    parts += [f"## The recurrence alone\n\nIts floor (forward): {floor:.4g} ms", _recurrence(found["recurrence"])]
    parts += [f"## The layer forward and backward\n\n{SWEEP}", _sweep(found["layers"])]
    parts += ["## Units 192 to 1024", _sweep(found["wide layers"])]
    parts += ["## Against the CPU", _table(("", "largest error", "of"), _errors(found["accuracy"]))]
    parts.append(f"The same training twice, parameters compared bit for bit: {_counts(found['from run to run'])}.")
    return "\n\n".join(parts) + "\n"


SWEEP = "Median (range), and the ratio of ours to PyTorch, both as one call after another."


def _table(header, rows):
    lines = ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in (header, *rows)]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])


def _targets(rows):
    forms = {target.what: target.form for target in TARGETS}

    def measured(row):
        return "" if row["measured"] is None else forms[row["what"]].format(row["measured"])

    def verdict(row):
        return row["verdict"] + (f": {row['reason']}" if "reason" in row else "")

    return _table(
        ("", "asked", "measured", "met?"), ((row["what"], row["asked"], measured(row), verdict(row)) for row in rows)
    )


def _counts(found):
    if "reason" in found:
        return f"not measured: {found['reason']}"
    return ", ".join(f"{number} {what}" for what, number in found.items())


def _ms(timing):
    if "ms" not in timing:
        return f"not measured: {timing['reason']}"
    return f"{timing['ms']:.4g} ms ({min(timing['rounds']):.4g} to {max(timing['rounds']):.4g})"


def _by(times, peer):
    try:
        return f"{ratio(times, peer):.2f}"
    except NotMeasured:
        return ""


def _times(times):
    return _table(("", "a step", "ours by it"), ((name, _ms(each), _by(times, name)) for name, each in times.items()))


def _loads(found):
    for name, launches in found["launches"].items():
        memory = found["memory"][name]
        yield (
            name,
            _counts(launches),
            f"not measured: {memory['reason']}" if "reason" in memory else f"{memory['bytes'] / 2**20:,.0f} MiB",
        )


def _recurrence(found):
    def by_floor(name, timing):
        return f"{timing['ms'] / found['floor ms']:.1f}" if "ms" in timing and "forward" in name else ""

    rows = ((name, _ms(timing), by_floor(name, timing)) for name, timing in found["times"].items())
    return _table(("", "all steps", "by the floor"), rows)


def _sweep(cases):
    names, reasons = list(cases[0]["times"]), {}

    def cell(timing):
        if "ms" in timing:
            return _ms(timing)
        return f"({reasons.setdefault(timing['reason'], len(reasons) + 1)})"

    rows = [
        (case["H"], case["T"], case["B"], *(cell(case["times"][name]) for name in names), _by(case["times"], EAGER))
        for case in cases
    ]
    notes = [f"({number}) not measured: {reason}" for reason, number in reasons.items()]
    return "\n\n".join([_table(("units", "T", "B", *names, "ratio"), rows), *notes])


def _errors(accuracy):
    for dtype, cases in accuracy.items():
        for case, errors in cases.items():
            if "reason" in errors:
                yield f"{dtype}, {case}", "not measured", errors["reason"]
            else:
                which = list(errors)[np.argmax(list(errors.values()))]
                yield f"{dtype}, {case}", f"{errors[which]:.1e}", which


def write(found, folder):
    """`CARD.md` and `CARD.json` in the folder, each whole or not at all; their paths."""
    name = re.sub(r"[^a-z0-9]+", "-", found["card"].lower()).strip("-")
    texts = {"md": markdown(found), "json": json.dumps(found, indent=1, allow_nan=True) + "\n"}
    paths = []
    for ending, text in texts.items():
        paths.append(folder / f"{name}.{ending}")
        with atomic_write(paths[-1]) as file:
            file.write(text.encode())
    return paths
