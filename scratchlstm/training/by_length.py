"""Batches of similar lengths, for `fit(group_by_length=True)`: padding shared by all rows of a batch is cut off.

    rows        ids, padded before or after:  0 0 0 5 8 2
                                               0 0 0 0 3 9
                                               0 0 0 0 0 7
    batch       the columns from the first to the last with an id other than 0: here the last three

The results are those of whole rows provided every layer ignores padding, which is checked before anything is computed.
Which columns are cut depends only on the ids of the whole batch, so processes that share a batch agree.
"""

from typing import Any, NamedTuple

import numpy as np

from scratchlstm import backend
from scratchlstm.layers import RNN, Embedding, GlobalMaxPooling1D, Layer, Network, WordDropout
from scratchlstm.layers.weights import Shape, with_batch
from scratchlstm.training.compiled import Compiled
from scratchlstm.training.data import Data, each_of, inputs_of, take

# number of batches sorted together: more means less padding, but also less randomness
_POOL = 50


# --- order and columns ------------------------------------------------------------------------------------------------


def row_lengths(x: Any) -> np.ndarray:
    """The number of columns each row needs, from its first to its last id other than 0 in any input, (N,)."""
    used = _used(x)
    first, behind = used.argmax(axis=1), used.shape[1] - used[:, ::-1].argmax(axis=1)
    return np.where(used.any(axis=1), behind - first, 0)


def rearranged(order: np.ndarray, lengths: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A permutation in which batches of `size` hold rows of similar lengths, in random order.

    Args:
        order: a random permutation, (N,). It is cut into pools, which are sorted and cut into batches.
        lengths: lengths of the rows, (N,).
        size: the batch size. A shorter batch remains the last.
        rng: draws the order of the other batches.
    """
    pools = np.split(order, range(_POOL * size, len(order), _POOL * size))
    in_pools = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
    full = len(order) // size
    batches = in_pools[: full * size].reshape(full, size)
    return np.concatenate([batches[rng.permutation(full)].ravel(), in_pools[full * size :]])


def longest_first(data: Data) -> tuple[Data, np.ndarray]:
    """The samples sorted by length, longest first, and their original indices."""
    order = np.argsort(-row_lengths(data.x), kind="stable")
    return data.take(order), order


def taken(data: Data, which: Any, trims: bool, on_gpu: Any = None, batch: Any = None) -> Data:
    """`Data.take`; if `trims`, without the columns that are padding in all rows of the batch.

    Args:
        data, which, on_gpu: see `Data.take`.
        batch: the samples of the whole batch, if other processes take the rest of it.
    """
    rows = data.take(which, on_gpu)
    if not trims:
        return rows
    columns = _used_columns(rows.x if batch is None else take(data.x, batch))
    return rows._replace(x=each_of(lambda ids: ids[:, columns], rows.x))


def _used_columns(x: Any) -> slice:
    """The columns from the first to the last with an id other than 0; at least one."""
    used = np.flatnonzero(_used(x).any(axis=0))
    return slice(used[0], used[-1] + 1) if len(used) else slice(1)


def _used(x: Any) -> np.ndarray:
    """True where any input has an id other than 0, (N, T)."""
    return np.logical_or.reduce([ids != 0 for ids in inputs_of(x)])


# --- is it possible? --------------------------------------------------------------------------------------------------


def prepared(model: Compiled, data: Data, name: str = "x") -> Data:
    """The data with its ids on the CPU, for a model whose outputs do not depend on padding.

    A model that is not yet built is built, for any length.

    Raises:
        ValueError: x is not padded ids, or an output may depend on padding; says why.
    """
    arrays = inputs_of(data.x)
    if any(x.ndim != 2 for x in arrays) or len({x.shape for x in arrays}) > 1:
        given = ", ".join(f"{x.dtype} {x.shape}" for x in arrays)
        raise _refused(f"{name} must be padded ids, integers (N, T), with the same T for all inputs, not {given}")
    if model.stateful:
        raise _refused("the model is stateful, so its samples must stay in order")
    ends = _through(model.network, [_Value((None,))] * len(arrays))
    for output, end in zip(model.network.output_names, ends, strict=True):
        if None in end.shape:
            raise _refused(f"the output {output} has a time axis, {with_batch(end.shape)}, which would be cut as well")
    if not model.built:
        model.build_for((None,))
    return data._replace(x=each_of(backend.host, data.x))


def _refused(why: str) -> ValueError:
    return ValueError(f"group_by_length=True is not possible: {why}")


class _Value(NamedTuple):
    """A layer's output. None in its shape stands for the length: ids are (None,), a sequence is (None, E)."""

    shape: Shape
    masked: bool = False


def _through(network: Network, start: list[_Value]) -> list[_Value]:
    """The outputs of a network for these inputs.

    Raises:
        ValueError: its length is fixed, or a layer's output depends on padding.
    """
    for name, fixed, value in zip(network.input_names, network.input_shapes, start, strict=True):
        if fixed is not None and any(size is None and known for size, known in zip(value.shape, fixed, strict=True)):
            todo = "leave its length open: Input((None,)), or input_shape=(None,) in the first layer"
            raise _refused(f"the input {name} of {network.name} has the fixed shape {with_batch(fixed)}; {todo}")
    found = network.along(start if network.merges else start[0], _step)
    return [found[end] for end in network.ends]


def _step(layer: Layer, given: Any, states: list[_Value]) -> Any:
    """A layer's output; see `Network.along`."""
    values: list[_Value] = given if layer.merges else [given]
    if isinstance(layer, Network):
        ends = _through(layer, values)
        return ends if layer.outputs > 1 else ends[0]
    shapes: Any = [value.shape for value in values]
    masked = [value.masked for value in values]
    if (None,) in shapes:
        _require_takes_ids(layer)
    elif any(None in shape for shape in shapes):
        _require_heeds(layer, values, bool(states))
    made = layer.output_shape(shapes if layer.merges else shapes[0])
    gives = layer.gives_mask(masked if layer.merges else masked[0])
    if layer.outputs == 1:
        return _Value(made, gives)
    return [_Value(shape, gives and number < layer.masked_outputs) for number, shape in enumerate(made)]


def _require_takes_ids(layer: Layer) -> None:
    """Raise an error if a layer that gets ids neither masks padding nor drops words before such an embedding."""
    if isinstance(layer, Embedding) and not layer.mask_zero:
        raise _refused(f"{layer.name} treats padding as a word: use mask_zero=True")
    if not isinstance(layer, Embedding | WordDropout):
        raise _refused(f"{layer.name} takes the input, which must be ids for an Embedding(mask_zero=True)")


def _require_heeds(layer: Layer, values: list[_Value], has_states: bool) -> None:
    """Raise an error if a layer's output depends on the padding of its sequences."""
    if any(None in value.shape and not value.masked for value in values):
        raise _refused(f"{layer.name} takes a sequence without a mask, so it cannot tell what is padding")
    if has_states:
        raise _refused(f"{layer.name} is given an initial state, with which it ignores the mask")
    if layer.makes_mask:
        raise _refused(f"{layer.name} makes its own mask, which may include padding")
    if not (layer.takes_mask or layer.passes_mask):
        todo = "; MaskedGlobalMaxPooling1D uses it" if isinstance(layer, GlobalMaxPooling1D) else ""
        raise _refused(f"{layer.name} ignores the mask, so its output depends on padding{todo}")
    if isinstance(layer, RNN) and layer.return_sequences and layer.go_backwards:
        raise _refused(f"{layer.name} returns its steps in reverse, but not their mask; Bidirectional reorders them")
    if isinstance(layer, RNN) and layer.zero_output_for_mask and not layer.return_sequences:
        raise _refused(f"{layer.name} has zero_output_for_mask=True, and outputs 0 for rows that end in padding")
