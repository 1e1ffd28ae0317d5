"""Export to ONNX (extra `onnx`), for inference elsewhere.

ONNX' LSTM has its gates in the order i o f c, one row for each output, and two biases; time comes first.
"""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scratchlstm.files import atomic_write
from scratchlstm.interop.plain import require_plain
from scratchlstm.layers import LSTM, Layer

if TYPE_CHECKING:
    from scratchlstm.model import Sequential

_OPSET = 18
_FLAGS = (True, False)
# ours -> ONNX' operator and its attributes; all but the last can also stand inside its LSTM
_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "relu": ("Relu", {}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "linear": ("Identity", {}),
    "softmax": ("Softmax", {"axis": -1}),
}


def to_onnx(model: "Sequential", path: str | os.PathLike[str], *, ids_dtype: str = "int64") -> None:
    """Write the model as an ONNX file; whole or not at all.

    The input is named "input", the output "output"; the batch, and a time left open, are of any size. Ids are not
    checked there: one that is negative counts from the end of the table.

    Args:
        model: built, all its layers of one dtype; with an LSTM float32, which is all that ONNX Runtime has.
        path: of the file.
        ids_dtype: "int64" or "int32", of the input where the first layer is an Embedding.

    Raises:
        ImportError: onnx is not installed.
        ValueError: the model is not built, or has a layer or a setting that ONNX cannot express; names it.
        OSError: it cannot be written.
    """
    import onnx
    from onnx import helper

    if not model.built or model.input_shape is None:
        raise ValueError("the model has no parameters yet: state an input_shape, or call build first")
    if ids_dtype not in ("int64", "int32"):
        raise ValueError(f'ids_dtype must be "int64" or "int32", not {ids_dtype!r}')
    dtypes = {layer.dtype for layer in model.layers}
    if len(dtypes) > 1:
        raise ValueError(f"its layers compute in {' and '.join(sorted(dtypes))}; for ONNX they have to agree")
    dtype = np.dtype(dtypes.pop())
    graph, x = _Graph(), "input"
    for layer in model.layers:
        x = graph.layer(layer, x)
    graph.nodes.append(helper.make_node("Identity", [x], ["output"]))

    takes_ids = type(model.layers[0]).__name__ == "Embedding"
    ends = {"input": (model.input_shape, np.dtype(ids_dtype) if takes_ids else dtype)}
    ends["output"] = (model.output_shape_for(model.input_shape), dtype)
    infos = [
        helper.make_tensor_value_info(
            name,
            helper.np_dtype_to_tensor_dtype(kind),
            ["batch", *("time" if size is None else size for size in shape)],
        )
        for name, (shape, kind) in ends.items()
    ]
    content = helper.make_model(
        helper.make_graph(graph.nodes, model.name or "model", infos[:1], infos[1:], graph.constants),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        producer_name="scratchlstm",
        ir_version=8,  # the oldest with this opset
    )
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
        if kind not in _LAYERS:
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
    return graph.activation(layer.activation.name, x)


def _nothing(graph: _Graph, layer: Any, x: str) -> str:
    return x


def _lstm(graph: _Graph, layer: Any, x: str) -> str:
    direction = "reverse" if getattr(layer, "go_backwards", False) else "forward"
    return _recurrence(graph, [layer], [list(layer.params.values())], x, direction)


def _bidirectional(graph: _Graph, layer: Any, x: str) -> str:
    halves = [layer.forward_layer, layer.backward_layer]
    for half in halves:
        if type(half) is not LSTM:
            raise ValueError(f"{layer.name} holds a {type(half).__name__}; to ONNX goes a Bidirectional LSTM")
    if halves[0].units != halves[1].units:
        raise ValueError(f"{layer.name} has {halves[0].units} units forward and {halves[1].units} backward")
    weights = list(layer.params.values())
    count = len(halves[0].params)
    return _recurrence(graph, halves, [weights[:count], weights[count:]], x, "bidirectional", layer.merge_mode)


def _recurrence(
    graph: _Graph,
    cells: Sequence[Any],
    weights: Sequence[list[np.ndarray]],
    x: str,
    direction: str,
    merge: str = "concat",
) -> str:
    """The operator LSTM with one direction or two, batch first."""
    H, sequences = cells[0].units, cells[0].return_sequences
    names: list[str] = []
    attributes: dict[str, list[float]] = {"alpha": [], "beta": []}
    for cell in cells:
        if cell.dtype != "float32":
            raise ValueError(f"{cell.name} computes in {cell.dtype}; ONNX Runtime's LSTM has float32 alone")
        inside = list(_ACTIVATIONS)[:5]
        require_plain(
            cell, "ONNX", use_bias=_FLAGS, return_sequences=_FLAGS, go_backwards=_FLAGS,
            activation=inside, recurrent_activation=inside,
        )  # fmt: skip
        for activation in (cell.recurrent_activation, cell.activation, cell.activation):
            name, settings = _ACTIVATIONS[activation.name]
            if name == "Identity":
                name, settings = "Affine", {"alpha": 1.0, "beta": 0.0}
            names.append(name)
            for key, value in settings.items():
                attributes[key].append(value)
    W = np.stack([_rows_iofc(arrays[0]) for arrays in weights])  # (D, 4H, E)
    R = np.stack([_rows_iofc(arrays[1]) for arrays in weights])  # (D, 4H, H)
    b = [_rows_iofc(arrays[2]) if len(arrays) > 2 else np.zeros(4 * H, W.dtype) for arrays in weights]
    B = np.stack([np.concatenate([bias, np.zeros_like(bias)]) for bias in b])  # (D, 8H)
    given = {f"activation_{key}": values for key, values in attributes.items() if values}
    x = graph.node("Transpose", x, perm=[1, 0, 2])  # (T, B, E)
    hs, h = graph.node("LSTM", x, W, R, B, outputs=2, hidden_size=H, direction=direction, activations=names, **given)
    if sequences and direction == "reverse":  # Keras gives the steps in the order of processing
        first, last, axis, step = ([-1], [np.iinfo(np.int64).min], [0], [-1])
        hs = graph.node("Slice", hs, *(np.array(value, np.int64) for value in (first, last, axis, step)))
    if sequences:
        y, axis_of_directions = graph.node("Transpose", hs, perm=[2, 0, 1, 3]), 2  # (T, D, B, H) -> (B, T, D, H)
    else:
        y, axis_of_directions = graph.node("Transpose", h, perm=[1, 0, 2]), 1  # (D, B, H) -> (B, D, H)
    if merge == "concat":
        return graph.node("Reshape", y, np.array([0] * axis_of_directions + [-1]))
    reduction = {"sum": "ReduceSum", "ave": "ReduceMean", "mul": "ReduceProd"}[merge]
    return graph.node(reduction, y, np.array([axis_of_directions]), keepdims=0)


def _rows_iofc(columns: np.ndarray) -> np.ndarray:
    """(..., 4H) in the order i f g o -> (4H, ...) in the order i o f g."""
    i, f, g, o = np.split(columns, 4, axis=-1)
    return np.concatenate([i, o, f, g], axis=-1).T


_LAYERS: dict[str, Callable[[_Graph, Any, str], str]] = {
    "Embedding": _embedding,
    "LSTM": _lstm,
    "Bidirectional": _bidirectional,
    "Dense": _dense,
    "Dropout": _nothing,
    "Activation": _activation,
}
