"""Numbers that others have published: the ONNX project's node tests for LSTM, and the literals in Keras' own tests.

Nearly all of them use weights that are all equal, which cannot tell gates apart; `test_frozen_tensorflow.py` can.
"""

from importlib import import_module
from typing import NamedTuple

import numpy as np
import pytest
from implementations import IMPLEMENTATIONS

from scratchlstm.layers import LSTM

implementations = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)


def run(weights, x, implementation, states=None, **options):
    """[every h_t, last h, last c] of an LSTM with these weights."""
    layer = LSTM(
        weights[1].shape[0],
        return_sequences=True,
        return_state=True,
        implementation=implementation,
        dtype="float32",
        **options,
    )
    layer.build(x.shape[1:])
    layer.set_weights(weights)
    return layer(x, initial_state=states)


# --- ONNX -------------------------------------------------------------------------------------------------------------


class Node(NamedTuple):
    name: str
    attributes: dict
    inputs: dict  # by the names in ONNX' operator page
    outputs: dict


SUPPORTED_ATTRIBUTES = {"hidden_size", "direction", "layout"}
SUPPORTED_INPUTS = {"X", "W", "R", "B"}


def onnx_nodes():
    """Every LSTM case that the installed onnx has."""
    pytest.importorskip("onnx", reason="onnx is not installed: its LSTM vectors are NOT checked")
    from onnx.backend.test.case import node as operators
    from onnx.helper import get_attribute_value

    with pytest.MonkeyPatch.context() as patch:
        # an operator's cases are computed on import: those of all others would take half a minute
        patch.setattr(operators, "import_recursive", lambda package: import_module(f"{package.__name__}.lstm"))
        cases = operators.collect_testcases("LSTM")
    for case in cases:
        node, (inputs, outputs) = case.model.graph.node[0], case.data_sets[0]
        if node.op_type == "LSTM":
            attributes = {attribute.name: get_attribute_value(attribute) for attribute in node.attribute}
            named = [name for name in node.output if name]
            yield Node(
                case.name,
                attributes,
                dict(zip((name for name in node.input if name), inputs, strict=True)),
                dict(zip(named, outputs, strict=True)),
            )


@pytest.fixture(scope="module")
def nodes():
    return list(onnx_nodes())


def is_supported(node):
    return set(node.attributes) <= SUPPORTED_ATTRIBUTES and set(node.inputs) <= SUPPORTED_INPUTS


def keras_weights(node, direction):
    """ONNX has rows i o f c and two biases; Keras columns i f c o and one."""

    def reorder(rows):
        i, o, f, g = np.split(rows, 4)
        return np.concatenate([i, f, g, o])

    W, R = node.inputs["W"][direction], node.inputs["R"][direction]
    B = node.inputs["B"][direction] if "B" in node.inputs else np.zeros(2 * len(W), dtype=W.dtype)
    return [reorder(W).T, reorder(R).T, reorder(np.add(*np.split(B, 2)))]


def answer(node, implementation):
    """Y, Y_h and Y_c as ONNX lays them out."""
    batch_first = node.attributes.get("layout", 0) == 1
    x = node.inputs["X"] if batch_first else node.inputs["X"].swapaxes(0, 1)
    backwards = {b"forward": [False], b"reverse": [True], b"bidirectional": [False, True]}
    Y, Y_h, Y_c = [], [], []
    for number, flip in enumerate(backwards[node.attributes.get("direction", b"forward")]):
        hs, h, c = run(keras_weights(node, number), x[:, ::-1] if flip else x, implementation)
        Y.append(hs[:, ::-1] if flip else hs)
        Y_h.append(h)
        Y_c.append(c)
    time_first = np.stack(Y).transpose(2, 0, 1, 3)  # (T, directions, B, H)
    states = [np.stack(state) for state in (Y_h, Y_c)]  # (directions, B, H)
    if batch_first:
        time_first, states = time_first.transpose(2, 0, 1, 3), [state.swapaxes(0, 1) for state in states]
    return dict(zip(("Y", "Y_h", "Y_c"), (time_first, *states), strict=True))


@implementations
def test_onnx_node_vectors(nodes, implementation):
    for node in filter(is_supported, nodes):
        ours = answer(node, implementation)
        for name, theirs in node.outputs.items():
            np.testing.assert_allclose(ours[name], theirs, rtol=1e-5, atol=1e-6, err_msg=f"{node.name}, {name}")


def test_no_onnx_case_is_left_out_unseen(nodes):
    """Peepholes (gates that see the cell) exist neither in Keras nor here."""
    left_out = {node.name for node in nodes if not is_supported(node)}
    assert left_out == {"test_lstm_with_peepholes"}, "onnx has LSTM cases with inputs or attributes not covered here"
    assert {"test_lstm_defaults", "test_lstm_with_initial_bias", "test_lstm_batchwise"} <= {node.name for node in nodes}


# --- Keras' lstm_test.py ----------------------------------------------------------------------------------------------
# Its cases with a mask wait for masks here.


def constant_weights(features, units, bias=0.03, forget_bias=1.0):
    """kernel 0.01, recurrent kernel 0.02, and the bias as the options leave it."""
    weights = [np.full((rows, 4 * units), value, "float32") for rows, value in ((features, 0.01), (units, 0.02))]
    if bias is None:
        return weights
    return [*weights, np.repeat(np.array([bias, forget_bias, bias, bias], "float32"), units)]


def ramp(*shape):
    return np.arange(np.prod(shape), dtype="float32").reshape(shape)


def rows(values, units):
    """Rows that hold one number each."""
    return np.repeat(np.array(values)[:, None], units, axis=1)


def assert_published(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@implementations
@pytest.mark.parametrize(
    ("options", "weights", "step", "published"),
    [
        ({}, {}, 1, [0.6288687, 0.86899155, 0.9460773]),
        ({}, {}, -1, [0.35622165, 0.74789524, 0.8872726]),
        ({"unit_forget_bias": False}, {"forget_bias": 0.03}, 1, [0.57019705, 0.8661914, 0.9459622]),
        ({"use_bias": False}, {"bias": None}, 1, [0.54986924, 0.86226785, 0.9443936]),
    ],
    ids=["defaults", "backwards", "no unit_forget_bias", "no bias"],
)
def test_keras_options(options, weights, step, published, implementation):
    """The layer makes these weights by itself, too, from Keras' constant initializers."""
    constants = {"kernel_initializer": 0.01, "recurrent_initializer": 0.02, "bias_initializer": 0.03}
    described = {
        argument: {"class_name": "Constant", "config": {"value": value}} for argument, value in constants.items()
    }
    layer = LSTM(3, implementation=implementation, **options, **described)
    x = ramp(3, 6, 4)[:, ::step]
    assert_published(layer(x), rows(published, 3))
    _, last, _ = run(constant_weights(4, 3, **weights), x, implementation, use_bias="bias" not in weights)
    assert_published(last, rows(published, 3))


@implementations
def test_keras_statefulness(implementation):
    """The second call starts from the states that the first one returned."""
    weights, x = constant_weights(4, 4), ramp(2, 3, 4)
    _, *states = run(weights, x, implementation)
    _, last, _ = run(weights, x, implementation, states)
    assert_published(last, rows([0.3124785, 0.6863672], 4))


@implementations
@pytest.mark.parametrize(
    ("step", "published"),
    [
        (1, [[0.20574439, 0.3558822], [0.64930826, 0.66276]]),
        (-1, [[0.13281618, 0.2790356], [0.5839337, 0.5992567]]),
    ],
    ids=["forwards", "backwards"],
)
def test_keras_initial_state(step, published, implementation):
    states = [ramp(2, 2), ramp(2, 2)]
    _, last, _ = run(constant_weights(3, 2), ramp(2, 4, 3)[:, ::step], implementation, states)
    assert_published(last, published)
