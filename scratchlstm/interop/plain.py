"""Shared by PyTorch and ONNX: the order of a recurrence's gates, and what raises an error rather than being dropped."""

import inspect
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from scratchlstm._support import registry
from scratchlstm.cells import Cell, CoupledLSTMCell, PeepholeLSTMCell, ProjectedLSTMCell
from scratchlstm.layers import GRU, LSTM, RNN, Layer, SimpleRNN
from scratchlstm.layers.base import Shape
from scratchlstm.layers.network import Network
from scratchlstm.models.model import Model

# settings that do not affect a trained layer's output: how it starts and is trained; a mask could only come
# from a layer that itself raises an error
_WITHOUT_EFFECT = {
    *("name", "dtype", "trainable", "implementation", "unit_forget_bias"),
    *("dropout", "recurrent_dropout", "seed", "zero_output_for_mask"),
}
_KINDS_WITHOUT_EFFECT = ("initializer", "regularizer", "constraint")


class Recurrence(NamedTuple):
    """A recurrence that PyTorch and ONNX also have."""

    layer: Any  # our class
    orders: dict[str, str]  # order of the gates' rows there, in the letters of `Cell.blocks`
    variants: dict[str, tuple[type[Cell], ...]] = {}  # other cells it can represent there

    def cells(self, where: str) -> tuple[type[Cell], ...]:
        """The cells it can represent there."""
        return self.layer.cell_class, *self.variants.get(where, ())


RECURRENCES = {  # by their names there
    "LSTM": Recurrence(
        LSTM,
        {"PyTorch": "ifgo", "ONNX": "iofg"},
        {"PyTorch": (ProjectedLSTMCell,), "ONNX": (PeepholeLSTMCell, CoupledLSTMCell)},
    ),
    "GRU": Recurrence(GRU, {"PyTorch": "run", "ONNX": "urn"}),
    "RNN": Recurrence(SimpleRNN, {"PyTorch": "h", "ONNX": "h"}),
}


def recurrence(layer: RNN, where: str) -> str:
    """The name of a recurrent layer there.

    Raises:
        ValueError: the layer or its cell is unknown there, or it has several cells.
    """
    if not registry.is_ours(type(layer)):
        raise ValueError(f"{layer.name} is a {type(layer).__name__} of your own, which cannot be converted to {where}")
    if "" not in layer.cells:
        raise ValueError(f"{layer.name} runs several cells, which {where} cannot express: make one layer for each")
    for name, each in RECURRENCES.items():
        if type(layer.cell) in each.cells(where):
            return name
    has = ", ".join(cell.__name__ for each in RECURRENCES.values() for cell in each.cells(where))
    problem = f"a {type(layer.cell).__name__}, but {where} only has {has}"
    raise ValueError(f"{layer.name} runs {problem}: take the arrays with get_weights() instead")


def reordered(columns: np.ndarray, given: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """An array (..., nH) with blocks `given`, rearranged to the blocks `wanted`; 0 for a missing one."""
    blocks = dict(zip(given, np.split(columns, len(given), axis=-1), strict=True))
    nothing = np.zeros_like(blocks[given[0]])
    return np.concatenate([blocks.get(name, nothing) for name in wanted], axis=-1)


def require_stack(model: Model) -> Shape:
    """Raise an error for a model that is not a stack of layers, or has no parameters.

    Returns:
        the shape of a sample.

    Raises:
        TypeError: not a model.
        ValueError: a model with branches, states as values, several outputs, a layer used several times, or an inner
            model; or it is not built.
    """
    shape = require_built(model)
    inner = [part.name for layer in model.layers for part in layer.with_inner() if isinstance(part, Network)]
    if inner:
        raise ValueError(f"{model.name} has the model {inner[0]} as a layer, but only single layers can be exchanged")
    if not model.is_stack:
        problem = f"{model.name} has branches, a layer used several times, states or several outputs"
        raise ValueError(f"{problem}; weights can only be exchanged for a stack of layers")
    return shape


def require_built(model: Model) -> Any:
    """Raise an error for a model without parameters.

    Returns:
        the shape of a sample; a list for several inputs.

    Raises:
        TypeError: not a model.
        ValueError: not built.
    """
    if not isinstance(model, Model):
        raise TypeError(f"model must be a Sequential or a Model of scratchlstm, not {type(model).__name__}")
    if not model.built or model.input_shape is None:
        raise ValueError("the model has no parameters yet: give it an input_shape, or call build first")
    return model.input_shape


def common_dtype(model: Model, where: str) -> str:
    """The dtype of all layers, for a format with a single dtype.

    Raises:
        ValueError: there are several dtypes.
    """
    dtypes = {layer.dtype for layer in model.layers}
    if len(dtypes) > 1:
        raise ValueError(f"its layers compute in {' and '.join(sorted(dtypes))}; for {where} they must agree")
    return dtypes.pop()


def require_plain(layer: Layer, where: str, **allowed: Collection[Any]) -> None:
    """Raise an error for a setting that changes a layer's output, unless it is the default or allowed.

    Args:
        layer: any layer.
        where: the format, for the error message.
        allowed: setting -> values that the format can express.

    Raises:
        ValueError: naming layer, setting and value.
    """
    for of in (*layer.cells.values(), layer) if type(layer) is RNN else (layer,):
        config = of.get_config()
        for option, default in registry.defaults(type(of)).items():
            if option not in config or option in _WITHOUT_EFFECT or option.split("_")[-1] in _KINDS_WITHOUT_EFFECT:
                continue
            value, fixed = config[option], default is not inspect.Parameter.empty
            if registry.foreign(value) or (fixed and value not in allowed.get(option, (default,))):
                raise ValueError(f"{layer.name} has {option}={value!r}, which {where} cannot express")
