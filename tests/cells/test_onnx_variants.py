"""Peepholes and a coupled input gate as ONNX Runtime has them in its LSTM."""

import itertools

import numpy as np
import pytest

from scratchlstm.cells import CoupledLSTMCell, LSTMCell, PeepholeLSTMCell
from scratchlstm.layers import RNN

onnx = pytest.importorskip("onnx", reason="onnx is not installed here: its LSTM is NOT compared")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed here: its LSTM is NOT compared")

B, T, E, H = 3, 5, 4, 2


def of_onnx(x, h0, c0, W, U, b, p, coupled):
    """Y, Y_h and Y_c of an ONNX LSTM with kernels whose columns are in its order i o f g."""
    b = np.concatenate([b, np.zeros(4 * H)])
    tensors = {"W": W.T[None], "R": U.T[None], "B": b[None], "h": h0[None], "c": c0[None], "P": p.reshape(1, 3 * H)}
    constants = [onnx.numpy_helper.from_array(each.astype("float32"), name) for name, each in tensors.items()]
    inputs = ["x", "W", "R", "B", "", "h", "c", "P"]
    node = onnx.helper.make_node("LSTM", inputs, ["Y", "Yh", "Yc"], hidden_size=H, input_forget=int(coupled))
    described = [onnx.helper.make_tensor_value_info(name, 1, None) for name in ("x", "Y", "Yh", "Yc")]
    graph = onnx.helper.make_graph([node], "lstm", described[:1], described[1:], constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    hs, h, c = session.run(None, {"x": x.transpose(1, 0, 2)})
    return hs[:, 0].transpose(1, 0, 2), h[0], c[0]


class CoupledPeepholeLSTMCell(PeepholeLSTMCell):
    """Both at once, forward: f = 1 - i."""

    def forward(self, x, h_in, c_prev, W, U, b, p):
        def peephole_f(block):  # z_f + p_f c_prev = -(z_i + p_i c_prev), so that f = 1 - i
            i, _, g, o = self.split(block)
            return np.concatenate([i, -i, g, o], axis=-1)

        p = np.stack([p[0], -p[0], p[2]])
        return super().forward(x, h_in, c_prev, peephole_f(W), peephole_f(U), peephole_f(b), p)


@pytest.mark.parametrize(("coupled", "peepholes"), [*itertools.product([False, True], repeat=2)])
def test_outputs_are_those_of_onnx_runtime(coupled, peepholes):
    rng = np.random.default_rng(0)
    cell = {
        (False, False): LSTMCell, (True, False): CoupledLSTMCell,
        (False, True): PeepholeLSTMCell, (True, True): CoupledPeepholeLSTMCell,
    }[coupled, peepholes](H)  # fmt: skip
    layer = RNN(cell, return_sequences=True, return_state=True)
    layer.build((T, E), rng)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    x, h0, c0 = (rng.normal(size=shape).astype("float32") for shape in ((B, T, E), (B, H), (B, H)))
    W, U, b, *p = layer.params.values()
    gates = "igo" if coupled and not peepholes else "ifgo"

    def in_their_order(columns):
        own = dict(zip(gates, np.split(columns, len(gates), axis=-1), strict=True))
        return np.concatenate([own["i"], own["o"], own.get("f", 7 + 0 * own["i"]), own["g"]], axis=-1)

    p = p[0][[0, 2, 1]] if peepholes else np.zeros((3, H))  # i o f
    theirs = of_onnx(x, h0, c0, *(in_their_order(each) for each in (W, U, b)), p, coupled)
    for found, answer in zip(layer(x, initial_state=[h0, c0]), theirs, strict=True):
        np.testing.assert_allclose(found, answer, rtol=0, atol=1e-6)
