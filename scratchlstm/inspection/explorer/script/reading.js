"use strict";

// Typed text as the model reads it: the same steps as reading.py makes of it.

const FILTERS = new Set('!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~'); // of text_to_word_sequence
const MOST_SUGGESTIONS = 8;
const FEW_WORDS = 12; // which are named when one is not among them

const isWord = ({ kind }) => kind === "word" || kind === "unknown";

/** word -> its step, of every word that can be typed: those that the page knows, and those of the text it came with */
const readable = new Map();
if (RUNS) {
  for (const [word, id] of data.known) readable.set(word, { word, kind: "word", id });
  for (const step of data.steps.filter(isWord)) readable.set(step.word, step);
}

/** A text's words as text_to_word_sequence makes them; but a text that is already a word of the page stays one. */
function splitWords(text) {
  const spaced = (letter) => (FILTERS.has(letter) ? " " : letter);
  const split = (piece) => Array.from(piece.toLowerCase(), spaced).join("").split(" ");
  return text.split(/[ \t\n]/).flatMap((piece) => (readable.has(piece) ? [piece] : split(piece))).filter(Boolean);
}

/** The steps of a text's words, {words}; or, {refused}, what is wrong with it. */
function read(text) {
  const words = splitWords(text);
  const unknown = [...new Set(words.filter((word) => !readable.has(word)))];
  return unknown.length ? { refused: refusal(unknown) } : { words: words.map((word) => readable.get(word)) };
}

/** Why some words are not a sentence; "" if they are one. */
function unreadable(words) {
  if (!words.length) return "A sentence needs at least one word. Nothing was changed.";
  return words.some(({ kind }) => kind === "word") ? "" : "The model knows none of these words. Nothing was changed.";
}

/** Words as the model reads them: after the start mark, cut to its length and padded; how many were left out. */
function asRead(words) {
  const whole = [...data.start.map((id) => ({ word: "<start>", kind: "start", id })), ...words];
  const left_out = whole.slice(0, -data.most_steps).filter(isWord).length;
  return { steps: padded(whole.slice(-data.most_steps)), left_out };
}

// --- unknown words ---------------------------------------------------------------------------------------------------

function refusal(unknown) {
  const known = data.known.length;
  const list = (words) => words.map(quoted).join(", ");
  const which = list(unknown.slice(0, 3)) + (unknown.length > 3 ? ` and ${unknown.length - 3} more` : "");
  if (known <= FEW_WORDS) {
    const all = data.known.map(([word]) => word).join(", ");
    return `This page has the words ${all}, but not ${which}. Nothing was changed.`;
  }
  const hasAll = known === data.known_of;
  const has = hasAll ? `all ${known} words of the model` : `${known} of the model's ${data.known_of} words`;
  const like = list(similar(unknown[0]));
  return `This page has ${has}, but not ${which}. Nothing was changed.${like && ` Similar: ${like}.`}`;
}

/** Words that a mistyped one may mean, the nearest first, of those the most frequent. */
function similar(word) {
  const most = word.length < 5 ? 1 : 2;
  const distanceTo = (other) => (other.startsWith(word) ? 1 : editDistance(word, other, most));
  const near = data.known.map(([other]) => [distanceTo(other), other]).filter(([distance]) => distance <= most);
  return near.sort((a, b) => a[0] - b[0]).slice(0, 5).map(([, other]) => other);
}

/** How many letters must be put in, taken out or replaced to make one word of another; Infinity if more than `most`. */
function editDistance(a, b, most) {
  if (Math.abs(a.length - b.length) > most) return Infinity;
  let row = Array.from({ length: b.length + 1 }, (_, n) => n);
  for (let n = 1; n <= a.length; n++) {
    const next = [n];
    for (let m = 1; m <= b.length; m++) {
      next[m] = Math.min(row[m] + 1, next[m - 1] + 1, row[m - 1] + (a[n - 1] === b[m - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length] <= most ? row[b.length] : Infinity;
}

/** The text with its last word completed to known ones, the most frequent first. */
function completions(text) {
  const begun = text.split(" ").at(-1);
  if (!begun) return [];
  const ahead = text.slice(0, text.length - begun.length);
  const found = data.known.filter(([word]) => word.startsWith(begun.toLowerCase()) && word !== begun);
  return found.slice(0, MOST_SUGGESTIONS).map(([word]) => ahead + word);
}
