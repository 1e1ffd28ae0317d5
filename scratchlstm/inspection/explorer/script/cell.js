"use strict";

// The cell at one step: its picture, and every equation with its numbers.
//
// A line of equations is {number, symbols, pieces}; a piece is a text or a factor, see quantities.js. What a line says
// comes from QUANTITIES[...].from alone, the names of activations, held gates and masked steps included. Everything
// drawn or written for a quantity bears its `keyOf`: hovering one of them highlights the others.

// --- lines -----------------------------------------------------------------------------------------------------------

const now = () => ({ step: state.step, unit: state.unit });

/** The key that sets factors of the shown step and unit apart; a factor of another unit is not drawn. */
const keyOf = ({ text, name = text, gate, term, unit = state.unit }) =>
  name + (gate ? `_${gate}` : "") + (term === undefined ? "" : `/${term}`) + (unit === state.unit ? "" : ` of ${unit}`);

/** The line of a quantity. */
function line(pass, q) {
  const { number = "", formula } = QUANTITIES[q.name];
  if (!canOpen(pass, q)) return { number, symbols: withActivations(pass, formula), pieces: [q] };
  const { wrap, terms, nudge } = sourcesOf(pass, q);
  if (isLong(q, terms)) return { number, symbols: formula, pieces: ["all together ", q] };
  if (!terms.length && !nudge) return { number, symbols: `${symbolOf(q)} = 0`, pieces: [q] };
  const sum = wrap ? [`${wrap}(`, ...sumPieces(terms), ")"] : sumPieces(terms);
  if (nudge) sum.push(...(terms.length ? [" + "] : []), constant("your nudge", nudge));
  const isResolved = ["c", "dc"].includes(q.name) && terms.length > 1 && !nudge; // its products are shown, too
  const products = terms.map((term, n) => [productOf(pass, q, n, term)]);
  return {
    number, symbols: q.name === "tanh_c" ? symbolOf(q) : `${symbolOf(q)} = ${symbolsOf(sum)}`,
    pieces: [...sum, " = ", ...(isResolved ? [...sumPieces(products), " = "] : []), q],
  };
}

/** A product that is one of the terms of q. */
function productOf(pass, q, term, factors) {
  return { ...q, term, text: symbolsOf(sumPieces([factors])), of: () => termValue(pass, factors) };
}

/** [heading, lines] of each group of equations in the forward pass. */
function forwardGroups(pass) {
  const lines = (...names) => names.map((name) => line(pass, at(name, now())));
  const cell = [
    ["The input of each gate", lines("z_i", "z_f", "z_g", "z_o")],
    ["The gates", lines(...GATES)],
    ["The cell and the hidden state", lines("c", "tanh_c", "h")],
  ];
  if (pass.recorded) return cell;
  const isLast = state.step === pass.last;
  const total = head.wrap === "softmax" ? lines("total") : [];
  const loss = isLast && pass.label ? lines("loss") : [];
  const heading = isLast ? "The answer and the loss" : "The answer if the model stopped here";
  const answer = [logitLine(pass), ...total, line(pass, outputQuantity("p")), ...loss];
  return [["The word", [wordLine(pass)]], ...cell, [heading, answer]];
}

const outputQuantity = (name) => at(name, { step: state.step, output: state.output });

const lengthOf = (vector) => Math.hypot(...vector);

/** x or dx of the step. */
function vectorOf(pass, name) {
  const { E } = pass.dims;
  return pass[name].subarray(state.step * E, (state.step + 1) * E);
}

function wordLine(pass) {
  const x = at("x", { step: state.step, feature: state.feature });
  return {
    number: "", symbols: "x = E[id], the word’s row of the embedding",
    pieces: [
      `${quoted(wordOf(state.step))} is id ${experiment.steps[state.step].id}; feature ${state.feature} of x: `, x,
      `, length of x: `, { ...x, text: "length", of: () => lengthOf(vectorOf(pass, "x")) },
    ],
  };
}

function logitLine(pass) {
  const q = outputQuantity("logit");
  const own = [at("h", now()), at("w", { unit: state.unit, output: state.output })];
  const nudge = nudgeOf(pass, q);
  const others = { ...q, text: "the rest", of: (logit) => logit - nudge - termValue(pass, own) };
  const rest = pass.dims.H > 1 ? "the other units’ h · w + b_dense" : "b_dense";
  const added = nudge ? [" + ", constant("your nudge", nudge)] : [];
  return {
    number: "", symbols: `logit = h · w + ${rest}${nudge ? " + your nudge" : ""}`,
    pieces: [...sumPieces([own, [others]]), ...added, " = ", q],
  };
}

/** [heading, lines] of each group of equations in the backward pass. */
function backwardGroups(pass) {
  const lines = (...names) => names.map((name) => line(pass, at(name, now())));
  const { gate } = state;
  const fromLoss = () => [line(pass, at("dlogit", { output: state.output })), ...lines("dh_above")];
  return [
    ...(!pass.recorded && state.step === pass.last ? [["From the loss", fromLoss()]] : []),
    ["The hidden state", lines("dh", "do")],
    ["The cell", lines("dc", "di", "df", "dg", "dc_prev")],
    ["The input of each gate", lines("dz_i", "dz_f", "dz_g", "dz_o")],
    ["Back to the word and to the previous step", [dxLine(pass), ...lines("dh_prev")]],
    ...(pass.recorded ? [] : [[`The weights of gate ${gate}, unit ${unitName(state.unit)}`, weightLines(pass)]]),
  ];
}

function dxLine(pass) {
  const { number, formula } = QUANTITIES.dx;
  if (pass.recorded) {
    return { number, symbols: formula, pieces: ["length: ", constant("dx", pass.layer.dx_norm[state.step])] };
  }
  const dx = at("dx", { step: state.step, feature: state.feature });
  const all = { ...dx, text: "length", of: () => lengthOf(vectorOf(pass, "dx")) };
  return { number, symbols: formula, pieces: [`feature ${state.feature} of dx: `, dx, `, length of dx: `, all] };
}

/** (19) to (21) for the gate and unit: what the step adds, and the sum over the steps. */
function weightLines(pass) {
  const { step, unit, gate, feature, from } = state;
  const dz = at(`dz_${gate}`, now());
  const h_prev = at("h_prev", { step, unit: from });
  const sum = (q, symbols, factors) => {
    const added = factors.length > 1 ? [" = ", productOf(pass, q, step, factors)] : [];
    return {
      number: QUANTITIES[q.name].number, symbols: `${q.name}_${gate} = ${symbols} over the steps`,
      pieces: ["here ", ...sumPieces([factors]), ...added, ", over all steps ", q],
    };
  };
  return [
    sum(at("dW", { gate, feature, unit }), `Σ x_${feature} · dz_${gate}`, [at("x", { step, feature }), dz]),
    sum(at("dU", { gate, from, unit }), `Σ h_prev · dz_${gate}, from unit ${unitName(from)},`, [h_prev, dz]),
    sum(at("db", { gate, unit }), `Σ dz_${gate}`, [dz]),
  ];
}

/** Write the groups into a list, whose nodes stay as long as they fit: a focused number keeps the focus. */
function showGroups(list, groups, pass) {
  const kinds = ({ pieces }) => pieces.map((piece) => Boolean(piece.name));
  const shape = JSON.stringify(groups.map(([, lines]) => lines.map(kinds)));
  const { activeElement } = document;
  const lost = list.shape !== shape && list.contains(activeElement) ? activeElement : null;
  if (list.shape !== shape) list.replaceChildren(...groups.map(emptyGroup));
  list.shape = shape;
  groups.forEach(([heading, lines], n) => {
    list.children[n].querySelector("h3").textContent = heading;
    lines.forEach((each, k) => showLine(list.children[n].querySelector("ol").children[k], each, pass));
  });
  const isLost = ({ dataset, className }) => lost?.dataset.value === dataset.value && lost.className === className;
  Array.from(list.querySelectorAll(".link")).find(isLost)?.focus({ preventScroll: true });
}

function emptyGroup([, lines]) {
  const place = (piece) => (piece.name ? element("button", { type: "button", className: "link" }) : element("span"));
  const items = lines.map(({ pieces }) => element("li", {},
    element("span", { className: "number" }), element("span", { className: "symbols" }),
    element("span", { className: "numbers" }, ...pieces.map(place))));
  return element("section", {}, element("h3"), element("ol", { className: "equations" }, ...items));
}

function showLine(item, { number, symbols, pieces }, pass) {
  const [numberPlace, symbolsPlace, places] = item.children;
  numberPlace.textContent = number;
  if (item.symbols !== symbols) {
    symbolsPlace.replaceChildren(...colouredSymbols(symbols), element("span", { className: "unseen" }, ":"));
    item.symbols = symbols;
  }
  pieces.forEach((piece, n) => {
    const place = places.children[n];
    if (typeof piece === "string") place.textContent = piece;
    else showFactor(place, piece, pass, isOperand(pieces, n));
    place.classList.toggle("result", n === pieces.length - 1);
  });
}

/** A number of a line. */
function showFactor(place, factor, pass, inParentheses) {
  place.textContent = parenthesized(shown(factorValue(pass, factor)), inParentheses);
  place.dataset.value = keyOf(factor);
  if (!factor.name) return;
  place.title = tooltip(pass, factor);
  colour(place, factor);
  place.onclick = () => open(bare(factor));
}

// --- the picture -----------------------------------------------------------------------------------------------------

const GATE_X = { f: 55, i: 145, g: 235, o: 325 }; // the middles of their boxes
const eachGate = (of) => Object.entries(GATE_X).map(([gate, x]) => of(gate, x));

// path, what flows there forward and backward, and in which of them it has no arrowhead
const WIRES = [
  ["M0,64 H42", "c_prev", "dc_prev"], ["M68,64 H177", "c/0", "dc"], ["M190,127 V77", "c/1", "dc"],
  ["M203,64 H285", "c", "dc", "forward"], ["M285,64 H380", "c", "dc_next", "backward"],
  ["M285,64 V92", "c", "dc/1"], ["M285,120 V183", "tanh_c", "dc/1"], ["M298,196 H380", "h", "dh"],
  ["M55,236 V77", "f", "df"], ["M145,236 V140 H177", "i", "di"], ["M235,236 V140 H203", "g", "dg"],
  ["M325,236 V222 H285 V209", "o", "do"],
  ["M55,345 H325", "x", "dx", "forward backward"], ["M190,394 V345", "x", "dx", "forward"],
  ["M0,345 H55", "h_prev", "dh_prev", "forward"],
  ...eachGate((gate, x) => [`M${x},345 V329`, `z_${gate}`, `dz_${gate}`, "forward backward"]),
  ...eachGate((gate, x) => [`M${x},308 V288`, `z_${gate}`, `dz_${gate}`]),
];

// sign, where, and what it computes forward and backward
const SIGNS = [
  ["×", 55, 64, "c/0", "dc_prev df"], ["+", 190, 64, "c", "dc"], ["×", 190, 140, "c/1", "di dg"],
  ["×", 285, 196, "h", "do dc/1"], ["tanh", 285, 106, "tanh_c", "dc/1"],
];

// what, its label if it has one, and where
const VALUES = {
  forward: [
    ["c_prev", "c_prev", 2, 40, "start"], ["c", "c", 378, 40, "end"], ["c/0", "", 122, 84, "middle"],
    ["c/1", "", 184, 114, "end"], ["tanh_c", "", 292, 150, "start"], ["h", "h", 378, 190, "end"],
    ["h_prev", "h_prev", 2, 388, "start"],
  ],
  backward: [
    ["dc_prev", "dc_prev", 2, 40, "start"], ["dc", "dc", 244, 40, "middle"], ["dc_next", "dc_next", 378, 40, "end"],
    ["dc/1", "", 292, 150, "start"], ["dh", "dh", 378, 190, "end"], ["dh_prev", "dh_prev", 2, 388, "start"],
    ["dx", "|dx|", 200, 388, "start"],
  ],
};

/**
 * The picture of a view. Its numbers can be clicked, but are no stops for the Tab key: the equations beside it have the
 * same ones as buttons, and assistive technology gets the picture as one text.
 */
function picture(view) {
  const isBack = view === "backward";
  const d = isBack ? "d" : "";
  const made = svgElement("svg", { id: `${view}-picture`, class: "picture", viewBox: "0 0 380 398", role: "img" });
  const text = (kind, x, y, anchor, ...content) =>
    svgElement("text", { class: kind, x, y, "text-anchor": anchor }, ...content);
  const label = (words, x, y, anchor) => text("name", x, y, anchor, ...withDrops(words));
  const value = (name, x, y, anchor) => {
    const place = text("value", x, y, anchor);
    place.dataset.value = name;
    return place;
  };
  made.append(svgElement("rect", { class: "body", x: 8, y: 50, width: 364, height: 302, rx: 14 }));
  for (const [path, forward, back, plain = ""] of WIRES) {
    const name = isBack ? back : forward;
    const wire = svgElement("path", { class: "wire", d: path });
    const end = isBack ? "marker-start" : "marker-end";
    if (!plain.includes(view)) wire.setAttribute(end, `url(#arrow-${colourOf({ name }) ?? "x"})`);
    made.append(part(name, wire, svgElement("path", { class: "reach", d: path })));
  }
  for (const [sign, x, y, forward, back] of SIGNS) {
    const shape = sign === "tanh"
      ? svgElement("rect", { class: "box", x: x - 28, y: y - 14, width: 56, height: 28, rx: 7 })
      : svgElement("circle", { class: "box", cx: x, cy: y, r: 13 });
    const written = text("", x, y + 5, "middle", sign);
    if (sign === "tanh") written.dataset.wrap = "tanh_c";
    made.append(part(isBack ? back : forward, shape, written));
  }
  eachGate((gate, x) => {
    const box = svgElement("rect", { class: "box", x: x - 42, y: 236, width: 84, height: 52, rx: 7 });
    const level = isBack ? [] : [svgElement("rect", { class: "level", "data-level": gate, x: x - 39, width: 5 })];
    const name = label(isBack ? d + gate : `${gate} = `, x + 3, 256, "middle");
    if (!isBack) name.append(svgElement("tspan", { "data-wrap": gate }));
    made.append(part(d + gate, box, ...level, name, value(d + gate, x + 3, 279, "middle")));
    made.append(part(`${d}z_${gate}`, value(`${d}z_${gate}`, x, 324, "middle")));
  });
  for (const [name, words, x, y, anchor] of VALUES[view]) {
    const [right, up] = name === "dx" ? [36, 0] : [0, 19];
    made.append(part(name, label(words, x, y - up, anchor), value(name, x + right, y, anchor)));
  }
  const word = text("value", 214, 388, "start");
  word.id = "x-word";
  if (!isBack) made.append(part("x", label("x", 200, 388, "start"), word));
  made.append(label(isBack ? "above: dz of each gate" : "z = x W + h_prev U + b", 376, 368, "end"));
  return made;
}

/** What is drawn for one quantity, or for several. */
function part(names, ...shapes) {
  const made = svgElement("g", { class: "part", "data-of": names }, svgElement("title"), ...shapes);
  colour(made, { name: names.split(" ")[0] });
  return made;
}

/** A text in which name_x has x dropped below the line. */
function withDrops(text) {
  return text.split(/_(\w+)/).map((piece, n) => svgElement("tspan", n ? { dy: n % 2 ? 3 : -3 } : {}, piece));
}

/** An arrowhead of each colour, which only a marker of its own can have in every browser. */
function arrowhead(name) {
  const made = svgElement("marker", {
    id: `arrow-${name}`, class: "arrowhead", viewBox: "0 0 10 10", markerWidth: 9, markerHeight: 9,
    markerUnits: "userSpaceOnUse", refX: 9, refY: 5, orient: "auto-start-reverse",
  }, svgElement("path", { d: "M0,0 L10,5 L0,10 z" }));
  colour(made, { name });
  return made;
}

function showPicture(view, pass, factors) {
  const made = byId(`${view}-picture`);
  const known = (name) => factors.get(name) ?? at(name, now());
  for (const place of made.querySelectorAll("[data-value]")) {
    const value = factorValue(pass, known(place.dataset.value));
    place.textContent = value === undefined ? "" : shown(value, 3);
  }
  for (const drawn of made.querySelectorAll(".part")) {
    const factor = known(drawn.dataset.of.split(" ")[0]);
    const isKnown = factor.name in QUANTITIES && factorValue(pass, factor) !== undefined;
    drawn.querySelector("title").textContent = isKnown ? tooltip(pass, factor) : "";
    drawn.onclick = () => isKnown && open(bare(factor));
  }
  const text = (view === "forward" ? forwardInWords : backwardInWords)(pass);
  made.setAttribute("aria-label", `The cell at ${quoted(wordOf(state.step))}, ${view}. ${text}`);
}

/** How far a gate is open: a bar from the bottom of its box; the candidate's from the middle, up or down. */
function showLevel(bar, level) {
  const [zero, room] = bar.dataset.level === "g" ? [262, 23] : [285, 46];
  const height = room * Math.min(Math.abs(level), 1);
  bar.setAttribute("height", height);
  bar.setAttribute("y", level < 0 ? zero : zero - height);
}

// --- both ------------------------------------------------------------------------------------------------------------

function buildCell() {
  document.querySelector(".defs").append(...Array.from("ifgochx", arrowhead));
  byId("pictures").append(picture("forward"), picture("backward"));
  const study = byId("study");
  for (const type of ["pointerover", "focusin"]) study.addEventListener(type, ({ target }) => light(keysUnder(target)));
  for (const type of ["pointerleave", "focusout"]) study.addEventListener(type, () => light([]));
}

/** The keys of what is under the pointer or has the focus: those of a whole line, or of one part of a picture. */
function keysUnder(target) {
  const inLine = target.closest(".equations li")?.querySelectorAll("[data-value]") ?? [];
  const inPart = target.closest(".part")?.dataset.of.split(" ") ?? [];
  return [...Array.from(inLine, (place) => place.dataset.value), ...inPart];
}

/** Highlight whatever shows one of the quantities: parts of the pictures, numbers, and the lines that have them. */
function light(keys) {
  const isLit = (key) => key !== "" && keys.includes(key);
  for (const drawn of document.querySelectorAll(".part")) {
    drawn.classList.toggle("lit", drawn.dataset.of.split(" ").some(isLit));
  }
  for (const item of document.querySelectorAll(".equations li")) {
    const places = [...item.querySelectorAll("[data-value]")];
    for (const place of places) place.classList.toggle("lit", isLit(place.dataset.value));
    item.classList.toggle("lit", places.some((place) => isLit(place.dataset.value)));
  }
}

function showCell() {
  const pass = current();
  const groups = { forward: forwardGroups(pass), ...(pass.dh && { backward: backwardGroups(pass) }) };
  for (const [view, lists] of Object.entries(groups)) {
    const pieces = lists.flatMap(([, lines]) => lines.flatMap((each) => each.pieces));
    const factors = pieces.filter((piece) => typeof piece !== "string");
    showGroups(byId(`${view}-equations`), lists, pass);
    showPicture(view, pass, new Map(factors.map((factor) => [keyOf(factor), factor])));
  }
  for (const bar of document.querySelectorAll("[data-level]")) {
    showLevel(bar, valueOf(pass, at(bar.dataset.level, now())));
  }
  for (const place of document.querySelectorAll("[data-wrap]")) {
    place.textContent = shortened(QUANTITIES[place.dataset.wrap].from(pass, now()).wrap ?? "held", 6);
  }
  byId("x-word").textContent = shortened(wordOf(state.step), 14);
  byId("masked").hidden = pass.counts[state.step];
}
