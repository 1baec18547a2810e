// A Q-Layer that learns in the page: features of two numbers, a few codes, the four losses of eq. 7 and 8, each with a switch.

import { cell } from "./cells.js";
import { button, choice, element, frame, MARKS, path, percent, shape, slider, table, tick } from "./kit.js";
import { uniform } from "./random.js";
import { answer, CLASSES, learn, lossesAndGradient, makeData, pairs, RATE, spread, start, updateInactive } from "./tiny.js";

// Name, what it does, and the letter's index in eq. 7 and 8.
const LOSSES = {
  q: ["Q-path", "Cross-entropy of the Q-path", "Q"],
  e: ["E-path", "Cross-entropy of the E-path", "E"],
  codebook: ["codebook", "Codebook loss: codes go to features", "Q→E"],
  commitment: ["commitment", "Commitment loss: features go to codes", "E→Q"],
};
const LEARNED = 0.005; // the E-path's loss below this: nothing is left to learn
const RECENT = 50; // steps without being chosen that make a code inactive
const POINTS = 240; // of a curve
const TRIED = 10; // steps of a copy, to count how many features change their code
const ENOUGH = 4000; // steps after which Play stops by itself
const MORE = 1000; // steps that it goes on by from there, each time

// ---- A run, without its picture

/** A run from a seed: network, data, settings and what has been seen so far. */
export function begin({ seed, codes }) {
  const network = start(seed, codes);
  return { network, data: makeData(seed), history: [], every: 1, learned: null, chosen: new Array(codes).fill(0) };
}

/**
 * Take so many steps; note the losses, and the state in which the E-path's was first below LEARNED without dropout.
 * With dropout there is always something to learn, so that state is forgotten.
 */
export function advance(run, steps, { weights, dropout }) {
  for (let i = 0; i < steps; i++) {
    const { losses, seen } = learn(run.network, run.data, weights, dropout), at = run.network.steps;
    run.jumped = run.seen ? seen.filter(({ index }, k) => index !== run.seen[k].index).length / seen.length : 0;
    run.seen = seen;
    for (const { index } of seen) run.chosen[index] = at;
    if (at % run.every === 0) run.history.push({ at, ...losses });
    if (run.history.length > POINTS) {
      run.every *= 2;
      run.history = run.history.filter((row) => row.at % run.every === 0);
    }
    if (dropout) run.learned = null;
    else if (!run.learned && losses.e < LEARNED) run.learned = { at, ...measures(run) };
  }
}

/** Numbers of a run as it stands, without dropout: right answers per path, spread of the features, distance to their codes. */
export function measures({ network, data }) {
  const { losses, seen } = lossesAndGradient(network.tensors, data, { q: 0, e: 0, codebook: 0, commitment: 0 });
  const right = (route) => seen.filter((one) => one.right[route]).length / seen.length;
  return { q: right("q"), e: right("e"), spread: spread(seen.map((one) => one.feature)), gap: Math.sqrt(losses.codebook), losses, seen };
}

/** Codes that no feature has chosen in the last RECENT steps. */
export const inactive = ({ chosen, network }) => chosen.flatMap((at, i) => (network.steps - at >= RECENT ? [i] : []));

/** Share of the features that change their code from one step to the next, in TRIED steps of a copy; the run stays as it is. */
export function jumping(run, options) {
  const { tensors, first, second, steps } = run.network, copies = structuredClone({ tensors, first, second });
  const copy = { ...run, network: { ...copies, steps, mask: uniform(steps) }, history: [], chosen: [...run.chosen], seen: null };
  advance(copy, 1, options);
  let jumped = 0;
  for (let i = 0; i < TRIED; i++) {
    advance(copy, 1, options);
    jumped += copy.jumped / TRIED;
  }
  return jumped;
}

/** What has become of the features, in words: what dropout does to them, or what has since the classes were learned. */
export function verdict(run, options) {
  const { learned, network } = run, now = measures(run);
  if (options.dropout) {
    const [shaken, calm] = [true, false].map((dropout) => percent(jumping(run, { ...options, dropout })));
    return `With dropout, ${shaken} of the features change their code in a step; without it, ${calm} of this network's would. `
      + "Each step hides other numbers, so a feature falls now into one cell, now into another: the Q-path has to read the same point from several codes, "
      + `and no code settles on its features, which now lie ${now.gap.toFixed(2)} away.`;
  }
  if (!learned) return `After ${count(network.steps)} the E-path's loss is ${now.losses.e.toFixed(3)}: there is still something to learn.`;
  if (network.steps - learned.at < 200) return `The E-path's loss fell below ${LEARNED} at step ${learned.at}. Let it run on.`;
  const [spreadBy, gapBy] = [now.spread / learned.spread, now.gap / learned.gap];
  const change = spreadBy < 0.97 ? "shrunk together" : spreadBy > 1.03 ? "moved apart" : "kept their spread";
  return `Since step ${learned.at}, when nothing was left to learn, the features have ${change}: their spread is ${spreadBy.toFixed(2)} times what it was, `
    + `the distance to their codes ${gapBy.toFixed(2)} times.`;
}

const count = (steps) => (steps === 1 ? "1 step" : `${steps.toLocaleString("en")} steps`);

// ---- The picture

export function fill(place) {
  const settings = { seed: 0, codes: 8, weights: { q: 1, e: 1, codebook: 1, commitment: 1 }, dropout: false };
  const shown = { q: true, e: true, codebook: true, commitment: true }; // which losses count
  const effective = () => Object.fromEntries(Object.keys(LOSSES).map((name) => [name, shown[name] ? settings.weights[name] : 0]));
  let run = begin(settings), playing = false, until = ENOUGH, half = 2; // half: of the picture's width, in the features' numbers
  let told = null;

  const cells = shape("g"), dots = shape("g"), marks = shape("g"), axis = shape("text", { class: "toy-scale", x: 98, y: 97, "text-anchor": "end" });
  const picture = shape("svg", { viewBox: "0 0 100 100", role: "img", class: "toy-plane" }, cells, dots, marks, axis);
  const curves = Object.fromEntries(Object.keys(LOSSES).map((name) => [name, shape("path", { class: `toy-curve is-${name}` })]));
  const labels = Object.fromEntries(Object.keys(LOSSES).map((name) => [name, shape("text", { x: 75, class: `toy-curve-name is-${name}` }, LOSSES[name][0])]));
  const ticks = [1, 0.1, 0.01, 0.001].map((value) => shape("g", {}, shape("path", { class: "toy-grid", d: `M13,${height(value)}H74` }), shape("text", { x: 12, y: height(value) + 1.2, "text-anchor": "end" }, value)));
  const ends = shape("text", { x: 74, y: 49, "text-anchor": "end" });
  const chart = shape("svg", { viewBox: "0 0 100 50", role: "img", class: "toy-chart" }, ...ticks, ...Object.values(curves), ...Object.values(labels), ends);
  const numbers = table("Where it stands, measured without dropout", ["", "E-path", "Q-path"]);
  const features = table("Features and codes", ["", "now", `when the E-path's loss fell below ${LEARNED}`]);

  const moved = element("small");
  const play = button("Play", () => (playing ? stop() : go()));
  const forward = (steps) => () => (stop(), advance(run, steps, options()), show(), report());
  const reset = () => {
    stop();
    [run, half, moved.textContent] = [begin(settings), 2, ""];
    advance(run, 1, options());
    show();
    if (place.dataset.state === "open") report();
  };
  const options = () => ({ weights: effective(), dropout: settings.dropout });
  const renew = (strategy, name) => button(name, () => {
    const idle = inactive(run);
    updateInactive(run.network.tensors, run.seen.map(({ feature }) => feature), idle, strategy);
    show();
    const way = strategy === "pull" ? `a step of ${RATE} towards the closest feature` : "onto the closest feature";
    moved.textContent = idle.length ? `${idle.length} moved ${way}.` : "No code is inactive: there is nothing to move.";
    told.say(moved.textContent);
  });
  const seed = element("select", { onchange: () => ((settings.seed = +seed.value), reset()) }, ...Array.from({ length: 10 }, (_, i) => element("option", {}, `${i}`)));
  const rows = Object.entries(LOSSES).map(([name, [short, words, index]]) => {
    const weight = slider(`weight of the ${short} loss`, { min: 0, max: 5, step: 0.1, value: 1, words: (v) => v.toFixed(1), onInput: (v) => (settings.weights[name] = v) });
    const symbol = element("span", {}, `${words}, `, element("i", {}, "L"), element("sub", {}, index));
    const on = tick(symbol, true, (checked) => ((shown[name] = checked), (weight.input.disabled = !checked)));
    return element("div", { className: `toy-loss is-${name}` }, on, weight.node);
  });
  const controls = element("div", { className: "toy-controls" },
    element("div", { className: "toy-row" }, play, button("1 step", forward(1)), button("100 steps", forward(100)), button("1,000 steps", forward(1000)), button("Reset", reset),
      element("label", { className: "toy-tick" }, "seed ", seed)),
    element("div", { className: "toy-losses" }, ...rows),
    tick("Dropout in front of the quantizer: each number of a feature is 0 in a quarter of the steps", false, (checked) => ((settings.dropout = checked), report())),
    choice("Codes (starts anew)", { 4: "4", 8: "8", 16: "16" }, "8", (v) => ((settings.codes = +v), reset())),
    element("div", { className: "toy-row" }, element("span", {}, "Inactive codes (crossed out): "), renew("pull", "Pull"), renew("reinitialize", "Re-initialise"), moved),
  );
  const body = element("div", {}, element("div", { className: "toy-picture" }, picture, chart), controls, element("div", { className: "toy-results" }, numbers.node, features.node));
  told = frame(place, {
    question: "After a few hundred steps every point is classified right, and the cross-entropies of both paths are nearly 0. Training goes on. What do the features do?",
    options: ["They rest: nothing is left to learn", "They move further apart", "They shrink together"],
  }, body, () => (report(), !matchMedia("(prefers-reduced-motion: reduce)").matches && go()));

  function go() {
    playing = true;
    until = run.network.steps < ENOUGH ? ENOUGH : run.network.steps + MORE;
    play.textContent = "Pause";
    requestAnimationFrame(tock);
  }
  function stop() {
    if (!playing) return;
    playing = false;
    play.textContent = "Play";
    report();
  }
  function tock() {
    if (!playing) return;
    if (!place.isConnected || run.network.steps >= until) return stop();
    advance(run, Math.min(12, 1 + Math.floor(run.network.steps / 100)), options()); // slow at first, where much happens
    show();
    told.tell(verdict(run, options()));
    requestAnimationFrame(tock);
  }
  function report() {
    const text = verdict(run, options());
    told.tell(text);
    told.say(`Step ${run.network.steps}. ${text}`);
  }

  function show() {
    const { tensors } = run.network, codes = pairs(tensors.codes), now = measures(run), idle = new Set(inactive(run));
    while (run.seen.some(({ feature }) => Math.max(...feature.map(Math.abs)) > half)) half += 1;
    const at = ([x, y]) => [50 + (48 * x) / half, 50 - (48 * y) / half];
    cells.replaceChildren(...codes.map((code, i) => {
      const p = answer(tensors.tailQ, tensors.tailQBias, code);
      return shape("path", { class: `toy-cell is-class-${p.indexOf(Math.max(...p))}`, d: path(cell(codes, i, -half * 1.05, half * 1.05).map(at)) });
    }));
    if (!dots.childNodes.length) dots.append(...run.data.map(({ label }) => shape("path", { class: `toy-dot is-class-${label}`, d: MARKS[label] })));
    run.seen.forEach(({ feature }, i) => dots.childNodes[i].setAttribute("transform", `translate(${at(feature)}) scale(1.1)`));
    marks.replaceChildren(...codes.map((code, i) => shape("g", { class: `toy-code${idle.has(i) ? " is-inactive" : ""}`, transform: `translate(${at(code)})` },
      shape("path", { d: MARKS[3], transform: "scale(2)" }), ...(idle.has(i) ? [shape("path", { class: "toy-cross", d: "M-2.6-2.6L2.6,2.6M-2.6,2.6L2.6-2.6" })] : []))));
    axis.textContent = `from −${half} to ${half}`;
    picture.setAttribute("aria-label", `${run.data.length} features of ${CLASSES} classes and ${codes.length} codes after ${count(run.network.steps)}; `
      + `spread of the features ${now.spread.toFixed(2)}, ${idle.size} codes inactive`);

    const last = run.network.steps, across = (step) => 13 + (61 * step) / Math.max(last, 2);
    const heights = {};
    for (const name of Object.keys(LOSSES)) {
      const row = run.history;
      curves[name].setAttribute("d", row.length ? `M${row.map((entry) => `${across(entry.at).toFixed(2)},${height(entry[name]).toFixed(2)}`).join("L")}` : "");
      if (row.length) heights[name] = height(row.at(-1)[name]);
    }
    let free = -Infinity; // names of curves that meet stand below one another
    for (const [name, y] of Object.entries(heights).sort(([, a], [, b]) => a - b)) labels[name].setAttribute("y", (free = Math.max(y + 1.2, free + 4.2)));
    ends.textContent = `step ${last.toLocaleString("en")}`;
    chart.setAttribute("aria-label", `losses at step ${last}: ${Object.keys(LOSSES).map((name) => `${LOSSES[name][0]} ${now.losses[name].toFixed(4)}`).join(", ")}`);
    numbers.show([
      ["right answers", `${Math.round(100 * now.e)} %`, `${Math.round(100 * now.q)} %`],
      ["cross-entropy", now.losses.e.toFixed(4), now.losses.q.toFixed(4)],
    ]);
    const { learned } = run;
    features.show([
      ["spread of the features", now.spread.toFixed(2), learned ? learned.spread.toFixed(2) : "–"],
      ["distance to their codes", now.gap.toFixed(3), learned ? learned.gap.toFixed(3) : "–"],
      ["features that changed their code in the last step", percent(run.jumped), ""],
      ["inactive codes", `${idle.size}\u00a0of\u00a0${codes.length}`, ""],
    ]);
  }

  reset();
}

/** Height of a loss in the chart, on a logarithmic scale from 3 down to 0.0003. */
function height(loss) {
  const share = (Math.log10(3) - Math.log10(Math.min(3, Math.max(3e-4, loss)))) / 4;
  return 2 + 43 * share;
}
