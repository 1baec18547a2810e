// What matters inside the network: four switches - where the layer sits, one tail or two, heads, codes - and what each changes.

import { choice, element, frame, shape, table } from "./kit.js";

const LANES = { q: 11, e: 37, both: 24 }, STEP = 20; // heights in the picture, which is 100 wide and 48 high
const GRIDS = { 16: [4, 4], 64: [8, 8], 128: [16, 8] }; // columns and rows of a head's codes
const SIDES = { image: 28, "conv 1": 28, "conv 2": 12 };
const millions = (count) => `${(count / 1e6).toFixed(2)} million`;
const several = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

export const key = ({ position, tails, heads, codes }) => `${position} ${tails} ${heads} ${codes}`;

/** The blocks in front of the layer, and those of a tail. */
export const order = (position) => (position === "between" ? [["image", "conv 1"], ["conv 2", "linear"]] : [["image", "conv 1", "conv 2"], ["linear"]]);

/** What a choice of switches costs and does, in words. */
export function sentence(counts, state) {
  const one = counts[key(state)], { heads, codes } = state;
  const who = one.name ? `This is ${one.name}. ` : "The paper has no such network. ";
  const tails = one.trained === one.deployed ? "one tail serves both paths" : "of its two tails one answers";
  return `${who}${millions(one.trained)} parameters are trained, and ${millions(one.deployed)} answer: ${tails}. At each of ${one.side} × ${one.side} positions `
    + `${several(+heads, "head")} choose${+heads === 1 ? "s" : ""} among ${codes} codes: at most ${one.bits.toLocaleString("en")} bits pass to the tail, where an image has ${(28 * 28 * 8).toLocaleString("en")}.`;
}

/** A path of little squares: a head's codes, within a box. */
export function dots(codes, [left, top, width, height]) {
  const [columns, rows] = GRIDS[codes], dx = width / columns, dy = height / rows, size = 0.62 * Math.min(dx, dy);
  return Array.from({ length: codes }, (_, i) => {
    const x = left + ((i % columns) + 0.5) * dx - size / 2, y = top + (Math.floor(i / columns) + 0.5) * dy - size / 2;
    return `M${x.toFixed(2)},${y.toFixed(2)}h${size.toFixed(2)}v${size.toFixed(2)}h${(-size).toFixed(2)}z`;
  }).join("");
}

export function fill(place) {
  const counts = JSON.parse(place.dataset.counts);
  const state = { position: "after", tails: "separate", heads: "1", codes: "64" };
  const drawn = shape("g", { "aria-hidden": "true" });
  const picture = shape("svg", { viewBox: "0 0 100 48", role: "img" }, drawn);
  const results = table("Parameters, and bits that an image's codes can hold", ["", "trained", "answer", "bits"]);
  const set = (name) => (value) => ((state[name] = value), show());
  const controls = element("div", { className: "toy-controls" },
    choice("The layer sits", { after: "after the convolutions", between: "between them" }, state.position, set("position")),
    choice("Tails", { separate: "one for each path", shared: "one for both" }, state.tails, set("tails")),
    choice("Heads (K)", { 1: "1", 2: "2", 4: "4" }, state.heads, set("heads")),
    choice("Codes of each head", { 16: "16", 64: "64", 128: "128" }, state.codes, set("codes")));
  const body = element("div", {}, element("div", { className: "toy-picture" }, picture), controls, element("div", { className: "toy-results" }, results.node));
  const told = frame(place, {
    question: "Q-base has one head, Q-large has four. How many more parameters does the larger one train?",
    options: ["Hardly more: codes are small", "About twice as many", "About four times as many"],
  }, body, show);

  /** A block, centred at a slot of the picture, on one of its lanes. */
  function block(name, slot, lane) {
    const x = (slot + 0.5) * STEP, y = LANES[lane], side = SIDES[name];
    return shape("g", { class: `toy-block is-${lane}` },
      shape("rect", { x: x - 7.5, y: y - 5, width: 15, height: 10, rx: 1.5 }),
      shape("text", { x, y: y + (side ? 0 : 1) }, name), ...(side ? [shape("text", { x, y: y + 3.6, class: "toy-lane" }, `${side} × ${side}`)] : []));
  }

  const wire = (lane, points) => shape("path", { class: `toy-wire is-${lane}`, d: `M${points.map((point) => point.join(",")).join("L")}` });

  /** The lines of one path, from the layer to its answer. */
  function lines(lane, from, y) {
    const x = from * STEP + 17.5;
    return wire(lane, [[x, LANES[lane]], [x + 2.5, LANES[lane]], ...(y === LANES[lane] ? [] : [[x + 4.4, y + (lane === "q" ? -1.5 : 1.5)]]), [100, y + (y === LANES[lane] ? 0 : lane === "q" ? -1.5 : 1.5)]]);
  }

  function show() {
    const { position, tails, heads, codes } = state, one = counts[key(state)], [front, back] = order(position), at = front.length;
    const shared = tails === "shared", height = 34 / heads, left = at * STEP + 2.5;
    const y = (lane) => (shared ? LANES.both : LANES[lane]);
    const cards = Array.from({ length: +heads }, (_, head) => {
      const top = 7 + head * height;
      return shape("g", {}, shape("rect", { class: "toy-card", x: left, y: top + 0.4, width: 15, height: height - 0.8, rx: 1 }),
        shape("path", { class: "toy-codes", d: dots(codes, [left + 1, top + 1, 13, height - 2]) }));
    });
    drawn.replaceChildren(
      wire("both", [[5, LANES.both], [left, LANES.both]]),
      lines("q", at, y("q")), lines("e", at, y("e")),
      ...front.map((name, i) => block(name, i, "both")), ...cards,
      ...(shared ? back.map((name, i) => block(name, at + 1 + i, "both")) : ["q", "e"].flatMap((lane) => back.map((name, i) => block(name, at + 1 + i, lane)))),
      shape("text", { class: "toy-lane is-end", x: 99, y: shared ? 15 : 4.5 }, "Q-path: answers"), shape("text", { class: "toy-lane is-end", x: 99, y: shared ? 34.5 : 45.5 }, "E-path: trains"));
    const ratio = counts["after separate 4 64"].trained / counts["after separate 1 64"].trained;
    const text = `${sentence(counts, state)} (Q-large trains ${ratio.toFixed(1)} times as many as Q-base: its tails read four maps.)`;
    picture.setAttribute("aria-label", `From left to right: ${front.join(", ")}, the layer with ${several(+heads, "head")} of ${codes} codes, then ${shared ? "one tail that both paths share" : "a tail for each path"}: ${back.join(", ")}.`);
    const cells = (found) => [millions(found.trained), millions(found.deployed), found.bits.toLocaleString("en")];
    results.show([["Q-base", ...cells(counts["after separate 1 64"])], ["Q-large", ...cells(counts["after separate 4 64"])], ["yours", ...cells(one)]]);
    if (place.dataset.state !== "open") return;
    told.tell(text);
    told.say(text);
  }
  show();
}
