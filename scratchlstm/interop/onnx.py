"""Export models to ONNX (extra `onnx`), for inference elsewhere.

ONNX' recurrences have a row per output, their own order of gates, and two biases; time comes first.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from scratchlstm._support import checks
from scratchlstm._support.files import atomic_write
from scratchlstm.cells import CoupledLSTMCell
from scratchlstm.interop.plain import RECURRENCES, common_dtype, recurrence, reordered, require_plain, require_stack
from scratchlstm.layers import KNOWN, RNN, Bidirectional, Layer
from scratchlstm.layers.base import Shape
from scratchlstm.models.model import Model

_OPSET = 18
_FLAGS = (True, False)
# ours -> ONNX' operator and its attributes; all but the last can also be inside its LSTM, "linear" only there
_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "sigmoid": ("Sigmoid", {}), "tanh": ("Tanh", {}), "relu": ("Relu", {}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "linear": ("Affine", {"alpha": 1.0, "beta": 0.0}), "softmax": ("Softmax", {"axis": -1}),
}  # fmt: skip


def to_onnx(model: Model, path: str | os.PathLike[str], *, ids_dtype: str = "int64") -> None:
    """Write the model as an ONNX file, completely or not at all.

    The input is called "input", the output "output"; the batch size, and an open time axis, are free. Ids are not
    checked
    there: a negative one counts from the end of the table.

    Args:
        model: built, with a single dtype; recurrences need float32, the only one ONNX Runtime supports.
        path: the file.
        ids_dtype: "int64" or "int32", the input's dtype if the first layer is an Embedding or WordDropout.

    Raises:
        ImportError: onnx is not installed.
        ValueError: the model has branches or is not built, or has a layer or a setting that ONNX cannot express (the
            message names it).
        OSError: the file cannot be written.
    """
    import onnx
    from onnx import helper

    input_shape = require_stack(model)
    model = model.on_cpu()
    checks.one_of("ids_dtype", ids_dtype, ("int64", "int32"))
    dtype = np.dtype(common_dtype(model, "ONNX"))
    graph, x = _Graph(), "input"
    for layer in model.layers:
        x = graph.layer(layer, x)
    graph.nodes.append(helper.make_node("Identity", [x], ["output"]))

    def described(name: str, shape: Shape, kind: np.dtype) -> Any:
        sizes = ["batch", *("time" if size is None else size for size in shape)]
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(kind), sizes)

    takes_ids = type(model.layers[0]).__name__ in ("Embedding", "WordDropout")
    inputs = [described("input", input_shape, np.dtype(ids_dtype) if takes_ids else dtype)]
    outputs = [described("output", model.output_shape_for(input_shape), dtype)]
    whole = helper.make_graph(graph.nodes, model.name or "model", inputs, outputs, graph.constants)
    versions = {"opset_imports": [helper.make_opsetid("", _OPSET)], "ir_version": 8}  # the oldest with this opset
    content = helper.make_model(whole, producer_name="scratchlstm", **versions)
    onnx.checker.check_model(content, full_check=True)
    with atomic_write(path) as file:
        file.write(content.SerializeToString())


class _Graph:
    """The nodes and constants added so far."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, operator: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; arrays among its inputs become constants. Returns the name of its output, or of all outputs."""
        from onnx import helper, numpy_helper

        names = []
        for value in inputs:
            name = value if isinstance(value, str) else f"constant_{len(self.constants)}"
            if not isinstance(value, str):
                self.constants.append(numpy_helper.from_array(np.array(value, order="C"), name))
            names.append(name)
        made = [f"{operator.lower()}_{len(self.nodes)}_{n}" for n in range(outputs)]
        self.nodes.append(helper.make_node(operator, names, made, **attributes))
        return made[0] if outputs == 1 else made

    def layer(self, layer: Layer, x: str) -> str:
        """Add a layer's nodes; x and the result are names.

        Raises:
            ValueError: ONNX cannot express it.
        """
        kind = type(layer).__name__
        if kind not in _LAYERS or type(layer) is not KNOWN[kind]:
            raise ValueError(f"{layer.name} is a {kind}, which cannot be exported to ONNX; {', '.join(_LAYERS)} can")
        return _LAYERS[kind](self, layer, x)

    def activation(self, name: str, x: str) -> str:
        """Add an activation."""
        operator, attributes = _ACTIVATIONS[name]
        return x if name == "linear" else self.node(operator, x, **attributes)


# --- each layer -------------------------------------------------------------------------------------------------------


def _embedding(graph: _Graph, layer: Any, x: str) -> str:
    require_plain(layer, "ONNX")
    return graph.node("Gather", layer.params["embeddings"], x, axis=0)


def _dense(graph: _Graph, layer: Any, x: str) -> str:
    require_plain(layer, "ONNX", use_bias=_FLAGS, activation=_ACTIVATIONS)
    x = graph.node("MatMul", x, layer.params["kernel"])
    if layer.use_bias:
        x = graph.node("Add", x, layer.params["bias"])
    return graph.activation(layer.activation.name, x)


def _activation(graph: _Graph, layer: Any, x: str) -> str:
    require_plain(layer, "ONNX")
    return graph.activation(layer.activation.name, x)


def _normalization(graph: _Graph, layer: Any, x: str) -> str:
    require_plain(layer, "ONNX", center=_FLAGS, scale=_FLAGS, epsilon=(layer.epsilon,))
    gamma = layer.params.get("gamma", np.ones(layer.input_shape[-1], layer.dtype))
    beta = [layer.params["beta"]] if layer.center else []
    return graph.node("LayerNormalization", x, gamma, *beta, epsilon=layer.epsilon)


def _pooling(operator: str) -> Callable[[_Graph, Any, str], str]:
    return lambda graph, layer, x: graph.node(operator, x, np.array([1]), keepdims=int(layer.keepdims))


def _time_distributed(graph: _Graph, layer: Any, x: str) -> str:
    inner = type(layer.layer).__name__
    if inner not in ("Dense", "Activation", "Dropout", "LayerNormalization"):
        raise ValueError(f"{layer.name} contains a {inner}, which does not act only on the last axis, as ONNX requires")
    return graph.layer(layer.layer, x)


def _recurrent(graph: _Graph, layer: Any, x: str) -> str:
    """The operator LSTM, GRU or RNN, in one direction or both, batch first."""
    both = isinstance(layer, Bidirectional)
    ends = [layer.forward_layer, layer.backward_layer] if both else [layer]
    kinds = [recurrence(end, "ONNX") for end in ends]
    if len({type(end.cell) for end in ends}) > 1:
        raise ValueError(f"{layer.name} contains two layers of different classes, which ONNX cannot express")
    direction = "bidirectional" if both else "reverse" if layer.go_backwards else "forward"
    merge_mode = layer.merge_mode if both else "concat"
    used: list[tuple[str, dict[str, Any]]] = []
    inside = [name for name in _ACTIVATIONS if name != "softmax"]
    flags = dict.fromkeys(("use_bias", "return_sequences", "go_backwards"), _FLAGS)
    after = getattr(ends[0].cell, "reset_after", True)  # one setting for both
    for end in ends:
        if end.dtype != "float32":
            raise ValueError(f"{end.name} computes in {end.dtype}; ONNX Runtime's recurrences only support float32")
        require_plain(end, "ONNX", **flags, reset_after=(after,), activation=inside, recurrent_activation=inside)
        values = [end.cell.activation] * (2 if kinds[0] == "LSTM" else 1)
        gates = [] if kinds[0] == "RNN" else [end.cell.recurrent_activation]
        used += [_ACTIVATIONS[activation.name] for activation in gates + values]
    given = {key: [attributes[key] for _, attributes in used if key in attributes] for key in ("alpha", "beta")}
    settings: dict[str, Any] = {f"activation_{key}": values for key, values in given.items() if values}
    if isinstance(ends[0].cell, CoupledLSTMCell):
        settings["input_forget"] = 1
    if kinds[0] == "GRU":
        settings["linear_before_reset"] = int(after)
    W, R, B, *P = (np.stack(weights) for weights in zip(*map(_onnx_weights, ends), strict=True))
    hs, h = graph.node(
        kinds[0], graph.node("Transpose", x, perm=[1, 0, 2]), W, R, B, *(["", "", "", *P] if P else []), outputs=2,
        hidden_size=ends[0].cell.units, direction=direction, activations=[name for name, _ in used], **settings,
    )  # fmt: skip
    if not ends[0].return_sequences:
        y, directions = graph.node("Transpose", h, perm=[1, 0, 2]), 1  # (D, B, H) -> (B, D, H)
    else:
        if direction == "reverse":  # Keras returns the steps in the order of processing
            slice_ = ([-1], [np.iinfo(np.int64).min], [0], [-1])  # from the last to the first, on the time axis
            hs = graph.node("Slice", hs, *(np.array(number, np.int64) for number in slice_))
        y, directions = graph.node("Transpose", hs, perm=[2, 0, 1, 3]), 2  # (T, D, B, H) -> (B, T, D, H)
    if merge_mode == "concat":
        return graph.node("Reshape", y, np.array([0] * directions + [-1]))
    reduction = {"sum": "ReduceSum", "ave": "ReduceMean", "mul": "ReduceProd"}[merge_mode]
    return graph.node(reduction, y, np.array([directions]), keepdims=0)


def _onnx_weights(layer: RNN) -> list[np.ndarray]:
    """W (nH, E), R (nH, H), B (2nH,), whose second half only a GRU uses, and with peepholes P (3H,)."""
    cell, order = layer.cell, RECURRENCES[recurrence(layer, "ONNX")].orders["ONNX"]
    W, U, b, *peepholes = layer.kernels()
    W, R, b = (reordered(each, cell.blocks, order) for each in (W, U, b))
    B = b if b.ndim == 2 else np.stack([b, np.zeros_like(b)])
    return [W.T, R.T, B.ravel(), *(p[[0, 2, 1]].ravel() for p in peepholes)]  # i f o -> i o f


_LAYERS: dict[str, Callable[[_Graph, Any, str], str]] = {
    "Embedding": _embedding, "LSTM": _recurrent, "GRU": _recurrent, "SimpleRNN": _recurrent, "RNN": _recurrent,
    "Bidirectional": _recurrent, "TimeDistributed": _time_distributed, "Dense": _dense, "Activation": _activation,
    "LayerNormalization": _normalization, "GlobalAveragePooling1D": _pooling("ReduceMean"),
    # a mask could only come from a layer that raises an error
    "GlobalMaxPooling1D": _pooling("ReduceMax"), "MaskedGlobalMaxPooling1D": _pooling("ReduceMax"),
    "Flatten": lambda graph, layer, x: graph.node("Flatten", x, axis=1),
    "Dropout": lambda graph, layer, x: x, "SpatialDropout1D": lambda graph, layer, x: x,
    "WordDropout": lambda graph, layer, x: x,
}  # fmt: skip
