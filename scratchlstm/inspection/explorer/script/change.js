"use strict";

// What if a gate were held, or the label another one: each change with its effect, and how to undo it.

const HOLDS = [
  ["f", "forget gate", [[1, "the cell forgets nothing"], [0, "it forgets everything at each word"]]],
  ["i", "input gate", [[0, "nothing is written to the cell"], [1, "all of g is written"]]],
  ["o", "output gate", [[1, "all of tanh(c) is output as h"], [0, "nothing is output: h is 0"]]],
  ["g", "candidate", [[0, "there is nothing new to write"]]],
];

/** Whether a gate is held in the selected unit or in all. */
let holdsAll = true;

// --- what was changed ------------------------------------------------------------------------------------------------

const sameSteps = (a, b) => a.length === b.length && a.every(({ word, id }, n) => word === b[n].word && id === b[n].id);
const unitsHeld = (unit) => (unit === null ? "all units" : `unit ${unit}`);
const countOf = (count, name) => `${count} ${name}${count === 1 ? "" : "s"}`;

/** The changes of the experiment, each as a text and the function that undoes it. */
function changesMade() {
  const { steps, label, own_label, snapshot, held, added, weights } = experiment;
  const before = untouched;
  const made = [];
  if (!sameSteps(steps, before.steps)) {
    made.push(["another sentence", () => withSteps(before.steps, before.left_out)]);
  }
  if (own_label !== before.own_label || (!own_label && String(label) !== String(before.label))) {
    const text = label ? `label ${labelText(label)}` : "no label";
    made.push([text, () => labelled(before.own_label ? null : before.label)]);
  }
  for (const hold of held) {
    made.push([holdText(hold), () => ({ held: experiment.held.filter((each) => each !== hold) })]);
  }
  const nudges = added.length + weights.length;
  if (nudges) made.push([countOf(nudges, "nudge"), () => ({ added: [], weights: [] })]);
  if (snapshot !== before.snapshot) {
    made.push([`weights of ${epochName(snapshots[snapshot])}`, () => ({ snapshot: before.snapshot })]);
  }
  return made;
}

function holdText({ gate, unit, value }) {
  if (value === null) return `${gate} free in ${unitsHeld(unit)}`;
  const [, , meanings] = HOLDS.find(([name]) => name === gate);
  const meaning = new Map(meanings).get(value);
  return `${gate} = ${shown(value)} in ${unitsHeld(unit)}${meaning ? `: ${meaning}` : ""}`;
}

/** Two values as texts, a → b, with as many digits as it takes to tell them apart: at least three. */
function fromTo(a, b, printed) {
  const digits = [3, 4, 5, 6, 7, 8, 10, 12, 14].find((each) => a === b || printed(a, each) !== printed(b, each)) ?? 16;
  return a === b ? printed(a, digits) : `${printed(a, digits)} → ${printed(b, digits)}`;
}

/** Output and loss, as the page was written → as they are now. */
function effect() {
  const [before, after] = [passOf(untouched), current()];
  const output = (pass) => pass.p[pass.last][state.output];
  const label = (pass) => (pass.label ? labelText(pass.label) : "none");
  const loss = (value, digits) => (value === null ? "none" : shown(value, digits));
  const parts = [`${outputName()} ${fromTo(output(before), output(after), shown)}`];
  if (before.label || after.label) parts.push(`loss ${fromTo(before.loss, after.loss, loss)}`);
  if (label(before) !== label(after)) parts.push(`label ${label(before)} → ${label(after)}`);
  return `Changed: ${parts.join(", ")}`;
}

function resetAll() {
  sayChange(experimentWith(untouched));
  answerSentence("");
  byId("slider").focus(); // the button is gone
}

/** Why a change was refused, if it was. */
function sayChange(text) {
  byId("change-answer").textContent = text;
}

function showEffect() {
  const isChanged = changesMade().length > 0;
  byId("effect").hidden = !isChanged;
  setText(byId("effect").firstElementChild, isChanged ? effect() : "");
}

/** Every change as a button that undoes it. */
function showChanges() {
  const made = changesMade();
  const chips = made.map(([text, undone]) => {
    const takeBack = () => {
      sayChange(experimentWith(undone()));
      byId("changes").focus();
    };
    const chip = actionButton(`${text} `, takeBack, { className: "chip", ariaLabel: `Take back: ${text}` });
    chip.append(element("span", { ariaHidden: "true" }, "✕"));
    return element("li", {}, chip);
  });
  const none = element("li", { className: "note" }, "Nothing has been changed yet.");
  byId("changes").replaceChildren(...(chips.length ? chips : [none]));
}

// --- holding gates ---------------------------------------------------------------------------------------------------

function hold(gate, value) {
  const unit = holdsAll ? null : state.unit;
  const others = experiment.held.filter((each) => each.gate !== gate || (unit !== null && each.unit !== unit));
  const isFree = value === null && heldAt(others, gate, unit) === null;
  sayChange(experimentWith({ held: isFree ? others : [...others, { gate, unit, value }] }));
}

function holdRow([gate, name, meanings]) {
  const choices = [["free", null], ...meanings.map(([value]) => [`${value}`, value])];
  const group = segments(`hold-${gate}`, `${name} ${gate}`, choices, (value) => hold(gate, value));
  const title = element("span", { className: `gate-name ${gate}` }, element("b", {}, gate), ` ${name}`);
  const meaning = meanings.map(([value, text]) => `${gate} = ${value}: ${text}.`).join(" ");
  return element("li", {}, title, group, element("span", { className: "note" }, meaning));
}

function buildHolds() {
  const scope = segments("hold-scope", "Which units", [["all units", true], ["", false]], (value) => {
    holdsAll = value;
    showChange();
  });
  return element(
    "section", { className: "card" }, element("h3", {}, "Hold a gate"),
    note("A held gate keeps this value at every word, whatever it reads. Try it to see what the gate is for."),
    scope, element("ul", { className: "holds" }, ...HOLDS.map(holdRow)),
  );
}

function showHolds() {
  chooseSegment(byId("hold-scope"), holdsAll);
  byId("hold-scope").lastChild.textContent = `only ${unitsHeld(state.unit)}`;
  const unit = holdsAll ? null : state.unit;
  for (const [gate] of HOLDS) chooseSegment(byId(`hold-${gate}`), heldAt(experiment.held, gate, unit));
}

// --- the label -------------------------------------------------------------------------------------------------------

const isOneClass = (label) =>
  data.loss_name === "categorical" && label.every((y) => y === 0 || y === 1) && label.includes(1);

/** A label as a user writes it: the number of its class, or its values. */
const labelText = (label) => (isOneClass(label) ? String(label.indexOf(1)) : label.map((y) => shown(y)).join(", "));

/** The changes that take another label; null is the model's own answer, which is not a label if it is not a class. */
const labelled = (label) => ({ label: label ?? ownAnswer(experiment.steps), own_label: label === null });

function buildLabel() {
  const card = element("section", { className: "card", id: "label" }, element("h3", {}, "The label"));
  if (!data.compiled) {
    card.append(note("The model was not compiled, so it has no loss, and no label to compare with."));
    return card;
  }
  const isChoice = data.loss_name === "categorical" || (data.loss_name === "binary" && data.outputs === 1);
  const told = data.loss_name === "squared"
    ? "The target output: the loss compares the model's output with it, and the backward pass starts there."
    : "The right answer: the loss compares the model's answer with it, and the backward pass starts there.";
  card.append(note(told), ...(isChoice ? [labelChoice()] : labelFields()));
  return card;
}

function labelChoice() {
  const classes = Array.from({ length: data.loss_name === "binary" ? 2 : data.outputs }, (_, n) => n);
  const option = (value, text = `${value}`) => element("option", { value }, text);
  const own = element("option", { value: "own", id: "own-label" });
  const given = data.own_label ? [] : [option("given", `as given: ${labelText(untouched.label)}`)];
  const select = element("select", { id: "label-choice" }, ...given, own, ...classes.map((n) => option(n)));
  select.addEventListener("change", () => {
    const named = { own: null, given: untouched.label };
    changeLabel(select.value in named ? named[select.value] : labelOf(Number(select.value)));
  });
  return element("label", {}, "Label ", select);
}

/** A field for each output. */
function labelFields() {
  return Array.from({ length: data.outputs }, (_, output) => {
    const field = element("input", { type: "number", step: "any", className: "label-value" });
    field.addEventListener("change", () => {
      const values = Array.from(document.querySelectorAll(".label-value"), ({ value }) => value);
      const left = values.every((value) => value === "");
      if (!left && values.includes("")) return sayChange("The loss needs a number for each output.");
      changeLabel(left ? null : values.map(Number));
    });
    return element("label", {}, data.outputs > 1 ? `Output ${output} ` : "Label ", field);
  });
}

/** Compare with another label; if it is refused, the controls return to the previous one. */
function changeLabel(label) {
  const isOutside = data.loss_name === "binary" && label?.some((y) => y < 0 || y > 1);
  sayChange(isOutside ? "This loss takes labels from 0 to 1. Nothing was changed." : experimentWith(labelled(label)));
  showLabel();
}

/** The label of the experiment in its controls. */
function showLabel() {
  const { label, own_label } = experiment;
  const select = byId("label-choice");
  if (select) {
    byId("own-label").textContent = `the model's own answer: ${labelText(ownAnswer(experiment.steps))}`;
    const isGiven = !data.own_label && String(label) === String(untouched.label);
    select.value = own_label ? "own" : isGiven ? "given" : labelText(label);
  }
  document.querySelectorAll(".label-value").forEach((field, output) => {
    field.value = label ? label[output] : "";
  });
}

// --- the section -----------------------------------------------------------------------------------------------------

function buildChange() {
  const title = element("h2", {}, "What if");
  if (!RUNS) {
    const why = "The sentence, the gates and the label cannot be changed here because the page cannot run this model:";
    byId("change").append(title, note(`${why} ${data.cannot_run}.`));
    return;
  }
  const changes = element("ul", { id: "changes", tabIndex: -1, ariaLabel: "Changes" });
  byId("change").append(
    title, changes, answerPlace("change-answer"),
    element("div", { className: "cards" }, buildHolds(), buildLabel()),
  );
  byId("reset").addEventListener("click", resetAll);
}

let shownExperiment = null; // the one that the chips and the label's controls show

function showChange() {
  if (!RUNS) return;
  showEffect();
  showHolds();
  if (shownExperiment === experiment) return;
  showChanges();
  showLabel();
  shownExperiment = experiment;
}
