"""Random options of recurrent layers and cells against Keras: outputs, gradients, ten steps of an optimizer.

RANDOM_CELLS=200 in the environment takes so many of them instead of the first four.
"""

import os
from typing import Any, NamedTuple

import numpy as np
import pytest
from cases import EXACT, error
from keras_side import dense, give_dropout, keras, tf

import scratchlstm
from scratchlstm import Input, Model, optimizers
from scratchlstm.layers.passes import Pass

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("float64"),
    pytest.mark.filterwarnings("ignore:Layer .* was passed an input with"),
]
COUNT = int(os.environ.get("RANDOM_CELLS", "4"))
B, T, E, STEPS = 3, 4, 3, 10
GATED = "LSTM", "GRU"
BOUNDED = "tanh", "sigmoid", "hard_sigmoid"
ACTIVATIONS = *BOUNDED, "tanh", "relu", "linear"


class Drawn(NamedTuple):
    """What both sides build, from the same numbers."""

    cells: list[tuple[str, dict[str, Any]]]  # class without "Cell" -> its arguments
    of_layer: dict[str, Any]
    as_layer: bool  # LSTM(...) instead of RNN(LSTMCell(...))
    both_ways: dict[str, Any] | None  # of a Bidirectional around it
    masked: bool
    from_states: bool
    optimizer: tuple[str, dict[str, Any]]

    def layer(self, side):
        """The recurrent layer of a side: this package or Keras."""
        if self.as_layer:
            ((kind, options),) = self.cells
            made = getattr(side.layers, kind)(**of(side, options), **self.of_layer, dtype="float64")
        else:
            cells = [getattr(side.layers, f"{kind}Cell")(**of(side, options)) for kind, options in self.cells]
            made = side.layers.RNN(cells[0] if len(cells) == 1 else cells, **self.of_layer, dtype="float64")
        return made if self.both_ways is None else side.layers.Bidirectional(made, **self.both_ways)

    @property
    def sizes(self):
        """Of each state, cell by cell."""
        own = [[options["units"]] * (2 if kind == "LSTM" else 1) for kind, options in self.cells]
        return own * (1 if self.both_ways is None else 2)


def of(side, options):
    """The arguments, regularizers made: their default rates would be rounded to float32 by Keras."""
    made = {name: getattr(side.regularizers, given)(2**-6) for name, given in options.items() if given in ("L1", "L2")}
    return options | made


def draw(number):
    """The options of that number."""
    rng = np.random.default_rng(number)

    def flag(share=0.5):
        return bool(rng.random() < share)

    def one_of(*values):
        return values[rng.integers(len(values))]

    stateful = flag(0.3)  # states that grow from batch to batch would leave no digits to compare

    def cell():
        kind = one_of("LSTM", "GRU", "GRU", "SimpleRNN")
        options = {
            "units": int(rng.integers(1, 5)),
            "activation": one_of(*(BOUNDED if stateful else ACTIVATIONS)),
            "use_bias": flag(0.75),
        }
        if kind in GATED:
            options["recurrent_activation"] = one_of("sigmoid", "sigmoid", "hard_sigmoid", "tanh")
        options |= {"GRU": {"reset_after": flag()}, "LSTM": {"unit_forget_bias": flag()}}.get(kind, {})
        for part in ("kernel", "recurrent", "bias"):
            options[f"{part}_regularizer"] = one_of(None, None, "L1", "L2")
            options[f"{part}_constraint"] = one_of(None, None, "max_norm", "non_neg", "unit_norm")
        return kind, options | {"dropout": one_of(0.0, 0.3), "recurrent_dropout": one_of(0.0, 0.0, 0.3)}

    cells = [cell() for _ in range(one_of(1, 1, 2, 3))]
    both_ways = {"merge_mode": one_of("concat", "sum", "ave", "mul", None)} if flag(0.25) else None
    names = ("return_sequences", "return_state", "zero_output_for_mask")
    of_layer = {name: flag() for name in names} | {"go_backwards": flag() and both_ways is None}
    # with all three of them Keras cannot build a model
    of_layer["stateful"] = stateful and (both_ways is None or not of_layer["return_state"])
    name = one_of("SGD", "Adam", "RMSprop")
    optimizer = name, EXACT[name] | {"learning_rate": 2**-7}
    as_layer = len(cells) == 1 and flag()
    return Drawn(cells, of_layer, as_layer, both_ways, flag(), flag(0.4), optimizer)


def listed(values):
    return list(values) if isinstance(values, list | tuple) else [values]


def one_or_all(values):
    return values if len(values) > 1 else values[0]


def built(drawn, side, start, model_of):
    """A model with an input for each initial state and every output of the layer; and the layer."""
    x = start((T, E))
    states = [[start((size,)) for size in sizes] for sizes in drawn.sizes] if drawn.from_states else []
    layer = drawn.layer(side)
    read = side.layers.Masking(dtype="float64")(x) if drawn.masked else x
    flat = [state for of_cell in states for state in of_cell]
    given = flat if len(drawn.cells) == 1 else states
    y = layer(read, initial_state=given) if states else layer(read)
    return model_of([x, *flat] if flat else x, tf.nest.flatten(y)), layer


def foresee_dropout(model, layer, x, theirs):
    """Give the twin what the next step of training drops."""
    before = [source.rng.bit_generator.state for source in layer.dropout_masks]
    _, cache = model.forward(x, Pass(training=True, keeps_states=False))
    for source, state in zip(layer.dropout_masks, before, strict=True):
        source.rng.bit_generator.state = state
    give_dropout(next(each for each in cache.kept.caches if each.layer is layer), theirs)


@pytest.mark.parametrize("number", range(COUNT))
def test_outputs_gradients_and_ten_steps(number):
    drawn, rng = draw(number), np.random.default_rng(number)
    model, layer = built(drawn, scratchlstm, lambda shape: Input(shape, dtype="float64"), Model)
    twin, theirs = built(drawn, keras, lambda shape: keras.Input(batch_shape=(B, *shape)), keras.Model)
    model.set_weights([rng.normal(size=w.shape) * 0.6 for w in model.get_weights()])
    twin.set_weights(model.get_weights())

    def batch():
        x = rng.normal(size=(B, T, E)) * (rng.random((B, T, 1)) < 0.7 if drawn.masked else 1)
        return [x, *(rng.normal(size=(B, size)) for of in drawn.sizes for size in of if drawn.from_states)]

    for _ in range(2):  # a stateful layer begins the second with its states
        given = batch()
        foresee_dropout(model, layer, one_or_all(given), theirs)
        y, cache = model.forward(one_or_all(given), Pass(training=True))
        variables = [tf.Variable(each) for each in given]
        upstream = [rng.normal(size=each.shape) for each in listed(y)]
        with tf.GradientTape() as tape:
            answers = listed(twin(one_or_all([tf.convert_to_tensor(v) for v in variables]), training=True))
            total = sum(tf.reduce_sum(r * answer) for r, answer in zip(upstream, answers, strict=True))
        for mine, answer in zip(listed(y), answers, strict=True):
            assert error(mine, answer) < 1e-9
        dx, grads = model.backward(one_or_all(tuple(upstream)), cache)
        expected = tape.gradient(total, [*variables, *twin.trainable_variables], unconnected_gradients="zero")
        for mine, answer in zip([*listed(dx), *grads.values()], expected, strict=True):
            assert error(mine, dense(answer)) < 1e-9

    name, settings = drawn.optimizer
    model.compile(getattr(optimizers, name)(**settings), "mse")
    of_keras, mse = getattr(keras.optimizers, name)(**settings), keras.losses.MeanSquaredError(dtype="float64")
    of_keras.build(twin.trainable_variables)
    for step in range(STEPS):
        given = batch()
        targets = [rng.normal(size=each.shape) for each in answers]
        foresee_dropout(model, layer, one_or_all(given), theirs)
        loss = model.train_on_batch(one_or_all(given), one_or_all(targets))
        with tf.GradientTape() as tape:
            answers = listed(twin(one_or_all(given), training=True))
            of_twin = sum(map(mse, targets, answers)) + sum(twin.losses)
        gradients = tape.gradient(of_twin, twin.trainable_variables)
        of_keras.apply(gradients, twin.trainable_variables)
        assert listed(loss)[0] == pytest.approx(float(of_twin), rel=1e-8), step
        if of_twin > 1e6:
            break  # a linear network that diverges: soon no number is finite
        for mine, theirs_now in zip(model.get_weights(), twin.get_weights(), strict=True):
            assert error(mine, theirs_now) < 1e-8, step
