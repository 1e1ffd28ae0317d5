"use strict";

// What all parts of the page build with.

const byId = (id) => document.getElementById(id);

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** A button and what it does. */
function actionButton(content, act, properties = {}) {
  const button = element("button", { type: "button", ...properties }, content);
  button.addEventListener("click", act);
  return button;
}

/** A group of buttons of which one is chosen: [text, value] each. */
function segments(id, label, choices, act) {
  const buttons = choices.map(([text, value]) => {
    const button = actionButton(text, () => act(value));
    button.dataset.choice = String(value);
    return button;
  });
  return element("div", { id, className: "segments", role: "group", ariaLabel: label }, ...buttons);
}

function chooseSegment(group, value) {
  for (const button of group.children) button.ariaPressed = String(button.dataset.choice === String(value));
}

/** Set a text only if it is another one: a status is read aloud whenever it is set. */
function setText(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

const clamped = (value, least, most) => Math.min(Math.max(value, least), most);
const hasModifier = (event) => event.altKey || event.ctrlKey || event.metaKey || event.shiftKey;

function svgElement(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** A number as it is printed. */
function shown(number, digits = 4) {
  const size = Math.abs(number);
  if (Number.isInteger(number) && size < 1e4) return `${number}`.replace("-", "−");
  const text = size < 1e-3 || size >= 1e4 ? size.toExponential(digits - 1) : size.toPrecision(digits);
  return (number < 0 ? "−" : "") + text.replace("-", "−");
}

/** A text with at most so many letters. */
function shortened(text, most) {
  const letters = Array.from(text);
  return letters.length > most ? `${letters.slice(0, most - 1).join("")}…` : text;
}

/** A text in which name_x has x as a subscript. */
function withSubscripts(text) {
  const below = (part) => element("sub", {}, element("span", { className: "unseen" }, "_"), part);
  const parts = text.split(/_(\w+)/).map((part, place) => (place % 2 ? below(part) : part));
  return element("span", {}, ...parts);
}

/** The word of a step, as a text for people. */
function wordOf(step) {
  const { word, kind } = current_steps()[step];
  return kind === "padding" ? "<padding>" : word;
}

const current_steps = () => experiment.steps;

/** The letter of the gate or state that a quantity belongs to, whose colour it has; undefined for those of no one. */
function colourOf({ name, gate }) {
  return gate ?? /^d?(?:z_)?([ifgoch])(?:_|\/|$)/.exec(name === "tanh_c" ? "c" : name)?.[1];
}

const ownColour = (q) => `var(--${colourOf(q) ?? "ink"})`;
const isGradient = ({ name }) => name.startsWith("d");

/** Give a node the colour of a quantity, and mark gradients, which are drawn dashed. */
function colour(node, q) {
  node.style.setProperty("--own", ownColour(q));
  node.classList.toggle("gradient", isGradient(q));
}

/** A quantity as equations write it. */
function symbolOf({ name, gate, text }) {
  if (text !== undefined) return name && / [+−] /.test(text.replace(/\(.*\)/, "")) ? `(${text})` : text;
  const tanh_c = withActivations(current(), "tanh(c)");
  const symbol = { xW: "x W", hU: "h_prev U", tanh_c, dh_above: "from above", loss: "L", w_b: "b" }[name] ?? name;
  return gate ? `${symbol}_${gate}` : symbol;
}

/** Symbols with their subscripts and colours. */
function colouredSymbols(text) {
  return text.split(/(?<!\w)((?:d?(?:z_)?[ifgoch]|d?[WUb](?=_))(?:_\w+)?)(?!\w)/).map((part, place) => {
    const made = withSubscripts(part);
    if (place % 2) colour(made, { name: part, gate: /^d?[WUb]_(.)/.exec(part)?.[1] });
    return made;
  });
}

/** The number of a unit in the model, of which a recording has some. */
const unitName = (unit) => current().names?.[unit] ?? unit;

/** The word of a step in quotes, with the number of the step if it comes more than once. */
function quotedStep(step) {
  const word = wordOf(step);
  const times = experiment.steps.filter(({ word: other }) => other === experiment.steps[step].word).length;
  return `“${shortened(word, 24)}”${times > 1 ? ` (step ${step + 1})` : ""}`;
}

/** The word of a row of E. */
function wordOfRow(row) {
  const step = experiment.steps.find(({ id }) => rowOf.get(id) === row);
  if (step?.kind === "padding") return "<padding>";
  return step?.word ?? data.known.find(([, id]) => rowOf.get(id) === row)?.[0] ?? `id ${data.ids[row]}`;
}

/** What a quantity is, where, in words: “f, forget gate of unit 3 at “film””. */
function inWords(pass, q) {
  const title = withActivations(pass, QUANTITIES[q.name].title);
  const symbol = symbolOf({ name: q.name });
  const places = { ...q, unit: q.unit === undefined ? undefined : unitName(q.unit) };
  if (q.row !== undefined) places.row = `“${shortened(wordOfRow(q.row), 24)}”`;
  const isNamed = title.includes("{") || RegExp(`\\b${symbol}\\b`).test(title);
  const where = [
    q.unit !== undefined && !title.includes("{unit}") && `of unit ${places.unit}`,
    q.output !== undefined && data.outputs_of > 1 && `of output ${q.output}`,
    q.step !== undefined && `at ${quotedStep(q.step)}`,
  ];
  const text = title.replace(/\{(\w+)\}/g, (_, place) => places[place]);
  return [...(isNamed ? [] : [`${symbol},`]), text, ...where].filter(Boolean).join(" ");
}

/** A quantity in words, and its value to all digits. */
function tooltip(pass, q) {
  const { text, of, ...whole } = q;
  return `${text ? `${text}, from ` : ""}${inWords(pass, whole)}: ${factorValue(pass, q)}`;
}

/** A number that opens itself when it is clicked: every number of the page is one of these. */
function numberLink(q, content, className = "") {
  const button = actionButton(content, () => open(q), { className: `link ${className}`, title: tooltip(current(), q) });
  colour(button, q);
  return button;
}
