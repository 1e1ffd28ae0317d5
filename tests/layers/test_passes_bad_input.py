"""What a pass cannot take, or a layer of one's own must not give, is refused in one sentence."""

import numpy as np
import pytest

from scratchlstm import Input, Model, Sequential
from scratchlstm.initializers import Ones
from scratchlstm.layers import LSTM, Activation, Bidirectional, Concatenate, Dense, Dropout, Embedding, Layer, Network
from scratchlstm.layers.passes import Pass

X, SERIES = np.ones((4, 3)), np.ones((2, 5, 3))
Y = np.array([0.0, 1, 0, 1])


def refused(error, match):
    """Refused with a message of a single sentence."""
    return pytest.raises(error, match=rf"(?s)^(?!.*\. [A-Z]).*{match}")


# --- caches -----------------------------------------------------------------------------------------------------------


def model_and_pass():
    model = Sequential([Input((3,)), Dense(2), Dense(1)], seed=0)
    return model, model.forward(X)[1]


NO_CACHES = {
    "nothing": None,
    "an array": X,
    "what a cache keeps": Dense(2).forward(X)[1].kept,
    "y and a cache": Dense(2).forward(X),
}


@pytest.mark.parametrize("cache", NO_CACHES.values(), ids=NO_CACHES)
def test_what_is_no_cache(cache):
    with refused(TypeError, "backward of dense takes a cache that its own forward pass gave, not "):
        Dense(2).backward(np.ones((4, 2)), cache)
    with refused(TypeError, "backward of sequential takes a cache that its own forward pass gave, not "):
        model_and_pass()[0].backward(np.ones((4, 1)), cache)


def test_a_cache_of_another_layer():
    model, cache = model_and_pass()
    _, of_another = Dense(2, name="another").forward(X)
    with refused(TypeError, "a cache that its own forward pass gave, not one of another layer, another"):
        model.layers[0].backward(np.ones((4, 2)), of_another)
    with refused(TypeError, "backward of sequential takes .*, not one of another layer, dense"):
        model.backward(np.ones((4, 1)), cache.kept.caches[0])
    with refused(TypeError, "backward of sequential takes .*, not one of another layer, sequential"):
        model.backward(np.ones((4, 1)), model_and_pass()[1])


def test_a_cache_of_another_batch():
    layer = LSTM(2)
    dy, _ = layer.forward(SERIES)
    _, of_one = layer.forward(SERIES[:1])
    with refused(ValueError, r"lstm gave an output of shape \(1, 2\), but dL/dy has shape \(2, 2\)"):
        layer.backward(dy, of_one)


def test_a_cache_that_was_released():
    model = Sequential([Input((5, 3)), LSTM(2), Dense(1)], seed=0)
    y, cache = model.forward(SERIES, run := Pass(training=True))
    of_layer = cache.kept.caches[0]
    run.release()
    with refused(RuntimeError, r"cache of sequential was released, .* call backward before release\(\), or forward"):
        model.backward(y, cache)
    with refused(RuntimeError, "cache of lstm was released"):
        model.layers[0].backward(np.ones((2, 2)), of_layer)
    y, cache = model.forward(SERIES, run)
    model.backward(y, cache)  # the pass itself can be used again


# --- gradients --------------------------------------------------------------------------------------------------------

ONE, SEVERAL = (lambda: LSTM(2)), (lambda: LSTM(2, return_state=True))
STATE = np.ones((2, 2))
WRONG_GRADIENTS = {
    "None": (ONE, None, "dL/dy of lstm must be an array, like its output, not None"),
    "a row too few": (ONE, STATE[:1], r"gave an output of shape \(2, 2\), but dL/dy has shape \(1, 2\)"),
    "several for one": (ONE, (STATE, STATE), r"gave an output of shape \(2, 2\), but dL/dy has shape \(2, 2, 2\)"),
    "one for several": (SEVERAL, STATE, r"must be a tuple of 3, not all None, like its output, not (an )?array"),
    "too few": (SEVERAL, (STATE, STATE), "must be a tuple of 3, not all None, like its output, not 2 of them"),
    "too many": (SEVERAL, (STATE,) * 4, "must be a tuple of 3, not all None, like its output, not 4 of them"),
    "None only": (SEVERAL, (None, None, None), r"must be a tuple of 3, .*, not \(None, None, None\)"),
    "a state's shape": (SEVERAL, (None, STATE.T[:1], None), r"of shape \(2, 2\), but dL/dy has shape \(1, 2\)"),
    "too many for both": (
        lambda: Bidirectional(LSTM(2), merge_mode=None),
        (STATE,) * 3,
        "dL/dy of bidirectional must be a tuple of 2, .*, not 3 of them",
    ),
}


@pytest.mark.parametrize(("make", "dy", "match"), WRONG_GRADIENTS.values(), ids=WRONG_GRADIENTS)
def test_gradients_that_do_not_fit_the_output(make, dy, match):
    layer = make()
    _, cache = layer.forward(SERIES)
    with refused(ValueError, match):
        layer.backward(dy, cache)


@pytest.mark.parametrize("need", [(True,), (True, False, True)])
def test_what_is_needed_of_too_few_or_many_inputs(need):
    inputs = [Input((3,)), Input((3,))]
    model = Model(inputs, Dense(1)(Concatenate()(inputs)))
    y, cache = model.forward([X, X])
    with refused(ValueError, "need of functional must be True, False, or a list with one of them for each input"):
        model.backward(y, cache, need)


# --- networks ---------------------------------------------------------------------------------------------------------


def test_a_layer_at_two_places_whose_inputs_differ():
    words, shared = Input((3,)), Dense(2)
    with refused(ValueError, r"dense is used on inputs of different shapes, \(3,\) and \(2,\): make another"):
        Model(words, shared(shared(words)))


def test_two_layers_of_one_name_in_a_network():
    words = Input((3,))
    network = Network([words], [Dense(1, name="mine")(Dense(1, name="mine")(words))])
    with refused(ValueError, "two of the layers of network are named 'mine'; give each a different name"):
        network(X)


def two_inputs():
    inputs = [Input((3,)), Input((2,))]
    model = Model(inputs, Dense(1)(Concatenate()(inputs)), seed=0)
    model.compile("sgd", "mse")
    return model


USES = {
    "fit": lambda model, x: model.fit(x, Y, verbose=0),
    "validation": lambda model, x: model.fit([X, X[:, :2]], Y, validation_data=(x, Y), verbose=0),
    "train_on_batch": lambda model, x: model.train_on_batch(x, Y),
    "evaluate": lambda model, x: model.evaluate(x, Y, verbose=0),
    "predict": lambda model, x: model.predict(x, verbose=0),
}
FORWARD = {"forward": Model.forward, "call": Model.__call__}
every_use = pytest.mark.parametrize("use", (USES | FORWARD).values(), ids=USES | FORWARD)


@every_use
@pytest.mark.parametrize(
    ("x", "came"), [(X, "array"), ([X], "1 of them"), ([X, X, X], "3 of them"), (None, "None"), ("ab", "'ab'")]
)
def test_another_number_of_inputs(use, x, came):
    model = two_inputs()
    before = model.get_weights()
    with refused(ValueError, f"x (of functional )?must be a list of 2 arrays, one for each input.*, not .*{came}"):
        use(model, x)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True))


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_different_numbers_of_samples_in_the_inputs(use):
    with refused(ValueError, r"x must hold the same number of samples for each input, not \[4, 3\]"):
        use(two_inputs(), [X, X[:3, :2]])


@pytest.mark.parametrize("use", FORWARD.values(), ids=FORWARD)
def test_different_batches_in_the_inputs(use):
    with refused(ValueError, r"concatenate takes inputs with the same batch size, but got shapes \(4, 3\), \(3, 2\)"):
        use(two_inputs(), [X, X[:3, :2]])
    with refused(TypeError, "concatenate takes numbers, but the input has dtype <U2"):
        use(two_inputs(), [X, "no"])


@every_use
def test_an_input_of_another_shape(use):
    with refused(ValueError, r"takes inputs of shape \(None, 2\) for 'input_layer_1', but got \(None, 3\)"):
        use(two_inputs(), [X, X])


# --- layers of one's own ----------------------------------------------------------------------------------------------

OLD = {
    "training": {"forward": lambda self, x, training=False: x},
    "mask and training": {"forward": lambda self, x, mask=None, training=False: x},
    "positional": {"forward": lambda self, x, *args: x},
    "keywords": {"forward": lambda self, x, **kwargs: x},
    "everything": {"forward": lambda self, *args, **kwargs: args},
    "without x": {"forward": lambda self: None},
    "backward(dy)": {"forward": lambda self, x: (x, None), "backward": lambda self, dy: dy},
    "backward of states": {"backward": lambda self, dy, *d_states: dy},
    "backward with keywords": {"backward": lambda self, dy, cache, **kwargs: dy},
    "backward without dy": {"backward": lambda self: None},
    "infer with training": {"infer": lambda self, x, training=False: x},
    "Keras' call": {"call": lambda self, inputs: inputs},
}


@pytest.mark.parametrize("base", [Layer, Dense, LSTM, Embedding])
@pytest.mark.parametrize("methods", OLD.values(), ids=OLD)
def test_a_layer_of_another_contract_is_refused_when_it_is_defined(methods, base):
    with refused(TypeError, r"^Mine defines \w+\(.*\), .* a layer defines forward\(x\) -> .* backward\(dy, cache\)"):
        type("Mine", (base,), methods)


def own(forward=lambda self, x: (x * self.params["w"], x), backward=None):
    """A layer with a parameter `w` and these methods."""
    specs = {"param_specs": lambda self, shape: {"w": (shape, Ones())}}
    return type("Mine", (Layer,), specs | {"forward": forward} | ({"backward": backward} if backward else {}))()


WRONG_FORWARDS = {
    "y alone": (lambda self, x: x, "must return y and a cache, not ndarray"),
    "nothing": (lambda self, x: None, "must return y and a cache, not NoneType"),
    "three": (lambda self, x: (x, x, x), "must return y and a cache, not tuple"),
    "no array": (lambda self, x: (None, x), "must return an array and a cache, not None for y"),
    "a list": (lambda self, x: ([1.0], x), r"must return an array and a cache, not \[1.0\] for y"),
}


@pytest.mark.parametrize(("forward", "match"), WRONG_FORWARDS.values(), ids=WRONG_FORWARDS)
def test_an_own_forward_that_gives_something_else(forward, match):
    with refused(TypeError, f"^forward of mine {match}"):
        own(forward).forward(X)
    with refused(TypeError, f"^forward of mine {match}"):
        Sequential([own(forward)]).predict(X, verbose=0)


WRONG_BACKWARDS = {
    "dx alone": (lambda self, dy, cache: dy, TypeError, "^backward of mine must return dx and a dict of gradients"),
    "dx of two rows": (lambda self, dy, cache: dy[:2], TypeError, "^backward of mine must return dx and a dict"),
    "a list": (lambda self, dy, cache: (dy, [dy]), TypeError, "^backward of mine must return dx and a dict"),
    "another name": (
        lambda self, dy, cache: (dy, {"kernel": dy.sum(0)}),
        ValueError,
        "^backward returned gradients of mine/kernel, which are not parameters",
    ),
    "another shape": (
        lambda self, dy, cache: (dy, {"w": dy}),
        ValueError,
        r"^mine/w has shape \(3,\), but backward returned a gradient of shape \(4, 3\)",
    ),
    "a number": (lambda self, dy, cache: (dy, {"w": 1.0}), ValueError, r"backward returned a gradient of shape \(\)"),
    "None": (lambda self, dy, cache: (dy, {"w": None}), ValueError, "^backward returned no gradient of mine/w"),
    "another dx": (
        lambda self, dy, cache: (dy[:, :2], {"w": dy.sum(0)}),
        ValueError,
        r"^dense gave an output of shape \(4, 3\), but dL/dy has shape \(4, 2\)",
    ),
}


@pytest.mark.parametrize(("backward", "error", "match"), WRONG_BACKWARDS.values(), ids=WRONG_BACKWARDS)
def test_an_own_backward_that_gives_something_else(backward, error, match):
    model = Sequential([Input((3,)), Dense(3), own(backward=backward), Dense(1)], seed=0)
    model.compile("sgd", "mse")
    before = model.get_weights()
    with refused(error, match):
        model.fit(X, Y, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True))


def test_a_layer_without_backward_predicts_but_does_not_train():
    model = Sequential([Input((3,)), own()], seed=0)
    model.compile("sgd", "mse")
    assert np.array_equal(model.predict(X, verbose=0), X)
    with refused(NotImplementedError, r"Mine must define backward\(dy, cache\) to be trained: a layer defines"):
        model.fit(X, X, verbose=0)


# --- a pass of one's own around one of ours ---------------------------------------------------------------------------


def halved(base):
    def forward(self, x):
        y, cache = base.forward(self, x)
        return y / 2, cache

    def backward(self, dy, cache):
        return base.backward(self, dy / 2, cache)

    return type("Halved", (base,), {"forward": forward, "backward": backward})


LASTS = {
    "Dense": lambda: [halved(Dense)(1, "sigmoid")],
    "Activation": lambda: [Dense(1), halved(Activation)("sigmoid")],
    "linear": lambda: [Dense(1, "sigmoid"), halved(Activation)("linear")],
    "Dropout": lambda: [Dense(1, "sigmoid"), halved(Dropout)(0.0)],
}


@pytest.mark.parametrize("make", LASTS.values(), ids=LASTS)
def test_a_loss_does_not_look_through_a_pass_that_it_does_not_know(make):
    """It sees the half, and no logits of the whole."""
    model = Sequential([Input((3,)), *make()], seed=0)
    model.compile("sgd", "binary_crossentropy")
    expected = -np.log(np.where(Y[:, None] == 1, p := model.predict(X, verbose=0), 1 - p)).mean()
    before = model.get_weights()
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(expected, rel=1e-5)
    assert model.train_on_batch(X, Y) == pytest.approx(expected, rel=1e-5)
    assert not np.array_equal(model.get_weights()[0], before[0])
