"use strict";

// Helpers that all parts of the page build elements with.

const byId = (id) => document.getElementById(id);

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const answerPlace = (id) => element("p", { id, className: "answer", role: "status" }); // why a change was refused
const note = (text) => element("p", { className: "note" }, text);

/** A button and what it does. */
function actionButton(content, act, properties = {}) {
  const button = element("button", { type: "button", ...properties }, content);
  button.addEventListener("click", act);
  return button;
}

/** A group of buttons, one of them chosen: [text, value] each. */
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

/** Set a text only if it differs: screen readers read a status whenever it is set. */
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
