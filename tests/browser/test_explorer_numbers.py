"""The numbers that the explorer page opens: each one is the sum it shows, and knows what is computed from it."""

import numpy as np
import pytest

from scratchlstm import Sequential
from scratchlstm.inspection import explore
from scratchlstm.layers import LSTM, Dense, Embedding

WORD_INDEX = {f"w{rank}": rank for rank in range(1, 13)}
TEXT = ["w4", "w2", "w8", "w2", "w1", "w4"]  # words come twice, so that dE is a sum


def _model(seed, dtype="float64", outputs=1, length=None, **options):
    """An LSTM with random weights: no two of its numbers are equal."""
    rng = np.random.default_rng(seed)
    activation, loss = {1: ("sigmoid", "binary_crossentropy"), 3: ("softmax", "sparse_categorical_crossentropy")}[outputs]
    mask_zero = options.pop("mask_zero", False)
    activation, loss = options.pop("head", (activation, loss))
    model = Sequential(
        [
            Embedding(16, 3, input_shape=(length,), mask_zero=mask_zero, dtype=dtype),
            LSTM(4, dtype=dtype, **options),
            Dense(outputs, activation=activation, dtype=dtype),
        ]
    )
    model.compile("adam", loss)
    model.set_weights([rng.normal(size=weight.shape).astype(dtype) for weight in model.get_weights()])
    return model


MODELS = {
    "plain": {},
    "masked": {"length": 9, "mask_zero": True},
    "padding is read": {"length": 9},
    "backwards": {"go_backwards": True, "length": 9, "mask_zero": True},
    "softmax": {"outputs": 3},
    "float32, no bias": {"dtype": "float32", "use_bias": False},
    "squared": {"head": (None, "mse"), "label": [0.3]},
    "two outputs": {"outputs": 3, "head": ("sigmoid", "binary_crossentropy"), "label": [1, 0, 1]},
    "no label": {"head": (None, "mse")},
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("numbers")
    for seed, (name, options) in enumerate(MODELS.items()):
        label = options.get("label")
        model = _model(seed, **{key: value for key, value in options.items() if key != "label"})
        explore(model, TEXT, folder / f"{name}.html", word_index=WORD_INDEX, label=label)
    return folder


# changes of the run, as a reader makes them
CHANGES = {
    "as it is": "experiment",
    "gates held": "({ ...experiment, held: [{ gate: 'f', unit: null, value: 1 }, { gate: 'g', unit: 2, value: 0 }] })",
    "nudged": """[['z_f', 1], ['f', 1], ['g', 2], ['i', 3], ['c', 0], ['h', 3], ['x', 1], ['logit', 0], ['E', 0], ['U', 0]].reduce(
        (tried, [name, unit]) => shifted(
            tried, at(name, { step: 3, unit, feature: unit % 3, output: 0, row: 1, gate: 'o', from: 2 }), 0.1),
        { ...experiment, held: [{ gate: 'o', unit: 3, value: 1 }] })""",
}

EVERY_NUMBER = """tried => {
    experiment = tried;
    const pass = current();
    const key = q => JSON.stringify(q, Object.keys(q).sort());
    const bare = ({ of, text, ...q }) => q;
    const uses = new Map(), wrong = [], todo = [];
    const see = q => { if (!uses.has(key(q))) { uses.set(key(q), new Set()); todo.push(q); } };
    pass.rows.forEach(row => see(at('E', { row, feature: 0 })));
    const everything = [];
    while (todo.length) {
        const q = todo.pop();
        everything.push(q);
        const value = valueOf(pass, q);
        if (!Number.isFinite(value)) wrong.push(['not finite', key(q), value]);
        const sources = sourcesOf(pass, q);
        if (sources) {
            const sum = resultOf(pass, sources);
            if (!(Math.abs(sum - value) <= 1e-12 * Math.max(1, Math.abs(value)))) wrong.push(['sum', key(q), sum, value]);
            for (const factor of sources.terms.flat().filter(factor => 'name' in factor)) {
                see(bare(factor));
                uses.get(key(bare(factor))).add(key(q));
            }
        }
        usesOf(pass, q).forEach(see);
    }
    for (const q of everything) {
        const said = new Set(usesOf(pass, q).map(key));
        if (said.size !== usesOf(pass, q).length) wrong.push(['twice', key(q)]);
        for (const use of uses.get(key(q)).difference(said)) wrong.push(['not in to', key(q), use]);
        for (const use of said.difference(uses.get(key(q)))) wrong.push(['only in to', key(q), use]);
    }
    return [everything.map(({ name }) => name), wrong.slice(0, 5)];
}"""


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", MODELS)
def test_every_number_is_the_sum_of_its_terms_and_uses_are_the_inverse_of_sources(window, pages, name, change):
    page = window(pages / f"{name}.html")
    names, wrong = page.evaluate(f"({EVERY_NUMBER})({CHANGES[change]})")
    assert not wrong
    expected = set(page.evaluate("Object.keys(QUANTITIES)"))
    expected -= set() if name == "softmax" else {"total"}
    if name == "no label":
        expected = {of for of in expected if not of.startswith("d")} - {"loss", "y"}
    assert set(names) == expected
