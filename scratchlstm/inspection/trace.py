"""The gates of a trained model, at every step of real input, and with a target the gradient of each.

Equations and names are those of `scratchlstm.gates`; B samples, T steps, E input features, H units.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from scratchlstm import gates
from scratchlstm._support import checks
from scratchlstm.inspection.recording import Recorded, choose, record
from scratchlstm.layers import LSTM
from scratchlstm.layers.rnn import reverse_steps

GATES = ("i", "f", "g", "o")
_BACK = ("dh_above", "dh_next", "dh", "dh_prev", "dc_next", "dc", "dc_prev")


@dataclass(frozen=True, repr=False)
class LayerTrace:
    """What one LSTM did at each step. Every array stands by the time of its step, also where the layer runs backwards.

    `dx` stands for dL/dx, all ways from x to the loss taken together: `dh` is `dh_above` + `dh_next`, and `dc` is
    `dc_next` and what comes through this step's h. Gradients are None where there was no target. Numbers are what the
    layer computes: where a gradient explodes they are infinite or NaN.

    At a step that does not count (see `mask`) c and h are those of the step before. The gates there are what they would
    be, but nothing uses them: their gradients are 0, and dh and dc pass on to the step before as they are.

    Attributes:
        name: in the model; "bidirectional/forward" and "bidirectional/backward" for the two directions.
        activation, recurrent_activation: names of φ (for g, and for the cell in (6)) and σ (for i, f and o).
        go_backwards: whether the last step was computed first, so that c_prev is the cell at the *next* time.
        kernel: W, (E, 4H).
        recurrent_kernel: U, (H, 4H).
        bias: b, (4H,); zeros where the layer has none.
        mask: (B, T), True where the step counts.
        input: x, (B, T, E).
        h_prev, c_prev: states that the step begins with, (B, T, H).
        z_i, z_f, z_g, z_o: what the gates' activations get, (B, T, H).
        i, f, g, o: the gates, (1) to (4), (B, T, H).
        c, h: cell (5) and hidden state (6), (B, T, H).
        dh_above: dL/dh as far as it comes from the layer above or the loss, at the last step also from the layers that
            take the final state, (B, T, H).
        dh_next, dc_next: what the step computed after this one hands back, (B, T, H). At the last step dh_next is 0,
            and dc_next what arrives from the layers that take the final cell.
        dh, dc: dL/dh, and dL/dc (8), all ways, (B, T, H).
        dh_prev, dc_prev: what this step hands back to the one computed before it, (18) and (12), (B, T, H).
        dz_i, dz_f, dz_g, dz_o: dL/dz of each gate, (13) to (16), (B, T, H).
        d_input: dL/dx (17), (B, T, E).
    """

    name: str
    activation: str
    recurrent_activation: str
    go_backwards: bool
    kernel: np.ndarray
    recurrent_kernel: np.ndarray
    bias: np.ndarray
    mask: np.ndarray
    input: np.ndarray
    h_prev: np.ndarray
    c_prev: np.ndarray
    z_i: np.ndarray
    z_f: np.ndarray
    z_g: np.ndarray
    z_o: np.ndarray
    i: np.ndarray
    f: np.ndarray
    g: np.ndarray
    o: np.ndarray
    c: np.ndarray
    h: np.ndarray
    dh_above: np.ndarray | None = None
    dh_next: np.ndarray | None = None
    dh: np.ndarray | None = None
    dh_prev: np.ndarray | None = None
    dc_next: np.ndarray | None = None
    dc: np.ndarray | None = None
    dc_prev: np.ndarray | None = None
    dz_i: np.ndarray | None = None
    dz_f: np.ndarray | None = None
    dz_g: np.ndarray | None = None
    dz_o: np.ndarray | None = None
    d_input: np.ndarray | None = None

    @property
    def units(self) -> int:
        """How many there are, H."""
        return self.h.shape[2]

    @property
    def d_words(self) -> np.ndarray:
        """The norm of `d_input` at each step, which says how much the word there moves the loss, (B, T) in float64.

        Raises:
            ValueError: the trace has no gradients.
        """
        d_input = self.gradient("d_input").astype("float64")
        largest = np.max(np.abs(d_input), axis=-1, keepdims=True, initial=0)
        scale = np.where(np.isfinite(largest) & (largest > 0), largest, 1)  # so that no square overflows
        return np.linalg.norm(d_input / scale, axis=-1) * scale[..., 0]

    def importance(self, sample: int = 0, steps: Any = slice(None)) -> np.ndarray:
        """How much hangs on each unit's cell in a sample, (H,) in float64: the sum over the steps of `|dL/dc · c|`.

        To first order the loss changes by no more than that share of it by which the cell is scaled at every step.
        Without gradients it is the sum of `|c|`.

        Args:
            sample: number of the row in the batch.
            steps: only these steps, as an index; of them those that count.

        Raises:
            ValueError: no such sample or steps.
        """
        sample = checks.index("sample", sample, len(self.h))
        try:
            steps = np.atleast_1d(np.arange(self.h.shape[1])[steps])
        except (IndexError, TypeError) as error:
            raise ValueError(f"steps must be an index into the {self.h.shape[1]} steps, but {error}") from error
        if steps.ndim > 1:
            raise ValueError(f"steps must choose a row of steps, not {steps.ndim} dimensions of them")
        cells = self.c[sample, steps].astype("float64")  # (steps, H)
        slopes = 1.0 if self.dc is None else self.dc[sample, steps]
        return np.sum(np.abs(slopes * cells), axis=0, where=self.mask[sample, steps, None])

    def gradient(self, name: str) -> np.ndarray:
        """The gradient of that name.

        Raises:
            ValueError: no such gradient, or the trace has none.
        """
        names = [field.name for field in fields(self) if field.default is None]
        if not isinstance(name, str) or name not in names:
            raise ValueError(f"name must be that of a gradient, one of {', '.join(names)}, not {name!r:.80}")
        found = getattr(self, name)
        if found is None:
            raise ValueError(f"{name} is a gradient, for which the trace needs a target: trace(model, x, y)")
        return found

    def as_dict(self) -> dict[str, np.ndarray]:
        """All arrays by name, as `np.savez` takes them."""
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}

    def table(self, sample: int = 0, unit: int = 0) -> list[dict[str, Any]]:
        """One sample and unit, step by step: "step" (from 0), "counts", and a number for each array (B, T, H).

        Raises:
            ValueError: no such sample or unit.
        """
        sample, unit = checks.index("sample", sample, len(self.h)), checks.index("unit", unit, self.units)
        of_unit = ["z_i", "z_f", "z_g", "z_o", *GATES, "c_prev", "c", "h_prev", "h"]
        of_unit += [*_BACK, "dz_i", "dz_f", "dz_g", "dz_o"] if self.dh is not None else []
        columns = [getattr(self, name)[sample, :, unit].tolist() for name in of_unit]
        rows = zip(range(self.h.shape[1]), self.mask[sample].tolist(), *columns, strict=True)
        return [dict(zip(["step", "counts", *of_unit], row, strict=True)) for row in rows]

    def __repr__(self) -> str:
        B, T, H = self.h.shape
        lines = [
            f"LayerTrace {self.name!r}: {B} samples, {T} steps, {self.input.shape[2]} features, {H} units"
            + (", backwards" if self.go_backwards else "")
            + ("" if self.mask.all() else f"; {np.mean(self.mask):.0%} of the steps count"),
            f"     {'mean':>10}{'min':>10}{'max':>10}",
        ]
        for name in (*GATES, "c", "h", *(("dh", "dc") if self.dh is not None else ())):
            values = getattr(self, name)[self.mask]
            numbers = "".join(f"{of(values):10.3g}" for of in (np.mean, np.min, np.max)) if values.size else "  (none)"
            lines.append(f"  {name:<3}{numbers}")
        return "\n".join(lines)


@dataclass(frozen=True, repr=False)
class Trace:
    """What every LSTM of a model did with a batch: `trace["lstm"]`, or `trace.lstm` where there is just one.

    Attributes:
        x: the input, (B, ...); a tuple of several.
        y: the target, or None; a tuple for several outputs.
        prediction: the model's output, (B, ...); a tuple of several.
        loss: as `Model.evaluate` gives it; None without a target.
        layers: name -> `LayerTrace`, in the model's order.
    """

    x: Any
    y: Any
    prediction: Any
    loss: float | None
    layers: dict[str, LayerTrace]

    def __getitem__(self, name: str | None) -> LayerTrace:
        """The LSTM of that name; None is the only one.

        Raises:
            ValueError: no such LSTM, or several to choose from; they are named.
        """
        return choose(self.layers, name)

    @property
    def lstm(self) -> LayerTrace:
        """The only LSTM.

        Raises:
            ValueError: there are several; they are named.
        """
        return self[None]

    def __repr__(self) -> str:
        loss = "" if self.loss is None else f", loss {self.loss:.4g}"
        outputs = self.prediction if isinstance(self.prediction, tuple) else (self.prediction,)
        shapes = ", ".join(str(y.shape) for y in outputs)
        head = f"Trace of {len(outputs[0])} samples, prediction {shapes}{loss}"
        return "\n".join([head, *map(repr, self.layers.values())])


def trace(model: Any, x: Any, y: Any = None, *, sample_weight: Any = None) -> Trace:
    """Every gate, cell and hidden state that a model computes for a batch; with a target also their gradients.

    The model is left as it is: parameters, gradients, states of stateful layers (with which the pass begins), dropout's
    generators, optimizer. Dropout is off. All values are computed by the textbook's functions (`scratchlstm.gates`)
    from the input, states and mask that reached the layer, so they are the same for both implementations. A gradient
    that explodes is shown as it is, infinite or NaN, with NumPy's warning.

    Args:
        model: a built `Sequential` or `Model` with an `LSTM` in it, also within `Bidirectional`. One that is at several
            places has a trace for each: "lstm", "lstm#2", ... in the order of computation. (One within
            `TimeDistributed` runs over a sequence of its own at each outer step s of S: row b·S + s of its arrays.)
        x: a batch, as the model takes it.
        y: targets; the model has to be compiled then.
        sample_weight: of the loss, (B,).

    Raises:
        TypeError: not a model, or data that are no numbers.
        ValueError: not built, without an LSTM, or data of the wrong shape.
        RuntimeError: a target, but not compiled.
    """
    recording = record(model, x, y, sample_weight, "trace")
    layers = {name: trace_layer(name, of) for name, of in recording.layers.items() if isinstance(of.layer, LSTM)}
    if not layers:
        hint = "; of a SimpleRNN, gradient_norm_over_time shows the gradients" if recording.layers else ""
        has = ", ".join(f"{layer.name} ({type(layer).__name__})" for layer in model.layers)
        raise ValueError(f"trace shows the gates of an LSTM, and the model has none: it has {has}{hint}")
    return Trace(*recording[:4], layers)


def trace_layer(name: str, of: Recorded) -> LayerTrace:
    """One LSTM's steps, from what was recorded; here all arrays are in the order of computation."""
    layer: Any = of.layer
    x, (h0, c0), mask, backwards = of.x, of.states, of.mask, layer.go_backwards
    mask = np.ones(x.shape[:2], bool) if mask is None else mask
    x, mask = (reverse_steps(array, backwards) for array in (x, mask))
    W, U, b = (param.copy() for param in layer.kernels())
    hs, c_last, caches = gates.lstm_forward(x, h0, c0, W, U, b, layer.recurrent_activation, layer.activation, mask)
    steps = {key: np.stack([getattr(cache, key) for cache in caches], axis=1) for key in (*GATES, "h_prev", "c_prev")}
    steps |= {"h": hs, "c": np.concatenate([steps["c_prev"][:, 1:], c_last[:, None]], axis=1)}
    steps |= by_gate("z", x @ W + steps["h_prev"] @ U + b)
    if of.reached is not None:
        steps |= _gradients(layer, of.reached, caches, mask, W, U)
    steps |= {"input": x, "mask": mask}
    in_time: dict[str, Any] = {key: np.ascontiguousarray(reverse_steps(a, backwards)) for key, a in steps.items()}
    names = layer.activation.name, layer.recurrent_activation.name
    return LayerTrace(name, *names, backwards, W, U, b, **in_time)


def _gradients(
    layer: Any, reached: Any, caches: list[gates.StepCache], mask: np.ndarray, W: np.ndarray, U: np.ndarray
) -> dict[str, np.ndarray]:
    """Backpropagation through time, with each step's gradients kept."""
    dh, (dh_last, dc_last) = reached
    dh_above = layer.dh_in_order(dh, len(caches))  #                (B, T, H)
    if dh_last is not None:
        dh_above[:, -1] += dh_last
    dh_next = np.zeros_like(dh_above[:, 0])  #                      (B, H)
    dc_next = dh_next if dc_last is None else dc_last  #            (B, H)
    steps = []
    for t in reversed(range(len(caches))):
        dh = dh_above[:, t] + dh_next  #                            (B, H)
        counts = mask[:, t, None]  #                                (B, 1)
        step = gates.lstm_step_backward(
            np.where(counts, dh, 0), np.where(counts, dc_next, 0), caches[t], W, U,
            layer.recurrent_activation.prime, layer.activation.prime,
        )  # fmt: skip
        dc = np.where(counts, step.dc, dc_next)  #                  (B, H)
        dh_prev, dc_prev = np.where(counts, step.dh_prev, dh), np.where(counts, step.dc_prev, dc_next)
        found = {"dh_next": dh_next, "dh": dh, "dh_prev": dh_prev, "dc_next": dc_next, "dc": dc, "dc_prev": dc_prev}
        steps.append(found | {"d_input": step.dx} | by_gate("dz", step.dz))
        dh_next, dc_next = dh_prev, dc_prev
    return {"dh_above": dh_above} | {key: np.stack([step[key] for step in reversed(steps)], 1) for key in steps[0]}


def by_gate(name: str, columns: np.ndarray) -> dict[str, np.ndarray]:
    """The four blocks of an array (..., 4H), as "name_i", "name_f", "name_g" and "name_o"."""
    return {f"{name}_{gate}": block for gate, block in zip(GATES, np.split(columns, 4, axis=-1), strict=True)}
