"""How exact float32 is: each implementation against the textbook in float64.

    python tests/benchmarks/accuracy.py

Norm-relative differences of outputs and gradients, the largest over several shapes; and the largest relative error of a
gate that is nearly shut, σ(z) from 1e-8 to 1e-5.
"""

import numpy as np

from scratchlstm import layers

SHAPES = ((128, 100, 128, 60), (8, 1000, 20, 32), (32, 48, 7, 64), (1, 100, 32, 64), (32, 100, 300, 512))


def layer(H, implementation, dtype, parameters):
    made = layers.LSTM(H, return_sequences=True, return_state=True, implementation=implementation, dtype=dtype)
    made.build((None, parameters[0].shape[0]))
    made.set_weights(parameters)
    return made


def outputs_and_gradients(sizes, implementation, dtype):
    """hs, h, c, dx, and the gradients of the parameters; one random gradient on every h."""
    (B, T, E, H), rng = sizes, np.random.default_rng(0)
    parameters = [rng.normal(0, scale, shape) for shape, scale in (((E, 4 * H), E**-0.5), ((H, 4 * H), H**-0.5))]
    x, dhs = rng.normal(size=(B, T, E)), rng.normal(size=(B, T, H))
    lstm = layer(H, implementation, dtype, [*parameters, rng.normal(size=4 * H)])
    outputs, cache = lstm.forward(x.astype(dtype))
    dx, gradients = lstm.backward((dhs.astype(dtype), None, None), cache)
    return [*outputs, dx, *gradients.values()]


def shut_gate(implementation, dtype):
    """σ(z) as the layer computes it: c of a single step whose g is 1."""
    z = np.linspace(-18.4, -11.5, 1000).astype("float32")
    W, b = np.array([[1.0, 0, 0, 0]]), np.array([0.0, 0, 30, 0])
    return layer(1, implementation, dtype, [W, np.zeros((1, 4)), b])(z.reshape(-1, 1, 1).astype(dtype))[2]


def main():
    exact = [outputs_and_gradients(sizes, "textbook", "float64") for sizes in SHAPES]
    print("| float32 | outputs and gradients | a gate below 1e-5 |\n|---|---|---|")
    for implementation in ("textbook", "numpy", "compiled"):
        differences = [
            np.linalg.norm(found - right) / np.linalg.norm(right)
            for sizes, of_exact in zip(SHAPES, exact, strict=True)
            for found, right in zip(outputs_and_gradients(sizes, implementation, "float32"), of_exact, strict=True)
        ]
        error = np.max(np.abs(shut_gate(implementation, "float32") / shut_gate("textbook", "float64") - 1))
        print(f"| {implementation} | {max(differences):.1e} | {error:.1e} |")


if __name__ == "__main__":
    main()
