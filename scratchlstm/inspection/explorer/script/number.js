"use strict";

// The number that is opened: the chain it is part of, its sources, its uses, and nudging it.

const MOST_TERMS = 8; // of a long sum, drawn one by one
const MOST_USES = 8; // of those that are linked

const sameQuantity = (a, b) => identity(a) === identity(b);
const identity = (q) => JSON.stringify(bare(q), Object.keys(bare(q)).sort());
const isNumber = (value) => value !== undefined && Number.isFinite(value);

/** The number that is opened; until one is, the cell or, in Backward, its gradient. */
function opened() {
  const { chosen, step, unit, view } = state;
  if (chosen === null) return at(view === "backward" && current().dc ? "dc" : "c", { step, unit });
  return chosen.step === undefined ? chosen : { ...chosen, step: Math.min(chosen.step, current().T - 1) };
}

// --- the chain -------------------------------------------------------------------------------------------------------

/** From the word to the loss and back, at the unit, gate and step that are looked at: groups of quantities. */
function chain() {
  const { step, unit, gate, feature, from, output } = state;
  const { rows, last } = current();
  const here = (name) => at(name, { step, unit });
  const atTheEnd = (name) => (step === last ? [] : [[at(name, { step: last, unit })]]); // which the dense layer takes
  const forwards = [
    [at("E", { row: rows[step], feature })], [at("x", { step, feature })],
    [at("xW", { step, gate, unit }), at("hU", { step, gate, unit }), at("b", { gate, unit })],
    [here(`z_${gate}`)], [here(gate)], [here("c")], [here("h")], ...atTheEnd("h"),
    [at("logit", { step: last, output })], [at("p", { step: last, output })], [at("loss", {})],
  ];
  const backwards = [
    [at("dlogit", { output })], ...atTheEnd("dh"), [here("dh")], [here("dc")], [here(`d${gate}`)], [here(`dz_${gate}`)],
    [
      at("dW", { gate, feature, unit }), at("dU", { gate, from, unit }), at("db", { gate, unit }),
      at("dx", { step, feature }),
    ],
    [at("dE", { row: rows[step], feature })],
  ];
  const known = (groups) =>
    groups.map((group) => group.filter((q) => isNumber(valueOf(current(), q)))).filter((group) => group.length);
  return [known(forwards), known(backwards)];
}

/** The chain as two lists, which are one stop of the Tab key: the arrow keys follow it. */
function showChain(q) {
  const rail = byId("chain");
  const hadFocus = rail.contains(document.activeElement);
  const lists = chain().filter((groups) => groups.length).map((groups, way) => {
    const items = groups.flatMap((group) =>
      group.map((each, place) => railItem(each, place > 0, sameQuantity(each, q))));
    return element("ol", { className: way ? "back" : "", ariaLabel: way ? "backward" : "forward" }, ...items);
  });
  rail.replaceChildren(...lists);
  const stop = rail.querySelector("[aria-current]") ?? rail.querySelector("button");
  if (stop) stop.tabIndex = 0;
  if (hadFocus) stop?.focus({ preventScroll: true });
}

function railItem(q, isBeside, isCurrent) {
  const follow = () => open(q, state.step); // the chain is that of the step that is looked at
  const button = actionButton(withSubscripts(railName(q)), follow, { title: tooltip(current(), q), tabIndex: -1 });
  colour(button, q);
  button.append(element("small", {}, q.name === "E" ? `id ${data.ids[q.row]}` : shown(valueOf(current(), q), 3)));
  if (isCurrent) button.setAttribute("aria-current", "true");
  return element("li", { className: isBeside ? "beside" : "" }, button);
}

/** A quantity's name in the chain, without the indices that are those of all the others. */
function railName({ name, gate, row, step }) {
  if (name === "dlogit" && head.slopeFormula === "dlogit = p − y") return "p − y";
  if (name === "E") return quoted(shortened(wordOfRow(row), 14));
  const isAtEnd = (name === "h" || name === "dh") && step === current().last && state.step !== step;
  return symbolOf({ name, gate }) + (isAtEnd ? " at the end" : "");
}

/** The arrow keys in a list of buttons go from one to the next and press it. */
function onListKey(event) {
  const way = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
  if (way === undefined || hasModifier(event)) return;
  event.preventDefault();
  event.stopPropagation(); // elsewhere these keys go from word to word
  const buttons = Array.from(event.currentTarget.querySelectorAll("button"));
  const next = buttons[clamped(buttons.indexOf(event.target) + way, 0, buttons.length - 1)];
  next.focus();
  next.click();
}

// --- where it comes from ---------------------------------------------------------------------------------------------

const paragraph = (text) => element("p", {}, text);

/** Why a sum has no terms. */
function whyEmpty(pass, q) {
  if (/^d[ifgo]$|^dz_/.test(q.name) && !pass.counts[q.step]) {
    return "At a masked step no gradient of the loss reaches the gates, so this is 0.";
  }
  if (q.name === "dE") return "This word does not occur in the sentence, so this is 0.";
  if (q.name.startsWith("dz_")) return "The gate is held and ignores its z, so this is 0.";
  if (q.name === "dh_above") return "The loss uses only h after the last step, so nothing comes from above here: 0.";
  if (q.name.endsWith("next")) return "There is no next step, so this is 0.";
  return "There is no previous step: it starts at 0.";
}

/** What a number is computed from, as elements. */
function origin(pass, q) {
  const sources = sourcesOf(pass, q);
  if (q.name === "y") return [paragraph("It is given with the text.")];
  if (q.name === "E") return [paragraph(learnedFrom(q)), ...embeddingRow(pass, q.row, q.feature)];
  if (sources === undefined) return [paragraph(learnedFrom(q))];
  if (!canOpen(pass, q)) {
    const why = "Its inputs are not on this page, which does not run the model";
    return [paragraph(`${why}: ${data.cannot_run}.`)];
  }
  const { number, formula } = QUANTITIES[q.name];
  const equation = element("p", { className: "equation" }, number ? `${number} ` : "");
  equation.append(withSubscripts(withActivations(pass, formula)));
  const strip = q.name === "x" ? embeddingRow(pass, pass.rows[q.step], q.feature) : [];
  if (!sources.terms.length && !sources.nudge) return [equation, paragraph(whyEmpty(pass, q))];
  const sum = isLong(q, sources.terms) ? opensAsBars(pass, q, sources) : [arithmetic(pass, q, sources)];
  return [equation, ...sum, ...strip];
}

/** Of a weight: that it was learned, and what the reader has added to it. */
function learnedFrom(q) {
  const by = experiment.weights.filter((each) => sameQuantity(each.q, q)).reduce((sum, each) => sum + each.by, 0);
  const whose = q.name === "E" ? "for this word" : "at every step";
  const nudged = by ? ` Your nudges added ${rounded(by)} to it.` : "";
  return `A weight, found by training; it is the same ${whose}.${nudged}`;
}

/** The pieces of a sum with each factor as a link. */
const linked = (pass, pieces) =>
  pieces.map((piece, n) => (typeof piece === "string" ? piece : valueLink(pass, piece, isOperand(pieces, n))));

/** A factor by its value. */
function valueLink(pass, factor, inParentheses) {
  if (!factor.name && /[a-z]/.test(factor.text)) return factor.text;
  const text = parenthesized(factor.name ? shown(factorValue(pass, factor)) : factor.text, inParentheses);
  if (!factor.name) return text;
  const made = numberLink(bare(factor), text);
  made.title = tooltip(pass, factor);
  return made;
}

const nudgeText = (by) => `${by < 0 ? "−" : "+"} ${rounded(Math.abs(by))}`;

/** A short sum in one line. */
function arithmetic(pass, q, { wrap, terms, nudge }) {
  const sum = linked(pass, sumPieces(terms));
  const isCopy = !wrap && !nudge && terms.length === 1 && terms[0].length === 1;
  if (isCopy) return element("p", { className: "arithmetic" }, "= ", ...sum);
  const added = nudge ? [` ${nudgeText(nudge)} (your nudge)`] : [];
  const whole = wrap ? [`${wrap}(`, ...sum, ")"] : sum;
  return element("p", { className: "arithmetic" }, ...whole, ...added, ` = ${shown(valueOf(pass, q))}`);
}

/** Whether a term of a long sum is that of the step, unit or feature that is looked at. */
const isLookedAt = (term, over) => term.some((factor) => over.every((place) => factor[place] === state[place]));

/** A long sum: its largest terms as bars, the others as one. */
function opensAsBars(pass, q, { terms, nudge }) {
  const { over = [] } = QUANTITIES[q.name];
  const all = terms.map((term) =>
    ({ term, value: termValue(pass, term), isHere: over.length > 0 && isLookedAt(term, over) }));
  const sorted = all.toSorted((a, b) => b.isHere - a.isHere || Math.abs(b.value) - Math.abs(a.value));
  const room = Math.min(MOST_TERMS, all.filter(({ value, isHere }) => value || isHere).length);
  const [drawn, others] = [sorted.slice(0, room), sorted.slice(room)];
  drawn.sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
  const bars = drawn.map(({ term, value, isHere }) =>
    ({ label: termLabel(pass, term), value, isHere, of: term.find(({ name }) => name) }));
  const rest = others.reduce((sum, { value }) => sum + value, 0);
  if (others.length) bars.push({ label: [`the other ${others.length}`], value: rest });
  if (nudge) bars.push({ label: ["your nudge"], value: nudge });
  const most = Math.max(...bars.map(({ value }) => Math.abs(value))) || 1;
  const list = element("ul", { className: "bars" }, ...bars.map((bar) => barItem(bar, most)));
  const [mine] = all.filter(({ isHere }) => isHere);
  const total = shown(valueOf(pass, q));
  const share = mine && over.includes("step")
    ? [paragraph(`This step, ${quotedStep(state.step)}, adds ${shown(mine.value)} of ${total}.`)]
    : [];
  const sum = element("p", { className: "arithmetic" }, `${bars.length > 1 ? "All together" : ""} = ${total}`);
  return [...share, list, sum];
}

/** "h₄ · w₄ = 0.31 · (−1.2)", with the word in a sum over the steps. */
function termLabel(pass, term) {
  const pieces = sumPieces([term]);
  const names = pieces.map((piece) => piece.text ?? (piece.name ? withSubscripts(indexed(piece)) : piece));
  const word = term.find(({ name, step }) => name && step !== undefined && step !== opened().step);
  return [...names, ...(word ? [` at ${quotedStep(word.step)}`] : []), " = ", ...linked(pass, pieces)];
}

/** One term of a long sum, in the colour of its first factor. */
function barItem({ label, value, isHere, of }, most) {
  const bar = element("span", { className: value < 0 ? "bar negative" : "bar", ariaHidden: "true" }, element("span"));
  bar.style.setProperty("--size", `${(50 * Math.abs(value)) / most}%`);
  if (of) colour(bar, of);
  const text = element("span", { className: "label" }, ...label);
  const number = element("span", { className: "value" }, shown(value));
  return element("li", { className: isHere ? "here" : "" }, text, bar, number);
}

/** A word, its id, and the row of the embedding as bars, the chosen feature marked: one stop of the Tab key. */
function embeddingRow(pass, row, chosen) {
  const values = everyFeature(pass, (feature) => valueOf(pass, at("E", { row, feature })));
  const most = Math.max(...values.map(Math.abs)) || 1;
  const word = quoted(wordOfRow(row));
  const strip = element("div", { className: "strip", role: "group", ariaLabel: `The row of ${word} in the embedding` });
  values.forEach((value, feature) => {
    const button = numberLink(at("E", { row, feature }), element("span"), value < 0 ? "negative" : "");
    button.ariaLabel = `feature ${feature}: ${shown(value)}`;
    button.style.setProperty("--size", `${(50 * Math.abs(value)) / most}%`);
    button.tabIndex = feature === chosen ? 0 : -1;
    if (feature === chosen) button.setAttribute("aria-current", "true");
    strip.append(button);
  });
  strip.addEventListener("keydown", onListKey);
  const features = `The embedding has ${data.features} numbers for that id:`;
  return [paragraph(`The model reads ${word} as id ${data.ids[row]}. ${features}`), strip];
}

// --- where it goes to ------------------------------------------------------------------------------------------------

/** Links to what is computed from a number, the largest first. */
function showUses(pass, q) {
  const uses = usesOf(pass, q).map((use) => ({ use, value: valueOf(pass, use) }));
  uses.sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
  const lines = [["in the forward pass", false], ["in the backward pass", true]].flatMap(([where, back]) => {
    const all = uses.filter(({ use }) => isGradient(use) === back);
    if (!all.length) return [];
    const links = all.slice(0, MOST_USES).flatMap(({ use, value }) => {
      const place = use.step !== undefined && use.step !== q.step ? ` at ${quotedStep(use.step)}` : "";
      return [numberLink(use, equals(use, value, place)), " "];
    });
    const more = all.length > MOST_USES ? [`and ${all.length - MOST_USES} smaller ones`] : [];
    return [element("p", { className: "uses" }, `${where}: `, ...links, ...more)];
  });
  const end = paragraph("Nothing more is computed from it: this is where the chain ends.");
  byId("number-uses").replaceChildren(...(lines.length ? lines : [end]));
}

// --- nudging ---------------------------------------------------------------------------------------------------------

/** Why a number cannot be nudged, as elements; null if it can. */
function whyNotNudged(pass, q) {
  if (!RUNS) return [`Nothing can be nudged here because this page does not run the model: ${data.cannot_run}.`];
  if (pass.loss === null) {
    return ["Nothing can be nudged here because there is no loss to measure a slope of."];
  }
  if (isGradient(q)) {
    const instead = "Nudge the number it is the gradient of to measure it: ";
    return [`A gradient is a result. ${instead}`, ...nudgedInstead(q)];
  }
  if (q.name === "logit" && q.step !== pass.last) {
    return ["The loss uses only the logit after the last word. Nudge that one."];
  }
  return shift(q, 0) ? null : ["This number is a result. Nudge one it is computed from."];
}

/** "c₃ = 0.5" */
const equals = (q, value = valueOf(current(), q), place = "") =>
  element("span", {}, withSubscripts(indexed(q)), `${place} = ${shown(value)}`);

/** A link to the number whose gradient is opened. */
function nudgedInstead(q) {
  const name = Object.keys(QUANTITIES).find((each) => QUANTITIES[each].slope === q.name);
  if (name === undefined) return [];
  const original = { ...q, name, ...(name === "logit" ? { step: current().last } : {}) };
  return [numberLink(original, equals(original)), "."];
}

function buildNumber() {
  const title = element("p", { id: "number-title", tabIndex: -1 });
  const sizes = [0.001, 0.01, 0.1, 1].map((by) => element("option", { value: by }, `${by}`));
  const epsilon = element("select", { id: "epsilon" }, ...sizes);
  epsilon.value = "0.01";
  const by = (sign) => sign * Number(epsilon.value);
  const set = element("input", { id: "set-to", type: "text", inputMode: "decimal", autocomplete: "off" });
  const form = element("form", { id: "nudge-form", noValidate: true },
    actionButton("−ε", () => nudge(by(-1)), { id: "nudge-down" }),
    actionButton("+ε", () => nudge(by(1)), { id: "nudge-up" }),
    element("label", {}, "ε ", epsilon), element("label", {}, "set to ", set), element("button", { id: "set" }, "Set"));
  form.addEventListener("submit", (event) => { event.preventDefault(); setTo(set.value); });
  const rail = element("nav", { id: "chain", ariaLabel: "The chain from the word to the loss and back" });
  rail.addEventListener("keydown", onListKey);
  byId("number").append(
    element("h2", {}, "Follow a number along the whole chain"),
    note("Click any number on the page or in the chain: where it comes from and where it goes is shown below."), rail,
    element("div", { id: "number-card", className: "card" },
      title, element("h3", {}, "Where it comes from"), element("div", { id: "number-origin" }),
      element("h3", {}, "Where it goes"), element("div", { id: "number-uses" }),
      element("h3", {}, "Nudge it"), element("p", { id: "nudge-refused" }), form,
      element("p", { id: "nudge-said", role: "status" }),
      element("dl", { id: "slopes" },
        element("dt", {}, "measured slope, (L(+ε) − L(−ε)) / 2ε as ε goes to 0"), element("dd", { id: "measured" }),
        element("dt", {}, "the equation’s gradient, ", element("span", { id: "slope-name" })),
        element("dd", { id: "slope" }),
        element("dd", { id: "agreement" })),
      element("p", { id: "nudge-undo" },
        actionButton("Undo", undo, { id: "undo" }), " ", actionButton("", reset, { id: "reset-nudges" }))),
  );
}

function nudge(by) {
  sayOfNudge(experimentWith(shifted(experiment, opened(), by)));
}

function setTo(text) {
  const value = Number(text.trim().replaceAll("−", "-").replace(",", "."));
  if (text.trim() === "" || !Number.isFinite(value)) {
    return sayOfNudge(`${quoted(text)} is not a number. Type one, such as 0.5.`);
  }
  return nudge(value - valueOf(current(), opened()));
}

const undo = () => sayOfNudge(experimentWith(withoutLastShift(experiment)));
const reset = () => sayOfNudge(experimentWith({ weights: [], added: [] }));

/** Tell why nothing was nudged. */
function sayOfNudge(refused) {
  if (refused) byId("nudge-said").textContent = refused;
}

/** The loss before and after the last nudge. */
function lossChange() {
  const last = lastShift(experiment);
  if (last === undefined) return `The loss is ${shown(current().loss, 6)}.`;
  const before = run(withoutLastShift(experiment)).loss;
  const change = current().loss - before;
  const nudged = `${indexed(last.q).replace(/_\{(.*?)\}/, "[$1]")} ${nudgeText(last.by)}`;
  const now = `is ${shown(current().loss, 6)} (${change < 0 ? "" : "+"}${shown(change)})`;
  return `Your last nudge, ${nudged}: the loss was ${shown(before, 6)} and ${now}.`;
}

/** How far two numbers agree, in words. */
function agreement(measured, gradient) {
  const size = Math.max(Math.abs(measured), Math.abs(gradient));
  const whole = Math.max(1, current().loss); // of whose digits the slope needs the last ones
  if (size === 0) return "Both are 0: the loss does not depend on this number.";
  if (size < 1e-9 * whole) return "The slope is too small to be measured with the digits of the loss.";
  const digits = Math.max(0, Math.min(Math.floor(-Math.log10(Math.abs(measured - gradient) / size)), 15));
  const isLimited = digits < 6 && size < 1e-6 * whole;
  const limit = isLimited ? "; for so small a slope the loss does not have enough digits to see more" : "";
  return `They agree to ${digits} digits${limit}.`;
}

function showNudge(pass, q) {
  const refused = whyNotNudged(pass, q);
  byId("nudge-refused").replaceChildren(...(refused ?? []));
  for (const id of ["nudge-form", "nudge-said", "slopes"]) byId(id).hidden = refused !== null;
  const nudges = experiment.weights.length + experiment.added.length;
  byId("nudge-undo").hidden = !nudges && refused !== null;
  for (const id of ["undo", "reset-nudges"]) byId(id).setAttribute("aria-disabled", !nudges);
  byId("reset-nudges").textContent = nudges > 1 ? `Reset all ${nudges} nudges` : "Reset all nudges";
  clearTimeout(measuring);
  if (refused) return;
  if (document.activeElement !== byId("set-to")) byId("set-to").value = shown(valueOf(pass, q)).replaceAll("−", "-");
  setText(byId("nudge-said"), lossChange());
  const gradient = gradientOf(q);
  byId("slope-name").replaceChildren(withSubscripts(indexed(gradient)));
  byId("slope").replaceChildren(numberLink(gradient, shown(valueOf(pass, gradient), 6)));
  byId("measured").textContent = byId("agreement").textContent = "…";
  measuring = setTimeout(() => showMeasured(q, valueOf(pass, gradient))); // several runs of the model: after all else
}

let measuring = null;

function showMeasured(q, gradient) {
  const measured = measuredSlope(experiment, q);
  byId("measured").textContent = shown(measured, 6);
  byId("agreement").textContent = agreement(measured, gradient);
}

// --- showing ---------------------------------------------------------------------------------------------------------

/** The number, its value and its words; read out when they change, but not word by word while the page plays. */
function showTitle(q, value) {
  const title = byId("number-title");
  const printed = isNumber(value) ? [" = ", element("strong", {}, shown(value, 6))] : [];
  const made = element("p", {}, withSubscripts(indexed(q)), ...printed, element("span", {}, inWords(current(), q)));
  if (made.textContent === title.textContent) return;
  title.ariaLive = state.timer === null ? "polite" : "off";
  title.replaceChildren(...made.childNodes);
  colour(title, q);
}

function showNumber() {
  const pass = current();
  const q = opened();
  const value = valueOf(pass, q);
  const panel = byId("number-card");
  const [hadFocus, hadStrip] = [panel.contains(document.activeElement), document.activeElement.closest(".strip")];
  showChain(q);
  showTitle(q, value);
  if (isNumber(value)) {
    byId("number-origin").replaceChildren(...origin(pass, q));
    showUses(pass, q);
  }
  showNudge(pass, q);
  if (!hadFocus || panel.contains(document.activeElement)) return;
  const kept = hadStrip && panel.querySelector(".strip [aria-current]"); // of the link that was pressed nothing is left
  (kept || byId("number-title")).focus({ preventScroll: true });
}
