"""How fast an encoder with a decoder is on this CPU, against Keras on TensorFlow: training, and writing sequences.

    python tests/benchmarks/seq2seq.py                 without and with attention, a few minutes
    python tests/benchmarks/seq2seq.py --rounds 1      a quick look

Batches of 64 texts of up to 25 characters, masked where they are padded, to 11 characters; embeddings of 32, LSTMs of
128 units. Decoding writes 1,000 sequences greedily, the encoder included. Keras does that in three ways: all steps
in one compiled function, which calls the decoder's cell; the same compiled by XLA; and `predict_on_batch` of a model
of one step, eleven times. All contenders have the same weights, and have to write the same.

Contenders are processes that take turns; medians are compared. Needs the extra `bench`.
"""

import argparse
import json
import os
import sys
import time
from statistics import median

import numpy as np
from contenders import timed_fit

B, T_IN, T_OUT, E, H = 64, 25, 11, 32, 128
READ, WRITTEN = 43, 12  # how many ids there are
DECODED = 1000


def texts(count, seed=0):
    """Ids to read, (N, T_IN), padded with 0 at the end, to write, and the same one step later, (N, T_OUT)."""
    rng = np.random.default_rng(seed)
    read = rng.integers(1, READ, size=(count, T_IN))
    read[np.arange(T_IN) >= rng.integers(8, T_IN + 1, size=(count, 1))] = 0
    read[0] = 1  # which is as long as any
    written = rng.integers(1, WRITTEN, size=(count, T_OUT + 1))
    written[:, [0, -1]] = 0
    return read.astype("int32"), written[:, :-1].astype("int32"), written[:, 1:].astype("int32")


def build(library, attention):
    """The same model from the names of this package and of Keras."""
    layers = library.layers
    text, so_far = layers.Input((None,), name="text"), layers.Input((None,), name="so_far")
    letters = layers.Embedding(READ, E, mask_zero=True, name="letters")(text)
    read, *states = layers.LSTM(H, return_sequences=True, return_state=True, name="reader")(letters)
    digits = layers.Embedding(WRITTEN, E, name="digits")(so_far)
    h, *_ = layers.LSTM(H, return_sequences=True, return_state=True, name="writer")(digits, initial_state=states)
    if attention:
        h = layers.Concatenate(name="both")([h, layers.Attention(name="attention")([h, read])])
    p = layers.Dense(WRITTEN, activation="softmax", name="next")(h)
    model = library.Model([text, so_far], p)
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def weights(model):
    """Random ones, large enough that what is written varies."""
    rng = np.random.default_rng(0)
    return [rng.normal(scale=0.3, size=w.shape).astype("float32") for w in model.get_weights()]


class Contender:
    """A model and how it trains."""

    def __init__(self, library, attention, **fit):
        self.model, self.callback, self.fit = build(library, attention), library.callbacks.Callback, fit
        self.model.set_weights(weights(self.model))
        self.layers = {layer.name: layer for layer in self.model.layers}

    def train(self, steps):
        """Seconds of an epoch of so many steps, the second of two."""
        *x, y = texts(B * steps)
        return timed_fit(self.model, self.callback, x, y, B, 2, **self.fit)[-1]

    def decode(self):
        """Seconds, and the sum of what was written, weighted so that an order counts."""
        x, *_ = texts(DECODED, seed=1)
        start = time.perf_counter()
        ids = self.write(x)
        seconds = time.perf_counter() - start
        return seconds, int(np.sum(np.asarray(ids) * np.arange(1, T_OUT + 1)))


class Ours(Contender):
    """This package, with two workers in training."""

    def __init__(self, attention):
        import scratchlstm

        super().__init__(scratchlstm, attention, workers=2)

    def write(self, x):
        from scratchlstm.models.decoding import greedy

        layers, mask = self.layers, x > 0
        read, *states = layers["reader"](layers["letters"](x), mask=mask)

        def step(given):
            tokens, *states = given
            h, *states = layers["writer"](layers["digits"](tokens), initial_state=states)
            if "attention" in layers:
                h = layers["both"]([h, layers["attention"]([h, read], mask=[None, mask])])
            return [layers["next"](h), *states]

        return greedy(step, 0, states, T_OUT)[0]


class Keras(Contender):
    """Keras on TensorFlow; decoding in one compiled function."""

    def __init__(self, attention, jit=False):
        import keras
        import tensorflow as tf

        super().__init__(keras, attention)
        layers = self.layers

        @tf.function(jit_compile=jit)
        def write(x):
            mask = tf.not_equal(x, 0)
            read, h, c = layers["reader"](layers["letters"](x), mask=mask)
            tokens, ids = tf.zeros(len(x), tf.int32), []
            for _ in range(T_OUT):
                out, (h, c) = layers["writer"].cell(layers["digits"](tokens), [h, c])
                if "attention" in layers:
                    seen = layers["attention"]([out[:, None], read], mask=[None, mask])[:, 0]
                    out = tf.concat([out, seen], axis=1)
                tokens = tf.argmax(layers["next"](out), axis=1, output_type=tf.int32)
                ids.append(tokens)
            return tf.stack(ids, axis=1)

        self.write = lambda x: write(tf.constant(x)).numpy()


class KerasStepwise(Contender):
    """Keras on TensorFlow; `predict_on_batch` for the encoder, then for each step."""

    def __init__(self, attention):
        import keras

        super().__init__(keras, attention)
        layers, inputs = self.layers, keras.layers.Input
        text, token, h, c = inputs((T_IN,)), inputs((1,)), inputs((H,)), inputs((H,))
        self.encoder = keras.Model(text, layers["reader"](layers["letters"](text)))
        read, mask = inputs((T_IN, H)), inputs((T_IN,), dtype="bool")
        out, *states = layers["writer"](layers["digits"](token), initial_state=[h, c])
        given = [token, h, c]
        if attention:
            given += [read, mask]
            out = layers["both"]([out, layers["attention"]([out, read], mask=[None, mask])])
        self.step = keras.Model(given, [layers["next"](out), *states])

    def write(self, x):
        read, *states = self.encoder.predict_on_batch(x)
        constant = [read, x > 0] if "attention" in self.layers else []
        tokens, ids = np.zeros((len(x), 1), "int32"), []
        for _ in range(T_OUT):
            p, *states = self.step.predict_on_batch([tokens, *states, *constant])
            tokens = p[:, 0].argmax(axis=1)[:, None]
            ids.append(tokens)
        return np.concatenate(ids, axis=1)


KINDS = {
    "scratchlstm": Ours,
    "Keras, one function": Keras,
    "Keras, one function, XLA": lambda attention: Keras(attention, jit=True),
    "Keras, predict_on_batch": KerasStepwise,
}
TRAINED = "scratchlstm", "Keras, one function"


def serve(setup):
    """Answer each line of standard input, a command in JSON, by a line of JSON."""
    contender = KINDS[setup["kind"]](setup["shape"]["attention"])
    replies, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        command = json.loads(line)
        answer = contender.train(command["steps"]) if command["do"] == "train" else contender.decode()
        print(json.dumps(answer), file=replies, flush=True)


def compare(attention, rounds, steps):
    """Lines of a table in Markdown."""
    from cpu import Contender as Process
    from cpu import spread

    running = {kind: Process(kind, {"attention": attention}, script=__file__, kind=kind) for kind in KINDS}
    training, decoding = ({kind: [] for kind in kinds} for kinds in (TRAINED, KINDS))
    written = set()
    for turn in range(rounds + 1):  # before any training, so that all have the same weights
        for kind, process in running.items():
            for _ in range(3):
                seconds, checksum = process.ask(do="decode")
                written.add(checksum)
                decoding[kind] += [1e3 * seconds] if turn else []  # the first round warms up
    assert len(written) == 1, "the contenders do not write the same"
    for turn in range(rounds + 1):
        for kind in TRAINED:
            seconds = running[kind].ask(do="train", steps=steps)
            training[kind] += [1e3 * seconds / steps] if turn else []
    for process in running.values():
        process.close()
    for what, results in (("training step", training), (f"decoding {DECODED:,}", decoding)):
        name = f"{what}, {'with' if attention else 'without'} attention"
        own = median(results["scratchlstm"])
        for kind, values in results.items():
            yield f"| {name} | {kind} | {spread(values)} | {own / median(values):.2f} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=60, help="training steps of a round")
    options = parser.parse_args()
    from cpu import machine

    print(f"{machine()}; medians of {options.rounds} rounds\n")
    print("| | | ms (range) | scratchlstm's in relation |\n|---|---|---|---|")
    for attention in (False, True):
        for line in compare(attention, options.rounds, options.steps):
            print(line, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if sys.argv[1:2] and sys.argv[1].startswith("{"):
        serve(json.loads(sys.argv[1]))
    else:
        main()
