"use strict";

// Learning watched: everything on the page as it was after each epoch of which the weights were kept.

const EPOCH_MILLISECONDS = 150; // from one to the next in Play
const LEARNING_MILLISECONDS = 20; // for running snapshots at a time, so that the page stays quick

let learningTimer = null;
const learned = { of: null, passes: [] }; // an experiment, and its pass with the weights of each snapshot

const isLearning = () => snapshots.length > 1;
const epochName = ({ label }) => (label === "" ? "the trained model" : `epoch ${label}`);

// --- built once ------------------------------------------------------------------------------------------------------

function buildLearning() {
  if (!isLearning()) return;
  const play = element("button", { type: "button", id: "learning-play" }, "Play");
  const slider = element("input", { type: "range", id: "epoch", min: 0, max: snapshots.length - 1, ariaLabel: "Epoch" });
  byId("learning").append(
    element("h2", {}, "Watch it learn"),
    element("div", { className: "stepping" }, play, slider),
    element("p", {}, element("b", { id: "epoch-text" }), ". ", element("span", { id: "learned-text" })),
    element("div", { className: "charts" }, learningChart("gates", ["f", "i", "o"]), learningChart("outcome", ["outcome"])),
  );
  byId("learning").hidden = false;
  slider.addEventListener("input", () => { pauseLearning(); goToSnapshot(Number(slider.value)); });
  play.addEventListener("click", toggleLearning);
  state.step = mostLearned();
}

/** A chart over the epochs, with a cursor at the one that is shown. */
function learningChart(id, lines) {
  const keys = lines.map((name) => element("span", { className: `key ${name}` }));
  const curves = lines.map((name) => svgElement("path", { class: `curve ${name}` }));
  const cursor = svgElement("line", { class: "cursor", y1: 0, y2: 100 });
  const chart = svgElement("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img" }, ...curves, cursor);
  chart.addEventListener("click", ({ offsetX }) => {
    pauseLearning();
    goToSnapshot(Math.round((offsetX / chart.clientWidth) * (snapshots.length - 1)));
  });
  const levels = element("div", { className: "levels" }, element("span", { className: "top" }), element("span", {}, id === "gates" ? "0 shut" : "0"));
  const ends = element("p", { className: "ends" }, ...[snapshots[0], snapshots.at(-1)].map((one) => element("span", {}, epochName(one))));
  const caption = element("figcaption", {}, element("span", { className: "what" }), ...keys);
  return element("figure", { id: `learning-${id}` }, caption, levels, chart, ends);
}

/** The step whose forget gate training moved most: there a page that shows learning begins. */
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
  const { what, outcome } = learningOutcome();
  const now = snapshots[experiment.snapshot];
  const all = now.label === "" ? "" : ` of ${snapshots.findLast(({ label }) => label !== "").label}`;
  const text = `${epochName(now)}${all}, ${what} ${shown(valueOf(current(), outcome), 2)}`;
  byId("epoch-text").textContent = text;
  byId("epoch").value = experiment.snapshot;
  byId("epoch").setAttribute("aria-valuetext", text);
  const kept = (pass) => `${Math.round(100 * valueOf(pass, at("f", { step, unit })))} %`;
  byId("learned-text").textContent = `At “${wordOf(step)}” unit ${unit} keeps ${kept(current())} of its cell; `
    + `at ${epochName(snapshots[0])} it kept ${kept(learned.passes[0])}.`;
  const gates = ["f", "i", "o"].map((gate) => ({ name: gate, q: at(gate, { step, unit }) }));
  showLearned("gates", `gates of unit ${unit} at “${wordOf(step)}”`, gates);
  showLearned("outcome", what, [{ name: "", q: outcome }]);
}

/** What is drawn beside the gates: the loss of the sentence, or without a label the model's output. */
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
  while (learned.passes.length < snapshots.length && performance.now() < end) {
    learned.passes.push(run({ ...experiment, snapshot: learned.passes.length }));
  }
  if (learned.passes.length < snapshots.length) setTimeout(showLearning);
}

/** The curves of a chart, their values now, and the cursor. */
function showLearned(id, what, lines) {
  const figure = byId(`learning-${id}`);
  const across = (number) => (100 * number) / (snapshots.length - 1);
  const courses = lines.map(({ q }) => learned.passes.map((pass) => valueOf(pass, q)));
  const most = Math.max(id === "gates" ? 1 : 0, ...courses.flat().filter(Number.isFinite)) || 1;
  courses.forEach((course, line) => {
    const points = course.map((value, number) => [across(number), 98 - (96 * value) / most]);
    const drawn = points.filter(([, y]) => Number.isFinite(y)).map(([x, y]) => `${x.toFixed(2)},${y.toFixed(2)}`);
    figure.querySelectorAll(".curve")[line].setAttribute("d", drawn.length ? `M${drawn.join(" L")}` : "");
    const { name, q } = lines[line];
    figure.querySelectorAll(".key")[line].textContent = ` ${name} ${valueOf(current(), q).toFixed(2)}`;
  });
  figure.querySelector(".top").textContent = id === "gates" ? "1 open" : shown(most, 2);
  figure.querySelector(".what").textContent = `${what[0].toUpperCase()}${what.slice(1)}:`;
  for (const x of ["x1", "x2"]) figure.querySelector(".cursor").setAttribute(x, across(experiment.snapshot));
  const ends = lines.map(({ name }, line) => `${name} from ${courses[line][0].toFixed(2)} to ${courses[line].at(-1).toFixed(2)}`);
  figure.querySelector("svg").setAttribute("aria-label", `${what} over the epochs: ${ends.join(", ")}`);
}

// --- acting ----------------------------------------------------------------------------------------------------------

function goToSnapshot(number) {
  const refused = experimentWith({ snapshot: number });
  if (refused) byId("epoch-text").textContent = `${epochName(snapshots[number])}: ${refused}`;
}

function pauseLearning() {
  clearInterval(learningTimer);
  learningTimer = null;
  byId("learning-play").textContent = "Play";
}

/** Play from the chosen epoch on, or after the last one from the first. */
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
