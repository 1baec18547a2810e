// Where in a network the layer stands: drag it from block to block, or use the arrow keys. Code and cost follow.

import { choice, draggable, element, frame, placeOf, shape, table } from "./kit.js";

const CODES = 64;
const LANES = { q: 9, e: 25, both: 17 }, HEIGHT = 34; // heights in the picture, which is 100 wide
const millions = (count) => `${(count / 1e6).toFixed(2)} million`;

/** The lines of Python that put the layer there. */
export function code({ cut, shape: [dim] }, heads) {
  const join = heads > 1 ? `nn.Conv2d(${heads * dim}, ${dim}, 1), ` : "";
  return [
    `encoder = nn.Sequential(*blocks()[:${cut}])`,
    `layer = QLayer(${dim}, codebook_size=${CODES}, heads=${heads})`,
    `tails = [nn.Sequential(${join}*blocks()[${cut}:]) for _ in "qe"]`,
    "net = QNet(encoder, layer, *tails)",
  ].join("\n");
}

/** What it costs there, in words. */
export function sentence({ plain, places }, cut, heads) {
  const { behind, shape: [dim, height, width], heads: costs } = places[cut - 1], cost = costs[heads];
  const most = places.reduce((best, one) => (one.heads[heads].trained > best.heads[heads].trained ? one : best));
  const where = most.behind === behind ? "more than at any other place" : `fewer than the ${millions(most.heads[heads].trained)} behind ${most.behind}, where they are most`;
  const more = (100 * (cost.operations / plain.operations - 1)).toFixed(1);
  return `Behind ${behind} the layer sees ${height} × ${width} position${height * width > 1 ? "s" : ""} of ${dim} channels. ${millions(cost.trained)} `
    + `parameters are trained, ${(cost.trained / plain.trained).toFixed(2)} times those of the plain network and ${where}; and an answer takes ${more} % more multiply-adds.`;
}

/** The place that is nearest to a point of the picture, `x` of its width in [0, 1]: there are `blocks` blocks, and the layer. */
export const nearestCut = (x, blocks) => Math.min(blocks - 1, Math.max(1, Math.round(x * (blocks + 1) - 0.5)));

export function fill(place) {
  const facts = JSON.parse(place.dataset.places), { blocks, places, plain } = facts;
  const state = { cut: Math.ceil(blocks.length / 2), heads: "1" }, step = 100 / (blocks.length + 1);
  const drawn = shape("g", { "aria-hidden": "true" });
  const mark = shape("g", { class: "toy-handle toy-layer", tabindex: 0, role: "slider", "aria-label": "the Q-Layer", "aria-valuemin": 1, "aria-valuemax": blocks.length - 1 },
    shape("rect", { class: "toy-grip", x: -step / 2, y: 0, width: step, height: HEIGHT }),
    shape("rect", { x: -0.36 * step, y: LANES.q - 3, width: 0.72 * step, height: LANES.e - LANES.q + 6, rx: 2 }), shape("text", { y: LANES.both + 1.2 }, "Q"));
  const picture = shape("svg", { viewBox: `0 0 100 ${HEIGHT}`, role: "group", "aria-label": `a network of ${blocks.length} blocks, with the layer among them` }, drawn, mark);
  const listing = element("pre", { className: "toy-code-text" });
  const results = table("Parameters, and multiply-adds of one answer", ["", "trained", "deployed", "multiply-adds"]);
  const controls = element("div", { className: "toy-controls" },
    choice("Heads", Object.fromEntries(Object.keys(places[0].heads).map((heads) => [heads, heads])), state.heads, (heads) => ((state.heads = heads), show())), listing);
  const body = element("div", {}, element("div", { className: "toy-picture" }, picture), controls, element("div", { className: "toy-results" }, results.node));
  const told = frame(place, {
    question: "The layer splits the network into two tails. Where does it cost the most parameters to train?",
    options: ["Early, behind the first block", "Late, behind the last but one", "It makes no difference"],
  }, body, show);

  const go = (cut) => {
    if (cut === state.cut || cut < 1 || cut >= blocks.length) return;
    state.cut = cut;
    show();
  };
  mark.addEventListener("keydown", (event) => {
    const to = { ArrowLeft: state.cut - 1, ArrowDown: state.cut - 1, ArrowRight: state.cut + 1, ArrowUp: state.cut + 1, Home: 1, End: blocks.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    go(to);
  });
  draggable(picture, mark, ([x]) => go(nearestCut(x, blocks.length)));
  picture.addEventListener("click", (event) => event.target.closest(".toy-layer") || go(nearestCut(placeOf(picture, event)[0], blocks.length)));

  /** A block of the network at one of the picture's slots, on one of its lanes. */
  function block(name, slot, lane) {
    const x = (slot + 0.5) * step, y = LANES[lane];
    return shape("g", { class: `toy-block is-${lane}` },
      shape("line", { x1: x - 0.5 * step, x2: x + 0.5 * step, y1: y, y2: y }),
      shape("rect", { x: x - 0.44 * step, y: y - 4.5, width: 0.88 * step, height: 9, rx: 1.5 }), shape("text", { x, y: y + 1.1 }, name));
  }

  function show() {
    const { cut, heads } = state, here = places[cut - 1], cost = here.heads[heads];
    drawn.replaceChildren(
      ...blocks.slice(0, cut).map((name, i) => block(name, i, "both")),
      ...["q", "e"].flatMap((lane) => blocks.slice(cut).map((name, i) => block(name, cut + 1 + i, lane))),
      shape("text", { class: "toy-lane", x: 99, y: LANES.q - 6 }, "Q-path: answers"), shape("text", { class: "toy-lane", x: 99, y: LANES.e + 8.2 }, "E-path: only trains"));
    mark.setAttribute("transform", `translate(${(cut + 0.5) * step} 0)`);
    mark.setAttribute("aria-valuenow", cut);
    mark.setAttribute("aria-valuetext", `behind ${here.behind}`);
    listing.textContent = code(here, +heads);
    const cells = (one) => [millions(one.trained), millions(one.deployed), millions(one.operations)];
    results.show([["no layer", ...cells(plain)], [`behind ${here.behind}`, ...cells(cost)]]);
    if (place.dataset.state !== "open") return;
    const text = sentence(facts, cut, heads);
    told.tell(text);
    told.say(text);
  }
  show();
}
