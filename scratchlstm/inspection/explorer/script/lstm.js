"use strict";

// The model, run in the page: forward and backward as in scratchlstm/gates.py, for one text, in double precision.
//
// Arrays are flat, element (t, u) of (T, H) at t * H + u. A gate's columns in W, U and b begin at gate * H, in the order
// i f g o. `dims` are the sizes {H, E, D}. What an experiment changes of the run comes in `change`:
//   held:   [{gate, unit, value}]        the gate has this value at every step, or null: is free; unit null: in all units;
//                                        of several for one unit, the last counts
//   added:  [{name, step, unit, by}]     added to an x (unit: the feature), z_i ..., gate, c, h or logit of one step
// Changes of weights are made before, see `changedWeights`.

const sigmoid = (z) => 1 / (1 + Math.exp(-z));
const sigmoidSlope = (z) => sigmoid(z) * (1 - sigmoid(z)); // i (1 - i)
const tanhSlope = (z) => 1 - Math.tanh(z) ** 2;
const SLOPES = [sigmoidSlope, sigmoidSlope, tanhSlope, sigmoidSlope]; // of i f g o

/** What a pass computes at each step and unit. */
const STATES = ["z_i", "z_f", "z_g", "z_o", "i", "f", "g", "o", "c_prev", "h_prev", "c", "tanh_c", "h"];
const GRADIENTS = [
  "dh_above", "dh_next", "dh", "do", "dc_next", "dc", "di", "df", "dg", "dc_prev",
  "dz_i", "dz_f", "dz_g", "dz_o", "dh_prev",
];

const projections = new WeakMap(); // W -> {E, rows: row of E -> its x W}, which most runs share

/** x W of one row of E, (4H,). */
function projected(weights, row, { H, E }) {
  let known = projections.get(weights.W);
  if (known === undefined || known.E !== weights.E) {
    known = { E: weights.E, rows: new Map() };
    projections.set(weights.W, known);
  }
  if (!known.rows.has(row)) known.rows.set(row, timesMatrix(weights.E, row * E, E, weights.W, 4 * H));
  return known.rows.get(row);
}

/** v M for a row vector v of `size` elements from `start` on and M (size, columns). */
function timesMatrix(v, start, size, M, columns) {
  const product = new Float64Array(columns);
  for (let k = 0; k < size; k++) {
    const factor = v[start + k];
    if (factor === 0) continue;
    for (let column = 0, at = k * columns; column < columns; column++, at++) product[column] += factor * M[at];
  }
  return product;
}

/**
 * Equations (1) to (6) at every step, then the dense layer.
 *
 * rows: the row of E at each step; counts: whether the step counts, or is masked; label: one number for each output.
 */
function forward(weights, rows, counts, backwards, dims, head, label, change) {
  const { H, E, D } = dims;
  const T = rows.length;
  const pass = { weights, rows, counts, backwards, dims, head, T, change, label };
  for (const name of STATES) pass[name] = new Float64Array(T * H);
  pass.x = inputs(pass);
  pass.order = Array.from(rows, (_, step) => (backwards ? T - 1 - step : step)); // in which steps are computed
  const held = heldGates(change.held, H);
  const at = Map.groupBy(change.added, ({ step }) => step);
  let h = new Float64Array(H);
  let c = new Float64Array(H);
  for (const t of pass.order) {
    const added = at.get(t) ?? [];
    const xW = xTimesW(weights, rows[t], dims, added);
    const hU = timesMatrix(h, 0, H, weights.U, 4 * H);
    const add = (name, u) => addedTo(added, name, u);
    const next = { h: new Float64Array(H), c: new Float64Array(H) };
    for (let u = 0; u < H; u++) {
      const p = t * H + u;
      const z = GATES.map((gate, n) => xW[n * H + u] + hU[n * H + u] + weights.b[n * H + u] + add(`z_${gate}`, u));
      const gate = (n, activation) => (held[n][u] ?? activation(z[n])) + add(GATES[n], u);
      const i = gate(0, sigmoid); //                    (1)
      const f = gate(1, sigmoid); //                    (2)
      const g = gate(2, Math.tanh); //                  (3)
      const o = gate(3, sigmoid); //                    (4)
      const c_new = (counts[t] ? f * c[u] + i * g : c[u]) + add("c", u); // (5); a masked step leaves the states as they are
      const tanh_c = Math.tanh(c_new);
      const h_new = (counts[t] ? o * tanh_c : h[u]) + add("h", u); //      (6)
      pass.i[p] = i; pass.f[p] = f; pass.g[p] = g; pass.o[p] = o;
      [pass.z_i[p], pass.z_f[p], pass.z_g[p], pass.z_o[p]] = z;
      pass.c_prev[p] = c[u]; pass.h_prev[p] = h[u];
      pass.c[p] = next.c[u] = c_new; pass.tanh_c[p] = tanh_c; pass.h[p] = next.h[u] = h_new;
    }
    [h, c] = [next.h, next.c];
  }
  pass.last = pass.order[T - 1]; // whose h the dense layer takes
  pass.logit = Array.from(rows, (_, t) => logits(pass, t, at.get(t) ?? []));
  pass.p = pass.logit.map((logit) => head.activate(logit));
  pass.loss = label === null ? null : head.loss(pass.logit[pass.last], label);
  return pass;
}

/** What an experiment adds to a quantity of a step. */
function addedTo(added, name, unit) {
  let sum = 0;
  for (const each of added) if (each.name === name && each.unit === unit) sum += each.by;
  return sum;
}

/** x of every step, (T, E). */
function inputs({ weights, rows, dims: { E }, change }) {
  const x = new Float64Array(rows.length * E);
  rows.forEach((row, t) => x.set(weights.E.subarray(row * E, (row + 1) * E), t * E));
  for (const { name, step, unit: k, by } of change.added) if (name === "x") x[step * E + k] += by;
  return x;
}

/** x W of a step, (4H,). */
function xTimesW(weights, row, dims, added) {
  const whole = projected(weights, row, dims);
  const nudged = added.filter(({ name }) => name === "x");
  if (!nudged.length) return whole;
  const sum = whole.slice();
  for (const { unit: k, by } of nudged) for (let n = 0; n < 4 * dims.H; n++) sum[n] += by * weights.W[k * 4 * dims.H + n];
  return sum;
}

/** Gate by gate the value at which each unit is held; null or undefined if it is free. */
function heldGates(held, H) {
  const values = GATES.map(() => new Array(H));
  for (const { gate, unit, value } of held) {
    const row = values[GATES.indexOf(gate)];
    if (unit === null) row.fill(value);
    else row[unit] = value;
  }
  return values;
}

/** h w + b, what the dense layer makes of h after step t: (D,). */
function logits({ weights, h, dims: { H, D } }, t, added) {
  const product = timesMatrix(h, t * H, H, weights.w, D);
  for (let d = 0; d < D; d++) product[d] += weights.w_b[d];
  for (const { name, unit, by } of added) if (name === "logit") product[unit] += by;
  return product;
}

/** From the loss to every input and weight: the derivatives (7) to (21), into the pass. */
function backward(pass) {
  const { weights, rows, counts, dims: { H, E, D }, head, T, h } = pass;
  for (const name of GRADIENTS) pass[name] = new Float64Array(T * H);
  pass.dx = new Float64Array(T * E);
  pass.dW = new Float64Array(E * 4 * H);
  pass.dU = new Float64Array(H * 4 * H);
  pass.db = new Float64Array(4 * H);
  pass.dw = new Float64Array(H * D);
  pass.dE = new Float64Array(weights.E.length);
  pass.dlogit = pass.dw_b = head.slope(pass.logit[pass.last], pass.label); // p - y
  for (let u = 0; u < H; u++) {
    for (let d = 0; d < D; d++) {
      pass.dh_above[pass.last * H + u] += pass.dlogit[d] * weights.w[u * D + d];
      pass.dw[u * D + d] = h[pass.last * H + u] * pass.dlogit[d];
    }
  }
  const held = heldGates(pass.change.held, H);
  let dh_next = new Float64Array(H);
  let dc_next = new Float64Array(H);
  for (const t of pass.order.toReversed()) {
    const dz = new Float64Array(4 * H);
    const before = { dh: new Float64Array(H), dc: new Float64Array(H) };
    for (let u = 0; u < H; u++) {
      const p = t * H + u;
      const [i, f, g, o] = [pass.i[p], pass.f[p], pass.g[p], pass.o[p]];
      const tanh_c = pass.tanh_c[p];
      const dh = pass.dh_above[p] + dh_next[u];
      if (counts[t]) {
        const d_o = dh * tanh_c; //                                      (7)
        const dc = dc_next[u] + dh * o * (1 - tanh_c * tanh_c); //       (8)
        const di = dc * g; //                                            (9)
        const df = dc * pass.c_prev[p]; //                               (10)
        const dg = dc * i; //                                            (11)
        before.dc[u] = dc * f; //                                        (12)
        // a held gate does not listen to its z, so nothing reaches it
        const slope = (n, z) => ((held[n][u] ?? null) === null ? SLOPES[n](z[p]) : 0);
        dz[u] = di * slope(0, pass.z_i); //                              (13)
        dz[H + u] = df * slope(1, pass.z_f); //                          (14)
        dz[2 * H + u] = dg * slope(2, pass.z_g); //                      (15)
        dz[3 * H + u] = d_o * slope(3, pass.z_o); //                     (16)
        pass.do[p] = d_o; pass.dc[p] = dc; pass.di[p] = di; pass.df[p] = df; pass.dg[p] = dg;
      } else {
        pass.dc[p] = before.dc[u] = dc_next[u];
        before.dh[u] = dh;
      }
      pass.dh_next[p] = dh_next[u]; pass.dh[p] = dh; pass.dc_next[p] = dc_next[u]; pass.dc_prev[p] = before.dc[u];
      GATES.forEach((gate, n) => { pass[`dz_${gate}`][p] = dz[n * H + u]; });
    }
    if (counts[t]) stepBack(pass, t, dz, before.dh);
    pass.dh_prev.set(before.dh, t * H);
    [dh_next, dc_next] = [before.dh, before.dc];
  }
  rows.forEach((row, t) => {
    for (let k = 0; k < E; k++) pass.dE[row * E + k] += pass.dx[t * E + k];
  });
  return pass;
}

/** (17) to (21) of one step: its dx and dh_prev, and what it adds to dW, dU and db. */
function stepBack({ weights, x: xs, h_prev, dx, dW, dU, db, dims: { H, E } }, t, dz, dh_prev) {
  const columns = 4 * H;
  for (let k = 0; k < E; k++) {
    const x = xs[t * E + k];
    let sum = 0;
    for (let n = 0, at = k * columns; n < columns; n++, at++) {
      sum += dz[n] * weights.W[at]; // dx = dz Wᵀ           (17)
      dW[at] += x * dz[n]; //         dW = xᵀ dz            (19)
    }
    dx[t * E + k] = sum;
  }
  for (let k = 0; k < H; k++) {
    const h = h_prev[t * H + k];
    let sum = 0;
    for (let n = 0, at = k * columns; n < columns; n++, at++) {
      sum += dz[n] * weights.U[at]; // dh_prev = dz Uᵀ      (18)
      dU[at] += h * dz[n]; //          dU = h_prevᵀ dz      (20)
    }
    dh_prev[k] = sum;
  }
  for (let n = 0; n < columns; n++) db[n] += dz[n]; //      (21)
}

// --- the head: what the dense layer's logits become ------------------------------------------------------------------

const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

function softmax(logit) {
  const most = Math.max(...logit);
  const powers = logit.map((x) => Math.exp(x - most));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}

const logSumExp = (logit) => {
  const most = Math.max(...logit);
  return most + Math.log(logit.reduce((sum, x) => sum + Math.exp(x - most), 0));
};

/**
 * name -> its loss from logits and label, and dL/dlogit; each as an array over the D outputs, or one number. `formula`
 * writes the loss with p and y; `terms` are its terms for one output, to be divided by D where the loss is a mean over
 * them: lists of factors as in quantities.js, the logs taken from the logit, which has digits where p is all but 0 or 1.
 */
const LOSSES = {
  binary: {
    formula: "L = −y · log p − (1 − y) · log(1 − p)", slopeFormula: "dlogit = p − y", isMean: true,
    terms: (p, y, logit, d) => [
      [constant("−1", -1), y, { ...p, text: "log p", of: () => -softplus(-logit[d]) }],
      [constant("−1", -1), { ...y, text: "1 − y", of: (label) => 1 - label }, { ...p, text: "log(1 − p)", of: () => -softplus(logit[d]) }],
    ],
    probability: (logit) => logit.map(sigmoid),
    loss: (logit, y) => logit.reduce((sum, x, d) => sum + softplus(x) - x * y[d], 0) / logit.length,
    slope: (logit, y) => logit.map((x, d) => (sigmoid(x) - y[d]) / logit.length),
  },
  categorical: {
    formula: "L = −Σ y · log p over the outputs", slopeFormula: "dlogit = p − y", isMean: false,
    terms: (p, y, logit, d) => [[constant("−1", -1), y, { ...p, text: "log p", of: () => logit[d] - logSumExp(logit) }]],
    probability: softmax,
    loss: (logit, y) => logit.reduce((sum, x, d) => sum + (y[d] && y[d] * (logSumExp(logit) - x)), 0),
    slope: (logit, y) => softmax(logit).map((p, d) => p * y.reduce((sum, each) => sum + each, 0) - y[d]),
  },
  squared: {
    formula: "L = (p − y) · (p − y)", slopeFormula: "dlogit = 2 · (p − y)", isMean: true,
    terms: (p, y, logit, d, label) => [[
      { ...p, text: "p − y", of: (output) => output - label[d] }, { ...y, text: "p − y", of: (right) => logit[d] - right },
    ]],
    probability: (logit) => logit,
    loss: (logit, y) => logit.reduce((sum, x, d) => sum + (x - y[d]) ** 2, 0) / logit.length,
    slope: (logit, y) => logit.map((x, d) => (2 * (x - y[d])) / logit.length),
  },
};
const ACTIVATIONS = { sigmoid: (logit) => logit.map(sigmoid), softmax, linear: (logit) => logit };
