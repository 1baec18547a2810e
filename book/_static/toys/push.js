// Why a network falls: many small pushes add up. A linear classifier, where the worst push is known exactly.

import { choice, element, frame, percent, shape, slider, table, tick } from "./kit.js";
import { classifier, crossing, levels, push } from "./linear.js";

const SIDE = 28, PIXELS = SIDE * SIDE, FULL = 0.4; // the change that is drawn in full colour
const UP = [226, 100, 30], DOWN = [30, 125, 205]; // as in the lab

/** What the page knows of the digits: a file beside this module, made from the training images. */
export async function load(url = new URL("digits.json", import.meta.url)) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url.pathname} could not be loaded (${answer.status})`);
  return answer.json();
}

/** What happened, in words. */
export function verdict(pair, { left, total, margin }, at, { direction, count, eps }) {
  const means = direction === "worst" ? "Pushed by design" : "Pushed by chance";
  const pixels = `${count} pixel${count === 1 ? "" : "s"} by ${eps.toFixed(2)} at most`;
  if (left >= 0) return `${means}, ${pixels}: that takes ${total.toFixed(1)} off a margin of ${margin.toFixed(1)}. It is still a ${pair[0]}.`;
  return `${means}, ${pixels}: that takes ${total.toFixed(1)} off a margin of ${margin.toFixed(1)}${direction === "worst" ? `, and ${at} pixels would do` : ""}. The ${pair[0]} is read as a ${pair[1]}.`;
}

function paint(canvas, image, before = null) {
  const pixels = new ImageData(SIDE, SIDE);
  image.forEach((value, i) => {
    const change = before ? (value - before[i]) / FULL : 0, grey = 255 * value;
    pixels.data.set(before ? [...(change > 0 ? UP : DOWN), 255 * Math.sqrt(Math.min(1, Math.abs(change)))] : [grey, grey, grey, 255], 4 * i);
  });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

const screen = (words) => element("canvas", { width: SIDE, height: SIDE, role: "img", "aria-label": words });

export async function fill(place) {
  const file = await load(), model = classifier(file.means.map(levels)), images = file.images.map(levels);
  const state = { image: "0", eps: 0.2, count: PIXELS, direction: "random", inside: true };
  let told = null;

  const clean = screen("the image"), change = screen("the push"), pushed = screen("the pushed image");
  const figure = (canvas, words) => element("figure", { className: canvas === change ? "toy-change" : "" }, canvas, element("figcaption", {}, words));
  const captions = [element("span"), element("span"), element("span")];
  const bars = {
    hurt: [0, 1].map((odd) => shape("path", { class: `toy-part is-${odd ? "odd" : "even"}` })),
    help: [0, 1].map((odd) => shape("path", { class: `toy-part is-help is-${odd ? "odd" : "even"}` })),
  };
  const goal = shape("path", { class: "toy-goal" }), goalName = shape("text", { y: 4 }), net = shape("path", { class: "toy-net" }), bound = shape("path", { class: "toy-bound" });
  const boundName = shape("text", { y: 31.5 });
  const bar = shape("svg", { viewBox: "0 -2 200 36", role: "img", class: "toy-bar" },
    shape("rect", { class: "toy-track", x: 4, y: 7, width: 192, height: 17 }), ...bars.hurt, ...bars.help, bound, boundName, goal, goalName, net);
  const sums = table("What the pushes add up to", ["", "score"]);
  const everyone = table(`All ${file.count.toLocaleString("en")} test images of the two digits, all ${PIXELS} pixels`, ["push", "answered right"]);

  const faces = Object.fromEntries(images.map((image, i) => {
    const face = screen("");
    face.setAttribute("aria-hidden", "true");
    paint(face, image);
    return [i, face];
  }));
  const names = Object.fromEntries(images.map((_, i) => [i, `a ${file.labels[i]}, number ${1 + file.labels.slice(0, i).filter((label) => label === file.labels[i]).length}`]));
  const set = (name) => (value) => ((state[name] = value), show());
  const controls = element("div", { className: "toy-controls" },
    choice("Test image", names, "0", set("image"), faces),
    choice("Direction of each pixel", { random: "By chance", worst: "By design" }, "random", set("direction")),
    slider("Epsilon: how far each pixel may move", { min: 0, max: 0.4, step: 0.01, value: state.eps, onInput: set("eps") }).node,
    slider("Pixels that move, those that matter most first", { min: 0, max: PIXELS, step: 1, value: PIXELS, words: (v) => `${v} of ${PIXELS}`, onInput: set("count") }).node,
    tick("Pixels stay between black and white", true, set("inside")),
  );
  const body = element("div", {},
    element("div", { className: "toy-picture" },
      element("div", { className: "toy-images" }, figure(clean, captions[0]), figure(change, captions[1]), figure(pushed, captions[2])),
      element("figure", {}, bar, element("figcaption", {}, "Each stripe is what one pixel takes off the margin; the lower row shows what others add to it. Past the thick line the answer changes."))),
    controls, element("div", { className: "toy-results" }, sums.node, everyone.node));
  const [a, b] = file.pair;
  told = frame(place, {
    question: `A classifier asks which an image is nearer to, the average ${a} or the average ${b}. Every pixel of a ${a} may move by ${state.eps.toFixed(2)}, a fifth of the way from black to white: `
      + `once in directions drawn by chance, once chosen by an attacker. What makes it a ${b}?`,
    options: ["Chance as well as design", "Design alone", `Neither: ${state.eps.toFixed(2)} is too little`],
  }, body, show);

  function show() {
    const image = images[state.image], options = { ...state, seed: +state.image };
    const found = push(model, image, options), open = place.dataset.state === "open";
    const pair = model.score(image) >= 0 ? file.pair : [...file.pair].reverse();
    const at = crossing(found.parts, found.margin), falls = found.left < 0;
    paint(clean, image);
    paint(change, open ? found.pushed : image, image);
    paint(pushed, open ? found.pushed : image);
    captions[0].textContent = `the image, read as ${pair[0]}`;
    captions[1].textContent = "the push: orange is brighter, blue darker";
    captions[2].textContent = open ? `pushed, read as ${falls ? pair[1] : pair[0]}` : "pushed";
    change.setAttribute("aria-label", `the push: ${found.parts.filter((part) => part !== 0).length} pixels moved, by ${state.eps.toFixed(2)} at most`);

    const full = 1.08 * Math.max(1.25 * found.margin, found.bound), x = (score) => 4 + (192 * Math.min(1, Math.max(0, score / full)));
    const hurt = found.parts.filter((part) => part > 0), help = found.parts.filter((part) => part < 0);
    const most = hurt.reduce((sum, part) => sum + part, 0);
    stack(bars.hurt, open ? hurt : [], 0, 7, help.length ? 8.5 : 17, x);
    stack(bars.help, open ? help : [], most, 15.5, 8.5, x);
    goal.setAttribute("d", `M${x(found.margin)},5V27`);
    goalName.textContent = `margin ${found.margin.toFixed(1)}`;
    labelAt(goalName, x(found.margin));
    bound.setAttribute("d", open ? `M${x(found.bound)},7V28` : "");
    boundName.textContent = open ? `ε·‖w‖₁ = ${found.bound.toFixed(1)}` : "";
    labelAt(boundName, x(found.bound));
    net.setAttribute("d", open ? `M${x(found.total)},24l-2,4h4z` : "");
    place.classList.toggle("is-over", open && falls);
    bar.setAttribute("aria-label", open ? `the pushes add up to ${found.total.toFixed(1)}, the margin is ${found.margin.toFixed(1)}` : `the margin is ${found.margin.toFixed(1)}`);
    if (!open) return;

    const k = state.count === PIXELS ? "" : `, over ${state.count} pixels`;
    sums.show([
      ["margin: how clearly it is a " + pair[0], found.margin.toFixed(1)],
      [`ε · ‖w‖₁: the most that any push can do${k}`, `${state.eps.toFixed(2)} · ${(state.eps ? found.bound / state.eps : 0).toFixed(1)} = ${found.bound.toFixed(1)}`],
      [state.inside ? "this push, between black and white" : "this push", found.total.toFixed(1)],
      [falls ? "past the margin by" : "what is left of the margin", Math.abs(found.left).toFixed(1)],
    ]);
    const column = file.epsilons.findIndex((eps) => Math.abs(eps - 0.02 * Math.round(state.eps / 0.02)) < 1e-6);
    everyone.show([
      [`by chance, ε = ${file.epsilons[column].toFixed(2)}`, percent(file.random[column] / 100)],
      [`by design, ε = ${file.epsilons[column].toFixed(2)}`, percent(file.worst[column] / 100)],
    ]);
    const text = verdict(pair, found, at, state);
    told.tell(text);
    told.say(text);
  }
  show();
}

/** Draw parts end to end from a start, every other in another shade. */
function stack([even, odd], parts, start, top, high, x) {
  let from = start;
  const drawn = ["", ""];
  parts.forEach((part, i) => {
    drawn[i % 2] += `M${x(from).toFixed(3)},${top}H${x(from + part).toFixed(3)}v${high}H${x(from).toFixed(3)}z`;
    from += part;
  });
  even.setAttribute("d", drawn[0]);
  odd.setAttribute("d", drawn[1]);
}

/** Put a label under or over its line without leaving the picture. */
function labelAt(label, x) {
  const side = x < 40 ? "start" : x > 160 ? "end" : "middle";
  label.setAttribute("text-anchor", side);
  label.setAttribute("x", x);
}
