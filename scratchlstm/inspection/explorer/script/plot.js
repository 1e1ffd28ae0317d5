"use strict";

// Lines over the words, with a cursor at the chosen one.
//
//   const plot = buildPlot(height, (column) => ...);   // once; plot.element goes into the page
//   drawPlot(plot, {...});                             // whenever its numbers or the chosen word change

/** A plot without lines, `height` pixels high; `choose(column)` is called for a click. */
function buildPlot(height, choose) {
  const svg = svgElement("svg", { preserveAspectRatio: "none", role: "img" });
  const names = element("div", { className: "names", ariaHidden: "true" });
  const ticks = element("div", { className: "ticks", ariaHidden: "true" });
  const whole = element("div", { className: "plot" }, ticks, svg, names);
  const plot = { svg, names, ticks, height, count: 1, element: whole };
  whole.style.setProperty("height", `${height}px`);
  svg.addEventListener("click", (event) => {
    const { left, width } = svg.getBoundingClientRect();
    choose(clamped(Math.floor((plot.count * (event.clientX - left)) / width), 0, plot.count - 1));
  });
  return plot;
}

/**
 * Draw lines over the words.
 *
 * lines: [{name, values, colour, isGradient, isThick}], each with one value for each word
 * most: what the plot, which begins at 0 or below, reaches up to at least
 * chosen: the column of the cursor
 * title: for screen readers
 */
function drawPlot(plot, { lines, most, chosen, title }) {
  const all = lines.flatMap(({ values }) => Array.from(values));
  const [low, high] = [Math.min(0, ...all), Math.max(most, ...all)];
  const down = (value) => (high - value) / (high - low || 1); // 0 at the top, 1 at the bottom
  plot.count = lines[0].values.length;
  plot.svg.setAttribute("viewBox", `0 -0.04 ${plot.count} 1.08`);
  plot.svg.setAttribute("aria-label", title);
  plot.svg.replaceChildren(
    svgElement("path", { class: "zero", d: `M0,${down(0)}H${plot.count}` }),
    svgElement("path", { class: "cursor", d: `M${chosen + 0.5},-0.04V1.04` }),
    ...lines.flatMap((line) => curves(line, down, chosen)),
  );
  labelAll(plot.ticks, plot.height, ticks(low, high).map((value) => ({ text: shown(value, 2), at: down(value) })));
  const ends = lines.map(({ name, values, colour }) => ({ text: name, at: down(values[plot.count - 1]), colour }));
  labelAll(plot.names, plot.height, spread(ends, LABEL_SIZE / plot.height));
}

/** A line, and a dot on it at the chosen word. */
function curves({ values, colour, isGradient, isThick }, down, chosen) {
  const points = Array.from(values, (value, column) => `${column + 0.5},${down(value)}`);
  const line = svgElement("path", { class: "curve", d: `M${points[0]}h0L${points.join(" ")}` });
  markLine(line, { isGradient, isThick });
  const dot = svgElement("path", { class: "dot", d: `M${points[chosen]}h0` });
  for (const each of [line, dot]) each.style.setProperty("stroke", `var(--${colour})`);
  return [line, dot];
}

function markLine({ classList }, { isGradient = false, isThick = false }) {
  classList.toggle("gradient", isGradient);
  classList.toggle("thick", isThick);
}

/** The ends of the axis, and 0 if it is not too close to them. */
function ticks(low, high) {
  const isBetween = Math.min(high, -low) > 0.2 * (high - low);
  return [...new Set([high, ...(isBetween ? [0] : []), low])];
}

/** Labels at least `gap` apart, as near to where they belong as an order from the top allows. */
function spread(labels, gap) {
  const sorted = labels.toSorted((a, b) => a.at - b.at);
  for (let n = 1; n < sorted.length; n++) sorted[n].at = Math.max(sorted[n].at, sorted[n - 1].at + gap);
  for (let n = sorted.length - 1, most = 1; n >= 0; n--, most -= gap) sorted[n].at = Math.min(sorted[n].at, most);
  return sorted;
}

function labelAll(place, height, labels) {
  place.replaceChildren(...labels.map(({ text, at, colour }) => {
    const label = element("span", {}, text);
    label.style.setProperty("top", `${((0.04 + at) / 1.08) * height}px`);
    if (colour) label.style.setProperty("color", `var(--${colour})`);
    return label;
  }));
}

/** What the lines are, with their values at the chosen word. */
function keysOf(lines, chosen) {
  return lines.map(({ name, values, colour, isGradient, isThick }) => {
    const key = element("span", { className: "key" }, `${name} ${shown(values[chosen], 3)}`);
    markLine(key, { isGradient, isThick });
    key.style.setProperty("color", `var(--${colour})`);
    return key;
  });
}
