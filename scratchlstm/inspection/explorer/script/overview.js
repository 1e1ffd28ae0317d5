"use strict";

// All units and all words at once, and the chosen unit over the words.

/** What the heatmap can show: a quantity of each unit and step, or the product of two. */
const SHOWN = {
  forward: { i: ["i"], f: ["f"], g: ["g"], o: ["o"], c: ["c"], h: ["h"] },
  backward: {
    dc: ["dc"], dh: ["dh"], "c · dc": ["c", "dc"],
    dz_i: ["dz_i"], dz_f: ["dz_f"], dz_g: ["dz_g"], dz_o: ["dz_o"],
  },
};
const SHARES = ["i", "f", "o"]; // between 0 and 1

let overviewMap = null;

function buildOverview() {
  overviewMap = buildHeatmap((row, column) => lookAt({ unit: state.units[row], step: firstStep() + column }));
  const titled = (name) => {
    if (name === "c · dc") return "c · dc, gradient × value";
    return `${name}, ${QUANTITIES[name].title}`;
  };
  const group = (view) => element(
    "optgroup", { label: view === "forward" ? "Forward" : "Backward" },
    ...Object.keys(SHOWN[view]).map((name) => element("option", { value: name }, titled(name))),
  );
  byId("shown").append(group("forward"), ...(data.loss === null ? [] : [group("backward")]));
  byId("shown").addEventListener("change", ({ target }) => { state.shown[state.view] = target.value; showOverview(); });
  byId("map").append(overviewMap.element);
}

function showOverview() {
  showMap(current());
}

function showMap(pass) {
  const name = pass.dc ? state.shown[state.view] : state.shown.forward;
  const factors = { ...SHOWN.forward, ...SHOWN.backward }[name].map((each) => pass[each]);
  const [first, { H }] = [firstStep(), pass.dims];
  const columns = experiment.steps.slice(first).map((_, column) => wordOf(first + column));
  byId("shown").value = name;
  drawHeatmap(overviewMap, {
    name, columns, rows: state.units.map((unit) => `unit ${unitName(unit)}`),
    value: (row, column) => {
      const place = (first + column) * H + state.units[row];
      return factors.reduce((product, array) => product * array[place], 1);
    },
    chosen: [state.units.indexOf(state.unit), state.step - first], isShare: SHARES.includes(name),
    title: `Heatmap of ${name}: ${state.units.length} units, the most important first, by ${columns.length} words`,
  });
}
