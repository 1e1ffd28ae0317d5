"use strict";

// Two readings side by side, and their difference: of two sentences, or of the page as it was written and as it is now.

const MOST_PAIRS = 4_000_000; // of words that are tried to find those in common

/**
 * What is compared: with "", nothing; `words` are the second sentence's, `made` is the experiment with them; `column`
 * is one that this reading lacks.
 */
const comparison = { with: "", words: null, made: {}, column: null, maps: [] };

/** Titles of the first and the second reading, and which of them the rest of the page shows. */
const READINGS = {
  written: { titles: ["as written", "now"], here: "second" },
  sentence: { titles: ["first sentence", "second sentence"], here: "first" },
};

// --- the two readings ------------------------------------------------------------------------------------------------

/** The experiment with the second sentence, made once for each pair. */
function secondExperiment() {
  const { words, made } = comparison;
  if (made.of !== experiment || made.words !== words) {
    comparison.made = { of: experiment, words, tried: { ...experiment, ...asRead(words), added: [] } };
  }
  return comparison.made.tried;
}

const readings = () => (comparison.with === "written" ? [untouched, experiment] : [experiment, secondExperiment()]);

/**
 * The words of two texts in columns, {first, second}: their steps. Words in common, in order, share one; and so do,
 * from the last on, the words between these, of which one text has some in place of the other's.
 */
function aligned(first, second) {
  const withoutPadding = ({ kind, word }, step) => (kind === "padding" ? [] : [{ step, word }]);
  const [a, b] = [first.flatMap(withoutPadding), second.flatMap(withoutPadding)];
  const same = (n, m) => a[n].word === b[m].word;
  const shorter = Math.min(a.length, b.length);
  let [ahead, behind] = [0, 0];
  while (ahead < shorter && same(ahead, ahead)) ahead++;
  while (behind < shorter - ahead && same(a.length - 1 - behind, b.length - 1 - behind)) behind++;
  const [ends, otherEnds] = [a.length - behind, b.length - behind];
  const width = otherEnds - ahead + 1;
  const most = new Uint16Array((ends - ahead) * (width - 1) > MOST_PAIRS ? 0 : (ends - ahead + 1) * width);
  const common = (n, m) => most[(n - ahead) * width + m - ahead] ?? 0; // words in common from a[n] and b[m] on
  for (let n = ends - 1; most.length && n >= ahead; n--) {
    for (let m = otherEnds - 1; m >= ahead; m--) {
      const unpaired = Math.max(common(n + 1, m), common(n, m + 1));
      most[(n - ahead) * width + m - ahead] = same(n, m) ? common(n + 1, m + 1) + 1 : unpaired;
    }
  }
  const columns = [];
  let between = { first: [], second: [] };
  const pairBetween = () => {
    const width = Math.max(between.first.length, between.second.length);
    const stepAt = (which, n) => between[which][n - width + between[which].length];
    for (let n = 0; n < width; n++) columns.push({ first: stepAt("first", n), second: stepAt("second", n) });
    between = { first: [], second: [] };
  };
  for (let [n, m] = [0, 0]; n < a.length || m < b.length; ) {
    const pairs = n < ends && m < otherEnds ? same(n, m) && (n < ahead || most.length) : n >= ends && m >= otherEnds;
    if (pairs) {
      pairBetween();
      columns.push({ first: a[n++].step, second: b[m++].step });
    } else if (n < ends && (m >= otherEnds || common(n + 1, m) >= common(n, m + 1))) between.first.push(a[n++].step);
    else between.second.push(b[m++].step);
  }
  pairBetween();
  return columns;
}

// --- showing ---------------------------------------------------------------------------------------------------------

function buildCompare() {
  if (!RUNS) return;
  const choices = [["nothing", ""], ["the page as written", "written"], ["a second sentence", "sentence"]];
  const which = segments("compare-with", "Compare with", choices, compareWith);
  const readSecond = () => sayCompare(compareSentence(byId("second-sentence").value));
  const typing = element(
    "div", { className: "typing", id: "second" },
    ...wordField("second-sentence", "The second sentence", readSecond), actionButton("Compare", readSecond),
  );
  const figures = ["first", "second", "difference"].map((name) => {
    const map = buildHeatmap(chooseCompared);
    comparison.maps.push(map);
    return element("figure", { id: `compared-${name}` }, element("figcaption"), map.element);
  });
  byId("change").append(element(
    "section", { className: "card compare", id: "compare" }, element("h3", {}, "Compare this reading with"),
    which, typing, answerPlace("compare-answer"),
    element("p", { id: "compare-infinite", role: "status" }, "Some numbers of the second reading are not finite."),
    element(
      "div", { id: "compared" }, element("div", { className: "compared" }, ...figures),
      note("Hatched: the sentence has no word here."), element("table"),
    ),
  ));
}

function sayCompare(text) {
  byId("compare-answer").textContent = text;
}

function compareWith(which) {
  comparison.with = which;
  comparison.column = null;
  if (which === "sentence" && comparison.words === null) {
    comparison.words = wordsRead();
    byId("second-sentence").value = byId("typed").value;
  }
  sayCompare("");
  showCompare();
}

/** Compare with another sentence; why that was refused, if it was. */
function compareSentence(text) {
  const { words, refused } = read(text);
  if (refused) return refused;
  const why = unreadable(words);
  if (why) return why;
  comparison.words = words;
  comparison.column = null;
  showCompare();
  return "";
}

function showCompare() {
  if (!RUNS) return;
  chooseSegment(byId("compare-with"), comparison.with);
  byId("second").hidden = comparison.with !== "sentence";
  byId("compared").querySelector(".note").hidden = comparison.with !== "sentence";
  const isFinite = !comparison.with || readings().every((each) => isFinitePass(passOf(each)));
  byId("compared").hidden = !comparison.with || !isFinite;
  byId("compare-infinite").hidden = isFinite;
  if (byId("compared").hidden) return;
  const [first, second] = readings();
  const passes = { first: passOf(first), second: passOf(second) };
  const columns = aligned(first.steps, second.steps);
  const stepsIn = (column) => [first.steps[column.first], second.steps[column.second]].filter(Boolean);
  const names = columns.map((column) => [...new Set(stepsIn(column).map(({ word }) => word))]);
  showMaps(passes, columns, names.map((each) => each.join(" / ")));
  showTable(passes, columns[chosenColumn(columns)], names[chosenColumn(columns)]);
}

/** The column of the selected step, or one that only the other reading has. */
function chosenColumn(columns) {
  const { column } = comparison;
  if (column && column.step === state.step && column.at < columns.length) return column.at;
  const { here } = READINGS[comparison.with];
  return Math.max(columns.findIndex((each) => each[here] === state.step), 0);
}

function chooseCompared(row, at) {
  const [first, second] = readings();
  const step = aligned(first.steps, second.steps)[at][READINGS[comparison.with].here];
  comparison.column = step === undefined ? { at, step: state.step } : null;
  lookAt({ unit: state.units[row], step: step ?? state.step });
}

/** Both heatmaps on one scale, and the heatmap of the difference. */
function showMaps(passes, columns, names) {
  const { titles } = READINGS[comparison.with];
  const name = shownName(passes.first.dc && passes.second.dc);
  const valuesOf = (which) => {
    const value = shownValues(passes[which], name);
    return (row, at) => {
      const step = columns[at][which];
      return step === undefined ? undefined : value(step, state.units[row]);
    };
  };
  const [first, second] = [valuesOf("first"), valuesOf("second")];
  const cells = state.units.flatMap((_, row) => columns.map((_, at) => [row, at]));
  const largest = (most, cell) => Math.max(most, Math.abs(first(...cell) ?? 0), Math.abs(second(...cell) ?? 0));
  const scaleTo = cells.reduce(largest, 0);
  const shared = {
    rows: unitsInOrder(), columns: names, chosen: [state.units.indexOf(state.unit), chosenColumn(columns)],
  };
  const reading = (value, title) =>
    ({ ...shared, name, value, scaleTo, isShare: SHARES.includes(name), title: `${name}, ${title}` });
  const difference = {
    ...shared, name: `difference of ${name}`, value: (...cell) => differenceOf(first(...cell), second(...cell)),
    title: `Difference: ${titles[1]} − ${titles[0]}`,
  };
  [reading(first, titles[0]), reading(second, titles[1]), difference].forEach((drawn, n) => {
    const map = comparison.maps[n];
    map.element.parentElement.firstChild.textContent = drawn.title;
    drawHeatmap(map, drawn);
  });
}

const differenceOf = (a, b) => (a === undefined || b === undefined ? undefined : b - a);

/** The chosen unit at the chosen word, or two of them, in both readings. */
function showTable(passes, column, words) {
  const { titles, here } = READINGS[comparison.with];
  const haveOneLabel = String(passes.first.label) === String(passes.second.label);
  const quantities = [
    ...SHOWN.forward.map((name) => [name, (step) => at(name, { step, unit: state.unit })]),
    [`${outputName()} after the word`, (step) => at("p", { step, output: state.output })],
    [`${outputName()} at the end`, (_, pass) => at("p", { step: pass.last, output: state.output })],
    [`loss ${haveOneLabel ? fromLabel(passes.first) : ""}`, () => at("loss", {})],
  ];
  const rows = quantities.map(([title, quantity]) => {
    const values = ["first", "second"].map((which) => {
      const q = quantity(column[which], passes[which]);
      const isHere = !("step" in q) || q.step !== undefined;
      return [which, q, isHere ? valueOf(passes[which], q) : undefined];
    });
    const cells = values.map(([which, q, value]) => {
      if (value === undefined) return element("td", {}, "–");
      return element("td", {}, which === here ? numberLink(q, shown(value)) : shown(value));
    });
    const [a, b] = values.map(([, , value]) => value);
    const by = differenceOf(a, b);
    const sign = by > 0 ? "above" : by < 0 ? "below" : "";
    const name = element("th", { scope: "row" }, title);
    return element("tr", {}, name, ...cells, element("td", { className: sign }, by === undefined ? "–" : signed(by)));
  });
  const heads = ["", ...titles, "difference"].map((title) => element(title ? "th" : "td", {}, title));
  heads.forEach((head) => head.setAttribute("scope", "col"));
  document.querySelector("#compare table").replaceChildren(
    element("caption", {}, `Unit ${unitName(state.unit)} at ${words.map(quoted).join(" / ")}`),
    element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows),
  );
}

const fromLabel = ({ label }) => (label ? `(label ${labelText(label)})` : "");
const signed = (number) => (number > 0 ? "+" : "") + shown(number);
