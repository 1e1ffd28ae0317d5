"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const layers = data.layers.map(unpacked);
const last = data.steps.length - 1;
const PLAY_MILLISECONDS = 900;
const PICTURE_DIGITS = 3; // there is little room

// what is looked at: units are numbered by their place in the picker, steps by the words that are read
const state = { layer: 0, unit: 0, step: 0, view: "forward", timer: null };

// {name} stands for a number, name_under for a subscript
const FORWARD = [
  ...["i", "f", "g", "o"].map((k) => [
    "", `z_${k} = x W_${k} + h_prev U_${k} + b_${k}`, `{w_${k}} + {u_${k}} + {b_${k}} = {z_${k}}`,
  ]),
  ["(1)", "i = σ(z_i)", "σ({z_i}) = {i}"],
  ["(2)", "f = σ(z_f)", "σ({z_f}) = {f}"],
  ["(3)", "g = tanh(z_g)", "tanh({z_g}) = {g}"],
  ["(4)", "o = σ(z_o)", "σ({z_o}) = {o}"],
  ["(5)", "c = f · c_prev + i · g", "{f} · {c_prev} + {i} · {g} = {c}"],
  ["(6)", "h = o · tanh(c)", "{o} · tanh({c}) = {o} · {tanh_c} = {h}"],
];
const BACKWARD = [
  ["", "dh = from above + dh_next", "{above} + {dh_next} = {dh}"],
  ["(7)", "do = dh · tanh(c)", "{dh} · {tanh_c} = {do}"],
  ["(8)", "dc = dc_next + dh · o · (1 − tanh²(c))", "{dc_next} + {dh} · {o} · {tanh_prime} = {dc}"],
  ["(9)", "di = dc · g", "{dc} · {g} = {di}"],
  ["(10)", "df = dc · c_prev", "{dc} · {c_prev} = {df}"],
  ["(11)", "dg = dc · i", "{dc} · {i} = {dg}"],
  ["(12)", "dc_prev = dc · f", "{dc} · {f} = {dc_prev}"],
  ["(13)", "dz_i = di · i · (1 − i)", "{di} · {i} · (1 − {i}) = {dz_i}"],
  ["(14)", "dz_f = df · f · (1 − f)", "{df} · {f} · (1 − {f}) = {dz_f}"],
  ["(15)", "dz_g = dg · (1 − g²)", "{dg} · (1 − {g}²) = {dz_g}"],
  ["(16)", "dz_o = do · o · (1 − o)", "{do} · {o} · (1 − {o}) = {dz_o}"],
  ["(17)", "dx = Σ dz · W over the gates of all units; its length:", "{d_words}"],
  ["(18)", "dh_prev = Σ dz · U over the gates of all units:", "{dh_prev}"],
];

// --- numbers ---------------------------------------------------------------------------------------------------------

/** A layer with its base64 turned into numbers, unit after unit, and the rounding of its precision. */
function unpacked(layer) {
  const [Numbers, round] = layer.dtype === "float64" ? [Float64Array, (number) => number] : [Float32Array, Math.fround];
  const numbers = (text) => new Numbers(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
  const each = (texts) => Object.fromEntries(Object.entries(texts).map(([name, text]) => [name, numbers(text)]));
  const { arrays, of_unit: ofUnit, above } = layer;
  return { ...layer, arrays: each(arrays), ofUnit: each(ofUnit), above: numbers(above), round };
}

/** One array's numbers for a unit, step by step. */
function series(layer, name, unit) {
  return layer.arrays[name].subarray(unit * data.steps.length, (unit + 1) * data.steps.length);
}

/** What is stored of the unit at a step. */
function stored(layer, step) {
  const place = state.unit * data.steps.length + step;
  return Object.fromEntries(Object.entries(layer.arrays).map(([name, numbers]) => [name, numbers[place]]));
}

/** Every number of the cell that is looked at, by its name in the equations. */
function values() {
  const layer = layers[state.layer];
  const ofUnit = (name) => layer.ofUnit[name][state.unit];
  const [before, after] = [-1, 1].map((way) => neighbour(layer, way));
  const v = stored(layer, state.step);
  v.h_prev = before ? before.h : ofUnit("h_before");
  v.c_prev = before ? before.c : ofUnit("c_before");
  for (const gate of "ifgo") {
    v[`b_${gate}`] = ofUnit(`b_${gate}`);
    v[`w_${gate}`] = v[`z_${gate}`] - v[`u_${gate}`] - v[`b_${gate}`];
  }
  v.kept = v.f * v.c_prev;
  v.written = v.i * v.g;
  v.tanh_c = Math.tanh(v.c);
  if (data.loss === null) return v;
  v.above = above(layer);
  v.dh_next = after ? after.dh_prev : ofUnit("dh_after");
  v.dc_next = after ? after.dc_prev : ofUnit("dc_after");
  return { ...v, ...gradients(layer, v), dc_prev: handedBack(layer, state.step, v) };
}

/** What is stored of the step that is computed before (-1) or after (1) this one; null where the page ends. */
function neighbour(layer, way) {
  const step = state.step + (layer.backwards ? -way : way);
  if (step < 0 || step > last) return null;
  const found = stored(layer, step);
  return { ...found, dc_prev: handedBack(layer, step, found) };
}

/** What the unit's h gets from above at this step: the layer keeps the steps at which that is not 0. */
function above(layer) {
  const place = layer.above_at.indexOf(state.step);
  return place < 0 ? 0 : layer.above[state.unit * layer.above_at.length + place];
}

/** (12); past a step that does not count dc goes as it is. */
function handedBack(layer, step, { dc, f }) {
  return layer.counts[step] ? layer.round(dc * f) : dc;
}

/** dh and (7) to (15), each rounded as the layer rounds it, so that all digits are those of the model. */
function gradients(layer, v) {
  const { round } = layer;
  const counts = layer.counts[state.step];
  const sigmaPrime = (gate) => round(gate * round(1 - gate));
  const dh = round(v.above + v.dh_next);
  const [di, df, dg] = [v.g, v.c_prev, v.i].map((factor) => round(v.dc * factor));
  return {
    dh,
    tanh_prime: 1 - v.tanh_c * v.tanh_c,
    do: dh * v.tanh_c,
    di,
    df,
    dg,
    dz_i: counts ? round(di * sigmaPrime(v.i)) : 0,
    dz_f: counts ? round(df * sigmaPrime(v.f)) : 0,
    dz_g: counts ? round(dg * round(1 - round(v.g * v.g))) : 0,
    d_words: layer.d_words[state.step],
  };
}

/** A number as it is printed. */
function shown(number, digits = 4) {
  const size = Math.abs(number);
  if (Number.isInteger(number) && size < 1e4) return `${number}`.replace("-", "−");
  const text = size < 1e-3 || size >= 1e4 ? size.toExponential(digits - 1) : size.toPrecision(digits);
  return (number < 0 ? "−" : "") + text.replace("-", "−");
}

// --- building --------------------------------------------------------------------------------------------------------

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function svgElement(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

const byId = (id) => document.getElementById(id);

function buildWords() {
  data.steps.forEach(({ word, kind }, step) => {
    const button = element("button", { type: "button", className: kind, dir: "auto" }, word);
    button.append(element("small", { dir: "ltr" }, shown(data.outputs[step])));
    if (kind === "unknown") button.title = "not in the vocabulary: the model reads its mark for unknown words";
    button.addEventListener("click", () => goTo(step));
    byId("words").append(element("li", {}, button));
  });
}

function buildNotes() {
  const notes = [
    `Below each word: the model's ${data.output} after it. Its tint: the unit's cell, blue above and orange below 0.`,
  ];
  if (data.steps.some(({ kind }) => kind === "unknown")) notes.push("Dashed words are unknown to the model.");
  const { length } = data.steps;
  if (data.left_out) notes.push(`${data.left_out} words before these are left out: the model reads ${length} steps.`);
  if (data.padding) notes.push(`Before the first word stand ${data.padding} steps of padding, ${padded()}.`);
  if (data.loss !== null) {
    const whose = data.own_label ? "the model's own answer" : "given";
    notes.push(`Label ${[data.label].flat().join(", ")} (${whose}), loss ${shown(data.loss)}.`);
  }
  byId("notes").textContent = notes.join(" ");
}

function padded() {
  return data.masked ? "which the mask skips" : "which the model reads, too: they have already moved the cell";
}

function buildLayers() {
  byId("layer").append(...layers.map((layer, number) => element("option", { value: number }, layer.name)));
  byId("layer-label").hidden = layers.length < 2;
}

function buildUnits() {
  const { units, scores } = layers[state.layer];
  const options = units.map((unit, place) => element("option", { value: place }, `${unit} (${shown(scores[place])})`));
  byId("unit").replaceChildren(...options);
}

function buildEquations(list, equations) {
  for (const [number, symbols, numbers] of equations) {
    const parts = [element("span", { className: "number" }, number), withSubscripts(symbols), withNumbers(numbers)];
    list.append(element("li", {}, ...parts));
  }
}

function withSubscripts(text) {
  const parts = text.split(/_(\w+)/).map((part, place) => (place % 2 ? element("sub", {}, part) : part));
  return element("span", { className: "symbols" }, ...parts);
}

/** Places for numbers, of which the one behind the last = is the result. */
function withNumbers(template) {
  const pieces = template.split(/\{(\w+)\}/);
  const lastPlace = pieces.length - 2;
  const parts = pieces.map((piece, place) => (place % 2 ? numberPlace(piece, place, lastPlace, pieces) : piece));
  return element("span", { className: "numbers" }, ...parts);
}

function numberPlace(name, place, lastPlace, pieces) {
  const span = element("span", { className: place === lastPlace ? "result" : "" });
  span.dataset.value = name;
  if (/[+·−] $/.test(pieces[place - 1])) span.dataset.term = ""; // a negative one needs parentheses
  return span;
}

// --- charts ----------------------------------------------------------------------------------------------------------

function curve(numbers, low, high, className) {
  const points = Array.from(numbers, (number, step) => `${step},${(high - number) / (high - low)}`);
  if (points.length === 1) points.push(points[0].replace("0,", "1,"));
  return svgElement("polyline", { class: `curve ${className}`, points: points.join(" ") });
}

function drawChart(svg, low, high, curves) {
  const width = Math.max(last, 1);
  svg.setAttribute("viewBox", `${-0.02 * width} -0.08 ${1.04 * width} 1.16`);
  const lines = [
    svgElement("line", { class: "middle-line", x1: 0, x2: width, y1: 0.5, y2: 0.5 }),
    svgElement("line", { class: "cursor", x1: state.step, x2: state.step, y1: -0.08, y2: 1.08 }),
  ];
  svg.replaceChildren(...lines, ...curves.map(([numbers, className]) => curve(numbers, low, high, className)));
}

function drawCharts() {
  const outputs = data.outputs;
  const [low, high] = [Math.min(0, ...outputs), Math.max(1, ...outputs)];
  drawChart(byId("output-chart"), low, high, [[outputs, "output"]]);
  byId("output-range").textContent = `from ${shown(low)} to ${shown(high)}`;
  const layer = layers[state.layer];
  const [c, h] = [series(layer, "c", state.unit), series(layer, "h", state.unit)];
  const most = Math.max(...c.map(Math.abs), ...h.map(Math.abs)) || 1;
  drawChart(byId("unit-chart"), -most, most, [[c, "cell"], [h, "hidden"]]);
  byId("unit-range").textContent = `from ${shown(-most)} to ${shown(most)}`;
}

// --- showing ---------------------------------------------------------------------------------------------------------

function showWords() {
  const cells = series(layers[state.layer], "c", state.unit);
  const most = Math.max(...cells.map(Math.abs)) || 1;
  document.querySelectorAll("#words button").forEach((button, step) => {
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

function showNumbers() {
  const v = values();
  for (const place of document.querySelectorAll("[data-value]")) {
    const text = shown(v[place.dataset.value], place.closest("svg") ? PICTURE_DIGITS : undefined);
    place.textContent = "term" in place.dataset && text.startsWith("−") ? `(${text})` : text;
  }
  for (const bar of document.querySelectorAll("[data-level]")) showLevel(bar, v[bar.dataset.level]);
}

/** How far a gate is open: a bar from the bottom of its box. */
function showLevel(bar, level) {
  const height = 40 * Math.min(Math.abs(level), 1);
  bar.setAttribute("height", height);
  bar.setAttribute("y", 269 - height);
  bar.classList.toggle("negative", level < 0);
}

function showStatus() {
  const { word } = data.steps[state.step];
  const output = shown(data.outputs[state.step]);
  byId("status").textContent = `Step ${state.step + 1} of ${last + 1}: ${word}`;
  byId("slider").setAttribute("aria-valuetext", `${state.step + 1} of ${last + 1}: ${word}, ${data.output} ${output}`);
  byId("slider").value = state.step;
  byId("output").textContent = output;
  byId("x-word").textContent = Array.from(word).length > 24 ? `${Array.from(word).slice(0, 23).join("")}…` : word;
  byId("masked").hidden = layers[state.layer].counts[state.step];
  byId("previous").setAttribute("aria-disabled", state.step === 0); // disabled would lose the focus
  byId("next").setAttribute("aria-disabled", state.step === last);
}

function showOrder() {
  const layer = layers[state.layer];
  const score = data.loss === null
    ? "|c| summed over the words"
    : "|dL/dc · c| summed over the words, how much the loss hangs on the cell";
  const some = layer.units.length < layer.of ? `; ${layer.units.length} of ${layer.of} are here` : "";
  const backwards = layer.backwards
    ? " This layer reads from the last word to the first: “prev” is the word to the right."
    : "";
  byId("order").textContent = `Units are sorted by ${score} (in parentheses)${some}.${backwards}`;
}

function showView() {
  for (const view of ["forward", "backward"]) {
    const chosen = view === state.view;
    byId(view).hidden = !chosen || (view === "backward" && data.loss === null);
    byId(`${view}-tab`).setAttribute("aria-selected", chosen);
    byId(`${view}-tab`).tabIndex = chosen ? 0 : -1;
  }
  byId("no-loss").hidden = state.view === "forward" || data.loss !== null;
}

function show() {
  showWords();
  showNumbers();
  showStatus();
  showOrder();
  showView();
  drawCharts();
}

// --- acting ----------------------------------------------------------------------------------------------------------

function goTo(step) {
  state.step = Math.min(Math.max(step, 0), last);
  if (state.step === last) pause();
  show();
}

function pause() {
  clearInterval(state.timer);
  state.timer = null;
  byId("play").textContent = "Play";
}

function togglePlay() {
  if (state.timer !== null) return pause();
  if (state.step === last) goTo(0);
  if (last === 0) return;
  state.timer = setInterval(() => goTo(state.step + 1), PLAY_MILLISECONDS);
  byId("play").textContent = "Pause";
}

function chooseLayer(number) {
  state.layer = number;
  state.unit = 0;
  buildUnits();
  show();
}

function chooseUnit(place) {
  state.unit = place;
  show();
}

function chooseView(view) {
  state.view = view;
  show();
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function toggleTheme() {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  showTheme();
}

function showTheme() {
  byId("theme").setAttribute("aria-pressed", isDark());
}

const KEYS = {
  ArrowLeft: () => goTo(state.step - 1),
  ArrowRight: () => goTo(state.step + 1),
  Home: () => goTo(0),
  End: () => goTo(last),
  " ": togglePlay,
};

/** Keys act anywhere but in a control that has its own use for them. */
function onKey(event) {
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || !(event.key in KEYS)) return;
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
  byId("unit").addEventListener("change", (event) => chooseUnit(Number(event.target.value)));
  byId("theme").addEventListener("click", toggleTheme);
  for (const view of ["forward", "backward"]) {
    byId(`${view}-tab`).addEventListener("click", () => chooseView(view));
    byId(`${view}-tab`).addEventListener("keydown", onTabKey);
  }
  document.addEventListener("keydown", onKey);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTheme);
}

byId("slider").max = last;
byId("output-name").textContent = data.output;
byId("no-loss").textContent = data.compiled
  ? "There is no way back to show: the loss compares the output with a number that only you know. Give it as label."
  : "There is no way back to show: the model was not compiled, so it has no loss.";
buildWords();
buildNotes();
buildLayers();
buildUnits();
buildEquations(byId("forward-equations"), FORWARD);
if (data.loss !== null) buildEquations(byId("backward-equations"), BACKWARD);
listen();
showTheme();
show();
