"use strict";

// The sentence, word by word; its padding is folded into one.

let paddingOpen = false;

/** The first step that is shown: the one after the padding, unless that is unfolded. */
function firstStep() {
  const first = experiment.steps.findIndex(({ kind }) => kind !== "padding");
  return paddingOpen ? 0 : Math.max(first, 0);
}

/** The model's output after a step: what its head would make of h there; null if a recording does not have it. */
function outputAfter(step) {
  return RUNS ? current().p[step][state.output] : data.outputs_by_word[step];
}

/** The output after a step as a text. */
function outputText(step) {
  const output = outputAfter(step);
  return output === null ? "" : shown(output);
}

function unfoldPadding() {
  paddingOpen = true;
  buildWords();
}

function togglePadding() {
  paddingOpen = !paddingOpen;
  buildWords();
  goTo(state.step);
  byId("padding").focus();
}

/** What the model's answer is called: a probability if the loss, and not the dense layer, makes one of the logits. */
function outputName() {
  const name = RUNS && data.activation === "linear" && head.wrap ? "probability" : "output";
  return data.outputs_of > 1 ? `${name} ${state.output}` : name; // counted from 0, as the labels are
}

/** The model's output after a word, and what it is the probability of, if the loss tells. */
function outputInWords() {
  const name = outputName();
  const isYesOrNo = data.loss_name === "binary" && data.outputs_of === 1;
  if (!isYesOrNo && data.loss_name !== "categorical") return `${name} after it`;
  const of = `probability of label ${isYesOrNo ? 1 : state.output}`;
  return name.startsWith("probability") ? `${of} after it` : `${name} after it, the ${of}`;
}

function buildWords() {
  const first = firstStep();
  const items = experiment.steps.map(({ word, kind }, step) => {
    const text = kind === "padding" ? "padding" : word;
    const button = actionButton(text, () => goTo(step), { className: kind, dir: "auto" });
    button.dataset.step = step;
    button.append(element("small", { dir: "ltr" }));
    if (kind === "unknown") button.title = "not in the vocabulary: the model reads its mark for unknown words";
    return element("li", {}, button);
  });
  const padding = experiment.steps.filter(({ kind }) => kind === "padding").length;
  if (padding) {
    const properties = { id: "padding", ariaExpanded: String(paddingOpen) };
    const fold = actionButton(`${padding} × padding`, togglePadding, properties);
    items.splice(0, first, ...items.slice(0, first && 0), element("li", {}, fold));
  }
  byId("words").replaceChildren(...items);
}

function showNotes() {
  const notes = [
    `Below each word is the model's ${outputInWords()}. The tint is the unit's cell: blue above 0, orange below.`,
  ];
  if (experiment.steps.some(({ kind }) => kind === "unknown")) notes.push("Dashed words are unknown to the model.");
  const { left_out } = experiment;
  if (left_out) notes.push(`${left_out} earlier words are left out: the model reads ${data.most_steps} steps.`);
  const read = experiment.steps.filter(({ kind }) => kind !== "padding").length;
  const padding = (data.length ?? read) - read; // of which a recording has no steps
  if (padding) {
    const how = data.masked ? "which the mask skips" : "which the model reads too: it has already changed the cell";
    notes.push(`The first word is preceded by ${padding} steps of padding, ${how}.`);
  }
  if (hasGradients()) {
    const whose = experiment.own_label ? "the model's own answer" : "given";
    const label = RUNS ? labelText(experiment.label) : [data.label].flat().join(", ");
    notes.push(`The loss, ${shown(current().loss)}, compares the last output with label ${label} (${whose}).`);
  }
  setText(byId("notes"), notes.join(" "));
}

function showWords() {
  const pass = current();
  const cells = experiment.steps.map((_, step) => valueOf(pass, at("c", { step, unit: state.unit })));
  const most = Math.max(...cells.map(Math.abs)) || 1;
  document.querySelectorAll("#words button[data-step]").forEach((button) => {
    const step = Number(button.dataset.step);
    button.querySelector("small").textContent = outputText(step);
    button.style.setProperty("--tint", `${(45 * Math.abs(cells[step])) / most}%`);
    button.classList.toggle("negative", cells[step] < 0);
    button.tabIndex = step === state.step ? 0 : -1; // one stop for the Tab key, not one for each word
    if (step !== state.step) return button.removeAttribute("aria-current");
    button.setAttribute("aria-current", "step");
    if (byId("words").contains(document.activeElement)) button.focus({ preventScroll: true });
  });
}

/** Scroll the list of a long text, but not the page, to the chosen word; last of all, as it needs the layout. */
function bringWordIntoView() {
  const list = byId("words");
  const item = list.querySelector("[aria-current]").parentElement;
  const [top, bottom] = [item.offsetTop, item.offsetTop + item.offsetHeight];
  const isSeen = top >= list.scrollTop && bottom <= list.scrollTop + list.clientHeight;
  if (!isSeen) list.scrollTop = top - list.clientHeight / 2;
}

// --- changing it -----------------------------------------------------------------------------------------------------

/** A text field, with an action for Enter and known words to complete it. */
function wordField(id, label, act) {
  const words = element("datalist", { id: `${id}-words` });
  const plain = { type: "text", autocomplete: "off", autocapitalize: "none", spellcheck: false };
  const field = element("input", { id, dir: "auto", placeholder: label, ariaLabel: label, ...plain });
  field.setAttribute("list", words.id);
  field.addEventListener("input", () => {
    words.replaceChildren(...completions(field.value).map((value) => element("option", { value })));
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") act();
  });
  return [field, words];
}

function buildSentenceChange() {
  if (!RUNS) return;
  const readTyped = () => answerSentence(readText(byId("typed").value));
  const group = element("div", { id: "word-tools", role: "group" });
  group.append(
    element("span", { id: "chosen-word" }),
    actionButton("Drop", () => changeWord((words, n) => words.splice(n, 1))),
    actionButton("Swap with next", swapWords),
    ...wordField("other-word", "Another word", () => putWord(1)),
    actionButton("Replace", () => putWord(1)), actionButton("Insert after", () => putWord(0)),
  );
  group.setAttribute("aria-labelledby", "chosen-word");
  byId("sentence-change").append(
    element("div", { className: "typing" }, ...wordField("typed", "Type a sentence", readTyped),
      actionButton("Read", readTyped)),
    group, answerPlace("sentence-answer"),
  );
  showTyped();
}

const BEFORE_THE_WORDS = "the start mark and the padding are added to every sentence";

const wordsRead = () => experiment.steps.filter(isWord);

/** Which word is selected; -1 at the start mark and the padding. */
function chosenWord() {
  const before = experiment.steps.slice(0, state.step).filter(isWord).length;
  return isWord(experiment.steps[state.step]) ? before : -1;
}

/** The sentence of the experiment in its field. */
function showTyped() {
  if (RUNS) byId("typed").value = wordsRead().map(({ word }) => word).join(" ");
}

function showSentenceChange() {
  if (!RUNS) return;
  const n = chosenWord();
  const { kind, word } = experiment.steps[state.step];
  const ahead = kind === "start" ? "start mark" : "padding";
  byId("chosen-word").textContent = n < 0 ? `Behind the ${ahead}` : `Word ${n + 1}, ${quoted(word)}`;
  for (const button of byId("word-tools").querySelectorAll("button")) {
    const needs = { "Swap with next": n >= 0 && n + 1 < wordsRead().length, "Insert after": true }[button.textContent];
    button.setAttribute("aria-disabled", !(needs ?? n >= 0)); // disabled would lose the focus
  }
}

function answerSentence(text) {
  byId("sentence-answer").textContent = text;
}

/** Read a text; what was wrong with it, if it could not be read. */
function readText(text) {
  const { words, refused } = read(text);
  return refused ?? readWords(words);
}

/** Read other words, and select one of them; why that was refused, if it was. */
function readWords(words, n = chosenWord()) {
  const why = unreadable(words);
  if (why) return why;
  const { steps, left_out } = asRead(words);
  const first = steps.findIndex(isWord);
  const hadNudges = experiment.added.length > 0;
  const refused = experimentWith(withSteps(steps, left_out), n < 0 ? state.step : first + Math.max(0, n - left_out));
  return refused || (hadNudges ? "Nudges of single steps are taken back, because the steps have changed." : "");
}

/** The changes that make an experiment read other steps: nudges of single steps are dropped. */
function withSteps(steps, left_out) {
  const label = experiment.own_label ? ownAnswer(steps) : experiment.label;
  return { steps, left_out, label, added: [] };
}

/** Change the words at the chosen one, n, and then select the word that `change` names, or the n-th. */
function changeWord(change) {
  const n = chosenWord();
  if (n < 0) return answerSentence(`Choose a word first; ${BEFORE_THE_WORDS}.`);
  const words = wordsRead();
  change(words, n);
  answerSentence(readWords(words, Math.min(n, words.length - 1)));
}

function swapWords() {
  const n = chosenWord();
  const words = wordsRead();
  if (n < 0 || n + 1 >= words.length) return answerSentence("There is no next word to swap with.");
  [words[n], words[n + 1]] = [words[n + 1], words[n]];
  answerSentence(readWords(words, n + 1));
}

/** Put the words of the field after the chosen one, in place of `count` words. */
function putWord(count) {
  const n = chosenWord();
  const { words: put, refused } = read(byId("other-word").value);
  if (refused) return answerSentence(refused);
  if (!put.length) return answerSentence("Type a word into the field first.");
  if (n < 0 && count) return answerSentence(`Only words can be replaced; ${BEFORE_THE_WORDS}.`);
  const words = wordsRead();
  words.splice(n + 1 - count, count, ...put);
  answerSentence(readWords(words, n + 1 - count));
}
