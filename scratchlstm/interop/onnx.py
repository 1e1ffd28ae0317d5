"""Export to ONNX (extra `onnx`), for inference elsewhere.

ONNX' LSTM has its gates in the order i o f c (our g), a row for each output, and two biases; time comes first.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from scratchlstm._support import checks
from scratchlstm._support.files import atomic_write
from scratchlstm.interop.plain import common_dtype, require_plain, require_stack
from scratchlstm.layers import KNOWN, LSTM, Bidirectional, Layer
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
    """Write the model as an ONNX file; whole or not at all.

    The input is named "input", the output "output"; the batch, and a time left open, are of any size. Ids are not
    checked there: one that is negative counts from the end of the table.

    Args:
        model: built, all its layers of one dtype; with an LSTM float32, which is all that ONNX Runtime has.
        path: of the file.
        ids_dtype: "int64" or "int32", of the input where the first layer is an Embedding.

    Raises:
        ImportError: onnx is not installed.
        ValueError: the model has branches or is not built, or has a layer or a setting that ONNX cannot express;
            names it.
        OSError: it cannot be written.
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

    takes_ids = type(model.layers[0]).__name__ == "Embedding"
    inputs = [described("input", input_shape, np.dtype(ids_dtype) if takes_ids else dtype)]
    outputs = [described("output", model.output_shape_for(input_shape), dtype)]
    whole = helper.make_graph(graph.nodes, model.name or "model", inputs, outputs, graph.constants)
    versions = {"opset_imports": [helper.make_opsetid("", _OPSET)], "ir_version": 8}  # the oldest with this opset
    content = helper.make_model(whole, producer_name="scratchlstm", **versions)
    onnx.checker.check_model(content, full_check=True)
    with atomic_write(path) as file:
        file.write(content.SerializeToString())


class _Graph:
    """Nodes and constants, as they are added."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, operator: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; arrays among its inputs become constants. Gives the name of its output, or of all."""
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
            raise ValueError(f"{layer.name} is a {kind}, which does not go to ONNX; {', '.join(_LAYERS)} do")
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
        raise ValueError(f"{layer.name} holds a {inner}, which does not act on the last axis alone, as ONNX needs it")
    return graph.layer(layer.layer, x)


def _recurrent(graph: _Graph, layer: Any, x: str) -> str:
    """The operator LSTM or RNN with one direction or two, batch first."""
    both = isinstance(layer, Bidirectional)
    cells = [layer.forward_layer, layer.backward_layer] if both else [layer]
    if len({type(cell) for cell in cells}) > 1:
        raise ValueError(f"{layer.name} holds two layers of different classes, which ONNX cannot express")
    direction = "bidirectional" if both else "reverse" if layer.go_backwards else "forward"
    merge_mode = layer.merge_mode if both else "concat"
    is_lstm = isinstance(cells[0], LSTM)
    used: list[tuple[str, dict[str, Any]]] = []
    inside = [name for name in _ACTIVATIONS if name != "softmax"]
    flags = dict.fromkeys(("use_bias", "return_sequences", "go_backwards"), _FLAGS)
    for cell in cells:
        if cell.dtype != "float32":
            raise ValueError(f"{cell.name} computes in {cell.dtype}; ONNX Runtime's recurrences have float32 alone")
        require_plain(cell, "ONNX", **flags, activation=inside, recurrent_activation=inside)
        own = [cell.recurrent_activation, cell.activation, cell.activation] if is_lstm else [cell.activation]
        used += [_ACTIVATIONS[activation.name] for activation in own]
    settings = {key: [attributes[key] for _, attributes in used if key in attributes] for key in ("alpha", "beta")}
    W, R, B = (np.stack(weights) for weights in zip(*(_onnx_weights(cell, is_lstm) for cell in cells), strict=True))
    hs, h = graph.node(
        "LSTM" if is_lstm else "RNN", graph.node("Transpose", x, perm=[1, 0, 2]), W, R, B, outputs=2,
        hidden_size=cells[0].units, direction=direction, activations=[name for name, _ in used],
        **{f"activation_{key}": values for key, values in settings.items() if values},
    )  # fmt: skip
    if not cells[0].return_sequences:
        y, directions = graph.node("Transpose", h, perm=[1, 0, 2]), 1  # (D, B, H) -> (B, D, H)
    else:
        if direction == "reverse":  # Keras gives the steps in the order of processing
            slice_ = ([-1], [np.iinfo(np.int64).min], [0], [-1])  # from the last to the first, on the axis of time
            hs = graph.node("Slice", hs, *(np.array(number, np.int64) for number in slice_))
        y, directions = graph.node("Transpose", hs, perm=[2, 0, 1, 3]), 2  # (T, D, B, H) -> (B, T, D, H)
    if merge_mode == "concat":
        return graph.node("Reshape", y, np.array([0] * directions + [-1]))
    reduction = {"sum": "ReduceSum", "ave": "ReduceMean", "mul": "ReduceProd"}[merge_mode]
    return graph.node(reduction, y, np.array([directions]), keepdims=0)


def _onnx_weights(cell: Any, is_lstm: bool) -> list[np.ndarray]:
    """W (4H, E), R (4H, H) and B (8H,), the second half of B zero; for a SimpleRNN with H in place of 4H."""
    W, R, b = (_rows_iofc(array) if is_lstm else array.T for array in cell.kernels())
    return [W, R, np.concatenate([b, np.zeros_like(b)])]


def _rows_iofc(columns: np.ndarray) -> np.ndarray:
    """(..., 4H) in the order i f g o -> (4H, ...) in the order i o f g."""
    i, f, g, o = np.split(columns, 4, axis=-1)
    return np.concatenate([i, o, f, g], axis=-1).T


_LAYERS: dict[str, Callable[[_Graph, Any, str], str]] = {
    "Embedding": _embedding, "LSTM": _recurrent, "SimpleRNN": _recurrent, "Bidirectional": _recurrent,
    "TimeDistributed": _time_distributed, "Dense": _dense, "Activation": _activation,
    "LayerNormalization": _normalization, "GlobalAveragePooling1D": _pooling("ReduceMean"),
    # a mask would have to come from a layer that is refused
    "GlobalMaxPooling1D": _pooling("ReduceMax"), "MaskedGlobalMaxPooling1D": _pooling("ReduceMax"),
    "Flatten": lambda graph, layer, x: graph.node("Flatten", x, axis=1),
    "Dropout": lambda graph, layer, x: x, "SpatialDropout1D": lambda graph, layer, x: x,
}  # fmt: skip
