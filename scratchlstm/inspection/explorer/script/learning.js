"use strict";

// "Watch it learn": everything on the page as it was after each epoch whose weights were kept.

const EPOCH_MILLISECONDS = 150; // from one to the next in Play
const LEARNING_MILLISECONDS = 5; // for running snapshots at a time, so that the page stays quick

let learningTimer = null;
const learned = { of: null, passes: [] }; // an experiment, and its pass with the weights of each snapshot

const isLearning = () => snapshots.length > 1;
const epochName = ({ label }) => (label === "" ? "the trained model" : `epoch ${label}`);

// --- built once ------------------------------------------------------------------------------------------------------

let gatesPlot = null;
let outcomePlot = null;

function buildLearning() {
  if (!isLearning()) return;
  const play = actionButton("Play the epochs", toggleLearning, { id: "learning-play" });
  const range = { min: 0, max: snapshots.length - 1 };
  const slider = element("input", { type: "range", id: "epoch", ...range, ariaLabel: "Epoch" });
  const choose = (number) => { pauseLearning(); goToSnapshot(number); };
  gatesPlot = buildPlot(100, choose);
  outcomePlot = buildPlot(100, choose);
  const figure = (name, plot) => {
    const ends = [snapshots[0], snapshots.at(-1)].map((one) => element("span", {}, epochName(one)));
    const below = element("p", { className: "ends" }, ...ends);
    return element("figure", { id: `learned-${name}` }, element("figcaption"), plot.element, below);
  };
  byId("learning").append(
    element("h2", {}, "Watch it learn"),
    element("div", { className: "epochs" }, play, slider),
    element("p", {}, element("b", { id: "epoch-text" }), element("span", { id: "learned-text" })),
    element("div", { className: "plots" }, figure("gates", gatesPlot), figure("outcome", outcomePlot)),
  );
  byId("learning").hidden = false;
  slider.addEventListener("input", () => choose(Number(slider.value)));
  state.step = mostLearned();
}

/** The step whose forget gate training moved most: a page that shows learning starts there. */
function mostLearned() {
  const f = [0, snapshots.length - 1].map((snapshot) => run({ ...experiment, snapshot }).f);
  const moved = (step) => Math.abs(f[1][step * data.units + state.unit] - f[0][step * data.units + state.unit]);
  const steps = Array.from(experiment.steps.keys()).slice(firstStep());
  return steps.reduce((most, step) => (moved(step) > moved(most) ? step : most));
}

// --- shown after each change -----------------------------------------------------------------------------------------

function showLearning() {
  if (!isLearning()) return;
  learn();
  const { step, unit } = state;
  const now = snapshots[experiment.snapshot];
  const all = now.label === "" ? "" : ` of ${snapshots.findLast(({ label }) => label !== "").label}`;
  const { what, outcome } = learningOutcome();
  const text = `${epochName(now)}${all}, ${what} ${shown(valueOf(current(), outcome), 2)}`;
  byId("epoch-text").textContent = `${capital(text)}. `;
  byId("epoch").value = experiment.snapshot;
  byId("epoch").setAttribute("aria-valuetext", text);
  const [f, f_first] = [current(), learned.passes[0]].map((pass) => valueOf(pass, at("f", { step, unit })));
  const isOther = experiment.snapshot && Number.isFinite(f_first);
  const before = isOther ? `; at ${epochName(snapshots[0])} it kept ${percent(f_first)}` : "";
  const place = quoted(wordOf(step));
  byId("learned-text").textContent = current().counts[step]
    ? `At ${place} unit ${unit} keeps ${percent(f)} of its cell${before}.`
    : "The mask skips this step: the cell is kept, whatever was learned.";
  const gates = ["f", "i", "o"].map((name) => ({ name, colour: name, isThick: true, q: at(name, { step, unit }) }));
  showLearned("gates", gatesPlot, `Gates of unit ${unit} at ${place}`, gates);
  showLearned("outcome", outcomePlot, capital(what), [{ name: "", colour: "ink", isThick: true, q: outcome }]);
}

/** What is drawn next to the gates: the loss of the sentence, or without a label the model's output. */
function learningOutcome() {
  if (experiment.label !== null) return { what: "loss of this sentence", outcome: at("loss", {}) };
  const outcome = at("p", { step: current().last, output: state.output });
  return { what: `${outputName()} for this sentence`, outcome };
}

/** Run the experiment with the weights of as many snapshots as there is time for; the others follow. */
function learn() {
  const { snapshot: _, ...tried } = experiment;
  if (learned.of === null || Object.keys(tried).some((name) => tried[name] !== learned.of[name])) {
    Object.assign(learned, { of: tried, passes: [] });
  }
  const end = performance.now() + LEARNING_MILLISECONDS;
  while (!isLearned() && (!learned.passes.length || performance.now() < end)) {
    learned.passes.push(run({ ...experiment, snapshot: learned.passes.length }));
  }
  if (!isLearned()) setTimeout(showLearning);
}

const isLearned = () => learned.passes.length === snapshots.length;

/** Lines over the epochs, as soon as all are known; one that is not finite at each epoch cannot be drawn. */
function showLearned(name, plot, title, lines) {
  if (!isLearned()) return;
  const drawn = lines
    .map((line) => ({ ...line, values: learned.passes.map((pass) => valueOf(pass, line.q)) }))
    .filter(({ values }) => values.every(Number.isFinite));
  const chosen = experiment.snapshot;
  byId(`learned-${name}`).firstElementChild.replaceChildren(`${title}: `, ...keysOf(drawn, chosen));
  if (!drawn.length) return;
  const courses = drawn.map(({ name, values }) => `${name} from ${shown(values[0], 2)} to ${shown(values.at(-1), 2)}`);
  const most = name === "gates" ? 1 : 0;
  drawPlot(plot, { lines: drawn, most, chosen, title: `${title} over the epochs: ${courses.join(", ")}` });
}

// --- acting ----------------------------------------------------------------------------------------------------------

function goToSnapshot(number) {
  const refused = experimentWith({ snapshot: number });
  if (!refused) return;
  byId("epoch").value = experiment.snapshot;
  byId("epoch-text").textContent = `${capital(epochName(snapshots[number]))}: ${refused} `;
}

function pauseLearning() {
  clearInterval(learningTimer);
  learningTimer = null;
  byId("learning-play").textContent = "Play the epochs";
}

/** Play from the chosen epoch on, or from the first if the last is chosen. */
function toggleLearning() {
  if (learningTimer !== null) return pauseLearning();
  const last = snapshots.length - 1;
  let number = experiment.snapshot === last ? 0 : experiment.snapshot;
  goToSnapshot(number);
  learningTimer = setInterval(() => {
    goToSnapshot(++number);
    if (number === last) pauseLearning();
  }, EPOCH_MILLISECONDS);
  byId("learning-play").textContent = "Pause";
}
