"use strict";

// What Python wrote into the page, with its arrays unpacked.

const data = JSON.parse(document.getElementById("data").textContent);
const GATES = ["i", "f", "g", "o"]; // Keras' order, that of the columns of W, U and b
const RUNS = data.cannot_run === null; // whether the page runs the model itself, see recomputed.py

/** An array of doubles from base64 behind the letter of its precision, see packing.py. */
function unpacked(text) {
  const bytes = Uint8Array.from(atob(text.slice(1)), (letter) => letter.charCodeAt(0)).buffer;
  return Float64Array.from(text[0] === "d" ? new Float64Array(bytes) : new Float32Array(bytes));
}

const unpackedAll = (texts) => Object.fromEntries(Object.entries(texts).map(([name, text]) => [name, unpacked(text)]));

/** The weights at each snapshot, E (rows, E), W (E, 4H), U (H, 4H), b (4H), w (H, D), w_b (D); last the model's own. */
const snapshots = RUNS ? data.snapshots.map(([label, weights]) => ({ label, weights: unpackedAll(weights) })) : [];

/** id -> its row in E */
const rowOf = new Map(RUNS ? data.ids.map((id, row) => [id, row]) : []);

/** What Python recorded of each LSTM, for a page that cannot run the model. */
const recordings = RUNS
  ? []
  : data.layers.map((layer) => ({ ...layer, b: unpacked(layer.b), arrays: unpackedAll(layer.arrays) }));
