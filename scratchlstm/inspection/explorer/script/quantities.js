"use strict";

// Every number of a pass by its name, what it is computed from, and what is computed from it.
//
// A quantity is {name, ...where}: `step` and `unit` of a state or gradient, `gate` too of x W, h_prev U and b,
// `feature` of x, `output` of a logit, `row` of E, `from` (the unit whose h_prev it weighs) of U. Its value is a sum of
// products, through a function if `wrap` names one: {wrap, terms: [[factor, ...], ...]}, where a factor is a quantity,
// one with `of` (a function of its value, shown as `text`), or a constant {text, value}. `to` gives all that is
// computed from it, the exact inverse of `from`. What the reader adds to a quantity is added to its sum: see
// `sourcesOf`. A long sum names what it runs `over`: the places in which its terms differ. A title's {place} is
// replaced by the place.

const at = (name, where) => ({ ...where, name });

/** The step computed before (-1) or after (1) a step; undefined past the ends. */
const neighbour = (pass, step, way) => {
  const next = step + (pass.backwards ? -way : way);
  return next < 0 || next >= pass.T ? undefined : next;
};
const everyUnit = (pass, of) => Array.from({ length: pass.dims.H }, (_, unit) => of(unit));
const everyGateAndUnit = (pass, of) => GATES.flatMap((gate) => everyUnit(pass, (unit) => of(gate, unit)));
const everyFeature = (pass, of) => Array.from({ length: pass.dims.E }, (_, feature) => of(feature));
const everyOutput = (pass, of) => Array.from({ length: pass.dims.D }, (_, output) => of(output));
const everyStep = (pass, of) => Array.from({ length: pass.T }, (_, step) => of(step));
const constant = (text, value) => ({ text, value });
const minusOne = constant("−1", -1);
const bare = ({ of, term, text, ...q }) => q; // the quantity of a factor

/** Quantities of the same step and unit. */
const here = ({ step, unit }, ...names) => names.map((name) => at(name, { step, unit }));

/** A quantity of the same unit at the previous (-1) or next (1) step; none past the ends. */
function beside(pass, { step, unit }, way, name) {
  const next = neighbour(pass, step, way);
  return next === undefined ? [] : [at(name, { step: next, unit })];
}

const counts = (pass, q) => pass.counts[q.step];
const ifCounts = (terms, otherwise = () => []) => (pass, q) =>
  ({ terms: (counts(pass, q) ? terms : otherwise)(pass, q) });
const countedSteps = (pass) => everyStep(pass, (step) => step).filter((step) => pass.counts[step]);
const isHeld = (pass, gate, unit) => heldAt(pass.change.held, gate, unit) !== null;

/** Uses of a gate or its gradient: none at a masked step; a held gate ignores its z. */
const gateUses = (gate, ...names) => (pass, w) =>
  counts(pass, w) ? here(w, ...names, ...(isHeld(pass, gate, w.unit) ? [] : [`dz_${gate}`])) : [];

const QUANTITIES = {
  // the word
  E: {
    title: "feature {feature} of the embedding of {row}", slope: "dE",
    to: (pass, { row, feature }) => stepsOf(pass, row).map((step) => at("x", { step, feature })),
  },
  x: {
    title: "feature {feature} of the input x", formula: "x = E[id]", slope: "dx",
    from: (pass, { step, feature }) => ({ terms: [[at("E", { row: pass.rows[step], feature })]] }),
    to: (pass, { step, feature }) => [
      ...everyGateAndUnit(pass, (gate, unit) => at("xW", { step, gate, unit })),
      ...everyGateAndUnit(pass, (gate, unit) => at("dW", { gate, feature, unit })),
    ],
  },
  // z
  W: {
    title: "weight W from feature {feature} to gate {gate} of unit {unit}", slope: "dW",
    to: (pass, { gate, feature, unit }) => [
      ...everyStep(pass, (step) => at("xW", { step, gate, unit })),
      ...everyStep(pass, (step) => at("dx", { step, feature })),
    ],
  },
  U: {
    title: "weight U from unit {from} to gate {gate} of unit {unit}", slope: "dU",
    to: (pass, { gate, from, unit }) => [
      ...everyStep(pass, (step) => at("hU", { step, gate, unit })),
      ...countedSteps(pass).map((step) => at("dh_prev", { step, unit: from })),
    ],
  },
  b: {
    title: "bias of gate {gate} of unit {unit}", slope: "db",
    to: (pass, { gate, unit }) => everyStep(pass, (step) => at(`z_${gate}`, { step, unit })),
  },
  xW: {
    title: "x W, the word's part in z of gate {gate} of unit {unit}",
    formula: "x W = Σ_k x_k W_k", over: ["feature"],
    from: (pass, { step, gate, unit }) => ({
      terms: everyFeature(pass, (feature) => [at("x", { step, feature }), at("W", { gate, feature, unit })]),
    }),
    to: (pass, { step, gate, unit }) => [at(`z_${gate}`, { step, unit })],
  },
  hU: {
    title: "h_prev U, the part of the previous steps in z of gate {gate} of unit {unit}",
    formula: "h_prev U = Σ_k h_k U_k over the previous h", over: ["from"],
    from: (pass, { step, gate, unit }) => ({
      terms: everyUnit(pass, (from) => [at("h_prev", { step, unit: from }), at("U", { gate, from, unit })]),
    }),
    to: (pass, { step, gate, unit }) => [at(`z_${gate}`, { step, unit })],
  },
  ...Object.fromEntries(GATES.map((gate) => [`z_${gate}`, {
    title: `pre-activation z_${gate}`, slope: `dz_${gate}`,
    formula: `z_${gate} = x W_${gate} + h_prev U_${gate} + b_${gate}`,
    from: (pass, { step, unit }) => ({
      terms: [[at("xW", { step, gate, unit })], [at("hU", { step, gate, unit })], [at("b", { gate, unit })]],
    }),
    to: (pass, { step, unit }) => (isHeld(pass, gate, unit) ? [] : [at(gate, { step, unit })]),
  }])),
  // the cell
  ...Object.fromEntries([
    ["i", "input gate", "(1)", "i = σ(z_i)", ["c", "dg"]], ["f", "forget gate", "(2)", "f = σ(z_f)", ["c", "dc_prev"]],
    ["g", "candidate", "(3)", "g = tanh(z_g)", ["c", "di"]], ["o", "output gate", "(4)", "o = σ(z_o)", ["h", "dc"]],
  ].map(([gate, title, number, formula, to]) => [gate, {
    title, number, formula, slope: `d${gate}`,
    from: (pass, { step, unit }) => {
      const value = heldAt(pass.change.held, gate, unit);
      if (value !== null) return { terms: [[constant(`held at ${value}`, value)]] };
      return { wrap: activationOf(pass, gate), terms: [[at(`z_${gate}`, { step, unit })]] };
    },
    to: gateUses(gate, ...to),
  }])),
  c_prev: {
    title: "previous cell c_prev", formula: "c_prev = c of the previous step", slope: "dc_prev",
    from: (pass, w) => ({ terms: beside(pass, w, -1, "c").map((q) => [q]) }),
    to: (pass, w) => here(w, "c", ...(counts(pass, w) ? ["df"] : [])),
  },
  h_prev: {
    title: "previous hidden state h_prev", formula: "h_prev = h of the previous step", slope: "dh_prev",
    from: (pass, w) => ({ terms: beside(pass, w, -1, "h").map((q) => [q]) }),
    to: (pass, { step, unit }) => [
      ...everyGateAndUnit(pass, (gate, to) => at("hU", { step, gate, unit: to })),
      ...everyGateAndUnit(pass, (gate, to) => at("dU", { gate, from: unit, unit: to })),
      ...(counts(pass, { step }) ? [] : [at("h", { step, unit })]),
    ],
  },
  c: {
    title: "cell", number: "(5)", formula: "c = f · c_prev + i · g", slope: "dc",
    from: ifCounts(
      (_, w) => [here(w, "f", "c_prev"), here(w, "i", "g")],
      (_, w) => [here(w, "c_prev")],
    ),
    to: (pass, w) => [...here(w, "tanh_c"), ...beside(pass, w, 1, "c_prev")],
  },
  tanh_c: {
    title: "tanh of the cell", formula: "tanh(c)",
    from: (pass, w) => ({ wrap: activationOf(pass, "g"), terms: [here(w, "c")] }),
    to: (pass, w) => (counts(pass, w) ? here(w, "h", "do", "dc") : []),
  },
  h: {
    title: "hidden state", number: "(6)", formula: "h = o · tanh(c)", slope: "dh",
    from: ifCounts((_, w) => [here(w, "o", "tanh_c")], (_, w) => [here(w, "h_prev")]),
    to: (pass, w) => [
      ...everyOutput(pass, (output) => at("logit", { step: w.step, output })), ...beside(pass, w, 1, "h_prev"),
      ...(w.step === pass.last ? everyOutput(pass, (output) => at("dw", { unit: w.unit, output })) : []),
    ],
  },
  // the head
  w: {
    title: "weight w of unit {unit} in the dense layer", slope: "dw",
    to: (pass, { unit, output }) => [
      ...everyStep(pass, (step) => at("logit", { step, output })), at("dh_above", { step: pass.last, unit }),
    ],
  },
  w_b: {
    title: "bias of the dense layer", slope: "dw_b",
    to: (pass, { output }) => everyStep(pass, (step) => at("logit", { step, output })),
  },
  logit: {
    title: "logit, computed from h by the dense layer", slope: "dlogit",
    formula: "logit = Σ_u h_u w_u + b_dense", over: ["unit"],
    from: (pass, { step, output }) => {
      const products = everyUnit(pass, (unit) => [at("h", { step, unit }), at("w", { unit, output })]);
      return { terms: [...products, [at("w_b", { output })]] };
    },
    to: (pass, { step, output }) => [
      at("p", { step, output }), ...(head.wrap === "softmax" ? [at("total", { step })] : []),
    ],
  },
  total: {
    title: "sum of e to the logit over all outputs, the largest logit taken as 0", formula: "total = Σ e^logit",
    from: (pass, { step }) => ({ terms: everyOutput(pass, (output) => [exponential(pass, step, output)]) }),
    to: (pass, { step }) => everyOutput(pass, (output) => at("p", { step, output })),
  },
  p: {
    get title() { return head.wrap ? "probability p, the model's output" : "output p of the model"; },
    get formula() { return { "σ": "p = σ(logit)", softmax: "p = e^logit / total", "": "p = logit" }[head.wrap]; },
    from: (pass, { step, output }) => {
      if (head.wrap !== "softmax") return { wrap: head.wrap, terms: [[at("logit", { step, output })]] };
      const share = { ...at("total", { step }), text: "1 / total", of: (sum) => 1 / sum };
      return { terms: [[exponential(pass, step, output), share]] };
    },
    to: (pass, { step, output }) =>
      (step === pass.last && pass.label ? [at("loss", {}), at("dlogit", { output })] : []),
  },
  y: { title: "label y, the right answer", to: (pass, { output }) => [at("loss", {}), at("dlogit", { output })] },
  loss: {
    title: "loss L", get formula() { return head?.formula; }, to: () => [],
    from: (pass) => ({ terms: everyOutput(pass, (output) => head.lossTerms(pass, output)).flat() }),
  },
  dlogit: {
    title: "gradient of the logit", get formula() { return head.slopeFormula; },
    from: (pass, { output }) => ({ terms: head.slopeTerms(pass, output) }),
    to: (pass, { output }) => [
      ...everyUnit(pass, (unit) => at("dh_above", { step: pass.last, unit })),
      ...everyUnit(pass, (unit) => at("dw", { unit, output })), at("dw_b", { output }),
    ],
  },
  dw: {
    title: "gradient of the weight w of unit {unit} in the dense layer", formula: "dw = h · dlogit", to: () => [],
    from: (pass, { unit, output }) => ({ terms: [[at("h", { step: pass.last, unit }), at("dlogit", { output })]] }),
  },
  dw_b: {
    title: "gradient of the dense layer's bias", formula: "db_dense = dlogit", to: () => [],
    from: (_, { output }) => ({ terms: [[at("dlogit", { output })]] }),
  },
  // back through the cell
  dh_above: {
    title: "gradient of h from above", formula: "dh_above = Σ dlogit · w",
    from: (pass, { step, unit }) => {
      const products = everyOutput(pass, (output) => [at("dlogit", { output }), at("w", { unit, output })]);
      return { terms: step === pass.last ? products : [] };
    },
    to: (_, w) => here(w, "dh"),
  },
  dh_next: {
    title: "gradient of h from the next step", formula: "dh_next",
    from: (pass, w) => ({ terms: beside(pass, w, 1, "dh_prev").map((q) => [q]) }), to: (_, w) => here(w, "dh"),
  },
  dh: {
    title: "gradient of h", formula: "dh = dh_above + dh_next",
    from: (_, w) => ({ terms: [here(w, "dh_above"), here(w, "dh_next")] }),
    to: (pass, w) => (counts(pass, w) ? here(w, "do", "dc") : here(w, "dh_prev")),
  },
  do: {
    title: "gradient of o", number: "(7)", formula: "do = dh · tanh(c)",
    from: ifCounts((_, w) => [here(w, "dh", "tanh_c")]), to: gateUses("o"),
  },
  dc_next: {
    title: "gradient of c from the next step", formula: "dc_next",
    from: (pass, w) => ({ terms: beside(pass, w, 1, "dc_prev").map((q) => [q]) }), to: (_, w) => here(w, "dc"),
  },
  dc: {
    title: "gradient of c", number: "(8)", formula: "dc = dc_next + dh · o · (1 − tanh²(c))",
    from: ifCounts(
      (_, w) => [
        here(w, "dc_next"),
        [...here(w, "dh", "o"), { ...here(w, "tanh_c")[0], text: "1 − tanh²(c)", of: (t) => 1 - t * t }],
      ],
      (_, w) => [here(w, "dc_next")],
    ),
    to: (pass, w) => here(w, ...(counts(pass, w) ? ["di", "df", "dg"] : []), "dc_prev"),
  },
  ...Object.fromEntries([
    ["i", "(9)", "di = dc · g", "g"], ["f", "(10)", "df = dc · c_prev", "c_prev"], ["g", "(11)", "dg = dc · i", "i"],
  ].map(([gate, number, formula, factor]) => [`d${gate}`, {
    title: `gradient of ${gate}`, number, formula,
    from: ifCounts((_, w) => [here(w, "dc", factor)]), to: gateUses(gate),
  }])),
  dc_prev: {
    title: "gradient of c_prev", number: "(12)", formula: "dc_prev = dc · f",
    from: ifCounts((_, w) => [here(w, "dc", "f")], (_, w) => [here(w, "dc")]),
    to: (pass, w) => beside(pass, w, -1, "dc_next"),
  },
  ...Object.fromEntries([
    ["i", "(13)", "dz_i = di · i · (1 − i)"], ["f", "(14)", "dz_f = df · f · (1 − f)"],
    ["g", "(15)", "dz_g = dg · (1 − g²)"], ["o", "(16)", "dz_o = do · o · (1 − o)"],
  ].map(([gate, number, formula]) => [`dz_${gate}`, {
    title: `gradient of z_${gate}`, number, formula,
    from: ifCounts((pass, w) =>
      isHeld(pass, gate, w.unit) ? [] : [[...here(w, `d${gate}`), ...slopeOfGate(pass, gate, w)]]),
    to: (pass, { step, unit }) => [
      ...everyFeature(pass, (feature) => at("dx", { step, feature })),
      ...(counts(pass, { step }) ? everyUnit(pass, (from) => at("dh_prev", { step, unit: from })) : []),
      ...everyFeature(pass, (feature) => at("dW", { gate, feature, unit })),
      ...everyUnit(pass, (from) => at("dU", { gate, from, unit })),
      at("db", { gate, unit }),
    ],
  }])),
  // what leaves the step
  dx: {
    title: "gradient of feature {feature} of the input x", number: "(17)",
    formula: "dx = Σ dz · W over the gates of all units", over: ["gate", "unit"],
    from: (pass, { step, feature }) => ({
      terms: everyGateAndUnit(pass, (gate, unit) =>
        [at(`dz_${gate}`, { step, unit }), at("W", { gate, feature, unit })]),
    }),
    to: (pass, { step, feature }) => [at("dE", { row: pass.rows[step], feature })],
  },
  dE: {
    title: "gradient of feature {feature} of the embedding of {row}", formula: "dE = Σ dx over the steps of the word",
    over: ["step"], to: () => [],
    from: (pass, { row, feature }) => ({ terms: stepsOf(pass, row).map((step) => [at("dx", { step, feature })]) }),
  },
  dh_prev: {
    title: "gradient of h_prev", number: "(18)",
    formula: "dh_prev = Σ dz · U over the gates of all units", over: ["gate", "unit"],
    from: ifCounts(
      (pass, { step, unit: from }) =>
        everyGateAndUnit(pass, (gate, unit) => [at(`dz_${gate}`, { step, unit }), at("U", { gate, from, unit })]),
      (_, w) => [here(w, "dh")],
    ),
    to: (pass, w) => beside(pass, w, -1, "dh_next"),
  },
  dW: {
    title: "gradient of the weight W from feature {feature} to gate {gate} of unit {unit}", number: "(19)",
    formula: "dW = Σ x · dz over the steps", over: ["step"], to: () => [],
    from: (pass, { gate, feature, unit }) => ({
      terms: everyStep(pass, (step) => [at("x", { step, feature }), at(`dz_${gate}`, { step, unit })]),
    }),
  },
  dU: {
    title: "gradient of the weight U from unit {from} to gate {gate} of unit {unit}", number: "(20)",
    formula: "dU = Σ h_prev · dz over the steps", over: ["step"], to: () => [],
    from: (pass, { gate, from, unit }) => ({
      terms: everyStep(pass, (step) => [at("h_prev", { step, unit: from }), at(`dz_${gate}`, { step, unit })]),
    }),
  },
  db: {
    title: "gradient of the bias of gate {gate} of unit {unit}", number: "(21)", formula: "db = Σ dz over the steps",
    over: ["step"], to: () => [],
    from: (pass, { gate, unit }) => ({ terms: everyStep(pass, (step) => [at(`dz_${gate}`, { step, unit })]) }),
  },
};

const stepsOf = (pass, row) => Array.from(pass.rows.keys()).filter((step) => pass.rows[step] === row);

/** The slope of σ or tanh at a gate, by its value as (13) to (16) write it: without the reader's nudge. */
function slopeOfGate(pass, gate, w) {
  const [q] = here(w, gate);
  const nudge = nudgeOf(pass, q);
  if (gate === "g") return [{ ...q, text: "1 − g²", of: (g) => 1 - (g - nudge) ** 2 }];
  const own = nudge ? { ...q, text: `${gate} without your nudge`, of: (value) => value - nudge } : q;
  return [own, { ...q, text: `1 − ${gate}`, of: (value) => 1 - (value - nudge) }];
}

/** e to a logit, divided by e to the largest: no logit is too large for it. */
function exponential(pass, step, output) {
  const most = Math.max(...pass.logit[step]);
  return { ...at("logit", { step, output }), text: "e^logit", of: (logit) => Math.exp(logit - most) };
}

/** What the reader has added to a quantity. */
function nudgeOf(pass, { name, step, unit, feature, output }) {
  const place = unit ?? feature ?? output;
  const own = pass.change.added.filter((each) => each.name === name && each.step === step && each.unit === place);
  return own.reduce((sum, { by }) => sum + by, 0);
}

// --- recordings, of layers with any activations ----------------------------------------------------------------------

/** The activation of a gate, as the page writes it. */
function activationOf(pass, gate) {
  const name = gate === "g" ? pass.layer?.activation ?? "tanh" : pass.layer?.recurrent_activation ?? "sigmoid";
  return name.replaceAll("_", " ").replace(/^(hard )?sigmoid$/, "$1σ");
}

/** A text about tanh and σ with the layer's own activations, and their derivatives by name. */
function withActivations(pass, text) {
  const [phi, sigma] = [activationOf(pass, "g"), activationOf(pass, "i")];
  return text.replace(/\(1 − tanh²\(c\)\)|\(1 − g²\)|([ifo]) · \(1 − \1\)|tanh|σ/g, (found, gate) => {
    if (found === "σ") return sigma;
    if (found === "tanh") return phi;
    if (gate) return sigma === "σ" ? found : `${sigma}′(z_${gate})`;
    return phi === "tanh" ? found : `${phi}′(${found.includes("g") ? "z_g" : "c"})`;
  });
}

/**
 * Whether the page has all that a number is computed from. A recording lacks weights, other units and the padding; of
 * an activation other than tanh and σ it has the value, but not the derivative.
 */
function canOpen(pass, q) {
  if (!pass.recorded) return true;
  if (["xW", "hU", "dh_above"].includes(q.name) || (q.name === "dh_prev" && counts(pass, q))) return false;
  const { terms } = QUANTITIES[q.name].from(pass, q);
  if (!terms.length) return valueOf(pass, q) === 0;
  const isGate = /^dz_[ifo]$/.test(q.name);
  const isUsual = activationOf(pass, isGate ? "i" : "g") === (isGate ? "σ" : "tanh");
  return isUsual || !terms.flat().some(({ of }) => of);
}

/** What a quantity is computed from, {wrap, terms, nudge}, the nudge on top; undefined for a weight or label. */
function sourcesOf(pass, q) {
  const from = QUANTITIES[q.name].from?.(pass, q);
  return from && { wrap: "", ...from, nudge: nudgeOf(pass, q) };
}

/** What is computed from a quantity, if the pass has it. */
const usesOf = (pass, q) => QUANTITIES[q.name].to(pass, q).filter((use) => valueOf(pass, use) !== undefined);

/** The value of a quantity in a pass; undefined if the pass does not have it. */
function valueOf(pass, q) {
  const { H, E, D } = pass.dims;
  const { name, step, unit, gate, feature, from, output, row } = q;
  const column = GATES.indexOf(gate) * H + unit;
  switch (name) {
    case "E": return pass.weights.E?.[row * E + feature];
    case "dE": return pass.dE?.[row * E + feature];
    case "x": case "dx": return pass[name]?.[step * E + feature];
    case "W": return pass.weights.W?.[feature * 4 * H + column];
    case "dW": case "dU": case "db": return weightGradient(pass, q);
    case "U": return pass.weights.U?.[from * 4 * H + column];
    case "b": return pass.weights.b[column];
    case "w": return pass.weights.w?.[unit * D + output];
    case "dw": return pass.dw?.[unit * D + output];
    case "w_b": return pass.weights.w_b?.[output];
    case "dw_b": case "dlogit": return pass[name]?.[output];
    case "logit": case "p": return pass[name]?.[step][output];
    case "y": return pass.label?.[output];
    case "loss": return pass.loss ?? undefined;
    case "xW":
      if (!pass.recorded) return dot(pass.x, step * E, E, pass.weights.W, column, 4 * H);
      return valueOf(pass, at(`z_${gate}`, { step, unit })) - valueOf(pass, at("hU", q)) - valueOf(pass, at("b", q));
    case "hU":
      if (pass.recorded) return pass[`hU_${gate}`][step * H + unit];
      return dot(pass.h_prev, step * H, H, pass.weights.U, column, 4 * H);
    case "total": return pass.logit && sumOf(pass, QUANTITIES.total.from(pass, q).terms);
    case "do": case "di": case "df": case "dg":
      if (pass.recorded) return pass.dh && sumOf(pass, QUANTITIES[name].from(pass, q).terms);
      return pass[name]?.[step * H + unit];
    default: return pass[name]?.[step * H + unit];
  }
}

const factorValue = (pass, factor) => {
  if (!("name" in factor)) return factor.value;
  const value = valueOf(pass, factor);
  return factor.of ? factor.of(value) : value;
};
const termValue = (pass, term) => term.reduce((product, factor) => product * factorValue(pass, factor), 1);
const sumOf = (pass, terms) => terms.reduce((sum, term) => sum + termValue(pass, term), 0);
