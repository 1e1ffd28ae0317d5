"use strict";

// A heatmap: rows x columns of numbers as colours, one cell of which is chosen with the mouse or the arrow keys.
//
//   const map = buildHeatmap((row, column) => ...);   // once; map.element goes into the page
//   drawHeatmap(map, {...});                          // whenever its numbers or the chosen cell change

const LEAST_CELL = 3; // pixels, high and wide; a larger map scrolls within its box
const MOST_CELL = 34; // pixels, high
const MAP_HEIGHT = 240; // pixels, if neither of these two decides
const LABEL_SIZE = 17; // pixels, which a name needs

/** A heatmap without numbers; `choose(row, column)` is called for a click on a cell and for the arrow keys. */
function buildHeatmap(choose) {
  const parts = {
    canvas: element("canvas", { ariaHidden: "true" }), ring: element("div", { className: "ring" }),
    rows: element("div", { className: "rows", ariaHidden: "true" }),
    columns: element("div", { className: "columns", ariaHidden: "true" }),
    low: element("span"), ramp: element("span", { className: "ramp" }), high: element("span"),
    text: element("p", { className: "told" }),
  };
  const cells = element("div", { className: "cells", tabIndex: 0, role: "application" }, parts.canvas, parts.ring);
  const box = element("div", { className: "box" }, parts.rows, cells, parts.columns);
  const scale = element("p", { className: "scale" }, parts.low, parts.ramp, parts.high);
  const whole = element("div", { className: "heatmap" }, box, parts.text, scale);
  const map = { ...parts, cells, box, drawn: null, element: whole };
  cells.addEventListener("click", (event) => choose(...cellUnder(map, event)));
  cells.addEventListener("mousemove", (event) => tellCell(map, ...cellUnder(map, event)));
  cells.addEventListener("mouseleave", () => tellCell(map, ...map.drawn.chosen));
  cells.addEventListener("keydown", (event) => chooseByKey(map, event, choose));
  new ResizeObserver(() => fitNames(map)).observe(cells);
  return map;
}

/**
 * Draw a heatmap.
 *
 * name: of what is shown, as it is written before a value, such as "c"
 * rows, columns: the name of each
 * value: (row, column) => its number; undefined leaves the cell blank
 * chosen: [row, column], the cell that is outlined
 * scaleTo: a number that the scale reaches at least, for maps that share one
 * isShare: whether values run from 0 to 1, in one colour; otherwise they are blue above and orange below 0
 * title: what the map shows, for screen readers
 */
function drawHeatmap(map, { name, rows, columns, value, chosen, isShare = false, scaleTo = 0, title }) {
  const values = Array.from({ length: rows.length * columns.length }, (_, at) =>
    value(Math.floor(at / columns.length), at % columns.length));
  const sizes = values.map((each) => Math.abs(each ?? 0));
  const oneSided = isShare && !values.some((each) => each < 0);
  const most = sizes.reduce((one, other) => Math.max(one, other), oneSided ? 1 : scaleTo) || 1;
  const before = map.drawn;
  map.drawn = { name, rows, columns, values, chosen };
  paintCells(map.canvas, rows.length, columns.length, values, most, oneSided);
  map.low.textContent = oneSided ? "0" : shown(-most, 3);
  map.high.textContent = shown(most, 3);
  map.ramp.classList.toggle("share", oneSided);
  map.cells.setAttribute("aria-label", `${title}. Arrow keys choose a cell.`);
  if (JSON.stringify([before?.rows, before?.columns]) !== JSON.stringify([rows, columns])) drawNames(map);
  outlineChosen(map, before);
  tellCell(map, ...chosen);
  map.cells.setAttribute("aria-description", map.text.textContent);
}

/** One pixel for each cell, which the style enlarges. */
function paintCells(canvas, rows, columns, values, most, oneSided) {
  Object.assign(canvas, { width: columns, height: rows });
  const image = new ImageData(columns, rows);
  const [ground, above, below] = ["ground", oneSided ? "third" : "ahead", "back"].map(themeColour);
  values.forEach((value, at) => {
    if (value === undefined) return;
    const share = Math.abs(value) / most;
    const end = value < 0 ? below : above;
    for (let k = 0; k < 3; k++) image.data[4 * at + k] = ground[k] + share * (end[k] - ground[k]);
    image.data[4 * at + 3] = 255;
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Red, green and blue of a colour of the style, dark or light as the page is. */
const themeColour = (() => {
  const known = new Map();
  return (name) => {
    const key = `${name} ${isDark()}`;
    if (!known.has(key)) {
      const probe = document.body.appendChild(element("span", { className: `colour-${name}` }));
      known.set(key, getComputedStyle(probe).color.match(/\d+/g).slice(0, 3).map(Number));
      probe.remove();
    }
    return known.get(key);
  };
})();

function drawNames(map) {
  const { rows, columns } = map.drawn;
  const height = clamped(Math.floor(MAP_HEIGHT / rows.length), LEAST_CELL, MOST_CELL);
  map.cells.style.setProperty("height", `${height * rows.length}px`);
  map.cells.style.setProperty("min-width", `${LEAST_CELL * columns.length}px`);
  const names = (texts) => texts.map((text) => element("span", { dir: "auto" }, text));
  map.rows.replaceChildren(...(height < LABEL_SIZE ? [] : names(rows)));
  map.columns.replaceChildren(...names(columns));
  fitNames(map);
}

/** The columns' names are shown if there is room for them. */
function fitNames({ cells, columns, drawn }) {
  if (drawn) columns.hidden = cells.clientWidth < LABEL_SIZE * drawn.columns.length;
}

/** Outline the chosen cell; scroll the map's box, but not the page, to one that has just been chosen. */
function outlineChosen({ ring, box, cells, drawn }, before) {
  const [row, column] = drawn.chosen;
  const share = { top: row / drawn.rows.length, left: column / drawn.columns.length };
  const size = { height: 1 / drawn.rows.length, width: 1 / drawn.columns.length };
  for (const [side, part] of Object.entries({ ...share, ...size })) ring.style.setProperty(side, `${100 * part}%`);
  if (String(before?.chosen) === String(drawn.chosen)) return;
  const { offsetWidth, offsetHeight } = cells;
  const [top, left] = [cells.offsetTop + share.top * offsetHeight, cells.offsetLeft + share.left * offsetWidth];
  if (top < box.scrollTop || top > box.scrollTop + box.clientHeight - 8) box.scrollTop = top - box.clientHeight / 2;
  if (left < box.scrollLeft || left > box.scrollLeft + box.clientWidth - 8) box.scrollLeft = left - box.clientWidth / 2;
}

/** The value of a cell, as text below the map. */
function tellCell({ text, drawn: { name, rows, columns, values } }, row, column) {
  const value = values[row * columns.length + column];
  const told = value === undefined ? "no value" : `${name} = ${shown(value)}`;
  text.textContent = `${rows[row]}, ${columns[column]}: ${told}`;
}

function cellUnder({ canvas, drawn: { rows, columns } }, event) {
  const { left, top, width, height } = canvas.getBoundingClientRect();
  const cell = (share, count) => clamped(Math.floor(share * count), 0, count - 1);
  return [cell((event.clientY - top) / height, rows.length), cell((event.clientX - left) / width, columns.length)];
}

function chooseByKey({ drawn: { rows, columns, chosen } }, event, choose) {
  const arrows = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  if (!(event.key in arrows) || hasModifier(event)) return;
  const [down, right] = arrows[event.key];
  event.preventDefault();
  event.stopPropagation();
  choose(clamped(chosen[0] + down, 0, rows.length - 1), clamped(chosen[1] + right, 0, columns.length - 1));
}
