"use strict";

// What all parts of the page build with.

const byId = (id) => document.getElementById(id);

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

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

/** A text in which name_x has x as a subscript. */
function withSubscripts(text) {
  const parts = text.split(/_(\w+)/).map((part, place) => (place % 2 ? element("sub", {}, part) : part));
  return element("span", { className: "symbols" }, ...parts);
}

/** The word of a step, as a text for people. */
function wordOf(step) {
  const { word, kind } = current_steps()[step];
  return kind === "padding" ? "<padding>" : word;
}

const current_steps = () => experiment.steps;

/** A number that opens itself when it is clicked: every number of the page is one of these. */
function numberLink(q, text, className = "") {
  const button = element("button", { type: "button", className: `link ${className}` }, text);
  button.addEventListener("click", () => open(q));
  return button;
}
