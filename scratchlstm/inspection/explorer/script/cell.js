"use strict";

// The cell at one step: its picture, and every equation with its numbers.

// {name} stands for a number, name_under for a subscript
const FORWARD = [
  ...GATES.map((k) => ["", `z_${k} = x W_${k} + h_prev U_${k} + b_${k}`, `{w_${k}} + {u_${k}} + {b_${k}} = {z_${k}}`]),
  ["(1)", "i = σ(z_i)", "σ({z_i}) = {i}"],
  ["(2)", "f = σ(z_f)", "σ({z_f}) = {f}"],
  ["(3)", "g = tanh(z_g)", "tanh({z_g}) = {g}"],
  ["(4)", "o = σ(z_o)", "σ({z_o}) = {o}"],
  ["(5)", "c = f · c_prev + i · g", "{f} · {c_prev} + {i} · {g} = {c}"],
  ["(6)", "h = o · tanh(c)", "{o} · tanh({c}) = {o} · {tanh_c} = {h}"],
];
const BACKWARD = [
  ["", "dh = from above + dh_next", "{dh_above} + {dh_next} = {dh}"],
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
  ["(18)", "dh_prev = Σ dz · U over the gates of all units:", "{dh_prev}"],
];

/** The quantity that a name in the equations or the picture stands for, at the step and unit that are looked at. */
function quantityOf(name) {
  const { step, unit } = state;
  const [kind, gate] = name.split("_");
  if (kind === "w") return at("xW", { step, gate, unit });
  if (kind === "u") return at("hU", { step, gate, unit });
  if (kind === "b") return at("b", { gate, unit });
  if (name === "tanh_prime") return { ...at("tanh_c", { step, unit }), of: (t) => 1 - t * t };
  return at(name, { step, unit });
}

function buildEquations(list, equations) {
  for (const [number, symbols, numbers] of equations) {
    const parts = [element("span", { className: "number" }, number), withSubscripts(symbols), withNumbers(numbers)];
    list.append(element("li", {}, ...parts));
  }
}

/** Places for numbers, of which the one behind the last = is the result. */
function withNumbers(template) {
  const pieces = template.split(/\{(\w+)\}/);
  const parts = pieces.map((piece, place) => (place % 2 ? numberPlace(piece, place, pieces) : piece));
  return element("span", { className: "numbers" }, ...parts);
}

function numberPlace(name, place, pieces) {
  const link = element("button", { type: "button", className: `link ${place === pieces.length - 2 ? "result" : ""}` });
  link.dataset.value = name;
  link.addEventListener("click", () => { const { of, ...q } = quantityOf(name); open(q); });
  if (/[+·−] $/.test(pieces[place - 1])) link.dataset.term = ""; // a negative one needs parentheses
  return link;
}

function showCell() {
  const pass = current();
  for (const place of document.querySelectorAll("[data-value]")) {
    const value = factorValue(pass, quantityOf(place.dataset.value));
    const text = value === undefined ? "" : shown(value, place.closest("svg") ? 3 : 4);
    place.textContent = "term" in place.dataset && text.startsWith("−") ? `(${text})` : text;
  }
  for (const bar of document.querySelectorAll("[data-level]")) showLevel(bar, factorValue(pass, quantityOf(bar.dataset.level)));
  const { word } = experiment.steps[state.step];
  byId("x-word").textContent = Array.from(word).length > 24 ? `${Array.from(word).slice(0, 23).join("")}…` : word;
  byId("masked").hidden = pass.counts[state.step];
}

/** How far a gate is open: a bar from the bottom of its box. */
function showLevel(bar, level) {
  const height = 40 * Math.min(Math.abs(level), 1);
  bar.setAttribute("height", height);
  bar.setAttribute("y", 269 - height);
  bar.classList.toggle("negative", level < 0);
}
