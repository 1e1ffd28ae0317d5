"use strict";

// Putting the parts together: what is built once, what is shown after each change, keys and buttons.

const PLAY_MILLISECONDS = 900;

// --- showing ---------------------------------------------------------------------------------------------------------

function show() {
  showWords();
  showNotes();
  showSentenceChange();
  showStatus();
  showView();
  showOverview();
  showCell();
  showNumber();
  showChange();
  showCompare();
  showLearning();
  bringWordIntoView();
}

function showView() {
  for (const view of ["forward", "backward"]) {
    const chosen = view === state.view && (view === "forward" || hasGradients());
    byId(`${view}-picture`).toggleAttribute("hidden", !chosen);
    byId(`${view}-equations`).hidden = !chosen;
    byId(`${view}-tab`).setAttribute("aria-selected", view === state.view);
    byId(`${view}-tab`).tabIndex = view === state.view ? 0 : -1;
  }
  byId("study").setAttribute("aria-labelledby", `${state.view}-tab`);
  byId("no-loss").hidden = state.view === "forward" || hasGradients();
}

// --- acting ----------------------------------------------------------------------------------------------------------

/** Run another experiment, and show it; refused, with the reason, if not all of its numbers are finite. */
function experimentWith(changes, step = state.step) {
  const tried = { ...experiment, ...changes };
  if (RUNS && !isFinitePass(passOf(tried))) {
    return "Some numbers would no longer be finite, so nothing was changed.";
  }
  experiment = tried;
  state.step = clamped(step, firstStep(), experiment.steps.length - 1);
  if (changes.steps && state.chosen?.step !== undefined) state.chosen = { ...state.chosen, step: state.step };
  if (state.chosen && valueOf(current(), state.chosen) === undefined) state.chosen = null; // a gradient that is gone
  if (changes.steps) {
    buildWords();
    showTyped();
  }
  show();
  return "";
}

/** Open a number, and go to the unit, gate and step where it is; or to another step. */
function open(q, step = q.step ?? state.step) {
  state.chosen = q;
  for (const name of ["unit", "gate", "feature", "from", "output"]) if (q[name] !== undefined) state[name] = q[name];
  state.step = step;
  if (step < firstStep()) unfoldPadding();
  if (GATES.includes(colourOf(q))) state.gate = colourOf(q);
  byId("unit").value = state.unit;
  show();
  // the chain and the number's own links stay where they are
  const isAlongside = byId("number").contains(document.activeElement);
  if (!isAlongside) byId("number-title").scrollIntoView({ block: "nearest" });
}

/** Look at another step or unit; the number that is opened goes along. */
function lookAt(where) {
  Object.assign(state, where);
  for (const [name, value] of Object.entries(where)) {
    if (state.chosen?.[name] !== undefined) state.chosen = { ...state.chosen, [name]: value };
  }
  byId("unit").value = state.unit;
  show();
}

function goTo(step) {
  lookAt({ step: clamped(step, firstStep(), experiment.steps.length - 1) });
}

function pause() {
  clearInterval(state.timer);
  state.timer = null;
  byId("play").textContent = "Play";
}

/** Play in the order in which the view computes: forward from the first word, backward from the last. */
function togglePlay() {
  if (state.timer !== null) return pause();
  const way = () => ((state.view === "backward") !== current().backwards ? -1 : 1);
  const isAtEnd = () => state.step === (way() > 0 ? experiment.steps.length - 1 : firstStep());
  if (isAtEnd()) goTo(way() > 0 ? firstStep() : experiment.steps.length - 1);
  if (isAtEnd()) return; // there is one word only
  state.timer = setInterval(() => {
    goTo(state.step + way());
    if (isAtEnd()) pause();
  }, PLAY_MILLISECONDS);
  byId("play").textContent = "Pause";
}

function chooseLayer(number) {
  state.layer = number;
  state.chosen = null;
  buildUnits();
  show();
}

function chooseView(view) {
  state.view = view;
  show();
}

function buildLayers() {
  byId("layer").append(...recordings.map(({ layer }, number) => element("option", { value: number }, layer)));
  byId("layer-label").hidden = recordings.length < 2;
}

/** How much the loss depends on each unit's cell: |dL/dc · c| summed over the words; without a loss |c|. */
function importance(pass, unit) {
  let sum = 0;
  for (let step = firstStep(); step < pass.T; step++) {
    const q = { step, unit };
    if (pass.counts[step]) sum += Math.abs(valueOf(pass, at("c", q)) * (pass.dc ? valueOf(pass, at("dc", q)) : 1));
  }
  return sum;
}

/** The units, the most important one first; a recording has some of them. */
function buildUnits() {
  const pass = current();
  const units = Array.from({ length: pass.dims.H }, (_, unit) => ({ unit, score: importance(pass, unit) }));
  units.sort((a, b) => b.score - a.score);
  const options = units.map(({ unit, score }) =>
    element("option", { value: unit }, `${unitName(unit)} (${shown(score)})`));
  byId("unit").replaceChildren(...options);
  state.units = units.map(({ unit }) => unit);
  state.unit = state.units[0];
  byId("unit").value = state.unit;
  byId("order").textContent = order(pass);
}

function order(pass) {
  const score = pass.dc
    ? "|dL/dc · c| summed over the words, how much the loss depends on the cell"
    : "|c| summed over the words";
  const some = pass.layer && pass.dims.H < pass.layer.units ? `; ${pass.dims.H} of ${pass.layer.units} are here` : "";
  const backwards = pass.backwards
    ? " This layer reads from the last word to the first: “prev” is the word to the right."
    : "";
  return `Units are sorted by ${score} (in parentheses)${RUNS ? ", before any change" : ""}${some}.${backwards}`;
}

/** What a page shows that cannot run its model, and why not. */
function showRecorded() {
  const others = data.layers_left_out;
  const notes = [
    "This page shows what the model computed in Python. It cannot rerun the model, so nothing can be changed " +
      `here, and sums over weights or over all units stay closed: ${data.cannot_run}.`,
  ];
  if (others.length) notes.push(`Not shown: ${others.join(", ")}, whose steps are not words.`);
  if (data.outputs_by_word.includes(null)) {
    notes.push("The text is too long for the output after each word: only the last one is shown.");
  }
  byId("recorded").textContent = notes.join(" ");
  byId("recorded").hidden = false;
}

// --- keys and buttons ------------------------------------------------------------------------------------------------

function isDark() {
  if (matchMedia("print").matches) return false;
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function toggleTheme() {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  showTheme();
}

function showTheme() {
  byId("theme").setAttribute("aria-pressed", isDark());
  showOverview(); // whose colours are those of the theme
  showCompare();
}

const KEYS = {
  ArrowLeft: () => goTo(state.step - 1),
  ArrowRight: () => goTo(state.step + 1),
  Home: () => goTo(0),
  End: () => goTo(experiment.steps.length - 1),
  " ": togglePlay,
};

/** Keys act anywhere but in a control that has its own use for them. */
function onKey(event) {
  if (hasModifier(event) || !(event.key in KEYS)) return;
  const { target } = event;
  if (target.matches("select, input, [role=tab]") || (event.key === " " && target.matches("button"))) return;
  event.preventDefault();
  KEYS[event.key]();
}

/** The arrow keys go from tab to tab, as in every list of tabs. */
function onTabKey(event) {
  if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
  chooseView(state.view === "forward" ? "backward" : "forward");
  byId(`${state.view}-tab`).focus();
}

function listen() {
  byId("slider").addEventListener("input", (event) => goTo(Number(event.target.value)));
  byId("previous").addEventListener("click", () => goTo(state.step - 1));
  byId("next").addEventListener("click", () => goTo(state.step + 1));
  byId("play").addEventListener("click", togglePlay);
  byId("layer").addEventListener("change", (event) => chooseLayer(Number(event.target.value)));
  byId("unit").addEventListener("change", (event) => lookAt({ unit: Number(event.target.value) }));
  byId("theme").addEventListener("click", toggleTheme);
  for (const view of ["forward", "backward"]) {
    byId(`${view}-tab`).addEventListener("click", () => chooseView(view));
    byId(`${view}-tab`).addEventListener("keydown", onTabKey);
  }
  document.addEventListener("keydown", onKey);
  for (const media of ["(prefers-color-scheme: dark)", "print"]) {
    matchMedia(media).addEventListener("change", showTheme);
  }
}

state.output = data.chosen;
state.step = firstStep();
byId("no-loss").textContent = data.compiled
  ? `There is no backward pass yet: the loss compares the output with a number only you know. ${
    RUNS ? "Enter it as the label under “What if”." : "Pass it as explore(..., label=...)."}`
  : "There is no backward pass to show: the model was not compiled, so it has no loss.";
if (!RUNS) showRecorded();
buildWords();
buildLayers();
buildUnits();
buildCell();
buildOverview();
buildNumber();
buildSentenceChange();
buildChange();
buildCompare();
buildLearning();
listen();
show();
showTheme();
