"""Batches of like length, for `fit(group_by_length=True)`: padding that all rows of a batch share is left out.

    rows        ids, padded before or behind:  0 0 0 5 8 2
                                               0 0 0 0 3 9
                                               0 0 0 0 0 7
    batch       the columns from the first to the last in which a row has an id other than 0: the last three here

The results are those of the whole rows, as long as every layer ignores padding, which is asked before anything is
computed. Which columns are left out depends on the ids of the whole batch alone, so that all who share it agree.
"""

from typing import Any, NamedTuple

import numpy as np

from scratchlstm import backend
from scratchlstm.layers import Embedding, Layer, Network
from scratchlstm.layers.weights import Shape, with_batch
from scratchlstm.training.compiled import Compiled
from scratchlstm.training.data import Data, each_of, inputs_of, take

# an epoch's permutation is sorted by so many batches at a time: the more, the less padding, and the less is random
_POOL = 50


# --- order and columns ------------------------------------------------------------------------------------------------


def row_lengths(x: Any) -> np.ndarray:
    """How many columns each row needs, from its first to its last id other than 0 in any input, (N,)."""
    used = np.logical_or.reduce([ids != 0 for ids in inputs_of(x)])
    first, behind = used.argmax(axis=1), used.shape[1] - used[:, ::-1].argmax(axis=1)
    return np.where(used.any(axis=1), behind - first, 0)


def rearranged(order: np.ndarray, lengths: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A permutation in which batches of `size` hold rows of like length, and come in random order.

    Args:
        order: a random permutation, (N,). Pools of it are sorted, and cut into batches.
        lengths: of the rows, (N,).
        size: of a batch. A shorter one stays the last.
        rng: draws the order of the others.
    """
    pools = np.split(order, range(_POOL * size, len(order), _POOL * size))
    in_pools = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
    full = len(order) // size
    batches = in_pools[: full * size].reshape(full, size)
    return np.concatenate([batches[rng.permutation(full)].ravel(), in_pools[full * size :]])


def longest_first(data: Data) -> tuple[Data, np.ndarray]:
    """The samples sorted by length, the longest first, and which they were."""
    order = np.argsort(-row_lengths(data.x), kind="stable")
    return data.take(order), order


def taken(data: Data, which: Any, trims: bool, on_gpu: Any = None, batch: Any = None) -> Data:
    """`Data.take`, without the columns that are padding in all rows of the batch, if it `trims`.

    Args:
        data, which, on_gpu: see `Data.take`.
        batch: the samples of the whole batch, if others take the rest of it.
    """
    rows = data.take(which, on_gpu)
    if not trims:
        return rows
    columns = _used_columns(rows.x if batch is None else take(data.x, batch))
    return rows._replace(x=each_of(lambda ids: ids[:, columns], rows.x))


def _used_columns(x: Any) -> slice:
    """From the first to the last in which a row has an id other than 0; at least one."""
    used = np.flatnonzero(np.logical_or.reduce([(ids != 0).any(axis=0) for ids in inputs_of(x)]))
    return slice(used[0], used[-1] + 1) if len(used) else slice(1)


# --- what it takes ----------------------------------------------------------------------------------------------------


def prepared(model: Compiled, data: Data, name: str = "x") -> Data:
    """The data with its ids on the CPU, for a model whose results do not depend on padding.

    A model that is not built yet is built, for any length.

    Raises:
        ValueError: the model, or x, is another; with what is in the way.
    """
    arrays = inputs_of(data.x)
    shapes = ", ".join(str(ids.shape) for ids in arrays)
    if any(ids.ndim != 2 or ids.dtype.kind not in "iu" for ids in arrays) or len({ids.shape for ids in arrays}) > 1:
        of = "one length for all inputs" if len(arrays) > 1 else "one length"
        raise _refused(f"{name} must hold padded ids, integers (N, T) of {of}, not {arrays[0].dtype} {shapes}")
    network = model.network
    if model.stateful:
        raise _refused("the model is stateful, so its rows have to stay in their order")
    if not model.built:
        model.build_for([(None,)] * len(arrays) if network.merges else (None,))
    ends = _through(network, [_Value((None,))] * len(arrays))
    for output, end in zip(network.output_names or ["the output"], ends, strict=True):
        if None in end.shape:
            raise _refused(f"{output}, of shape {with_batch(end.shape)}, has a time axis")
    return data._replace(x=each_of(backend.host, data.x))


def _refused(why: str) -> ValueError:
    return ValueError(f"group_by_length=True is not possible: {why}")


class _Value(NamedTuple):
    """What a place gives: None in the shape is the length left open, and ids are (None,)."""

    shape: Shape
    masked: bool = False


def _through(network: Network, start: list[_Value]) -> list[_Value]:
    """The outputs of a network for these inputs.

    Raises:
        ValueError: a layer in it does not ignore padding.
    """
    for own, value, name in zip(network.input_shapes, start, network.input_names, strict=True):
        if own is not None and any(size is None and fixed for size, fixed in zip(value.shape, own, strict=True)):
            todo = f"leave its length open, {with_batch((None, *own[1:]))}, as Input((None,)) does for ids"
            raise _refused(f"{name} of {network.name} is fixed to shape {with_batch(own)}: {todo}")
    found = network.along(start if network.merges else start[0], _step)
    return [found[end] for end in network.ends]


def _step(layer: Layer, given: Any, states: list[_Value]) -> Any:
    """What a layer gives, see `Network.along`."""
    values: list[_Value] = given if layer.merges else [given]
    if isinstance(layer, Network):
        outputs = _through(layer, values)
        return outputs if layer.outputs > 1 else outputs[0]
    shapes: Any = [value.shape for value in values]
    shape = layer.output_shape(shapes if layer.merges else shapes[0])
    sequences = [value for value in values if None in value.shape]
    masked = [value.masked for value in values]
    gives = layer.gives_mask(masked if layer.merges else masked[0])
    if (None,) in shapes:
        if isinstance(layer, Embedding) and not layer.mask_zero:
            raise _refused(f"{layer.name} takes padding for a word: make it with mask_zero=True")
        if not isinstance(layer, Embedding) and (layer.merges or shape != (None,)):
            raise _refused(f"{layer.name} takes ids, which only an Embedding(mask_zero=True) is to take")
    elif not all(value.masked for value in sequences):
        raise _refused(f"{layer.name} takes a sequence without its mask, so it does not see what is padding")
    elif sequences and states:
        raise _refused(f"{layer.name} is given initial states, and ignores the mask then")
    elif sequences and not (layer.takes_mask or gives):
        todo = "MaskedGlobalMaxPooling1D and GlobalAveragePooling1D, for example, do not"
        raise _refused(f"{layer.name} ignores the mask, so its output depends on the padding; {todo}")
    elif sequences and gives and getattr(layer, "go_backwards", False):
        raise _refused(f"{layer.name} gives its steps backwards, but their mask forwards; Bidirectional does neither")
    outputs = [_Value(each, gives and k < layer.masked_outputs) for k, each in enumerate(_listed(layer, shape))]
    return outputs if layer.outputs > 1 else outputs[0]


def _listed(layer: Layer, shape: Any) -> list[Shape]:
    return shape if layer.outputs > 1 else [shape]
