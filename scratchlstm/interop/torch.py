"""Exchange models and weights with PyTorch: live modules, state dicts and `.safetensors` files.

Files need the package safetensors (extra `safetensors`); PyTorch itself is only needed for live modules. Its own `.pt`
files are pickles, which can run code when loaded, so they are rejected.

PyTorch's matrices are transposed, with one row per output. Except in a GRU, it adds two biases where one is enough: we
use b = bias_ih + bias_hh, and write b and zeros.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scratchlstm._support import registry
from scratchlstm._support.checks import flag
from scratchlstm._support.console import warn
from scratchlstm._support.files import atomic_write
from scratchlstm.cells import ProjectedLSTMCell
from scratchlstm.interop.plain import RECURRENCES, common_dtype, recurrence, reordered, require_plain, require_stack
from scratchlstm.layers import KNOWN, RNN, Activation, Bidirectional, Dense, Dropout, Embedding, Input, Layer
from scratchlstm.layers.base import Shape
from scratchlstm.models.model import Model, Sequential

_PathLike = str | os.PathLike[str]

_ACTIVATIONS = {
    "Sigmoid": "sigmoid", "Tanh": "tanh", "ReLU": "relu", "Hardsigmoid": "hard_sigmoid", "Softmax": "softmax",
    "Identity": "linear",
}  # fmt: skip
_KINDS = ("Embedding", *RECURRENCES, "Linear", "Dropout", *_ACTIVATIONS)
_WEIGHTS = {"kernel": "weight_ih", "recurrent_kernel": "weight_hh", "projection_kernel": "weight_hr"}
_LAYERS = "Embedding, LSTM, GRU, RNN or Linear"
_NAME = re.compile(
    r"(?:(?P<module>.*)\.)?(?P<weight>weight|bias|(?:(?:weight|bias)_(?:ih|hh)|weight_hr)_l\d+(?:_reverse)?)", re.S
)
_ORDER = "modules"  # the metadata key for the order of modules in our own files
_OWN_MODEL = "make the model yourself, with layers named like the modules, and use load_torch_weights"


class _Module(NamedTuple):
    """A PyTorch module."""

    kind: str  #                          class name
    name: str  #                          path in the model
    weights: Mapping[str, np.ndarray]  #  weights by name
    rate: float = 0.0  #                  dropout rate
    nonlinearity: str = "tanh"  #         of an RNN


class _Part(NamedTuple):
    """One of our layers, not built, its weights, and where PyTorch has them: a module, and a level of its stack."""

    layer: Layer
    weights: list[np.ndarray]
    module: str
    level: int = 0


# --- from PyTorch -----------------------------------------------------------------------------------------------------


def from_torch(
    source: Any, *, activation: Any = None, return_sequences: bool = False,
    input_shape: Sequence[int | None] | None = None,
) -> Sequential:  # fmt: skip
    """Convert a PyTorch model (layers and weights): Embedding, Linear, and recurrences (LSTM, GRU, RNN).

    A module's own `forward` is ignored. Layers come in the order in which the module names them; each recurrence but
    the last passes on its whole sequence, and the last one its h_n (of both directions, side by side).

    In a state dict or a file, names tell the kind: `weight_ih_l0` and the like belong to a recurrence (the shape of
    `weight_hh_l0` tells which: (4H, H) is an LSTM, (3H, H) a GRU, (H, H) an RNN, assumed to use tanh); a matrix
    `weight` without `bias` before the first recurrence is an Embedding's, any other matrix a Linear's. PyTorch files do
    not keep the
    order: it is assumed to be embeddings, recurrences, linears, several of a kind by the number in their names, and a
    matrix without `bias` is an Embedding's if it has the width of a recurrence's input. For anything else, use
    `load_torch_weights` with a model of your own.

    Args:
        source: an `nn.Module`, a state dict (name -> tensor or array), or the path of a `.safetensors` file.
        activation: activation after the last layer, which a state dict does not include.
        return_sequences: whether the last recurrence returns every step, (B, T, H).
        input_shape: the shape of one sample. Default: (None,) for ids, otherwise (None, E) before a recurrence, (E,)
            before a Linear.

    Raises:
        ImportError: safetensors is not installed, for a file.
        FileNotFoundError: no such file.
        TypeError: source is none of these.
        ValueError: damaged, or with a module, an option or a weight that has no counterpart here (the message names
            it).
    """
    flag("return_sequences", return_sequences)
    if input_shape is not None and (isinstance(input_shape, str) or not isinstance(input_shape, Sequence | np.ndarray)):
        raise TypeError(f"input_shape must be a tuple such as (None, 5), not {input_shape!r:.80}")
    with _naming(source):
        modules, ordered = _modules(source)
        parts = _our_parts(modules if ordered else _in_order(modules), return_sequences)
        shape = _input_shape(parts) if input_shape is None else tuple(input_shape)
        model = Sequential([Input(shape)])
        for layer, weights, *_ in parts:
            shape = model.output_shape_for(model.input_shape or ())
            layer.build(shape, model.rng, params=dict(zip(layer.plan(shape), weights, strict=True)))
            model.add(layer)
    if activation is not None:
        model.add(Activation(activation, dtype=model.layers[-1].dtype))
    return model


def _input_shape(parts: Sequence[_Part]) -> Shape:
    for layer, weights, *_ in parts:
        if isinstance(layer, Embedding):
            return (None,)
        if weights:
            features = weights[0].shape[0]
            return (features,) if isinstance(layer, Dense) else (None, features)
    raise ValueError(f"it has no {_LAYERS}")


def load_torch_weights(model: Model, source: Any) -> None:
    """Overwrite a model's parameters with those of a PyTorch model: all of them or, on an error, none.

    Each layer takes the weights of the module with its name, otherwise of the first unused one that fits. (In a file,
    which has no order, several that fit must differ only in a number.) Every weight must be used.

    Args:
        model: built, of any layers; those with weights are Embedding, LSTM, GRU, SimpleRNN, `RNN` of one of their
            cells, Bidirectional (of one of these) and Dense.
        source: as in `from_torch`.

    Raises:
        as for `from_torch`; ValueError also if the model has branches, is not built, or the weights do not fit it.
    """
    require_stack(model)
    with _naming(source):
        pairs = _pairs(model, source)
        model.set_weights([weight for layer, part in pairs for weight in _fitted(layer, part) or []])


def _pairs(model: Model, source: Any) -> list[tuple[Layer, _Part]]:
    """The model's layers with weights, in order, each with the matching part of the source.

    Raises:
        ValueError: they do not match, or match in more than one way.
    """
    modules, ordered = _modules(source)
    free = [part for part in _our_parts(modules, False) if part.weights]
    if not ordered:
        free.sort(key=lambda part: _numbers(part.layer.name))
    chosen: dict[int, _Part] = {}
    with_weights = [layer for layer in model.layers if layer.params]
    for each in (inner for layer in with_weights for inner in layer.with_inner()):
        if isinstance(each, RNN) and not getattr(each.cell, "reset_after", True):
            raise ValueError(f"{each.name} has reset_after=False, which PyTorch cannot express")
    for layer in sorted(with_weights, key=lambda layer: all(layer.name != part.layer.name for part in free)):
        fitting = [n for n, part in enumerate(free) if _fitted(layer, part) is not None]
        named = [n for n in fitting if free[n].layer.name == layer.name]
        if not fitting:
            left = "; ".join(f"{part.layer.name}: {_shapes(part.weights)}" for part in free) or "none"
            wanted = _shapes(layer.params.values())
            raise ValueError(f"nothing fits {layer.name}, whose weights have the shapes {wanted}; unused: {left}")
        if not named and not ordered:
            _require_numbered([free[n].layer.name for n in fitting])
        chosen[id(layer)] = free.pop((named or fitting)[0])
    if free:
        raise ValueError(f"the model has no layer for {', '.join(part.layer.name for part in free)}")
    return [(layer, chosen[id(layer)]) for layer in with_weights]


def _shapes(arrays: Iterable[np.ndarray]) -> str:
    return ", ".join(str(array.shape) for array in arrays)


def _fitted(layer: Layer, part: _Part) -> list[np.ndarray] | None:
    """A part's weights in our layer's form; None if they are not for it."""
    weights, both = part.weights, {_kind(layer), _kind(part.layer)}
    if both == {Embedding, Dense}:
        weights = [weight.T for weight in weights]  # a matrix alone does not tell which one it is
    elif len(both) > 1:
        return None
    shapes = [param.shape for param in layer.params.values()]
    return weights if [weight.shape for weight in weights] == shapes else None


def _kind(layer: Layer) -> Any:
    """What two layers share if both correspond to the same PyTorch module."""
    if isinstance(layer, Bidirectional):
        return Bidirectional, _kind(layer.forward_layer), _kind(layer.backward_layer)
    return type(layer.cell) if isinstance(layer, RNN) else type(layer)


def _our_parts(modules: Sequence[_Module], return_sequences: bool) -> list[_Part]:
    last = max((n for n, module in enumerate(modules) if module.kind in RECURRENCES), default=None)
    common = next((str(weight.dtype) for module in modules for weight in module.weights.values()), None)
    parts: list[_Part] = []
    for number, module in enumerate(modules):
        name, weights = module.name.replace(".", "_") or None, module.weights
        try:
            dtype = _common_dtype(weights) if weights else common
            options: dict[str, Any] = {"name": name, "dtype": dtype}
            if module.kind in RECURRENCES:
                parts += _stack(module, name, dtype, return_sequences or number != last)
            elif module.kind == "Embedding":
                embedding = Embedding(*weights["weight"].shape, **options)
                parts.append(_Part(embedding, [weights["weight"]], module.name))
            elif module.kind == "Linear":
                dense = Dense(len(weights["weight"]), use_bias="bias" in weights, **options)
                arrays = [weights[key].T for key in ("weight", "bias") if key in weights]
                parts.append(_Part(dense, arrays, module.name))
            elif module.kind == "Dropout":
                parts.append(_Part(Dropout(module.rate, **options), [], module.name))
            else:
                parts.append(_Part(Activation(_ACTIVATIONS[module.kind], **options), [], module.name))
        except ValueError as error:
            raise ValueError(f"{module.kind} {module.name!r}: {error}") from error
    return parts


def _stack(module: _Module, name: str | None, dtype: str | None, return_sequences: bool) -> list[_Part]:
    """An nn.LSTM, GRU or RNN with one or several levels, each in one direction or both."""
    weights, kind = dict(module.weights), module.kind
    directions = ("", "_reverse") if "weight_ih_l0_reverse" in weights else ("",)
    use_bias, projects = "bias_ih_l0" in weights, kind == "LSTM" and "weight_hr_l0" in weights
    kinds = ["weight_ih", "weight_hh", *["bias_ih", "bias_hh"] * use_bias, *["weight_hr"] * projects]
    options: dict[str, Any] = {"activation": module.nonlinearity} if kind == "RNN" else {}
    parts: list[_Part] = []
    level = 0
    while weights:
        arrays: list[np.ndarray] = []
        for suffix in (f"_l{level}{direction}" for direction in directions):
            wanted = [f"{each}{suffix}" for each in kinds]
            if missing := [key for key in wanted if key not in weights]:
                raise ValueError(f"it has no {', '.join(missing)}, but has {', '.join(weights)}")
            own = _our_weights(kind, suffix, dict(zip(kinds, map(weights.pop, wanted), strict=True)))
            arrays += own
        cell_name = name if level == 0 else f"{name or registry.snake_case(RECURRENCES[kind].layer.__name__)}_{level}"
        sequences = return_sequences or bool(weights)  # a further level reads them
        of_layer: dict[str, Any] = {"return_sequences": sequences, "dtype": dtype}
        if projects:
            units, projection = own[-1].shape
            cell: RNN = RNN(ProjectedLSTMCell(units, projection, use_bias=use_bias), **of_layer)
        else:
            cell = RECURRENCES[kind].layer(len(own[1]), use_bias=use_bias, **options, **of_layer)
        if level and module.rate:
            parts.append(_Part(Dropout(module.rate, name=f"{cell_name}_dropout", dtype=dtype), [], module.name))
        layer = cell if len(directions) == 1 else Bidirectional(cell)
        layer.name = cell_name or layer.name  # may still change if the model already has it
        parts.append(_Part(layer, arrays, module.name, level))
        level += 1
    return parts


def _our_weights(kind: str, suffix: str, own: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The weights of one direction in our layer's form.

    Args:
        kind: class of the module.
        suffix: suffix of its weights' names.
        own: name without the suffix -> array.

    Raises:
        ValueError: shapes that do not match.
    """
    cell, order = RECURRENCES[kind].layer.cell_class, RECURRENCES[kind].orders["PyTorch"]
    R, U, H = own.get("weight_hr"), own["weight_hh"], f"{len(cell.blocks)}H".removeprefix("1")
    sizes = U if R is None else R
    if not U.ndim == sizes.ndim == 2 or U.shape != (len(cell.blocks) * sizes.shape[1], sizes.shape[R is None]):
        shape = f"({H}, H)" if R is None else f"({H}, P) beside a weight_hr{suffix} (P, H)"
        raise ValueError(f"weight_hh{suffix} has shape {U.shape}, but {kind} needs {shape}")
    rows = {name: array for name, array in own.items() if array is not R}
    for name, array in rows.items():
        if array.ndim != 1 + name.startswith("weight") or len(array) != len(U):
            raise ValueError(
                f"{name}{suffix} has shape {array.shape}, which does not match weight_hh{suffix} {U.shape}"
            )
    W, U, *biases = (reordered(array.T, order, cell.blocks) for array in rows.values())
    if biases:
        biases = [np.stack(biases) if kind == "GRU" else biases[0] + biases[1]]
    return [W, U, *biases, *([] if R is None else [R.T])]


def _common_dtype(weights: Mapping[str, np.ndarray]) -> str:
    dtypes = {str(weight.dtype) for weight in weights.values()}
    if len(dtypes) > 1 or not dtypes <= {"float32", "float64"}:
        raise ValueError(f"its weights are {', '.join(sorted(dtypes))}; they must be all float32 or all float64")
    return dtypes.pop()


# --- the three sources ------------------------------------------------------------------------------------------------


def _is_file(source: Any) -> bool:
    return isinstance(source, str | os.PathLike)


@contextmanager
def _naming(source: Any) -> Iterator[None]:
    """Turn any error in a file's content into one error that names the file."""
    if _is_file(source):
        import safetensors  # noqa: F401  its absence is no fault of the file

        if not Path(source).is_file():
            raise FileNotFoundError(f"there is no file at {str(source)!r}")
    try:
        yield
    except Exception as error:
        if not _is_file(source):
            raise
        raise ValueError(f"{str(source)!r} cannot be converted from PyTorch: {error}") from error


def _modules(source: Any) -> tuple[list[_Module], bool]:
    """The modules, and whether they are in the model's order."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(source, torch.nn.Module):
        return _of_module(source, torch.nn), True
    if isinstance(source, Mapping):
        return _of_state({name: _array(name, value) for name, value in source.items()}), True
    if _is_file(source):
        state, order = _read(Path(source))
        modules = _of_state(state)
        return modules, order == [module.name for module in modules]
    raise TypeError(f"source must be a module, a state dict or a .safetensors file, not {type(source).__name__}")


def _of_module(model: Any, nn: Any) -> list[_Module]:
    modules: list[_Module] = []
    seen: dict[int, str] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        kind = type(module).__name__
        if id(module) in seen:
            raise ValueError(f"{kind} {name!r} is {seen[id(module)]!r} again, but here a layer can be used only once")
        seen[id(module)] = name
        weights = {key: _array(f"{name}.{key}", value) for key, value in module.named_parameters(recurse=False)}
        where = f"{kind} {name!r}"
        if next(module.children(), None) is not None and not weights:
            continue  # only contains others
        if type(module) is not getattr(nn, kind, None) or kind not in _KINDS:
            if kind.endswith("Loss"):
                continue
            raise ValueError(f"{where} has no counterpart in scratchlstm; {_OWN_MODEL}")
        for option in ("max_norm", "scale_grad_by_freq"):
            if value := getattr(module, option, None):
                raise ValueError(f"{where} has {option}={value!r}, which scratchlstm does not support")
        if getattr(module, "padding_idx", None) is not None:
            warn(f"{where} has padding_idx={module.padding_idx}; training changes that row here")
        if kind == "Softmax" and module.dim != -1:
            raise ValueError(f"{where} has dim={module.dim!r}; scratchlstm's is over the last axis, dim=-1")
        rate = getattr(module, "dropout" if kind in RECURRENCES else "p", 0.0)
        modules.append(_Module(kind, name, weights, rate, getattr(module, "nonlinearity", "tanh")))
    return modules


def _of_state(state: Mapping[str, np.ndarray]) -> list[_Module]:
    grouped: dict[str, dict[str, np.ndarray]] = {}
    for key, array in state.items():
        match = _NAME.fullmatch(key) if isinstance(key, str) else None
        if match is None:
            raise ValueError(f"{key!r} is not a weight of an {_LAYERS}; {_OWN_MODEL}")
        grouped.setdefault(match["module"] or "", {})[match["weight"]] = array
    modules: list[_Module] = []
    recurrent = [_recurrence_of(weights) for weights in grouped.values()]
    for number, (name, weights) in enumerate(grouped.items()):
        kind = recurrent[number] or "Linear"
        if kind == "Linear" and set(weights) == {"weight"} and any(recurrent) and not any(recurrent[:number]):
            kind = "Embedding"
        if kind not in RECURRENCES and ("weight" not in weights or weights["weight"].ndim != 2):
            shapes = ", ".join(f"{weight} {array.shape}" for weight, array in weights.items())
            raise ValueError(f"{name!r} has {shapes}, which is not an {_LAYERS}")
        modules.append(_Module(kind, name, weights))
    return modules


def _recurrence_of(weights: Mapping[str, np.ndarray]) -> str | None:
    """The recurrence with these weights; None if there is none. Only the shapes tell: all have the same names."""
    if not any("_l" in weight for weight in weights):
        return None
    shape = weights["weight_hh_l0"].shape if "weight_hh_l0" in weights and "weight_hr_l0" not in weights else ()
    rows = {name: len(of.layer.cell_class.blocks) for name, of in RECURRENCES.items()}
    return next((name for name, n in rows.items() if len(shape) == 2 and shape[0] == n * shape[1]), "LSTM")


def _in_order(modules: Sequence[_Module]) -> list[_Module]:
    """The modules of a file in the order a model would have them."""
    matrices = [module for module in modules if set(module.weights) == {"weight"}]
    if len(matrices) > 1:
        names = ", ".join(module.name for module in matrices)
        raise ValueError(f"each of {names} may be an Embedding or a Linear without bias; {_OWN_MODEL}")
    widths = {m.weights["weight_ih_l0"].shape[-1] for m in modules if "weight_ih_l0" in m.weights}
    kinds = {m.name: "Embedding" if m.weights["weight"].shape[1] in widths else "Linear" for m in matrices}
    ordered = []
    for group in ({"Embedding"}, {*RECURRENCES}, {"Linear"}):
        of_group = [module._replace(kind=kinds.get(module.name, module.kind)) for module in modules]
        of_group = [module for module in of_group if module.kind in group]
        _require_numbered([module.name for module in of_group])
        ordered += sorted(of_group, key=lambda module: _numbers(module.name))
    return ordered


def _require_numbered(names: Sequence[str]) -> None:
    """Raise an error for names without an order: they must be the same except for numbers (lstm, lstm_1)."""
    numbers = {str(_numbers(name)) for name in names}
    if len({re.sub(r"_?\d+", "", name) for name in names}) > 1 or len(numbers) < len(names):
        raise ValueError(f"a file does not tell the order of {', '.join(names)}; {_OWN_MODEL}")


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", name)]


def _array(name: str, value: Any) -> np.ndarray:
    value = value.detach().cpu() if (is_tensor := hasattr(value, "detach")) else np.asarray(value)
    if str(value.dtype).removeprefix("torch.") not in ("float32", "float64"):
        raise ValueError(f"{name} is {value.dtype}; it must be float32 or float64 (in PyTorch: module.float())")
    return np.array(value.numpy() if is_tensor else value)


def _read(path: Path) -> tuple[dict[str, np.ndarray], Any]:
    """A file's arrays, and the modules' order if `save_safetensors` recorded it; the arrays are then in that order."""
    from safetensors.numpy import load

    data = path.read_bytes()
    looks_pickled = data[:1] in (b"P", b"\x80") and data[8:9] != b"{"  # where a .safetensors file has its JSON
    if looks_pickled or path.suffix in (".pt", ".pth"):
        raise ValueError(
            "PyTorch's own files are pickles, which can run code when read, and are never loaded. If you trust it, "
            'write it again in PyTorch: safetensors.torch.save_file(model.state_dict(), "model.safetensors")'
        )
    state = {name: _array(name, value) for name, value in load(data).items()}
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    order = json.loads(header.get("__metadata__", {}).get(_ORDER, "[]"))
    place = {name: number for number, name in enumerate(order)}
    names = sorted(state, key=lambda name: place[name.rpartition(".")[0]]) if order else list(state)
    return {name: state[name] for name in names}, order


# --- to PyTorch -------------------------------------------------------------------------------------------------------


def to_torch(model: Model) -> Any:
    """Convert to an `nn.Module` with the same layers, names, dtype and weights, batch first, in evaluation mode.

    Raises:
        ImportError: PyTorch is not installed.
        ValueError: the model has branches or is not built, or PyTorch cannot express one of its layers.
    """
    import torch
    from torch import nn

    arrays = _state(model)
    dtype = getattr(torch, common_dtype(model, "PyTorch"))

    class Twin(nn.Module):
        """The stack of layers."""

        def forward(self, x: Any) -> Any:
            """The output for x: ids (B, T) or numbers (B, T, E)."""
            for module in self.children():
                if isinstance(module, nn.RNNBase):
                    steps, state = module(x)
                    h = state[0] if isinstance(state, tuple) else state
                    x = steps if module.return_sequences else h.transpose(0, 1).flatten(1)  # (D, B, H) -> (B, D·H)
                else:
                    x = module(x)
            return x

    twin = Twin()
    for name, module in (named for layer in model.layers for named in _torch_modules(layer, nn)):
        twin.add_module(name, module)
    twin.to(dtype).load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return twin.eval()


def torch_state_dict(model: Model, like: Any = None) -> dict[str, Any]:
    """Name -> tensor, for `load_state_dict`.

    Args:
        model: built.
        like: a module or state dict whose names to use; layers are matched as in `load_torch_weights`. Default: the
            names of our layers, `lstm.weight_ih_l0` and so on, as in `to_torch`.

    Raises:
        as for `to_torch`; ValueError also if `like` does not fit the model.
    """
    import torch

    if not (like is None or isinstance(like, Mapping | torch.nn.Module) or _is_file(like)):
        raise TypeError(f"like must be a module or a state dict, not {type(like).__name__}")
    arrays = _state(model)
    model = model.on_cpu()
    if like is not None:
        arrays = {}
        with _naming(like):
            pairs = _pairs(model, like)
        for layer, part in pairs:
            for name, array in _torch_weights(layer).items():
                own = name.replace("_l0", f"_l{part.level}")
                arrays[f"{part.module}.{own}" if part.module else own] = np.array(array, order="C")
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def save_safetensors(model: Model, path: _PathLike) -> None:
    """Write the state dict to a `.safetensors` file, without PyTorch, completely or not at all.

    Raises:
        ImportError: safetensors is not installed.
        ValueError: the model has branches or is not built, or PyTorch cannot express one of its layers.
        OSError: the file cannot be written.
    """
    from safetensors.numpy import save

    state = _state(model)
    order = [layer.name for layer in model.layers if layer.params]
    content = save(state, metadata={_ORDER: json.dumps(order)})
    with atomic_write(path) as file:
        file.write(content)


def _state(model: Model) -> dict[str, np.ndarray]:
    """Name -> separate array, as in PyTorch."""
    require_stack(model)
    model = model.on_cpu()
    state: dict[str, np.ndarray] = {}
    for layer in model.layers:
        if "." in layer.name:
            raise ValueError(f"the layer {layer.name!r} cannot go to PyTorch, whose names have no dot: rename it")
        state |= {f"{layer.name}.{name}": np.array(array, order="C") for name, array in _torch_weights(layer).items()}
    return state


def _torch_weights(layer: Layer) -> dict[str, np.ndarray]:
    """A layer's weights by PyTorch's names.

    Raises:
        ValueError: PyTorch cannot express the layer.
    """
    kind, flags = type(layer).__name__, (True, False)
    if type(layer) is not KNOWN.get(kind):
        kind = f"{kind} of your own"
    if kind == "Embedding":
        require_plain(layer, "PyTorch")
        return {"weight": layer.params["embeddings"]}
    if kind in ("Dense", "Activation"):
        require_plain(layer, "PyTorch", use_bias=flags, activation=_ACTIVATIONS.values())
        return {{"kernel": "weight"}.get(name, name): param.T for name, param in layer.params.items()}
    if isinstance(layer, RNN):
        return _direction(layer)
    if type(layer) is Bidirectional:
        if layer.merge_mode != "concat":
            raise ValueError(f"{layer.name} has merge_mode={layer.merge_mode!r}, which PyTorch cannot express")
        return _direction(layer.forward_layer) | _direction(layer.backward_layer, layer.forward_layer)
    if kind == "Dropout":
        return {}
    able = "Embedding, LSTM, GRU, SimpleRNN, RNN, Bidirectional, Dense, Dropout and Activation"
    raise ValueError(f"{layer.name} is a {kind}, which cannot be converted to PyTorch; only {able} can")


def _direction(layer: RNN, forward: RNN | None = None) -> dict[str, np.ndarray]:
    """A recurrent layer's weights by PyTorch's names; with `forward` given, those of the backward direction."""
    kind, flags, suffix = recurrence(layer, "PyTorch"), (True, False), "" if forward is None else "_reverse"
    allowed = {"use_bias": flags, "activation": ("tanh", "relu") if kind == "RNN" else ("tanh",)}
    if forward is not None:  # PyTorch has one setting for both
        if (_kind(layer), layer.state_sizes) != (_kind(forward), forward.state_sizes):
            raise ValueError(f"{layer.name} and {forward.name} differ in class or size, which PyTorch cannot express")
        allowed = {"use_bias": (forward.cell.use_bias,), "activation": (forward.cell.activation.name,)}
    require_plain(layer, "PyTorch", return_sequences=flags, go_backwards=(forward is not None,), **allowed)
    order = RECURRENCES[kind].orders["PyTorch"]
    named = {}
    for name, param in layer.params.items():
        array = param.T if name == "projection_kernel" else reordered(param, layer.cell.blocks, order).T
        if name != "bias":
            named[_WEIGHTS[name]] = array
        elif kind == "GRU":
            named["bias_ih"], named["bias_hh"] = array.T
        else:  # -0.0 rather than 0.0: b + -0.0 is b bit for bit, even if b is -0.0
            named["bias_ih"], named["bias_hh"] = array, np.full_like(array, -0.0)
    return {f"{name}_l0{suffix}": array for name, array in named.items()}


def _torch_modules(layer: Any, nn: Any) -> list[tuple[str, Any]]:
    """The module for a layer, and one for the activation it ends in."""
    kind = type(layer).__name__
    if kind == "Embedding":
        return [(layer.name, nn.Embedding(layer.input_dim, layer.output_dim))]
    if kind == "Dropout":
        return [(layer.name, nn.Dropout(layer.dropout_masks[0].rate))]
    if isinstance(layer, RNN | Bidirectional):
        one: RNN = layer.forward_layer if isinstance(layer, Bidirectional) else layer
        name, (features, _) = recurrence(one, "PyTorch"), one.params["kernel"].shape
        options = {"nonlinearity": one.cell.activation.name} if name == "RNN" else {}
        options |= {"proj_size": one.cell.projection} if isinstance(one.cell, ProjectedLSTMCell) else {}
        options |= {"bias": one.cell.use_bias, "batch_first": True, "bidirectional": one is not layer}
        module = getattr(nn, name)(features, one.cell.units, **options)
        module.return_sequences = one.return_sequences
        return [(layer.name, module)]
    names = {ours: name for name, ours in _ACTIVATIONS.items()}
    activation = getattr(nn, names[layer.activation.name])
    ending = activation(dim=-1) if activation is nn.Softmax else activation()
    if kind == "Activation":
        return [(layer.name, ending)]
    linear = nn.Linear(*layer.params["kernel"].shape, bias=layer.use_bias)
    return [(layer.name, linear), *([] if activation is nn.Identity else [(f"{layer.name}_activation", ending)])]
