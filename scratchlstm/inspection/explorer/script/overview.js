"use strict";

// All units and all words at once, and the chosen unit over the words.

/** What the heatmap can show: a quantity of each unit and step, or the product of two. */
const SHOWN = {
  forward: ["i", "f", "g", "o", "c", "h"], backward: ["dc", "dh", "c · dc", "dz_i", "dz_f", "dz_g", "dz_o"],
};
const SHARES = ["i", "f", "o"]; // between 0 and 1

const LINES = { forward: ["i", "f", "o", "c", "h"], backward: ["dc", "dh"] }; // of the chosen unit

/** The name of what the heatmap shows; without gradients it shows none. */
function shownName(gradients) {
  const name = state.shown[gradients ? state.view : "forward"];
  return gradients || SHOWN.forward.includes(name) ? name : "c";
}

/** (step, unit) → the value of what is shown. */
function shownValues(pass, name) {
  const factors = name.split(" · ").map((factor) => pass[factor]);
  return (step, unit) => factors.reduce((product, factor) => product * factor[step * pass.dims.H + unit], 1);
}

const unitsInOrder = () => state.units.map((unit) => `unit ${unitName(unit)}`);

let overviewMap = null;
let unitPlot = null;
let outputPlot = null;

function buildOverview() {
  overviewMap = buildHeatmap((row, column) => lookAt({ unit: state.units[row], step: firstStep() + column }));
  const title = (name) => `${name}, ${QUANTITIES[name]?.title ?? "gradient × value"}`;
  const group = (view) => element(
    "optgroup", { label: capital(view) },
    ...SHOWN[view].map((name) => element("option", { value: name }, title(name))),
  );
  byId("shown").append(group("forward"), group("backward"));
  byId("shown").addEventListener("change", ({ target }) => {
    state.shown[viewShown()] = target.value;
    show();
  });
  byId("map").append(overviewMap.element);
  const chooseWord = (column) => goTo(firstStep() + column);
  unitPlot = buildPlot(170, chooseWord);
  outputPlot = buildPlot(70, chooseWord);
  byId("unit-key").after(unitPlot.element);
  byId("output-key").after(outputPlot.element);
}

/** Without gradients the states are shown in both views. */
const viewShown = () => (hasGradients() ? state.view : "forward");

function showOverview() {
  showMap();
  showUnit(viewShown());
  showOutput();
}

function showMap() {
  const pass = current();
  const name = shownName(hasGradients());
  const first = firstStep();
  const columns = experiment.steps.slice(first).map((_, column) => wordOf(first + column));
  byId("shown").value = name;
  byId("shown").lastElementChild.hidden = !hasGradients();
  const value = shownValues(pass, name);
  drawHeatmap(overviewMap, {
    name, columns, rows: unitsInOrder(), value: (row, column) => value(first + column, state.units[row]),
    chosen: [state.units.indexOf(state.unit), state.step - first], isShare: SHARES.includes(name),
    title: `Heatmap of ${name}: ${state.units.length} units, the most important first, by ${columns.length} words`,
  });
}

/** The chosen unit's states, or their gradients, after each word. */
function showUnit(view) {
  const pass = current();
  const chosen = state.step - firstStep();
  const lines = LINES[view].map((name) => ({
    name, values: wordsOf((step) => pass[name][step * pass.dims.H + state.unit]),
    colour: name.at(-1), isGradient: view === "backward", isThick: !GATES.includes(name),
  }));
  const title = `Unit ${unitName(state.unit)} over the words`;
  byId("unit-title").textContent = title;
  byId("unit-key").replaceChildren(...keysOf(lines, chosen));
  const most = view === "forward" ? 1 : 0;
  drawPlot(unitPlot, { lines, most, chosen, title: `${title}: ${LINES[view].join(", ")}` });
}

/** What the model would answer after each word, if that is known of all of them. */
function showOutput() {
  if (outputAfter(firstStep()) === null) return;
  const line = { name: "", values: wordsOf(outputAfter), colour: "ink", isThick: true };
  const chosen = state.step - firstStep();
  byId("output-key").replaceChildren(...keysOf([{ ...line, name: outputName() }], chosen));
  const title = `The model's ${outputName()} after each word`;
  drawPlot(outputPlot, { lines: [line], most: 1, chosen, title });
}

/** A value for each word, without the padding if it is folded. */
const wordsOf = (valueAt) => experiment.steps.map((_, step) => step).slice(firstStep()).map(valueAt);
