// The quantizer as a map: each code owns the points that are nearer to it than to any other. Drag a vector, nudge it.

import { cell, distance, nearest, randomNudge, size, towardsBorder, worstNudge } from "./cells.js";
import { button, choice, element, frame, MARKS, movable, path, percent, placeOf, shape, slider, table } from "./kit.js";
import { uniform } from "./random.js";

export const CODES = [[0.14, 0.83], [0.49, 0.88], [0.85, 0.8], [0.27, 0.53], [0.62, 0.58], [0.9, 0.44], [0.13, 0.2], [0.46, 0.25], [0.78, 0.13]];
export const VECTOR = [0.37, 0.5];
const NUDGES = 200, PLACES = 2000;

const add = ([a, b], [c, d]) => [a + c, b + d];

/**
 * What nudges do: the worst one and NUDGES random ones at the vector, and one random nudge at each of PLACES points drawn
 * evenly from the whole plane. Each as {pushed, moved, changed}: mean distance before and after quantization, and the share
 * of nudges that change the code; `nudges` are the random ones at the vector, `to` the worst one's code or null.
 */
export function measure({ codes, vector, eps, norm, seed = 0 }) {
  const from = nearest(codes, vector), next = uniform(seed);
  const found = worstNudge(codes, vector, eps, norm, 0, 1);
  const nudge = found?.nudge ?? towardsBorder(codes, vector, eps, norm, 0, 1);
  const worst = { nudge, to: found?.to ?? null, pushed: Math.hypot(...nudge), moved: found?.moved ?? 0, changed: found ? 1 : 0 };
  const nudges = Array.from({ length: NUDGES }, () => {
    const by = randomNudge(next, eps, norm);
    return { by, to: nearest(codes, add(vector, by)) };
  });
  const random = average(nudges.map(({ by, to }) => [Math.hypot(...by), distance(codes[from], codes[to]), to !== from]));
  const anywhere = average(Array.from({ length: PLACES }, () => {
    const place = [next(), next()], by = randomNudge(next, eps, norm);
    const [before, after] = [nearest(codes, place), nearest(codes, add(place, by))];
    return [Math.hypot(...by), distance(codes[before], codes[after]), before !== after];
  }));
  return { from, worst, random: { ...random, nudges }, anywhere };
}

function average(rows) {
  const mean = (k) => rows.reduce((sum, row) => sum + row[k], 0) / rows.length;
  return { pushed: mean(0), moved: mean(1), changed: mean(2) };
}

// ---- Drawing: the plane's [0, 1] with y upwards is the picture's 100 by 100 with y downwards

const at = ([x, y]) => [100 * x, 100 * (1 - y)];
const put = (mark, place, scale = 1) => mark.setAttribute("transform", `translate(${at(place)}) scale(${scale})`);
const line = (mark, from, to) => {
  const [[x1, y1], [x2, y2]] = [at(from), at(to)];
  for (const [name, value] of Object.entries({ x1, y1, x2, y2 })) mark.setAttribute(name, value);
};

export function fill(place) {
  const state = { codes: CODES.map((code) => [...code]), vector: [...VECTOR], eps: 0.12, norm: "circle" };
  let told = null; // frame, once there
  const cells = state.codes.map(() => shape("path", { class: "toy-cell" }));
  const jump = shape("line", { class: "toy-jump" }), arrow = shape("line", { class: "toy-arrow" });
  const budget = { circle: shape("circle", { class: "toy-budget" }), square: shape("rect", { class: "toy-budget" }) };
  const dots = Array.from({ length: NUDGES }, () => shape("path", { class: "toy-dot" }));
  const end = shape("circle", { r: 1.6, class: "toy-end" });
  const effects = shape("g", { class: "toy-effects", "aria-hidden": "true" }, ...Object.values(budget), ...dots, jump, arrow, end);
  const codeMarks = state.codes.map((_, i) => shape("g", { class: "toy-handle toy-code" },
    shape("circle", { r: 6, class: "toy-grip" }), shape("path", { d: MARKS[3], transform: "scale(3)" }), shape("text", { y: 1.4 }, `${i + 1}`)));
  const vectorMark = shape("g", { class: "toy-handle toy-vector" },
    shape("circle", { r: 6, class: "toy-grip" }), shape("circle", { r: 1.9 }));
  const picture = shape("svg", { viewBox: "0 0 100 100", role: "group", "aria-label": `${CODES.length} codes, the cell of each, and one feature vector`, class: "toy-plane" },
    ...cells.map((one) => shape("g", { "aria-hidden": "true" }, one)), effects, ...codeMarks, vectorMark);

  const results = table("How far a vector moves, before and after quantization", ["nudge", "vector moves", "code moves", "code changes"]);
  const where = (point) => `${point[0].toFixed(2)} across, ${point[1].toFixed(2)} up`;
  const handles = [
    movable(picture, vectorMark, "feature vector", () => state.vector, (to) => ((state.vector = to), show()),
      () => `${where(state.vector)}, nearest code ${nearest(state.codes, state.vector) + 1}`),
    ...codeMarks.map((mark, i) => movable(picture, mark, `code ${i + 1}`, () => state.codes[i], (to) => ((state.codes[i] = to), show()),
      () => where(state.codes[i]))),
  ];
  picture.addEventListener("click", (event) => event.target.closest(".toy-handle") || handles[0].move(placeOf(picture, event)));

  const eps = slider("Budget: how far a nudge may go", { min: 0, max: 0.25, step: 0.01, value: state.eps, onInput: (v) => ((state.eps = v), show()) });
  const controls = element("div", { className: "toy-controls" },
    eps.node,
    choice("Shape of the budget", { circle: "Circle (L2)", square: "Square (L∞)" }, state.norm, (v) => ((state.norm = v), show())),
    element("div", { className: "toy-row" },
      button("Start again", () => {
        Object.assign(state, { codes: CODES.map((code) => [...code]), vector: [...VECTOR] });
        show();
      })),
    element("ul", { className: "toy-legend" },
      element("li", { className: "is-vector" }, "the vector: drag it, tap where it should be, or use the arrow keys"),
      element("li", { className: "is-code" }, "codes: they can be dragged, too"),
      element("li", { className: "is-dot" }, `${NUDGES} random nudges; filled squares change the code`),
      element("li", { className: "is-jump" }, "arrow: the worst nudge; thick line: what it does to the code")),
  );
  const body = element("div", {}, element("div", { className: "toy-picture" }, picture), controls, element("div", { className: "toy-results" }, results.node));
  told = frame(place, {
    question: `A feature vector is pushed by at most ${state.eps.toFixed(2)}, then replaced by its nearest code. How far can the answer move?`,
    options: ["Not at all: small pushes vanish", `By ${state.eps.toFixed(2)} at most, like the vector`, `Several times ${state.eps.toFixed(2)}`],
  }, body, show);

  function show() {
    const { codes, vector } = state, radius = state.eps, found = measure({ ...state });
    const { from, worst, random, anywhere } = found, open = place.dataset.state === "open";
    cells.forEach((one, i) => {
      one.setAttribute("d", path(cell(codes, i, 0, 1).map(at)));
      one.classList.toggle("is-from", i === from);
      one.classList.toggle("is-to", open && i === worst.to);
    });
    codeMarks.forEach((mark, i) => put(mark, codes[i]));
    put(vectorMark, vector);
    effects.style.display = open ? "" : "none"; // the answer to the question
    const [x, y] = at(vector), r = 100 * radius;
    for (const [name, value] of Object.entries({ cx: x, cy: y, r })) budget.circle.setAttribute(name, value);
    for (const [name, value] of Object.entries({ x: x - r, y: y - r, width: 2 * r, height: 2 * r })) budget.square.setAttribute(name, value);
    for (const [name, mark] of Object.entries(budget)) mark.style.display = name === state.norm ? "" : "none";
    random.nudges.forEach(({ by, to }, i) => {
      dots[i].setAttribute("d", MARKS[to === from ? 0 : 1]);
      dots[i].classList.toggle("is-changed", to !== from);
      put(dots[i], add(vector, by), 0.5);
    });
    line(arrow, vector, add(vector, worst.nudge));
    put(end, add(vector, worst.nudge));
    line(jump, codes[from], codes[worst.to ?? from]);
    results.show([
      ["the worst", worst.pushed.toFixed(3), worst.moved.toFixed(3), worst.to === null ? "no" : `${from + 1} to ${worst.to + 1}`],
      [`${NUDGES} random`, random.pushed.toFixed(3), random.moved.toFixed(3), percent(random.changed)],
      ["random, all over the picture", anywhere.pushed.toFixed(3), anywhere.moved.toFixed(3), percent(anywhere.changed)],
    ]);
    for (const handle of handles) handle.describe();
    if (!open) return;
    const text = sentence(state, found);
    told.tell(text);
    told.say(text);
  }
  show();
}

/** What the picture shows, in words. */
export function sentence({ eps }, { from, worst, random, anywhere }) {
  if (eps === 0) return "A budget of 0 moves nothing.";
  const border = worst.to === null
    ? `No nudge of ${eps.toFixed(2)} leaves the cell of code ${from + 1}: here they all vanish.`
    : `The worst nudge takes code ${from + 1} to code ${worst.to + 1}: the vector moves by ${worst.pushed.toFixed(2)}, its code by ${worst.moved.toFixed(2)}.`;
  const chance = random.changed === 0 ? " None of the random ones changes the code." : ` Of the random ones, ${percent(random.changed)} change it.`;
  return `${border}${chance} All over the picture ${percent(1 - anywhere.changed)} of random nudges vanish; the rest jump so far that on average the code still moves by ${anywhere.moved.toFixed(3)}, the vector by ${anywhere.pushed.toFixed(3)}.`;
}
