"use strict";

// What happens to the chosen unit at the chosen step, in words.

function showStatus() {
  const last = experiment.steps.length - 1;
  const where = `Step ${state.step + 1} of ${last + 1}: ${wordOf(state.step)}`;
  byId("status").textContent = `${where}. ${(state.view === "forward" ? forwardInWords : backwardInWords)(current())}`;
  byId("slider").max = last;
  byId("slider").value = state.step;
  byId("slider").setAttribute("aria-valuetext", `${where}, ${outputName()} ${outputText(state.step)}`);
  byId("previous").setAttribute("aria-disabled", state.step === firstStep()); // disabled would lose the focus
  byId("next").setAttribute("aria-disabled", state.step === last);
}

/** Equations (5) and (6). */
function forwardInWords(pass) {
  const unit = `unit ${unitName(state.unit)}`;
  const [i, f, g, o, c_prev, c, h] = valuesHere(pass, "i", "f", "g", "o", "c_prev", "c", "h");
  const states = `c = ${shown(c, 3)} and h = ${shown(h, 3)}`;
  if (!pass.counts[state.step]) {
    const nudges = nudgeInWords(pass, "c", "c ") + nudgeInWords(pass, "h", "h ");
    return `The mask skips it: ${unit} keeps ${states}${nudges}.`;
  }
  const kept = c_prev === 0
    ? "has nothing to keep (c_prev = 0)"
    : `keeps ${percent(f)} of ${shown(c_prev, 3)} (f${heldInWords(pass, "f")})`;
  const product = `i\u00a0·\u00a0g${heldInWords(pass, "i", "i ")}${heldInWords(pass, "g", "g ")}`;
  const added = `adds ${percent(i)} of ${shown(g, 3)} (${product})`;
  const squashed = `${activationOf(pass, "g")}(c)`;
  return `U${unit.slice(1)} ${kept} and ${added}${nudgeInWords(pass, "c")}: c = ${shown(c, 3)}. ` +
    `It shows ${percent(o)} of ${squashed} (o${heldInWords(pass, "o")})${nudgeInWords(pass, "h")}: h = ${shown(h, 3)}.`;
}

/** Equations (8) and (12). */
function backwardInWords(pass) {
  if (!pass.dc) return "Without a loss there are no gradients.";
  const unit = `unit ${unitName(state.unit)}`;
  const [f, dh, dc_next, dc, dc_prev] = valuesHere(pass, "f", "dh", "dc_next", "dc", "dc_prev");
  const gradients = `dc = ${shown(dc, 3)} and dh = ${shown(dh, 3)}`;
  if (!pass.counts[state.step]) return `The mask skips it: ${gradients} of ${unit} pass it unchanged.`;
  if (dc === 0) return `A slightly larger c in ${unit} would not change the loss: dc = 0.`;
  const hidesPadding = pass.recorded && !pass.backwards && data.padding > 0; // whose steps no recording has
  const isFirst = !hidesPadding && neighbour(pass, state.step, -1) === undefined;
  const sources = dc_next === 0
    ? "all of it through h"
    : `the sum of ${shown(dc_next, 3)} from the next step and ${shown(dc - dc_next, 3)} through h`;
  const held = heldInWords(pass, "f");
  const onward = isFirst
    ? "There is no previous step to pass dc on to."
    : `f${held}${held && ","} passes ${percent(f)} of dc on to the previous step: dc_prev = ${shown(dc_prev, 3)}.`;
  const effect = dc < 0 ? "lower" : "raise";
  return `A larger c in ${unit} would ${effect} the loss: dc = ${shown(dc, 3)}, ${sources}. ${onward}`;
}

function valuesHere(pass, ...names) {
  return names.map((name) => valueOf(pass, at(name, { step: state.step, unit: state.unit })));
}

/** The value at which the unit's gate is held, if it is. */
function heldInWords(pass, gate, name = "") {
  const value = heldAt(pass.change.held, gate, state.unit);
  return value === null ? "" : `, ${name}held at ${shown(value, 3)}`;
}

/** What the reader has added to a state of the unit at this step. */
function nudgeInWords(pass, name, what = "") {
  const by = nudgeOf(pass, at(name, { step: state.step, unit: state.unit }));
  return by === 0 ? "" : `, and ${what}is nudged by ${shown(by, 3)}`;
}
