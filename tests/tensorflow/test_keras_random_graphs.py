"""Random graphs of this package and of Keras: the order of layers and weights, outputs, gradients."""

import numpy as np
import pytest
from cases import error
from keras_side import dense, keras, tf
from random_graphs import COUNT, data, graph

from scratchlstm import Input, Model, layers
from scratchlstm.gradcheck import relative_error

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("float64"),
    pytest.mark.filterwarnings("ignore:Layer .* was passed an input with"),
]


def listed(values):
    return list(values) if isinstance(values, list | tuple) else [values]


@pytest.mark.parametrize("number", range(COUNT))
def test_order_outputs_and_gradients(number):
    model = graph(number, layers, Input, Model, seed=number)
    twin = graph(number, keras.layers, keras.Input, keras.Model)
    rng = np.random.default_rng(number)
    model.set_weights([rng.normal(size=w.shape) * 0.6 for w in model.get_weights()])
    own = [layer for layer in twin.layers if not isinstance(layer, keras.layers.InputLayer)]
    assert [layer.name for layer in model.layers] == [layer.name for layer in own]
    twin.set_weights(model.get_weights())
    xs = data(number, model.network.input_shapes)
    x = xs if len(xs) > 1 else xs[0]
    y, cache = model.forward(x)
    with tf.GradientTape() as tape:
        answers = listed(twin(x))
        upstream = [rng.normal(size=each.shape) for each in answers]
        total = sum(tf.reduce_sum(r * answer) for r, answer in zip(upstream, answers, strict=True))
    for mine, answer in zip(listed(y), answers, strict=True):
        assert error(mine, answer) < 1e-9
    _, grads = model.backward(tuple(upstream) if len(upstream) > 1 else upstream[0], cache)
    expected = tape.gradient(total, twin.trainable_variables)
    for (name, gradient), of_keras in zip(grads.items(), expected, strict=True):
        of_keras = np.zeros(gradient.shape) if of_keras is None else dense(of_keras)
        assert relative_error(np.asarray(gradient), of_keras) < 1e-8, name
