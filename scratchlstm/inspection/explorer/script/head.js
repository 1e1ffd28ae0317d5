"use strict";

// The head of the model: what the dense layer's logits become, their loss, and where the backward pass begins.

const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

function softmax(logit) {
  const most = Math.max(...logit);
  const powers = logit.map((x) => Math.exp(x - most));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}

function logSumExp(logit) {
  const most = Math.max(...logit);
  return most + Math.log(logit.reduce((sum, x) => sum + Math.exp(x - most), 0));
}

/** name -> how the page writes it, and the outputs that it computes from the logits */
const ACTIVATIONS = {
  sigmoid: { wrap: "σ", activate: (logit) => logit.map(sigmoid) },
  softmax: { wrap: "softmax", activate: softmax },
  linear: { wrap: "", activate: (logit) => logit },
};

/**
 * name -> a loss of outputs p, for which the activation `takes` makes them of the logits:
 *   of(logit, y, d)                  its part for output d; the loss is the sum of all parts, or their mean if `isMean`
 *   terms(p, y, logit, d, label)     that part as terms of quantities.js, the logs taken from the logit, which has
 *                                    digits where p is all but 0 or 1
 *   slope                            the gradient of a logit is p − y times this
 */
const LOSSES = {
  binary: {
    takes: "sigmoid", isMean: true, slope: 1,
    formula: "L = −y · log p − (1 − y) · log(1 − p)", slopeFormula: "dlogit = p − y",
    of: (logit, y, d) => softplus(logit[d]) - logit[d] * y[d],
    terms: (p, y, logit, d) => [
      [minusOne, y, { ...p, text: "log p", of: () => -softplus(-logit[d]) }],
      [
        minusOne, { ...y, text: "1 − y", of: (label) => 1 - label },
        { ...p, text: "log(1 − p)", of: () => -softplus(logit[d]) },
      ],
    ],
  },
  categorical: {
    takes: "softmax", isMean: false, slope: 1,
    formula: "L = −Σ y · log p over the outputs", slopeFormula: "dlogit = p − y",
    of: (logit, y, d) => y[d] && y[d] * (logSumExp(logit) - logit[d]),
    terms: (p, y, logit, d) => [[minusOne, y, { ...p, text: "log p", of: () => logit[d] - logSumExp(logit) }]],
  },
  squared: {
    takes: "linear", isMean: true, slope: 2,
    formula: "L = (p − y) · (p − y)", slopeFormula: "dlogit = 2 · (p − y)",
    of: (logit, y, d) => (logit[d] - y[d]) ** 2,
    terms: (p, y, logit, d, label) => [[
      { ...p, text: "p − y", of: (output) => output - label[d] },
      { ...y, text: "p − y", of: (right) => logit[d] - right },
    ]],
  },
};

/** The head of this page's model; without a loss, only its outputs. */
const head = RUNS ? headOf(LOSSES[data.loss_name], data.outputs) : null;

function headOf(judged, D) {
  const { wrap, activate } = ACTIVATIONS[judged?.takes ?? data.activation];
  if (!judged) return { wrap, activate };
  const { formula, slopeFormula, slope, of, terms } = judged;
  const mean = judged.isMean && D > 1 ? D : 1; // what the sum over the outputs is divided by
  const labels = (label) => (judged.takes === "softmax" ? label.reduce((sum, y) => sum + y, 0) : 1); // usually 1
  const factors = (value, text = `${value}`) => (value === 1 ? [] : [constant(text, value)]);
  const shared = factors(slope / mean, mean === 1 ? `${slope}` : `${slope}/${mean}`);
  return {
    wrap, activate,
    formula: formula + (mean > 1 ? ", the mean over the outputs" : ""),
    slopeFormula: slopeFormula + (mean > 1 ? ` / ${D} outputs` : ""),
    loss: (logit, label) => logit.reduce((sum, _, d) => sum + of(logit, label, d), 0) / mean,
    slope: (logit, label) => {
      const total = labels(label);
      return activate(logit).map((p, d) => ((p * total - label[d]) * slope) / mean);
    },
    lossTerms: (pass, output) => {
      const [p, y] = [at("p", { step: pass.last, output }), at("y", { output })];
      const own = terms(p, y, pass.logit[pass.last], output, pass.label);
      return own.map((term) => [...term, ...factors(1 / mean, `1/${mean}`)]);
    },
    slopeTerms: (pass, output) => [
      [at("p", { step: pass.last, output }), ...factors(labels(pass.label)), ...shared],
      [minusOne, at("y", { output }), ...shared],
    ],
  };
}
