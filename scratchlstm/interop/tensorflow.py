"""The results of Keras on TensorFlow for the same layer or model: outputs and gradients, by name.

The twin gets our weights, states and mask, and in training our pass's dropout masks.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scratchlstm.backend import host
from scratchlstm.interop.keras import layer_to_keras, to_keras
from scratchlstm.interop.keras_graph import by_cell
from scratchlstm.layers import Attention, Bidirectional, Dropout, Layer, Multiply, TimeDistributed
from scratchlstm.layers.passes import Cache
from scratchlstm.layers.rnn import RNN, Kept
from scratchlstm.models.model import Model

Answers = dict[str, np.ndarray]


def layer_answers(
    layer: Layer, cache: Cache, inputs: Mapping[str, np.ndarray], states: Mapping[str, np.ndarray],
    mask: Any, upstream: Sequence[np.ndarray], training: bool,
) -> Answers:  # fmt: skip
    """The results for L = Σ r y.

    Args:
        layer: a layer of this package.
        cache: from its forward pass.
        inputs: name -> input; several for a merging layer. Integer inputs have no gradient.
        states: name -> initial state, in the layer's order.
        mask: (B, T); a list for several inputs.
        upstream: r, one array for each output.
        training: whether dropout is active, with our masks.

    Returns:
        "output 0", ..., and dL/d of each parameter, input and state.

    Raises:
        ImportError: TensorFlow is missing, or Keras uses another backend.
        ValueError: Keras does not have the layer, or cannot use our dropout masks.
    """
    tf = _tensorflow()
    twin = layer_to_keras(layer)
    shapes = [x.shape for x in inputs.values()]
    twin.build(shapes if layer.merges else shapes[0])
    twin.set_weights(layer.get_weights())
    # its output mask is not needed, and Keras cannot compute it for a stateful Bidirectional with states
    twin.compute_mask = lambda *_: None
    _hand_over(cache, twin, training)
    read = {name: tf.Variable(host(x)) if x.dtype.kind == "f" else tf.constant(host(x)) for name, x in inputs.items()}
    begun = {name: tf.Variable(host(state)) for name, state in states.items()}
    call: dict[str, Any] = {"initial_state": by_cell(layer, list(begun.values()))} if begun else {}
    if isinstance(layer, Attention):
        call["return_attention_scores"] = True
    if mask is not None:
        masks = [None if m is None else tf.constant(m.astype(bool)) for m in (mask if layer.merges else [mask])]
        call["mask"] = masks if layer.merges else masks[0]
    with tf.GradientTape() as tape:
        given = [tf.convert_to_tensor(x) for x in read.values()]
        if isinstance(layer, Multiply):  # its inputs carry their masks
            for x, of_x in zip(given, call.pop("mask", []), strict=False):
                x._keras_mask = of_x
        y = twin(given if layer.merges else given[0], training=training, **call)
        outputs = tf.nest.flatten(y)
        loss = sum(tf.reduce_sum(r * part) for r, part in zip(upstream, outputs, strict=True))
    variables = _unfrozen(layer, twin) | begun
    variables |= {name: x for name, x in read.items() if isinstance(x, tf.Variable)}
    return _outputs(outputs) | _gradients(tape, loss, variables)


def model_answers(model: Model, cache: Cache, x: Any, y: Any, training: bool) -> Answers:
    """The results for the loss that the model was compiled with, including penalties.

    Args:
        model: compiled.
        cache: from its network's forward pass.
        x, y: the batch.
        training: whether dropout is active, with our masks.

    Returns:
        "output 0", ..., "loss", and dL/d of each parameter, as "layer/parameter".

    Raises:
        as for `layer_answers`.
    """
    tf = _tensorflow()
    import keras

    twin = to_keras(model, batch_size=len(x[0] if isinstance(x, tuple) else x))
    variables: dict[str, Any] = {}
    shared = [layer for layer in model.layers if training and model.network.uses(layer) > 1]
    if dropping := [layer.name for layer in shared if any(source.rate for source in layer.dropout_masks)]:
        raise ValueError(
            f"the dropout of {dropping[0]}, a layer used several times, cannot be reproduced in Keras, which keeps one "
            f"mask per layer: compare without training, or without TensorFlow"
        )
    for of in cache.kept.caches:
        _hand_over(of, twin.get_layer(of.layer.name), training)
    for layer in model.layers:
        other = twin.get_layer(layer.name)
        variables |= {f"{layer.name}/{name}": variable for name, variable in _unfrozen(layer, other).items()}
    with tf.GradientTape() as tape:
        y_preds = model.by_output(twin(list(x) if isinstance(x, tuple) else x, training=training))
        loss = sum(twin.losses)
        columns = model.targets, model.by_output(y), y_preds, model.network.dtypes
        for target, y_true, y_pred, dtype in zip(*columns, strict=True):
            if target.loss is not None:
                # with a dtype other than the output's, Keras' loss would not use the logits
                theirs = getattr(keras.losses, type(target.loss).__name__)(**target.loss.get_config(), dtype=dtype)
                y_true = target.loss.align(y_true, np.zeros(y_pred.shape, dtype))
                loss += target.weight * theirs(y_true, y_pred)  # the mask comes with y_pred
    return _outputs(y_preds) | {"loss": loss.numpy()} | _gradients(tape, loss, variables)


def _unfrozen(layer: Layer, theirs: Any) -> dict[str, Any]:
    """The twin's trained variables, by our names."""
    variables = [variable for variable in theirs.weights if variable.trainable]
    return dict(zip(layer.unfrozen_params, variables, strict=True))


def _tensorflow() -> Any:
    import keras
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        raise ImportError(f"Keras uses the backend {keras.backend.backend()} here; start with KERAS_BACKEND=tensorflow")
    return tf


def _hand_over(cache: Cache, theirs: Any, training: bool) -> None:
    """Give the twin our states and, in training, our pass's dropout masks."""
    ours = cache.layer
    if training and isinstance(ours, TimeDistributed) and any(source.rate for source in ours.dropout_masks):
        why = "whose TimeDistributed calls its layer step by step: compare without training, or without TensorFlow"
        raise ValueError(f"the dropout in {ours.name} cannot be reproduced in Keras, {why}")
    if isinstance(ours, Bidirectional):
        for of, other in zip(cache.kept.caches, (theirs.forward_layer, theirs.backward_layer), strict=True):
            _hand_over(of, other, training)
    elif isinstance(ours, TimeDistributed):
        _hand_over(cache.kept[0], theirs.layer, training)
    elif isinstance(ours, RNN):
        kept: Kept = cache.kept
        if ours.stateful and ours.states is not None:
            for variable, state in zip(_tensorflow().nest.flatten(theirs.states), ours.states, strict=True):
                variable.assign(state)
        # a Keras cell draws its own masks if it has none yet; masks by gate are a list there
        cells = getattr(theirs.cell, "cells", [theirs.cell])
        for part, cell in zip(kept.parts, cells, strict=True):
            masks = {"_dropout_mask": part.input_dropout, "_recurrent_dropout_mask": part.recurrent_dropout}
            for name, mask in masks.items():
                if mask is not None:
                    by_gate = list(mask.swapaxes(0, 1)) if mask.ndim == 3 else [mask]
                    setattr(cell, name, by_gate if len(by_gate) > 1 else by_gate[0])
    elif isinstance(ours, Dropout) and cache.kept is not None:
        theirs.call = lambda x, training=None, kept=cache.kept: x * kept
    elif isinstance(ours, Attention) and cache.kept.dropout is not None:
        apply, kept_weights = theirs._apply_scores, cache.kept.dropout

        def dropped(scores: Any, value: Any, scores_mask: Any, training: bool) -> Any:
            weights = apply(scores, value, scores_mask)[1] * kept_weights
            return weights @ value, weights

        theirs._apply_scores = dropped


def _outputs(outputs: Sequence[Any]) -> Answers:
    return {f"output {number}": np.asarray(y) for number, y in enumerate(outputs)}


def _gradients(tape: Any, loss: Any, variables: Mapping[str, Any]) -> Answers:
    import tensorflow as tf

    found = tape.gradient(loss, dict(variables), unconnected_gradients=tf.UnconnectedGradients.ZERO)
    # sums the slices of repeated ids
    return {name: tf.convert_to_tensor(gradient).numpy() for name, gradient in found.items()}
