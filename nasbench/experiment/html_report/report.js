// What plotly.js does not do by itself: choose axes, filter, and show a chosen sub-network.
// Texts reach the page as text only; what plotly.js reads as HTML was escaped when it was written.
"use strict";

const report = JSON.parse(document.getElementById("report-data").textContent);
const isTouch = window.matchMedia("(pointer: coarse)").matches;
const config = { responsive: true, displayModeBar: false };
const element = (id) => document.getElementById(id);
const front = element("front");
const [first] = report.runs;

const state = {
  x: first.objectives[1] ?? "trial",
  y: first.objectives[0],
  bounds: [],
  run: 0,
  trial: first.chosen,
};

function fits(trial) {
  return state.bounds.every(({ axis, operator, bound }) => {
    const value = trial.values[axis];
    return value !== undefined && (operator === "≤" ? value <= bound : value >= bound);
  });
}

function points(run, number, kind) {
  const isDrawn = (trial) =>
    trial.kind === kind && fits(trial) && state.x in trial.values && state.y in trial.values;
  const known = [...run.trials.keys()].filter((i) => isDrawn(run.trials[i]));
  if (kind === "front") known.sort((a, b) => run.trials[a].values[state.x] - run.trials[b].values[state.x]);
  return {
    type: "scatter",
    mode: "markers",
    x: known.map((i) => run.trials[i].values[state.x]),
    y: known.map((i) => run.trials[i].values[state.y]),
    customdata: known.map((i) => [number, i]),
    text: known.map((i) => run.trials[i].hover),
    hoverinfo: "text",
  };
}

// A staircase only over a run's own two objectives: over other axes the front is no line.
function staircase(run) {
  const { objectives, rising } = run;
  const isFront = objectives.length === 2 && objectives.includes(state.x) && objectives.includes(state.y);
  if (!isFront || state.x === state.y || state.bounds.length) return { mode: "markers" };
  const shape = rising[objectives.indexOf(state.x)] ? "hv" : "vh";
  return { mode: "lines+markers", line: { shape, color: run.color, dash: run.dash, width: 1.5 } };
}

function traces() {
  const several = report.runs.length > 1;
  const named = (run, kind) => ({ name: several ? run.label : kind, showlegend: !several || kind === "Pareto front" });
  const drawn = report.runs.flatMap((run, number) => [
    { ...points(run, number, "infeasible"), ...named(run, "breaks a constraint"),
      marker: { symbol: "x-thin-open", color: several ? run.color : report.grey, size: 7 } },
    { ...points(run, number, "dominated"), ...named(run, "dominated"),
      marker: { symbol: `${run.symbol}-open`, color: several ? run.color : report.grey, size: 6, opacity: 0.7 } },
    { ...points(run, number, "front"), ...named(run, "Pareto front"), ...staircase(run),
      marker: { symbol: run.symbol, color: run.color, size: 9 } },
  ]).filter((trace) => trace.x.length);
  const { values } = report.runs[state.run].trials[state.trial];
  const ring = { symbol: "circle-open", color: "#d55e00", size: 18, line: { width: 2.5 } };
  return [...drawn, { type: "scatter", mode: "markers", name: "chosen", x: [values[state.x] ?? null],
    y: [values[state.y] ?? null], hoverinfo: "skip", marker: ring }];
}

// The range of all trials, so that a filter does not move the points that stay.
function extent(axis) {
  const values = report.runs.flatMap((run) => run.trials.map((trial) => trial.values[axis]))
    .filter((value) => value !== undefined);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const margin = 0.05 * (high - low) || 0.05 * Math.abs(high) || 1;
  return [low - margin, high + margin];
}

function limits() {
  const line = { color: "#d55e00", width: 1.5, dash: "dot" };
  return state.bounds.flatMap(({ axis, bound }) => [
    ...(axis === state.x ? [{ type: "line", x0: bound, x1: bound, y0: 0, y1: 1, yref: "paper", line }] : []),
    ...(axis === state.y ? [{ type: "line", y0: bound, y1: bound, x0: 0, x1: 1, xref: "paper", line }] : []),
  ]);
}

function draw() {
  const axis = (name) => ({
    title: { text: report.axes[name].html }, tickformat: report.axes[name].tickformat, range: extent(name),
  });
  const { base } = report;
  Plotly.react(front, traces(), {
    ...base,
    xaxis: { ...base.xaxis, ...axis(state.x) },
    yaxis: { ...base.yaxis, ...axis(state.y) },
    shapes: limits(),
    dragmode: isTouch ? false : "zoom",
    uirevision: `${state.x} ${state.y}`,
  }, config);
  const all = report.runs.flatMap((run) => run.trials);
  element("num-shown").textContent = `${all.filter(fits).length} of ${all.length} sub-networks`;
}

const KINDS = { front: "on the Pareto front", dominated: "dominated", infeasible: "breaks a constraint" };

function describe() {
  const run = report.runs[state.run];
  const trial = run.trials[state.trial];
  for (const part of document.querySelectorAll(".details, .diagram")) {
    part.hidden = part.dataset.run !== String(state.run);
    if (part.hidden) continue;
    part.querySelector(".id").textContent = trial.id;
    for (const row of part.querySelectorAll(".dimension")) {
      const choices = run.choices[row.dataset.dimension];
      const choice = trial.genome[row.dataset.dimension];
      row.querySelector("b").textContent = choice < 0 ? "-" : choices[choice];
      row.style.setProperty("--share", choice < 0 ? 0 : (choice + 1) / choices.length);
      row.dataset.choice = choice;
    }
    for (const block of part.querySelectorAll(".block")) {
      const rows = [...block.querySelectorAll(".dimension")];
      block.classList.toggle("absent", rows.every((row) => Number(row.dataset.choice) < 0));
    }
    if (!part.classList.contains("details")) continue;
    part.querySelector(".kind").textContent = `trial ${trial.values.trial}, ${KINDS[trial.kind]}`;
    part.querySelectorAll(".measurements td").forEach((cell, i) => { cell.textContent = trial.texts[i]; });
    part.querySelector(".command").hidden = !run.command;
    part.querySelector("code").textContent = run.command + trial.id;
  }
  for (const button of document.querySelectorAll(".choose")) {
    const is = Number(button.dataset.run) === state.run && Number(button.dataset.trial) === state.trial;
    button.setAttribute("aria-pressed", String(is));
  }
}

function choose(run, trial) {
  Object.assign(state, { run, trial });
  describe();
  draw();
}

function showBounds() {
  element("bounds").replaceChildren(...state.bounds.map((bound) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = `${report.axes[bound.axis].title} ${bound.operator} ${bound.bound} ✕`;
    button.title = "remove";
    button.addEventListener("click", () => {
      state.bounds = state.bounds.filter((each) => each !== bound);
      showBounds();
    });
    item.append(button);
    return item;
  }));
  draw();
}

function addBound() {
  const bound = element("bound").valueAsNumber;
  if (Number.isNaN(bound)) return element("bound").focus();
  state.bounds.push({ axis: element("bound-axis").value, operator: element("bound-operator").value, bound });
  element("bound").value = "";
  return showBounds();
}

async function copy(button) {
  const code = button.parentElement.querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  } catch {  // where a browser forbids it, the command is selected for the keyboard
    window.getSelection().selectAllChildren(code);
  }
}

describe();
for (const axis of ["x", "y"]) {
  const select = element(`${axis}-axis`);
  select.value = state[axis];
  select.addEventListener("change", () => { state[axis] = select.value; draw(); });
}
element("bound-axis").value = state.x;
element("add-bound").addEventListener("click", addBound);
element("controls").addEventListener("submit", (event) => { event.preventDefault(); addBound(); });
draw();
front.on("plotly_click", ({ points: [point] }) => { if (point.customdata) choose(...point.customdata); });
for (const button of document.querySelectorAll(".choose")) {
  button.addEventListener("click", () => choose(Number(button.dataset.run), Number(button.dataset.trial)));
}
for (const button of document.querySelectorAll(".copy")) button.addEventListener("click", () => copy(button));
for (const [id, { data, layout }] of Object.entries(report.figures)) {
  Plotly.newPlot(id, data, { ...layout, dragmode: isTouch ? false : "zoom" }, config);
}

// A printed page is narrower than a screen, and figures do not follow by themselves.
const PRINTED = { width: 640, height: 320 };
const PRINTED_IN_PAIRS = { width: 312, height: 290 };
const figures = () => [...document.querySelectorAll(".figure")];
window.addEventListener("beforeprint", () => {
  for (const figure of figures()) {
    const size = figure.closest(".pair") ? PRINTED_IN_PAIRS : PRINTED;
    Plotly.relayout(figure, { autosize: false, ...size });
  }
});
window.addEventListener("afterprint", () => {
  for (const figure of figures()) Plotly.relayout(figure, { autosize: true, width: null, height: null });
});
