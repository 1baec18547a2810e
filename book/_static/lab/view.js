// What is shown of the state: images, answers, codes.

import { ATTACKS, stepSize } from "./attacks.js";
import { argmax, SIDE, softmax, titleOf } from "./networks.js";
import { $, attacked, current, element, lab, loaded, now, range, state, TITLES } from "./state.js";

const FULL = 0.4; // the change that is drawn white or black

const colourOf = (name) => getComputedStyle(lab).getPropertyValue(name).trim();
export const percent = (p) => `${(100 * p).toFixed(p > 0.99 && p < 1 ? 1 : 0)} %`;

// ---- Controls

/** Offer the values of one part of the state as radio buttons; where there is no choice, nothing. */
export function offer(name, values, label = (value) => element("span", { textContent: TITLES[value] ?? ATTACKS[value] })) {
  if (!values.includes(state[name])) state[name] = values[0] ?? "";
  const group = $(name), offered = [name === "data" || state.data, ...values].join(); // whoever switches it keeps the focus
  if (group.dataset.offered !== offered) {
    const choice = (value) => element("label", {}, element("input", { type: "radio", name: group.id, value }), label(value));
    group.replaceChildren(group.querySelector("legend"), ...values.map(choice));
    Object.assign(group, { hidden: values.length < 2 }).dataset.offered = offered;
  }
  for (const radio of group.querySelectorAll("input")) radio.checked = radio.value === state[name];
}

/** Say beside each network that is not there yet how much of it there is to load. */
export function showSizes() {
  for (const size of $("net").querySelectorAll("small")) size.hidden = now.networks.some(({ name, ready }) => ready && name === size.dataset.of);
}

// ---- Images

/** Draw an image; with one from before, the change: grey is none, white is brighter, black darker. */
export function paint(canvas, image, before = null) {
  const pixels = new ImageData(SIDE, SIDE);
  image.forEach((value, i) => {
    const grey = 255 * (before ? 0.5 + (value - before[i]) / (2 * FULL) : value);
    pixels.data.set([grey, grey, grey, 255], 4 * i);
  });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

export function paintImages(image) {
  const { clean } = now;
  paint($("clean"), clean.image);
  paint($("change"), image, clean.image);
  paint($("adversarial"), image);
  const moves = image.map((value, i) => Math.abs(value - clean.image[i])), moved = moves.filter((move) => move > 0).length;
  $("change-text").textContent = `${moved} pixels, up to ${Math.max(...moves).toFixed(2)}`;
  $("eps-text").textContent = state.eps ? (+state.eps).toFixed(2) : "–";
  $("eps").setAttribute("aria-valuetext", state.eps ? (+state.eps).toFixed(2) : "not chosen yet");
  $("steps-text").textContent = lengthOf(state.attack, +state.eps, +state.steps);
}

/** How long the steps are, in words. */
function lengthOf(attack, eps, steps) {
  if (attack === "cw") return "at most, as long as a line search finds best";
  const size = stepSize(attack, eps, steps), short = size * steps < eps - 1e-9; // it can't reach the edge of the box
  return `of ${size.toFixed(4)} each${short ? `: ${(size * steps).toFixed(2)} in all` : ""}`;
}

// ---- Answers

/** A card for each network and path that can answer, or with the button that loads the network. */
export function offerCards(ready, onLoad) {
  const card = (network, path, ...children) => {
    const counts = path === "q" ? ", its answer" : "";
    const title = element("h2", {}, network.title, " ", element("small", { textContent: `${TITLES[path]}${counts}` }));
    const className = `lab-card ${network.name.replace("-adv", "")}`;
    return element("article", { className, tabIndex: -1 }, title, ...children); // where focus goes once it is loaded
  };
  const bars = () => element("div", { role: "img" }, ...range(10, (i) => element("i", { textContent: i })));
  const cards = now.networks.map((network) => {
    if (network.ready) return (network.cards = network.paths.map((path) => card(network, path, element("p"), bars())));
    network.bar = element("progress", { max: network.bytes, value: 0, hidden: true, ariaLabel: `loading ${network.title}` });
    const button = element("button", { type: "button", disabled: !ready, textContent: `Load ${megabytes(network.bytes)}` });
    button.onclick = () => onLoad(network);
    return (network.cards = [card(network, "logits", button, network.bar)]);
  });
  $("cards").replaceChildren(...cards.flat());
  const mapped = loaded().filter((network) => network.heads);
  for (const network of mapped) network.maps = range(network.heads, (head) => mapOf(network, head));
  $("maps").replaceChildren(...mapped.flatMap((network) => network.maps));
  $("codes").hidden = !mapped.length;
}

/** Say which networks are not there, and how large the maps are of those that are. */
export function describe() {
  const { missing, networks } = current(), list = new Intl.ListFormat("en-GB");
  $("missing").hidden = !missing.length;
  $("missing").textContent = `Missing here, since their weights are not released yet for ${TITLES[state.data]}: ${list.format(missing.map(titleOf))}.`;
  const sides = [...new Set(networks.filter(({ heads }) => heads).map(({ side }) => side))].sort((a, b) => a - b);
  const sizes = sides.map((side) => `${side} × ${side}${side === SIDE ? " where the layer stands between the convolutions" : " of them"}`);
  $("sides").textContent = sizes.length ? `, ${list.format(sizes)}` : "";
}

export const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

function showAnswer(network, path, card) {
  const [before, after] = [network.shown.was, network.shown.now].map((answer) => softmax(answer[path]));
  const [was, is] = [argmax(before), argmax(after)], { classes, labels } = current();
  const aimed = network === attacked() && (network.paths.length === 1 || path === state.path || (path === "q" && state.path !== "e"));
  card.dataset.role = network !== attacked() ? "transfer" : aimed ? "attacked" : "same network";
  card.dataset.verdict = was === is ? "holds" : "fooled";
  const answer = was === is ? classes[is] : `${classes[was]} → ${classes[is]}`;
  const role = state.image === "drawn" || was === labels[state.image] ? card.dataset.role : "wrong unattacked";
  const [verdict, chart] = [card.querySelector("p"), card.querySelector("div")];
  verdict.replaceChildren(element("b", { textContent: answer }), ` ${percent(after[is])} · ${card.dataset.verdict} · ${role}`);
  chart.ariaLabel = `${card.dataset.verdict}: ${classes.map((name, i) => `${name} ${percent(after[i])}`).join(", ")}`;
  [...chart.children].forEach((bar, i) => {
    bar.style.cssText = `--was: ${before[i]}; --now: ${after[i]}`;
    bar.className = i === is ? "top" : "";
  });
}

/** What every card says, in words: "CNN fooled: 7 becomes 2. Q-base, Q-path holds: 7." */
export function verdicts() {
  return [...lab.querySelectorAll(".lab-card[data-verdict]")].map((card) => {
    const name = card.querySelector("h2").textContent.trim().replace(/ (?=[QE]-path)/, ", ");
    return `${name} ${card.dataset.verdict}: ${card.querySelector("b").textContent.replace("→", "becomes")}.`;
  }).join(" ");
}

/** Show all that the networks say; also anew, when the page's colours have changed. */
export function showAnswers() {
  for (const network of loaded().filter(({ shown }) => shown)) {
    network.paths.forEach((path, i) => showAnswer(network, path, network.cards[i]));
    network.maps?.forEach((map, head) => showCodes(network, head, map));
  }
  inspect();
}

// ---- Codes: of each position before and after, and the gate behind them

const cells = ({ side }) => side * side; // of a map

function mapOf(network, head) {
  const { side } = network, width = side * Math.round(240 / side); // whole pixels for each square
  const canvas = element("canvas", { width, height: width, tabIndex: 0, role: "slider", ariaValueMin: 0, ariaValueMax: cells(network) - 1, ariaValueNow: 0 });
  canvas.ariaValueText = "no position yet";
  const look = (at) => ((now.cell = { network, head, at }), inspect());
  canvas.onpointermove = canvas.onpointerdown = ({ offsetX, offsetY }) => {
    const place = (offset) => Math.min(side - 1, Math.max(0, Math.floor((offset / canvas.clientWidth) * side)));
    look(place(offsetY) * side + place(offsetX));
  };
  canvas.onkeydown = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -side, ArrowDown: side }[event.key];
    if (!by) return;
    event.preventDefault();
    const next = now.cell?.network === network && now.cell.head === head ? now.cell.at + by : (cells(network) + side) / 2;
    if (next >= 0 && next < cells(network)) look(next);
  };
  return element("figure", {}, canvas, element("figcaption"));
}

function showCodes(network, head, map) {
  const [canvas, caption] = map.children, context = canvas.getContext("2d"), size = canvas.width / network.side, all = cells(network);
  const codes = (answer) => answer.codes.subarray(head * all, (head + 1) * all);
  const [was, is] = [codes(network.shown.was), codes(network.shown.now)];
  const colours = network.colours[head]; // the figures' own
  was.forEach((code, at) => {
    const [left, top] = [at % network.side, Math.floor(at / network.side)].map((place) => place * size);
    context.fillStyle = colours[code];
    context.fillRect(left, top, size, size);
    if (code === is[at]) return;
    context.fillStyle = colours[is[at]]; // in the lower right half
    context.fill(new Path2D(`M${left + size},${top} v${size} h${-size} z`));
    for (const [colour, line] of [["#000", size / 7], ["#fff", size / 14]]) { // seen on any colour, as the dots of figures
      Object.assign(context, { strokeStyle: colour, lineWidth: line });
      context.strokeRect(left + size / 14, top + size / 14, size - size / 7, size - size / 7);
    }
  });
  canvas.dataset.flipped = was.filter((code, at) => code !== is[at]).length;
  const name = network.heads > 1 ? `${network.title}, head ${head + 1}` : network.title;
  caption.textContent = `${name}: ${canvas.dataset.flipped} of ${all} flipped`;
  canvas.ariaLabel = `Codes of ${caption.textContent}. Arrow keys look at one position.`;
}

/** Show what one position sees, its codes, and its gate before and after. */
function inspect() {
  const boxes = lab.querySelectorAll(".lab-field"), known = Boolean(now.cell?.network.shown);
  for (const box of [$("gate"), ...boxes]) box.hidden = !known;
  if (!known) return;
  const { network, head, at } = now.cell, { was, now: is } = network.shown, { side, field, stride, offset } = network;
  const [row, column] = [Math.floor(at / side), at % side], share = (pixels) => `${(pixels / SIDE) * 100}%`;
  for (const box of boxes) {
    const [left, top] = [column, row].map((place) => share(offset + stride * place));
    Object.assign(box.style, { left, top, width: share(field), height: share(field) });
  }
  const [a, b] = [was, is].map(({ codes }) => codes[head * cells(network) + at]);
  const place = `${network.title}, head ${head + 1}, row ${row + 1}, column ${column + 1}`;
  $("inspector-text").textContent = `${place}: code ${a === b ? `${a}, kept` : `${a} → ${b}`}`;
  const map = network.maps[head].firstChild; // it says itself where it stands, as a slider does
  Object.assign(map, { ariaValueNow: at, ariaValueText: $("inspector-text").textContent.replace("→", "becomes") });
  const canvas = $("gate"), context = canvas.getContext("2d"), dim = was.gate.length / network.heads / cells(network);
  const channels = ({ gate }) => range(dim, (i) => gate[(head * dim + i) * cells(network) + at]);
  const [before, after] = [channels(was), channels(is)], top = Math.max(...before, ...after), width = canvas.width / dim;
  context.clearRect(0, 0, canvas.width, canvas.height);
  for (const [values, colour, inset] of [[before, "--lab-ghost", 0], [after, "--lab-after", width / 4]]) {
    context.fillStyle = colourOf(colour);
    const bar = (value, i) => context.fillRect(i * width + inset, canvas.height, width - 1 - 2 * inset, (-value / top) * canvas.height);
    values.forEach(bar);
  }
}
