"use strict";

// What is shown, and what the reader has changed.

/** What is shown. `chosen` is the number that is opened; `shown` the quantity of the heatmap in each view. */
const state = {
  layer: 0, step: 0, unit: 0, gate: "f", feature: 0, from: 0, output: 0, view: "forward",
  chosen: null, timer: null,
  shown: { forward: "c", backward: "dc" }, units: [], // all units, the most important one first
};

/** The text and the model as they were written into the page, with nothing changed. */
const untouched = {
  steps: RUNS ? padded(data.steps) : data.steps, left_out: data.left_out, label: labelOf(data.label),
  own_label: data.own_label, snapshot: snapshots.length - 1, held: [], added: [], weights: [],
};

/** What is run: `untouched`, and then whatever the reader makes of it. Never changed in place; see `experimentWith`. */
let experiment = untouched;
const passes = new Map(); // experiment -> its pass; the last few

/** The steps after their padding, cut to as many as the model reads. */
function padded(steps) {
  const read = data.length === null ? steps : steps.slice(-data.length);
  const padding = data.length === null ? 0 : data.length - read.length;
  return [...Array.from({ length: padding }, () => ({ word: "", kind: "padding", id: 0 })), ...read];
}

/** The label as one number for each output: a class number becomes a row with a 1; null without a label. */
function labelOf(label) {
  if (label === null) return null;
  const given = [label].flat().map(Number);
  const D = data.outputs_of;
  return given.length === D ? given : Array.from({ length: D }, (_, d) => Number(d === given[0]));
}

/** The unchanged model's own answer to some steps, as a label; null if an answer is not a class. */
function ownAnswer(steps) {
  if (!ownAnswers.has(steps)) {
    const { p, last } = run({ ...untouched, steps, label: null });
    const answer = {
      binary: () => p[last].map((each) => Number(each > 0.5)),
      categorical: () => labelOf(p[last].indexOf(Math.max(...p[last]))),
    }[data.loss_name];
    ownAnswers.set(steps, answer?.() ?? null);
  }
  return ownAnswers.get(steps);
}

const ownAnswers = new WeakMap(); // steps -> the model's answer to them

/** The weights of a snapshot with the reader's changes, [{name, index, by}], added; and both of these apart. */
function changedWeights(own, changes) {
  const changed = { ...own, own, changes };
  for (const { name, index, by } of changes) {
    if (changed[name] === own[name]) changed[name] = own[name].slice();
    changed[name][index] += by;
  }
  return changed;
}

/** One run of an experiment, forward alone. */
function run({ steps, label, snapshot, held, added, weights }) {
  const rows = steps.map(({ id }) => rowOf.get(id));
  const counts = steps.map(({ id }) => !data.masked || id !== 0);
  const dims = { H: data.units, E: data.features, D: data.outputs };
  const used = changedWeights(snapshots[snapshot].weights, weights);
  return forward({ weights: used, rows, counts, backwards: data.backwards, dims, label, change: { held, added } });
}

/** The pass of an experiment, forward and, with a label, backward; of a recording what Python recorded. */
function passOf(tried) {
  if (!RUNS) return recordedPasses[state.layer];
  if (!passes.has(tried)) {
    const pass = run(tried);
    passes.set(tried, pass.label === null ? pass : backward(pass));
    if (passes.size > 8) passes.delete(passes.keys().next().value);
  }
  return passes.get(tried);
}

const current = () => passOf(experiment);

/** Whether there is a backward pass to show. */
const hasGradients = () => current().label !== null;

/** Whether every number of a pass is finite. */
function isFinitePass(pass) {
  for (const array of [...Object.values(pass), ...pass.logit, Float64Array.of(pass.loss ?? 0)]) {
    if (array instanceof Float64Array) for (const value of array) if (!Number.isFinite(value)) return false;
  }
  return true;
}

/** The recordings as passes, of the units that the page has. */
const recordedPasses = recordings.map((layer) => {
  const { arrays, kept, b, backwards, counts } = layer;
  const T = data.steps.length;
  return {
    ...arrays, recorded: true, layer, names: kept, T, last: backwards ? 0 : T - 1, dims: { H: kept.length },
    weights: { b }, backwards, counts, rows: [], change: { held: [], added: [] },
    label: data.loss === null ? null : [], loss: data.loss,
  };
});

// --- nudging ---------------------------------------------------------------------------------------------------------

/** Which change adds `by` to a quantity; null if the page cannot change it. */
function shift(q, by) {
  const [H, E, D] = [data.units, data.features, data.outputs];
  const column = GATES.indexOf(q.gate) * H + q.unit;
  const index = {
    E: () => q.row * E + q.feature, W: () => q.feature * 4 * H + column, U: () => q.from * 4 * H + column,
    b: () => column, w: () => q.unit * D + q.output, w_b: () => q.output,
  }[q.name];
  if (index) return { weights: [{ name: q.name, index: index(), by }], added: [] };
  if (![...GATES, "z_i", "z_f", "z_g", "z_o", "c", "h", "x", "logit"].includes(q.name)) return null;
  const unit = q.name === "x" ? q.feature : q.name === "logit" ? q.output : q.unit;
  return { weights: [], added: [{ name: q.name, step: q.step, unit, by }] };
}

let turns = 0;

/** An experiment with a quantity shifted; the `turn` of each shift tells which one came last. */
function shifted(tried, q, by) {
  turns += 1;
  const [weights, added] = Object.values(shift(q, by)).map((list) => list.map((each) => ({ ...each, q, turn: turns })));
  return { ...tried, weights: [...tried.weights, ...weights], added: [...tried.added, ...added] };
}

/** The shift that was made last; undefined if there is none. */
const lastShift = ({ weights, added }) => [...weights, ...added].sort((a, b) => a.turn - b.turn).at(-1);

/** An experiment without its last shift. */
function withoutLastShift(tried) {
  const last = lastShift(tried);
  const others = (list) => list.filter((each) => each !== last);
  return { ...tried, weights: others(tried.weights), added: others(tried.added) };
}

/** The gradient of a quantity: another quantity; undefined for those that have none, and a logit that no loss takes. */
function gradientOf(q) {
  if (q.name === "logit") return q.step === current().last ? at("dlogit", { output: q.output }) : undefined;
  const name = QUANTITIES[q.name].slope;
  return name && { ...q, name };
}

/**
 * The slope of the loss with respect to a quantity, measured: central differences at ever smaller ε, extrapolated to
 * ε = 0 until they settle (Ridders, Advances in Engineering Software 4, 1982).
 */
function measuredSlope(tried, q) {
  const loss = (by) => run(shifted(tried, q, by)).loss;
  let best = { slope: NaN, error: Infinity };
  let wider = []; // at the previous ε: of order ε², ε⁴, ...
  // the remaining error is about the square of the first correction, and smaller than each later one
  const isSettled = () => best.error <= (wider.length < 3 ? 1e-4 : 1e-7) * Math.abs(best.slope);
  for (let epsilon = 0.016; epsilon > 4e-4 && !isSettled(); epsilon /= 2) {
    const orders = [(loss(epsilon) - loss(-epsilon)) / (2 * epsilon)];
    wider.forEach((before, order) => {
      const slope = orders[order] + (orders[order] - before) / (4 ** (order + 1) - 1);
      const error = Math.max(Math.abs(slope - orders[order]), Math.abs(slope - before));
      if (!(error > best.error)) best = { slope, error };
      orders.push(slope);
    });
    if (Math.abs(orders.at(-1) - wider.at(-1)) > 2 * best.error) break; // rounding has taken over
    wider = orders;
  }
  return best.slope;
}
