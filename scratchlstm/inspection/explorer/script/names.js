"use strict";

// What numbers, words and quantities are called, and the colour of each quantity.

/** A number as it is printed. */
function shown(number, digits = 4) {
  const size = Math.abs(number);
  if (Number.isInteger(number) && size < 1e4) return `${number}`.replace("-", "−");
  const text = size < 1e-3 || size >= 1e4 ? size.toExponential(digits - 1) : size.toPrecision(digits);
  return (number < 0 ? "−" : "") + text.replace("-", "−");
}

/** A number as it was typed, 0.01 and not 0.01000. */
const rounded = (number) => `${Number(number.toPrecision(4))}`.replaceAll("-", "−");

/** A share, without decimals. */
function percent(share) {
  if (share > 0 && share < 0.01) return "less than 1 %";
  if (share > 0.99 && share < 1) return "more than 99 %";
  return `${Math.round(100 * share)} %`.replace("-", "−");
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);

/** A text with at most so many letters. */
function shortened(text, most) {
  const letters = Array.from(text);
  return letters.length > most ? `${letters.slice(0, most - 1).join("")}…` : text;
}

/** A word in quotes, kept from turning the words around it about if it is written from right to left. */
const quoted = (word) => `“\u2068${shortened(word, 24)}\u2069”`;

/** A text in which name_x, or name_{x,y}, has its end as a subscript. */
function withSubscripts(text) {
  const below = (part) => element("sub", {}, element("span", { className: "unseen" }, "_"), part);
  const parts = text.split(/_(?:\{([^}]*)\}|(\w+))/).map((part, n) => (n % 3 ? part && below(part) : part));
  return element("span", {}, ...parts.filter(Boolean));
}

/** The word of a step, as a text for people. */
function wordOf(step) {
  const { word, kind } = experiment.steps[step];
  return kind === "padding" ? "<padding>" : word;
}

/** The letter of the gate or state that a quantity belongs to, whose colour it has; undefined for those of no one. */
function colourOf({ name, gate }) {
  return gate ?? /^d?(?:z_)?([ifgoch])(?:_|\/|$)/.exec(name === "tanh_c" ? "c" : name)?.[1];
}

const ownColour = (q) => `var(--${colourOf(q) ?? "ink"})`;
const isGradient = ({ name }) => name.startsWith("d");

/** Give a node the colour of a quantity, and mark gradients, which are drawn dashed. */
function colour(node, q) {
  node.style.setProperty("--own", ownColour(q));
  node.classList.toggle("gradient", isGradient(q));
}

const SYMBOLS = { xW: "x W", hU: "h_prev U", tanh_c: "tanh(c)", loss: "L", w_b: "b_dense", dw_b: "db_dense" };

/** A quantity as equations write it. */
function symbolOf({ name, gate, text }) {
  if (text !== undefined) return name && / [+−] /.test(text.replace(/\(.*\)/, "")) ? `(${text})` : text;
  const symbol = withActivations(current(), SYMBOLS[name] ?? name);
  return gate ? `${symbol}_${gate}` : symbol;
}

/** A quantity as equations write it with all its indices: z_{f,3}. */
function indexed({ name, gate, unit, feature, from, output, row }) {
  const [, stem, below] = /^(.*?)(?:_(\w+))?$/.exec(symbolOf({ name }));
  const indices = [
    row === undefined ? undefined : data.ids[row], below, gate, from, feature,
    unit === undefined ? undefined : unitName(unit), data.outputs > 1 ? output : undefined,
  ].filter((index) => index !== undefined);
  return indices.length ? `${stem}_{${indices.join(",")}}` : stem;
}

/** Symbols with their subscripts and colours. */
function colouredSymbols(text) {
  return text.split(/(?<!\w)((?:d?(?:z_)?[ifgoch]|d?[WUb](?=_))(?:_\w+)?)(?!\w)/).map((part, place) => {
    const made = withSubscripts(part);
    if (place % 2) colour(made, { name: part, gate: /^d?[WUb]_(.)/.exec(part)?.[1] });
    return made;
  });
}

/** The number of a unit in the model, of which a recording has some. */
const unitName = (unit) => current().names?.[unit] ?? unit;

/** The word of a step in quotes, with the number of the step if it comes more than once. */
function quotedStep(step) {
  const times = experiment.steps.filter(({ word: other }) => other === experiment.steps[step].word).length;
  return quoted(wordOf(step)) + (times > 1 ? ` (step ${step + 1})` : "");
}

/** The word of a row of E. */
function wordOfRow(row) {
  const step = experiment.steps.find(({ id }) => rowOf.get(id) === row);
  if (step?.kind === "padding") return "<padding>";
  return step?.word ?? data.known.find(([, id]) => rowOf.get(id) === row)?.[0] ?? `id ${data.ids[row]}`;
}

// --- sums ------------------------------------------------------------------------------------------------------------

/** Factors with " · ", " + " and " − " between. */
function sumPieces(terms) {
  return terms.flatMap((term, n) => {
    const isTakenAway = term[0].value === -1 && term.length > 1;
    const factors = (isTakenAway ? term.slice(1) : term).flatMap((factor, k) => (k ? [" · ", factor] : [factor]));
    const sign = n ? [isTakenAway ? " − " : " + "] : isTakenAway ? ["−"] : [];
    return [...sign, ...factors];
  });
}

/** Whether a piece follows an operator: a negative number then needs parentheses. */
const isOperand = (pieces, n) => /[+·−] ?$/.test(pieces[n - 1]);
const parenthesized = (text, inParentheses) => (inParentheses && text.startsWith("−") ? `(${text})` : text);

const FEW_TERMS = 6; // which are written as one line
const isLong = (q, terms) => terms.length > FEW_TERMS || (QUANTITIES[q.name].over && terms.length > 1);

const symbolsOf = (pieces) => pieces.map((piece) => (typeof piece === "string" ? piece : symbolOf(piece))).join("");

// --- in words --------------------------------------------------------------------------------------------------------

/** What a quantity is, where, in words: “f, forget gate of unit 3 at “film””. */
function inWords(pass, q) {
  const title = withActivations(pass, QUANTITIES[q.name].title);
  const symbol = symbolOf({ name: q.name });
  const places = { ...q, unit: q.unit === undefined ? undefined : unitName(q.unit) };
  if (q.row !== undefined) places.row = quoted(wordOfRow(q.row));
  const isNamed = title.includes("{") || RegExp(`\\b${symbol.replace(/\W/g, "\\$&")}\\b`).test(title);
  const where = [
    q.unit !== undefined && !title.includes("{unit}") && `of unit ${places.unit}`,
    q.output !== undefined && data.outputs_of > 1 && `of output ${q.output}`,
    q.step !== undefined && `at ${quotedStep(q.step)}`,
  ];
  const text = title.replace(/\{(\w+)\}/g, (_, place) => places[place]);
  return [...(isNamed ? [] : [`${symbol},`]), text, ...where].filter(Boolean).join(" ");
}

/** A quantity in words, and its value to all digits. */
function tooltip(pass, q) {
  return `${q.text ? `${q.text}, from ` : ""}${inWords(pass, bare(q))}: ${factorValue(pass, q)}`;
}

/** A number that opens itself when it is clicked: every number of the page is one of these. */
function numberLink(q, content, className = "") {
  const button = actionButton(content, () => open(q), { className: `link ${className}`, title: tooltip(current(), q) });
  colour(button, q);
  return button;
}
