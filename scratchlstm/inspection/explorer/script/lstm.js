"use strict";

// The model, run in the page: forward and backward as in scratchlstm/gates.py, for one text, in double precision.
//
// Arrays are flat, element (t, u) of (T, H) at t * H + u. A gate's columns in W, U and b begin at gate * H, in the
// order i f g o. `dims` are the sizes {H, E, D}. What an experiment changes of the run comes in `change`:
//   held:   [{gate, unit, value}]        the gate has this value at every step, or null: is free; unit null: in all
//                                        units; of several for one unit, the last counts
//   added:  [{name, step, unit, by}]     added to an x (unit: the feature), z_i ..., gate, c, h or logit of one step
// Changes of weights are made before, see `changedWeights`.

/** σ(z), as in gates.py: exp never sees a positive number. */
function sigmoid(z) {
  const e = Math.exp(-Math.abs(z));
  return (z >= 0 ? 1 : e) / (1 + e);
}
const sigmoidSlope = (z) => sigmoid(z) * (1 - sigmoid(z)); // i (1 - i)
const tanhSlope = (z) => 1 - Math.tanh(z) ** 2;

/** What a pass computes at each step and unit. */
const STATES = ["z_i", "z_f", "z_g", "z_o", "i", "f", "g", "o", "c_prev", "h_prev", "c", "tanh_c", "h"];
const GRADIENTS = [
  "dh_above", "dh_next", "dh", "do", "dc_next", "dc", "di", "df", "dg", "dc_prev",
  "dz_i", "dz_f", "dz_g", "dz_o", "dh_prev",
];

const projections = new WeakMap(); // weights as in the model -> row of E -> its x W, which most runs share

/** x W of one row of E, (4H,), for weights without changes. */
function projected(weights, row, { H, E }) {
  if (!projections.has(weights)) projections.set(weights, new Map());
  const known = projections.get(weights);
  if (!known.has(row)) known.set(row, timesMatrix(weights.E, row * E, E, weights.W, 4 * H));
  return known.get(row);
}

/** v M for a row vector v of `size` elements from `start` on and M (size, columns). */
function timesMatrix(v, start, size, M, columns) {
  const product = new Float64Array(columns);
  let k = 0;
  for (; k + 4 <= size; k += 4) { // four rows of M at a time, in half the time
    const [p, q, r, s] = v.subarray(start + k, start + k + 4);
    for (let n = 0, at = k * columns; n < columns; n++, at++) {
      product[n] += p * M[at] + q * M[at + columns] + r * M[at + 2 * columns] + s * M[at + 3 * columns];
    }
  }
  for (; k < size; k++) addMultiple(product, v[start + k], M, k * columns);
  return product;
}

/**
 * Equations (1) to (6) at every step, then the dense layer.
 *
 * rows: the row of E at each step; counts: whether the step counts, or is masked; label: one number for each output.
 */
function forward({ weights, rows, counts, backwards, dims, label, change }) {
  const { H } = dims;
  const T = rows.length;
  const pass = { weights, rows, counts, backwards, dims, T, change, label };
  for (const name of STATES) pass[name] = new Float64Array(T * H);
  pass.x = inputs(pass);
  pass.order = Array.from(rows, (_, step) => (backwards ? T - 1 - step : step)); // in which steps are computed
  pass.last = pass.order[T - 1]; // whose h the dense layer takes
  const { z_i, z_f, z_g, z_o, i, f, g, o, c_prev, h_prev, c, tanh_c, h } = pass;
  const { U, b } = weights;
  const held = heldGates(change.held, H);
  const added = Map.groupBy(change.added, ({ step }) => step);
  pass.order.forEach((t, n) => {
    const [start, end] = [t * H, (t + 1) * H];
    const nudge = (...names) => addTo(pass, t, names, added.get(t) ?? []);
    if (n > 0) {
      const before = pass.order[n - 1] * H;
      h_prev.set(h.subarray(before, before + H), start);
      c_prev.set(c.subarray(before, before + H), start);
    }
    const xW = xTimesW(weights, rows[t], dims, added.get(t) ?? []);
    const hU = timesMatrix(h_prev, start, H, U, 4 * H);
    for (let p = start, u = 0; p < end; p++, u++) {
      z_i[p] = xW[u] + hU[u] + b[u];
      z_f[p] = xW[H + u] + hU[H + u] + b[H + u];
      z_g[p] = xW[2 * H + u] + hU[2 * H + u] + b[2 * H + u];
      z_o[p] = xW[3 * H + u] + hU[3 * H + u] + b[3 * H + u];
    }
    nudge("z_i", "z_f", "z_g", "z_o");
    for (let p = start, u = 0; p < end; p++, u++) {
      i[p] = held.i[u] ?? sigmoid(z_i[p]); //      (1)
      f[p] = held.f[u] ?? sigmoid(z_f[p]); //      (2)
      g[p] = held.g[u] ?? Math.tanh(z_g[p]); //    (3)
      o[p] = held.o[u] ?? sigmoid(z_o[p]); //      (4)
    }
    nudge(...GATES);
    for (let p = start; p < end; p++) c[p] = counts[t] ? f[p] * c_prev[p] + i[p] * g[p] : c_prev[p]; //  (5)
    nudge("c"); //                               a masked step leaves the states as they are
    for (let p = start; p < end; p++) tanh_c[p] = Math.tanh(c[p]);
    for (let p = start; p < end; p++) h[p] = counts[t] ? o[p] * tanh_c[p] : h_prev[p]; //                (6)
    nudge("h");
  });
  pass.logit = Array.from(rows, (_, t) => logits(pass, t, added.get(t) ?? []));
  pass.p = pass.logit.map((logit) => head.activate(logit));
  pass.loss = label === null ? null : head.loss(pass.logit[pass.last], label);
  return pass;
}

/** Add to those of the named quantities of a step what an experiment adds there. */
function addTo(pass, step, names, added) {
  for (const { name, unit, by } of added) if (names.includes(name)) pass[name][step * pass.dims.H + unit] += by;
}

/** x of every step, (T, E). */
function inputs({ weights, rows, dims: { E }, change }) {
  const x = new Float64Array(rows.length * E);
  rows.forEach((row, t) => x.set(weights.E.subarray(row * E, (row + 1) * E), t * E));
  for (const { name, step, unit: k, by } of change.added) if (name === "x") x[step * E + k] += by;
  return x;
}

/** x W of a step, (4H,): that of the model's own weights, and what is added to it by each change of W, E or this x. */
function xTimesW({ own, changes, W }, row, dims, added) {
  const [columns, features] = [4 * dims.H, dims.E];
  const sum = projected(own, row, dims).slice();
  for (const { name, index, by } of changes) {
    if (name === "W") sum[index % columns] += own.E[row * features + Math.floor(index / columns)] * by;
  }
  const shifts = added.filter(({ name }) => name === "x").map(({ unit, by }) => [unit, by]);
  for (const { name, index, by } of changes) {
    if (name === "E" && Math.floor(index / features) === row) shifts.push([index % features, by]);
  }
  for (const [k, by] of shifts) addMultiple(sum, by, W, k * columns);
  return sum;
}

/** The value at which a gate is held in a unit; null if it is free. */
const heldAt = (held, gate, unit) =>
  held.findLast((each) => each.gate === gate && (each.unit === null || each.unit === unit))?.value ?? null;

/** The same for every unit, gate by gate. */
const heldGates = (held, H) =>
  Object.fromEntries(GATES.map((gate) => [gate, Array.from({ length: H }, (_, unit) => heldAt(held, gate, unit))]));

/** h w + b, what the dense layer makes of h after step t: (D,). */
function logits({ weights, h, dims: { H, D } }, t, added) {
  const product = timesMatrix(h, t * H, H, weights.w, D);
  for (let d = 0; d < D; d++) product[d] += weights.w_b[d];
  for (const { name, unit, by } of added) if (name === "logit") product[unit] += by;
  return product;
}

/** From the loss to every input: the derivatives (7) to (18), into the pass. */
function backward(pass) {
  const { weights, rows, counts, dims: { H, E, D }, T, h } = pass;
  for (const name of GRADIENTS) pass[name] = new Float64Array(T * H);
  pass.dx = new Float64Array(T * E);
  pass.dw = new Float64Array(H * D);
  pass.dE = new Float64Array(weights.E.length);
  pass.dlogit = pass.dw_b = head.slope(pass.logit[pass.last], pass.label); // p - y
  for (let u = 0; u < H; u++) {
    for (let d = 0; d < D; d++) {
      pass.dh_above[pass.last * H + u] += pass.dlogit[d] * weights.w[u * D + d];
      pass.dw[u * D + d] = h[pass.last * H + u] * pass.dlogit[d];
    }
  }
  const { z_i, z_f, z_g, z_o, i, f, g, o, c_prev, tanh_c } = pass;
  const { dh_above, dh_next, dh, do: d_o, dc_next, dc, di, df, dg, dc_prev, dz_i, dz_f, dz_g, dz_o, dh_prev } = pass;
  const held = heldGates(pass.change.held, H);
  pass.order.toReversed().forEach((t, n, order) => {
    const [start, end] = [t * H, (t + 1) * H];
    if (n > 0) {
      const after = order[n - 1] * H;
      dh_next.set(dh_prev.subarray(after, after + H), start);
      dc_next.set(dc_prev.subarray(after, after + H), start);
    }
    for (let p = start; p < end; p++) dh[p] = dh_above[p] + dh_next[p];
    if (!counts[t]) {
      for (let p = start; p < end; p++) [dc[p], dc_prev[p], dh_prev[p]] = [dc_next[p], dc_next[p], dh[p]];
      return;
    }
    for (let p = start, u = 0; p < end; p++, u++) {
      d_o[p] = dh[p] * tanh_c[p]; //                                       (7)
      dc[p] = dc_next[p] + dh[p] * o[p] * (1 - tanh_c[p] * tanh_c[p]); //  (8)
      di[p] = dc[p] * g[p]; //                                             (9)
      df[p] = dc[p] * c_prev[p]; //                                        (10)
      dg[p] = dc[p] * i[p]; //                                             (11)
      dc_prev[p] = dc[p] * f[p]; //                                        (12)
      // a held gate does not listen to its z, so nothing reaches it
      dz_i[p] = held.i[u] === null ? di[p] * sigmoidSlope(z_i[p]) : 0; //   (13)
      dz_f[p] = held.f[u] === null ? df[p] * sigmoidSlope(z_f[p]) : 0; //   (14)
      dz_g[p] = held.g[u] === null ? dg[p] * tanhSlope(z_g[p]) : 0; //      (15)
      dz_o[p] = held.o[u] === null ? d_o[p] * sigmoidSlope(z_o[p]) : 0; //  (16)
    }
    stepBack(pass, t);
  });
  rows.forEach((row, t) => {
    for (let k = 0; k < E; k++) pass.dE[row * E + k] += pass.dx[t * E + k];
  });
  return pass;
}

/** What leaves a step: its dx and dh_prev. */
function stepBack(pass, t) {
  const { weights: { W, U }, dx, dh_prev, dims: { H, E } } = pass;
  const dz = new Float64Array(4 * H);
  GATES.forEach((gate, n) => dz.set(pass[`dz_${gate}`].subarray(t * H, (t + 1) * H), n * H));
  timesTransposed(dz, W, E, dx, t * E); //       dx = dz Wᵀ       (17)
  timesTransposed(dz, U, H, dh_prev, t * H); //  dh_prev = dz Uᵀ  (18)
}

/** v Mᵀ for a row vector v and M (rows, as many columns), into `product` from `start` on. */
function timesTransposed(v, M, rows, product, start) {
  const columns = v.length;
  let k = 0;
  for (; k + 4 <= rows; k += 4) { // four sums at a time, none of which waits for the others
    let [p, q, r, s] = [0, 0, 0, 0];
    for (let n = 0, at = k * columns; n < columns; n++, at++) {
      p += v[n] * M[at];
      q += v[n] * M[at + columns];
      r += v[n] * M[at + 2 * columns];
      s += v[n] * M[at + 3 * columns];
    }
    product.set([p, q, r, s], start + k);
  }
  for (; k < rows; k++) product[start + k] = dot(v, 0, columns, M, k * columns);
}

/** The product of `size` elements of v from `start` on and as many of M from `at` on, each `stride` after the other. */
function dot(v, start, size, M, at, stride = 1) {
  let sum = 0;
  for (let k = 0; k < size; k++) sum += v[start + k] * M[at + k * stride];
  return sum;
}

/** Add a multiple of some elements of v, from `start` on, to those of a sum. */
function addMultiple(sum, factor, v, start) {
  for (let n = 0; n < sum.length; n++) sum[n] += factor * v[start + n];
}

/** One element of dW, dU or db: the page never needs all of them. Undefined in a pass without gradients. */
function weightGradient(pass, { name, gate, unit, feature, from }) {
  const { T, dims: { H, E }, x, h_prev } = pass;
  const dz = pass[`dz_${gate}`];
  if (!dz || !x) return undefined;
  const factor = {
    dW: (t) => x[t * E + feature], //     dW = Σ xᵀ dz       (19)
    dU: (t) => h_prev[t * H + from], //   dU = Σ h_prevᵀ dz  (20)
    db: () => 1, //                       db = Σ dz          (21)
  }[name];
  let sum = 0;
  for (let t = 0; t < T; t++) sum += factor(t) * dz[t * H + unit];
  return sum;
}
