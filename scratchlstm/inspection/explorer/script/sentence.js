"use strict";

// The sentence, word by word; its padding is folded into one.

let paddingOpen = false;

/** The first step that is shown: that behind the padding, unless it is unfolded. */
function firstStep() {
  const first = experiment.steps.findIndex(({ kind }) => kind !== "padding");
  return paddingOpen ? 0 : Math.max(first, 0);
}

/** The model's output after a step: what its head would make of h there. */
function outputAfter(step) {
  return RUNS ? current().p[step][state.output] : data.outputs_by_word[step];
}

const outputName = () => (data.outputs_of > 1 ? `output ${state.output} of ${data.outputs_of}` : "output");

function buildWords() {
  const first = firstStep();
  const items = experiment.steps.map(({ word, kind }, step) => {
    const button = element("button", { type: "button", className: kind, dir: "auto" }, kind === "padding" ? "padding" : word);
    button.dataset.step = step;
    button.append(element("small", { dir: "ltr" }));
    if (kind === "unknown") button.title = "not in the vocabulary: the model reads its mark for unknown words";
    button.addEventListener("click", () => goTo(step));
    return element("li", {}, button);
  });
  const padding = experiment.steps.filter(({ kind }) => kind === "padding").length;
  if (padding) {
    const fold = element("button", { type: "button", id: "padding", ariaExpanded: String(paddingOpen) }, `${padding} × padding`);
    fold.addEventListener("click", () => { paddingOpen = !paddingOpen; goTo(Math.max(state.step, firstStep())); buildWords(); show(); byId("padding").focus(); });
    items.splice(0, first, ...items.slice(0, first && 0), element("li", {}, fold));
  }
  byId("words").replaceChildren(...items);
}

function buildNotes() {
  const notes = [
    `Below each word: the model's ${outputName()} after it. Its tint: the unit's cell, blue above and orange below 0.`,
  ];
  if (data.steps.some(({ kind }) => kind === "unknown")) notes.push("Dashed words are unknown to the model.");
  if (data.left_out) notes.push(`${data.left_out} words before these are left out: the model reads ${data.steps.length} steps.`);
  if (data.padding) {
    const how = data.masked ? "which the mask skips" : "which the model reads, too: they have already moved the cell";
    notes.push(`Before the first word there are ${data.padding} steps of padding, ${how}.`);
  }
  if (data.loss !== null) {
    const whose = data.own_label ? "the model's own answer" : "given";
    notes.push(`Label ${[data.label].flat().join(", ")} (${whose}), loss ${shown(RUNS ? current().loss : data.loss)}.`);
  }
  byId("notes").textContent = notes.join(" ");
}

function showWords() {
  const pass = current();
  const cells = experiment.steps.map((_, step) => valueOf(pass, at("c", { step, unit: state.unit })));
  const most = Math.max(...cells.map(Math.abs)) || 1;
  document.querySelectorAll("#words button[data-step]").forEach((button) => {
    const step = Number(button.dataset.step);
    button.querySelector("small").textContent = shown(outputAfter(step));
    button.style.setProperty("--tint", `${(45 * Math.abs(cells[step])) / most}%`);
    button.classList.toggle("negative", cells[step] < 0);
    button.tabIndex = step === state.step ? 0 : -1; // one stop for the Tab key, not one for each word
    if (step !== state.step) return button.removeAttribute("aria-current");
    button.setAttribute("aria-current", "step");
    if (byId("words").contains(document.activeElement)) button.focus({ preventScroll: true });
    bringIntoView(button.parentElement);
  });
}

/** Scroll the list of a long text, but not the page, to a word. */
function bringIntoView(item) {
  const list = byId("words");
  const [top, bottom] = [item.offsetTop, item.offsetTop + item.offsetHeight];
  const isSeen = top >= list.scrollTop && bottom <= list.scrollTop + list.clientHeight;
  if (!isSeen) list.scrollTop = top - list.clientHeight / 2;
}
