// The network, to be entered: from image, layer and tails to the map of codes, and on to the formula at one position.
// What is said in numbers was computed when the book was built; what is drawn as bars is computed here, from one byte per feature.

import { button, choice, element, frame, percent, shape, table } from "./kit.js";

const LEVELS = 3, CLASSES = 10, SIDE = 28;

const bytes = (packed) => Uint8Array.from(atob(packed), (byte) => byte.charCodeAt(0));
const fine = ({ step, numbers }, Kind = Int16Array) => Float64Array.from(new Kind(bytes(numbers).buffer), (number) => number * step);
const length = (vector) => Math.hypot(...vector);
const minus = (a, b) => a.map((value, i) => value - b[i]);
const largest = (values) => values.reduce((best, value, i) => (value > values[best] ? i : best), 0);

/** What the page holds, as numbers. */
export function unpack({ weight, bias, codebook, digits, ...rest }) {
  return {
    ...rest, weight: fine(weight, Int8Array), bias: fine(bias), codebook: fine(codebook),
    digits: digits.map(({ label, seen }) => ({
      label,
      seen: seen.map(({ name, q, e, ...packed }) => ({
        name, q, e, ...Object.fromEntries(["pixels", "z", "strongest", "codes", "seconds"].map((one) => [one, bytes(packed[one])])),
        ...Object.fromEntries(["peaks", "values", "weights", "nearest", "margins", "moves"].map((one) => [one, fine(packed[one])])),
      })),
    })),
  };
}

/**
 * The layer at one position of an image: z, its gate, p, the distance to each code, the two nearest, the chosen one's vector.
 * `channel` is the strongest of p; there z and the gate are exact.
 */
export function position({ dim, weight, bias, codebook }, seen, at) {
  const channel = seen.strongest[at], code = seen.codes[at];
  const z = Float64Array.from(seen.z.subarray(at * dim, (at + 1) * dim), (byte) => (byte / 255) * seen.peaks[at]);
  const logits = bias.map((start, to) => z.reduce((sum, value, from) => sum + value * weight[from * dim + to], start));
  const top = Math.max(...logits), raised = logits.map((logit) => Math.exp(logit - top));
  const total = raised.reduce((sum, value) => sum + value), gate = raised.map((value) => value / total);
  z[channel] = seen.values[at];
  gate[channel] = seen.weights[at];
  const p = z.map((value, i) => value * gate[i]);
  const codes = Array.from({ length: codebook.length / dim }, (_, i) => codebook.subarray(i * dim, (i + 1) * dim));
  return {
    z, gate, p, channel, code, distances: codes.map((one) => length(minus(p, one))), quantized: codes[code],
    second: seen.seconds[at], nearest: seen.nearest[at], margin: seen.margins[at],
  };
}

/** The positions at which an image chooses another code than the clean one. */
export const flips = (clean, seen) => [...seen.codes.keys()].filter((at) => seen.codes[at] !== clean.codes[at]);

/** A path of bars that stand on a line of a `length` by 30 picture, where `top` is as high as it goes; negative ones hang. */
export function bars(values, top, line = 30) {
  return Array.from(values, (value, i) => {
    const high = Math.min(1, Math.abs(value) / top) * (value < 0 ? 30 - line : line);
    return high < 0.05 ? "" : `M${i + 0.1},${line}v${(value < 0 ? high : -high).toFixed(2)}h.8v${(value < 0 ? -high : high).toFixed(2)}z`;
  }).join("");
}

export const place = ({ side }, at) => `row ${Math.floor(at / side) + 1}, column ${(at % side) + 1}`;
const upper = (words) => words[0].toUpperCase() + words.slice(1);
const told = (shares, label) => `${largest(shares)}, which is ${largest(shares) === label ? "right" : "wrong"}`;

/** What is to be seen at each level, in words. */
export function sentence(all, { label, seen: [clean, ...others] }, now, level, at) {
  const count = now.codes.length, changed = flips(clean, now).length, here = upper(place(all, at));
  if (level === 0) {
    const what = now === clean ? `Number of different codes that the clean image chooses at its ${count} positions: ${new Set(now.codes).size}`
      : `${upper(now.name)} flips ${changed} of ${count} codes, and ${count - changed} stay`;
    return `${what}. The Q-path answers ${told(now.q, label)}; the E-path ${told(now.e, label)}.`;
  }
  const was = clean.codes[at], same = now.codes[at] === was;
  if (level === 1) {
    const what = now === clean ? "" : same ? ", as on the clean image" : `, where the clean image has code ${was}`;
    const often = others.filter((other) => other.codes[at] !== was).map(({ name }) => name);
    return `${here}: code ${now.codes[at]}${what}. ${often.length ? `What flips this position: ${often.join(", ")}.` : "Nothing here flips this position."}`;
  }
  const { channel, ...one } = position(all, now, at), jumped = length(minus(one.quantized, position(all, clean, at).quantized));
  const change = now === clean ? ""
    : ` ${upper(now.name)} moves p by ${now.moves[at].toFixed(2)}, and ${same ? "the code not at all: here it is filtered out" : `the code by ${jumped.toFixed(2)}: a jump`}.`;
  return `${here}: channel ${channel} comes out strongest, ${one.z[channel].toFixed(2)} times ${one.gate[channel].toFixed(3)}. Code ${one.code} is nearest; `
    + `code ${one.second} is ${one.margin.toFixed(4)} farther away.${change}`;
}

// ---- Drawing

const screen = (width, height, words) => element("canvas", { width, height, role: "img", "aria-label": words });

function paint(canvas, level) {
  const { width, height } = canvas, image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) image.data.set([level(i), level(i), level(i), 255], 4 * i);
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function digit(seen, words) {
  const canvas = screen(SIDE, SIDE, words);
  paint(canvas, (i) => seen.pixels[i]);
  return canvas;
}

/** The four channels that are strongest on the clean image, two by two, with a line between them. */
function channels({ side, dim }, clean, seen) {
  const value = ({ z, peaks }, at, channel) => (z[at * dim + channel] / 255) * peaks[at], places = [...clean.codes.keys()];
  const sums = Array.from({ length: dim }, (_, channel) => places.reduce((sum, at) => sum + value(clean, at, channel), 0));
  const four = [...sums.keys()].sort((a, b) => sums[b] - sums[a]).slice(0, 4), top = Math.max(...seen.peaks), wide = 2 * side + 1;
  const canvas = screen(wide, wide, `four of ${dim} channels, each a map of ${side} by ${side}`);
  paint(canvas, (i) => {
    const [row, column] = [Math.floor(i / wide), i % wide];
    if (row === side || column === side) return 128;
    const at = (row % (side + 1)) * side + (column % (side + 1));
    return (255 * value(seen, at, four[2 * (row > side) + (column > side)])) / top;
  });
  return canvas;
}

/** The map of codes, a dot where one has flipped. */
function codeMap({ side, colours }, clean, seen) {
  const size = 20, canvas = screen(side * size, side * size, ""), pen = canvas.getContext("2d");
  seen.codes.forEach((code, at) => {
    const [x, y] = [(at % side) * size, Math.floor(at / side) * size];
    pen.fillStyle = colours[code];
    pen.fillRect(x, y, size, size);
    if (code === clean.codes[at]) return;
    for (const [shade, wide] of [["#000", 12], ["#fff", 8]]) {
      pen.fillStyle = shade;
      pen.fillRect(x + (size - wide) / 2, y + (size - wide) / 2, wide, wide);
    }
  });
  return canvas;
}

export function fill(spot) {
  const all = unpack(JSON.parse(spot.dataset.zoom)), { side, dim, ask, field: [size, stride, before] } = all, count = side * side;
  const state = { level: 0, digit: 0, seen: 0, at: 0 };
  const chosen = () => all.digits[state.digit], clean = () => chosen().seen[0], now = () => chosen().seen[state.seen];
  const start = ({ seen }) => {
    const changed = flips(seen[0], seen[ask]), { values, weights } = seen[ask];
    return changed[largest(changed.map((at) => values[at] * weights[at]))] ?? 0;
  };
  state.at = start(chosen());

  const steps = Array.from({ length: LEVELS }, (_, level) => button("", () => go(level)));
  const trail = element("nav", { className: "zoom-trail", "aria-label": "From the network to one position" },
    element("ol", {}, ...steps.map((step) => element("li", {}, step))));
  const stage = element("div", { className: "zoom-stage" });
  const faces = Object.fromEntries(all.digits.map(({ seen }, i) => {
    const face = digit(seen[0], "");
    face.setAttribute("aria-hidden", "true");
    return [i, face];
  }));
  const names = Object.fromEntries(all.digits.map(({ label }, i) => [i, `digit ${label}, number ${i + 1}`]));
  const shown = choice("Image", Object.fromEntries(chosen().seen.map(({ name }, i) => [i, name])), "0", (to) => ((state.seen = +to), show()));
  const controls = element("div", { className: "toy-controls" },
    choice("Digit", names, "0", (to) => {
      Object.assign(state, { digit: +to, at: start(all.digits[to]) });
      show();
    }, faces), shown);
  const whole = table("What flips, and what the tails answer", ["", "codes flipped", "Q-path", "E-path"]);
  const local = table("At this position", ["", "clean", "this image"]);
  const results = element("div", { className: "toy-results" });
  const body = element("div", {}, trail, controls, stage, results);
  const asked = chosen().seen[ask].name, few = Math.round(count / 14);
  const voice = frame(spot, {
    question: `The layer turns this ${chosen().label} into a grid of ${count} codes. Now its pixels are attacked (${asked}). How many of the codes change?`,
    options: [`A handful: fewer than ${few}`, `Some: ${few} to ${count / 2}`, `Most: more than ${count / 2}`],
  }, body, () => {
    state.seen = ask;
    shown.querySelector(`[value="${ask}"]`).checked = true;
    show();
  });

  // -- The map: one square per position; arrow keys move among them

  const cells = Array.from({ length: count }, (_, at) => {
    const cell = button("", () => {
      state.at = at;
      if (state.level === 1) go(2, cell);
      else show();
    });
    cell.setAttribute("role", "gridcell");
    return cell;
  });
  const grid = element("div", { className: "zoom-map", role: "grid", "aria-label": `the map of codes, ${side} by ${side} positions` },
    ...Array.from({ length: side }, (_, row) => element("div", { role: "row" }, ...cells.slice(row * side, (row + 1) * side))));
  grid.style.setProperty("--zoom-side", side);
  grid.addEventListener("keydown", (event) => {
    const row = Math.floor(state.at / side), column = state.at % side;
    const to = { ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1], ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], Home: [row, 0], End: [row, side - 1] }[event.key];
    if (!to) return;
    event.preventDefault();
    if (Math.min(...to) < 0 || Math.max(...to) >= side) return;
    state.at = to[0] * side + to[1];
    show();
    cells[state.at].focus();
  });
  body.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !state.level) return;
    event.preventDefault();
    go(state.level - 1);
  });

  /** Go in or out, as if what is entered grew to the whole; what was entered, or left, has the focus. */
  function go(level, door = null) {
    const inwards = level > state.level, held = stage.contains(document.activeElement), box = stage.getBoundingClientRect();
    const { left, top, width, height } = (door ?? stage).getBoundingClientRect();
    const transformOrigin = `${left + width / 2 - box.left}px ${top + height / 2 - box.top}px`;
    state.level = level;
    show();
    if (held || door) (level ? cells[state.at] : stage.querySelector(".is-door")).focus({ preventScroll: true });
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    stage.animate([{ opacity: 0, transform: `scale(${inwards ? 0.5 : 1.4})`, transformOrigin }, { opacity: 1, transform: "none", transformOrigin }], { duration: 350, easing: "ease-out" });
  }

  // -- The three levels

  const box = (kind, picture, name, words) => element("figure", { className: `zoom-box ${kind}` }, picture, element("figcaption", {}, element("b", {}, name), words));

  function answer(path, name, words, shares) {
    const best = largest(shares), top = percent(shares[best]);
    return element("div", { className: `zoom-end is-${path}` },
      element("p", {}, element("b", {}, name), words),
      element("div", { className: "zoom-classes", role: "img", "aria-label": `${name}: ${best} with ${top}` },
        ...Array.from({ length: CLASSES }, (_, i) => {
          const bar = element("i");
          bar.style.height = `${Math.max(2, 100 * shares[i])}%`;
          return element("span", { className: i === best ? "is-best" : "" }, element("span", {}, bar), `${i}`);
        })),
      element("p", { className: `zoom-answer ${best === chosen().label ? "" : "is-wrong"}` }, `answers ${best}, `, best === chosen().label ? "right" : "wrong", ` (${top})`));
  }

  function network() {
    const changed = flips(clean(), now()).length, map = codeMap(all, clean(), now());
    map.setAttribute("aria-hidden", "true");
    const door = element("button", { type: "button", className: "zoom-box is-door", onclick: () => go(1, door) }, map,
      element("span", {}, element("b", {}, "Q-Layer"), `${count} codes${state.seen ? `, ${changed} flipped` : ""}`), element("span", { className: "zoom-hint" }, "Look inside"));
    return element("div", { className: "zoom-net" },
      box("", digit(now(), `the image, ${now().name}`), "Image", `${SIDE} × ${SIDE} pixels`),
      box("", channels(all, clean(), now()), "Convolutions", `${dim} channels of ${side} × ${side}`), door,
      element("div", { className: "zoom-ends" },
        answer("q", "Q-path", "Its tail reads the codes.", now().q), answer("e", "E-path", "Its tail reads the features.", now().e)));
  }

  function sight(words) {
    const left = stride * (state.at % side) - before, top = stride * Math.floor(state.at / side) - before;
    const view = shape("svg", { viewBox: `0 0 ${SIDE} ${SIDE}`, "aria-hidden": "true" }, shape("rect", { x: left, y: top, width: size, height: size }));
    return element("figure", { className: "zoom-sight" }, element("div", {}, digit(now(), `the image, ${now().name}`), view), element("figcaption", {}, words));
  }

  const map = (words) => element("figure", { className: "zoom-grid" }, grid, element("figcaption", {}, words));

  const layer = () => element("div", { className: "zoom-layer" },
    map(`Each square is a position, in the colour of its code.${state.seen ? " A dot: not the code of the clean image." : ""} A tap opens a position; so do the arrow keys and Enter, and Escape leads back.`),
    sight(`The frame is what ${place(all, state.at)} sees: ${size} × ${size} pixels.`));

  function formula() {
    const one = position(all, now(), state.at), was = state.seen ? position(all, clean(), state.at) : one, { channel } = one;
    const top = Math.max(...one.z, ...was.z) || 1, low = Math.min(...one.distances), far = Math.max(...one.distances) - low || 1;
    const most = (values) => Math.max(...values.map(Math.abs)), high = Math.max(most(one.quantized), most(was.quantized)) || 1;
    const named = (name, number) => element("span", {}, element("small", {}, name), number);
    const code = (index, number) => {
      const mark = element("i", { className: "zoom-code" });
      mark.style.background = all.colours[index];
      return element("span", {}, mark, element("small", {}, `code ${index}`), number);
    };
    const row = (symbol, words, [values, ghost], scale, line, here, ...numbers) => {
      const picture = shape("svg", { viewBox: `0 0 ${values.length} 30`, preserveAspectRatio: "none", "aria-hidden": "true" },
        shape("path", { class: "zoom-bars", d: bars(values, scale, line) }),
        shape("path", { class: "zoom-bars is-here", d: bars(values.map((value, i) => (i === here ? value : 0)), scale, line) }),
        shape("path", { class: "zoom-ghost", d: state.seen ? bars(ghost, scale, line) : "" }),
        shape("path", { class: "zoom-line", d: `M0,${line}H${values.length}` }));
      const term = element("p", { className: "zoom-symbol", "aria-hidden": "true" });
      term.innerHTML = symbol;
      return element("div", { className: "zoom-row" }, term, element("p", { className: "zoom-words" }, words), picture, element("p", { className: "zoom-number" }, ...numbers));
    };
    const farther = one.distances.map((value) => value - low), there = `channel ${channel}`;
    return element("div", { className: "zoom-one" },
      element("div", { className: "zoom-where" }, map("Arrow keys or a tap: another position."), sight("What it sees.")),
      element("div", { className: "zoom-formula" },
        row("<i>z</i>", `what the convolutions give: ${dim} channels`, [one.z, was.z], top, 30, channel, named(there, one.z[channel].toFixed(2))),
        row("⊙ softmax(<i>zW</i> + <i>b</i>)", "the gate: weights that sum to 1", [one.gate, was.gate], 1, 30, channel, `× ${one.gate[channel].toFixed(3)}`),
        row("= <i>p</i>", "equation 4, on the scale of z", [one.p, was.p], top, 30, channel, `= ${one.p[channel].toFixed(2)}`),
        row(`<i>i</i>* = arg min<sub><i>i</i></sub> ‖<i>p</i> − <i>Q<sup>i</sup></i>‖ = ${one.code}`, `how much farther than the nearest each of the ${farther.length} codes is`, [farther, []], far, 30, one.second,
          code(one.code, one.nearest.toFixed(3)), code(one.second, `+ ${one.margin.toFixed(4)}`)),
        row("<i>z<sub>q</sub></i> = <i>Q<sup>i</sup></i><sup>*</sup>", `equation 2: this code takes the place of p (drawn ${(top / high).toFixed(0)} times as tall)`, [one.quantized, was.quantized], high, 15, channel, named(there, one.quantized[channel].toFixed(2))),
        element("p", { className: "zoom-words" }, `Orange: the strongest channel of p, and among the codes the second nearest.${state.seen ? " Outlines: the clean image." : ""}`)));
  }

  function show() {
    const { at, level } = state, open = spot.dataset.state === "open", code = now().codes[at];
    const text = ["Network", "Q-Layer", upper(place(all, at))];
    steps.forEach((step, i) => {
      step.textContent = text[i];
      if (i === level) step.setAttribute("aria-current", "step");
      else step.removeAttribute("aria-current");
    });
    cells.forEach((cell, i) => {
      const was = clean().codes[i], is = now().codes[i];
      cell.style.background = all.colours[is];
      cell.className = is === was ? "" : "is-flipped";
      cell.tabIndex = i === at ? 0 : -1;
      cell.setAttribute("aria-selected", i === at);
      cell.setAttribute("aria-label", `${place(all, i)}: code ${is}${is === was ? "" : `, flipped from ${was}`}`);
    });
    const held = cells.includes(document.activeElement); // a part of the stage that is built anew
    stage.replaceChildren([network, layer, formula][level]());
    if (held && level) cells[at].focus({ preventScroll: true });
    whole.show(chosen().seen.map((seen) => [seen.name, `${flips(clean(), seen).length} of ${count}`,
      ...[seen.q, seen.e].map((shares) => `${largest(shares)}${largest(shares) === chosen().label ? "" : ", wrong"}`)]));
    const pair = [clean(), now()].map((seen) => position(all, seen, at));
    local.show([["nearest code", ...pair.map((one) => `${one.code}, at ${one.nearest.toFixed(3)}`)],
      ["the next", ...pair.map((one) => `${one.second}, ${one.margin.toFixed(4)} farther`)],
      ["strongest in p", ...pair.map(({ p, channel }) => `channel ${channel}, ${p[channel].toFixed(2)}`)],
      ["length of the code", ...pair.map((one) => length(one.quantized).toFixed(2))]]);
    results.replaceChildren(level === 2 ? local.node : whole.node);
    if (!open) return;
    const words = sentence(all, chosen(), now(), level, at);
    voice.tell(words);
    voice.say(words);
  }
  show();
}
