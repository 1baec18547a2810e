// The attack lab: the book's networks, run and attacked in this page. Four parts: networks, attacks, drawing, the page.

const SIDE = 28, PIXELS = SIDE * SIDE; // of an image
const MAP = 12, CELLS = MAP * MAP; // of a map of codes
const folder = new URL(".", import.meta.url);
const runtime = new URL("../onnxruntime/", folder), runtimeFile = new URL("ort-wasm-simd-threaded.wasm.bin", runtime);

// ---- Networks -----------------------------------------------------------------------------------------------------

let ort = null; // ONNX Runtime, once the reader has asked for it
let turn = Promise.resolve();

/** Run one task after another: a network can't answer two questions at once. */
const inTurn = (task) => (turn = turn.then(task, task));

async function get(url, options) {
  const response = await fetch(url, options).catch(() => null);
  if (response?.ok) return response;
  const reason = response ? `the server answered ${response.status}` : "there was no answer";
  throw new Error(`${url.pathname.split("/").pop()} could not be loaded: ${reason}. Check the connection, then try again.`);
}

/** Fetch and unpack a gzip file, telling `progress` how many bytes have come. */
async function unpack(url, progress = () => {}) {
  const response = await get(url);
  let received = 0;
  const transform = (chunk, output) => (progress((received += chunk.length)), output.enqueue(chunk));
  const packed = response.body.pipeThrough(new TransformStream({ transform }));
  return new Uint8Array(await new Response(packed.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());
}

export async function startRuntime(progress) {
  if (ort) return;
  const wasm = await unpack(runtimeFile, progress);
  const loaded = await import(new URL("ort.wasm.bundle.min.mjs", runtime));
  Object.assign(loaded.env.wasm, { numThreads: 1, wasmBinary: wasm.buffer }); // threads need headers that few hosts send
  ort = loaded;
}

/** One network of the manifest: weights that its graphs share, and a session for each graph that was asked for. */
export class Network {
  sessions = {};

  constructor(entry) {
    Object.assign(this, entry, { title: entry.name.replace("cnn", "CNN").replace("q-", "Q-").replace("-adv", " + adv") });
  }

  async load(progress) {
    const bytes = await unpack(new URL(this.file, folder), progress);
    this.weights = new Uint8Array(this.half + this.single);
    for (let i = 0; i < this.half / 2; i++) { // of the half-precision numbers, all high bytes come first
      this.weights[2 * i] = bytes[this.half / 2 + i];
      this.weights[2 * i + 1] = bytes[i];
    }
    let start = this.half + this.single;
    this.weights.set(bytes.subarray(this.half, start), this.half);
    const cut = ([graph, length]) => [graph, bytes.slice(start, (start += length))];
    this.protos = Object.fromEntries(Object.entries(this.graphs).map(cut));
  }

  async run(graph, inputs) {
    const externalData = [{ path: "weights", data: this.weights }];
    this.sessions[graph] ??= await ort.InferenceSession.create(this.protos[graph], { externalData });
    return this.sessions[graph].run(inputs);
  }

  /** The logits of each path, and with a Q-Layer the codes and the gate, for one image. */
  async answer(image) {
    const found = await this.run("answers", { image: tensor(image) });
    return Object.fromEntries(Object.entries(found).map(([name, { data }]) => [name, data]));
  }

  /** The gradient, in the image, of the cross-entropy of `label` on a path; -1 is the network's own answer. */
  async gradient(path, image, label = -1) {
    const inputs = { image: tensor(image), label: new ort.Tensor("int64", [BigInt(label)], [1]) };
    const { logits, gradient } = await this.run(`gradient-${path}`, inputs);
    return { label: label < 0 ? argmax(logits.data) : label, slope: gradient.data };
  }
}

const tensor = (image) => new ort.Tensor("float32", image, [1, 1, SIDE, SIDE]);
const argmax = (values) => values.reduce((best, value, i) => (value > values[best] ? i : best), 0);

function softmax(logits) {
  const powers = logits.map((value) => Math.exp(value - Math.max(...logits)));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

// ---- Attacks: the same steps, in the same single precision, as qlayer_core.attacks ---------------------------------

/** FGSM goes all the way at once; the others could cross the box of half-width eps two and a half times. */
export const stepSize = (attack, eps, steps) => (attack === "fgsm" ? eps : (2.5 * eps) / steps);

/** Yield the image after each step, the clean one first. `first`, if known, is the gradient there. */
export async function* film(network, path, clean, { attack, eps, steps, first }) {
  const [reach, size] = [eps, stepSize(attack, eps, steps)].map(Math.fround);
  const [low, high] = [clean.map((x) => Math.max(0, x - reach)), clean.map((x) => Math.min(1, x + reach))];
  const inBox = (x, i) => Math.min(high[i], Math.max(low[i], x));
  let { label, slope } = first ?? (await network.gradient(path, clean));
  let image = clean;
  yield image;
  if (attack === "pgd") { // from a random point of the box, the same one each time
    const random = generator(1);
    image = clean.map((x, i) => inBox(x + reach * (2 * random() - 1), i));
    ({ slope } = await network.gradient(path, image, label));
  }
  for (let left = attack === "fgsm" ? 1 : steps; left > 0; left--) {
    image = image.map((x, i) => inBox(x + size * Math.sign(slope[i]), i));
    yield image;
    if (left > 1) ({ slope } = await network.gradient(path, image, label));
  }
}

/** Park and Miller's generator: uniform in (0, 1). */
const generator = (seed) => () => (seed = (48271 * seed) % 2147483647) / 2147483647;

// ---- Drawing: prepared as MNIST was, in a 20 x 20 box that is then centred by mass ----------------------------------

/** Turn the ink on a canvas into an image, or null where there is none. */
export function prepare(ink) {
  const pixels = (canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const opacity = (canvas) => pixels(canvas).filter((_, i) => i % 4 === 3);
  let [left, top, right, bottom] = [ink.width, ink.height, -1, -1];
  opacity(ink).forEach((value, i) => {
    const [x, y] = [i % ink.width, Math.floor(i / ink.width)];
    if (value) [left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x), Math.max(bottom, y)];
  });
  if (right < 0) return null;
  const box = 20, fine = 8; // drawn eight times as fine, then averaged
  const [width, height] = [right - left + 1, bottom - top + 1], scale = (box * fine) / Math.max(width, height);
  const dense = new OffscreenCanvas(Math.ceil(width * scale), Math.ceil(height * scale));
  dense.getContext("2d").drawImage(ink, left, top, width, height, 0, 0, dense.width, dense.height);
  const small = new Float32Array(box * box);
  opacity(dense).forEach((value, i) => {
    const [x, y] = [i % dense.width, Math.floor(i / dense.width)].map((at) => Math.floor(at / fine));
    small[y * box + x] += value / fine / fine / 255;
  });
  const sum = (weight) => small.reduce((total, value, i) => total + value * weight(i), 0);
  const mass = sum(() => 1), centre = [sum((i) => (i % box) + 0.5), sum((i) => Math.floor(i / box) + 0.5)];
  const [dx, dy] = centre.map((moment) => Math.round(SIDE / 2 - moment / mass));
  return new Float32Array(PIXELS).map((_, i) => {
    const [x, y] = [(i % SIDE) - dx, Math.floor(i / SIDE) - dy];
    return x >= 0 && x < box && y >= 0 && y < box ? Math.round(255 * small[y * box + x]) / 255 : 0;
  });
}

const toImage = (bytes) => Float32Array.from(bytes, (byte) => byte / 255);
const toBytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const toText = (image) =>
  btoa(String.fromCharCode(...image.map((x) => 255 * x + 0.5))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");

// ---- The page: a state, controls that change it, and what is shown of it --------------------------------------------

const lab = document.getElementById("lab"), $ = (name) => document.getElementById(`lab-${name}`);
const state = { data: "mnist", image: "14", net: "cnn", path: "e", attack: "fgsm", eps: "0.15", steps: "20", step: "" };
const TITLES = {
  ...{ logits: "", q: "Q-path", e: "E-path", shortcut: "shortcut", "straight-through": "straight through" },
  ...{ fgsm: "FGSM", bim: "BIM", pgd: "PGD", mnist: "MNIST", "fashion-mnist": "Fashion-MNIST", drawn: "yours" },
};
const FULL = 0.4; // the perturbation that is drawn in full colour

let manifest, networks = []; // the networks are those of the current data set
let drawn = null; // the reader's own image
let clean = { key: "" }; // { key, image, answers: by network, first: gradients by network and path }
let frames = [], framesKey; // the film, and what it was made of
let cell = null; // the position that is looked at: { network, head, at }
let latest = 0; // call of refresh

const current = () => manifest.datasets[state.data];
const loaded = () => networks.filter((network) => network.ready);
const attacked = () => networks.find((network) => network.name === state.net);
const trayImage = (i) => toImage(toBytes(current().images).subarray(i * PIXELS, (i + 1) * PIXELS));
const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
const range = (length, make) => Array.from({ length }, (_, i) => make(i));

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const notify = (message) => Object.assign($("notice"), { textContent: message, hidden: !message });

/** Offer the values of one part of the state as radio buttons; where there is no choice, nothing. */
function offer(name, values, label = (value) => element("span", { textContent: TITLES[value] })) {
  if (!values.includes(state[name])) state[name] = values[0] ?? "";
  const group = $(name), offered = [state.data, ...values].join();
  if (group.dataset.offered !== offered) {
    const choice = (value) => element("label", {}, element("input", { type: "radio", name: group.id, value }), label(value));
    group.replaceChildren(group.querySelector("legend"), ...values.map(choice));
    Object.assign(group, { hidden: values.length < 2 }).dataset.offered = offered;
  }
  for (const radio of group.querySelectorAll("input")) radio.checked = radio.value === state[name];
}

/** Bring every control in line with the state. */
function offerAll() {
  offer("data", Object.keys(manifest.datasets).filter((name) => manifest.datasets[name].networks.length));
  if (!current()) throw new Error("No trained network was there when this site was built: train one, then run make book.");
  if (networks.data !== state.data) {
    networks = Object.assign(current().networks.map((entry) => new Network(entry)), { data: state.data });
    for (const { name, title } of networks) TITLES[name] = title;
    cell = null;
    offerCards();
  }
  offer("net", networks.map(({ name }) => name));
  offer("path", attacked().attacked);
  offer("attack", ["fgsm", "bim", "pgd"]);
  const tray = current().labels.map((_, i) => `${i}`);
  offer("image", drawn && state.data === "mnist" ? [...tray, "drawn"] : tray, (value) => {
    if (value === "drawn") return element("span", { textContent: TITLES.drawn });
    const name = `test image ${+value + 1}: ${current().classes[current().labels[value]]}`;
    const picture = element("canvas", { width: SIDE, height: SIDE, role: "img", ariaLabel: name });
    paint(picture, trayImage(+value));
    return picture;
  });
  for (const name of ["eps", "steps"]) {
    $(name).value = state[name];
    state[name] = $(name).value ||= "20"; // a select shows nothing that it does not offer
  }
  $("iterative").hidden = state.attack === "fgsm";
  $("drawing").hidden = state.data !== "mnist";
}

/** A card for each network and path that can answer, or with the button that loads the network. */
function offerCards() {
  const card = (network, path, ...children) => {
    const title = element("h3", {}, network.title, " ", element("small", { textContent: TITLES[path] }));
    return element("article", { className: `lab-card ${network.name.replace("-adv", "")}` }, title, ...children);
  };
  const bars = () => element("div", { role: "img" }, ...range(10, (i) => element("i", { textContent: i })));
  const cards = networks.map((network) => {
    if (network.ready) return (network.cards = network.paths.map((path) => card(network, path, element("p"), bars())));
    network.bar = element("progress", { max: network.bytes, value: 0, hidden: true, ariaLabel: `loading ${network.title}` });
    const button = element("button", { type: "button", disabled: !ort, textContent: `Load ${megabytes(network.bytes)}` });
    button.onclick = () => load(network).then(refresh, (error) => notify(error.message));
    return [card(network, "logits", button, network.bar)];
  });
  $("cards").replaceChildren(...cards.flat());
  const mapped = loaded().filter((network) => network.heads);
  for (const network of mapped) network.maps = range(network.heads, (head) => mapOf(network, head));
  $("maps").replaceChildren(...mapped.flatMap((network) => network.maps));
  $("codes").hidden = !mapped.length;
}

async function load(network) {
  const progress = (bytes) => Object.assign(network.bar, { hidden: false, value: bytes });
  await (network.loading ??= network.load(progress).finally(() => (network.loading = null)));
  network.ready = true;
  offerCards();
}

/** Show the state, whatever of it has changed; a newer call overtakes an older one. */
async function refresh() {
  const mine = ++latest;
  offerAll();
  lab.dataset.busy = "yes";
  const image = state.image === "drawn" ? `ink.${toText(drawn)}` : state.image;
  history.replaceState(null, "", `?${new URLSearchParams({ ...state, image })}${location.hash}`);
  const task = () => mine === latest && update(`${state.data} ${image}`, () => mine !== latest);
  await inTurn(task).catch(({ message }) => notify(message));
  if (mine === latest) delete lab.dataset.busy;
}

async function update(key, isStale) {
  const image = state.image === "drawn" ? drawn : trayImage(+state.image);
  if (key !== clean.key) clean = { key, image, answers: new Map(), first: {} };
  notify("");
  if (!ort) return paintImages(image);
  const { net, path, attack } = state, [eps, steps] = [+state.eps, +state.steps], network = attacked();
  if (!network.ready) await load(network);
  const wanted = [key, net, path, attack, eps, steps].join();
  if (wanted !== framesKey) {
    const first = (clean.first[`${net} ${path}`] ??= await network.gradient(path, image));
    const found = [];
    let painted = performance.now();
    for await (const frame of film(network, path, image, { attack, eps, steps, first })) {
      found.push(frame);
      if (performance.now() - painted < 40) continue;
      paintImages(frame);
      await wait(0);
      if (isStale()) return;
      painted = performance.now();
    }
    [frames, framesKey] = [found, wanted];
  }
  const last = ($("step").max = frames.length - 1);
  $("step").value = state.step || last;
  const step = +$("step").value; // one of this film's, whatever the address says
  $("step-text").textContent = `${step} of ${last}`;
  paintImages(frames[step]);
  for (const judge of loaded()) { // whichever of them the image was made on
    if (!clean.answers.has(judge)) clean.answers.set(judge, await judge.answer(image));
    judge.shown = { was: clean.answers.get(judge), now: await judge.answer(frames[step]) };
    judge.paths.forEach((path, i) => showAnswer(judge, path, judge.cards[i]));
    judge.maps?.forEach((map, head) => showCodes(judge, head, map));
  }
  inspect();
}

function paint(canvas, image, before = null) {
  const pixels = new ImageData(SIDE, SIDE);
  image.forEach((value, i) => {
    const change = before ? (value - before[i]) / FULL : 0, grey = 255 * value;
    const colour = change > 0 ? [226, 100, 30] : [30, 125, 205];
    pixels.data.set(before ? [...colour, 255 * Math.sqrt(Math.abs(change))] : [grey, grey, grey, 255], 4 * i);
  });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

function paintImages(image) {
  paint($("clean"), clean.image);
  paint($("change"), image, clean.image);
  paint($("adversarial"), image);
  const moves = image.map((value, i) => Math.abs(value - clean.image[i]));
  $("change-text").textContent = `${moves.filter((move) => move > 0).length} pixels, up to ${Math.max(...moves).toFixed(2)}`;
  $("eps-text").textContent = (+state.eps).toFixed(2);
  $("steps-text").textContent = `of ${stepSize(state.attack, +state.eps, +state.steps).toFixed(4)} each`;
}

function showAnswer(network, path, card) {
  const [before, after] = [network.shown.was, network.shown.now].map((answer) => softmax(answer[path]));
  const [was, now] = [argmax(before), argmax(after)], { classes, labels } = current();
  const aimed = network === attacked() && (network.paths.length === 1 || path === state.path || (path === "q" && state.path !== "e"));
  card.dataset.role = network !== attacked() ? "transfer" : aimed ? "attacked" : "same network";
  card.dataset.verdict = was === now ? "holds" : "fooled";
  const percent = (p) => `${(100 * p).toFixed(p > 0.99 && p < 1 ? 1 : 0)} %`;
  const answer = was === now ? classes[now] : `${classes[was]} → ${classes[now]}`;
  const role = state.image === "drawn" || was === labels[state.image] ? card.dataset.role : "wrong unattacked";
  const [verdict, chart] = [card.querySelector("p"), card.querySelector("div")];
  verdict.replaceChildren(element("b", { textContent: answer }), ` ${percent(after[now])} · ${role}`);
  chart.ariaLabel = `${card.dataset.verdict}: ${classes.map((name, i) => `${name} ${percent(after[i])}`).join(", ")}`;
  [...chart.children].forEach((bar, i) => {
    bar.style.cssText = `--was: ${before[i]}; --now: ${after[i]}`;
    bar.className = i === now ? "top" : "";
  });
}

// ---- Codes: of each position before and after, and the gate behind them

function mapOf(network, head) {
  const canvas = element("canvas", { width: 240, height: 240, tabIndex: 0, role: "img" });
  const look = (at) => ((cell = { network, head, at }), inspect());
  canvas.onpointermove = canvas.onpointerdown = ({ offsetX, offsetY }) => {
    const place = (offset) => Math.min(MAP - 1, Math.max(0, Math.floor((offset / canvas.clientWidth) * MAP)));
    look(place(offsetY) * MAP + place(offsetX));
  };
  canvas.onkeydown = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -MAP, ArrowDown: MAP }[event.key];
    if (!by) return;
    event.preventDefault();
    const next = cell?.network === network && cell.head === head ? cell.at + by : (CELLS + MAP) / 2;
    if (next >= 0 && next < CELLS) look(next);
  };
  return element("figure", {}, canvas, element("figcaption"));
}

function showCodes(network, head, map) {
  const [canvas, caption] = map.children, context = canvas.getContext("2d"), size = canvas.width / MAP;
  const [was, now] = [network.shown.was, network.shown.now].map(({ codes }) => codes.subarray(head * CELLS, (head + 1) * CELLS));
  const hue = (code) => `hsl(${(code * 137.508) % 360} 55% 58%)`; // neighbouring numbers, distant colours
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.strokeStyle = getComputedStyle(lab).getPropertyValue("--pst-color-text-base");
  context.lineWidth = 1.5;
  was.forEach((code, at) => {
    const [left, top] = [at % MAP, Math.floor(at / MAP)].map((place) => place * size + 1), side = size - 2;
    context.globalAlpha = code === now[at] ? 0.3 : 1;
    context.fillStyle = hue(code);
    context.fillRect(left, top, side, side);
    if (code === now[at]) return;
    context.fillStyle = hue(now[at]); // in the lower right half
    context.fill(new Path2D(`M${left + side},${top} v${side} h${-side} z`));
    context.strokeRect(left, top, side, side);
  });
  canvas.dataset.flipped = was.filter((code, at) => code !== now[at]).length;
  const name = network.heads > 1 ? `${network.title}, head ${head + 1}` : network.title;
  caption.textContent = `${name}: ${canvas.dataset.flipped} of ${CELLS} flipped`;
  canvas.ariaLabel = `Codes of ${caption.textContent}. Arrow keys look at one position.`;
}

/** Show what one position sees, its codes, and its gate before and after. */
function inspect() {
  const boxes = lab.querySelectorAll(".lab-field"), known = Boolean(cell?.network.shown);
  for (const box of [$("gate"), ...boxes]) box.hidden = !known;
  if (!known) return;
  const { network, head, at } = cell, { was, now } = network.shown, [row, column] = [Math.floor(at / MAP), at % MAP];
  for (const box of boxes) { // 5 x 5 pixels, then 5 x 5 of those with stride 2: 9 x 9
    box.style.cssText = `left: ${((2 * column - 2) / SIDE) * 100}%; top: ${((2 * row - 2) / SIDE) * 100}%`;
  }
  const [a, b] = [was, now].map(({ codes }) => codes[head * CELLS + at]);
  const place = `${network.title}, head ${head + 1}, row ${row + 1}, column ${column + 1}`;
  $("inspector-text").textContent = `${place}: code ${a === b ? `${a}, kept` : `${a} → ${b}`}`;
  const canvas = $("gate"), context = canvas.getContext("2d"), dim = was.gate.length / network.heads / CELLS;
  const channels = ({ gate }) => range(dim, (i) => gate[(head * dim + i) * CELLS + at]);
  const [before, after] = [channels(was), channels(now)], top = Math.max(...before, ...after), width = canvas.width / dim;
  context.clearRect(0, 0, canvas.width, canvas.height);
  for (const [values, colour, inset] of [[before, "--lab-ghost", 0], [after, "--pst-color-primary", width / 4]]) {
    context.fillStyle = getComputedStyle(lab).getPropertyValue(colour);
    const bar = (value, i) => context.fillRect(i * width + inset, canvas.height, width - 1 - 2 * inset, (-value / top) * canvas.height);
    values.forEach(bar);
  }
}

// ---- What the reader does

const firstNetworks = () => networks.filter(({ name }) => ["cnn", "q-base", state.net].includes(name));

async function start() {
  $("start").disabled = true;
  await startRuntime((bytes) => Object.assign($("start-progress"), { hidden: false, value: bytes }));
  for (const network of firstNetworks().filter(({ ready }) => !ready)) await load(network);
  $("begin").hidden = true;
  await refresh();
}

async function play() {
  for (let step = 0; step < frames.length; step++) {
    state.step = `${step}`;
    await refresh();
    await wait(1500 / frames.length);
    if (state.step !== `${step}`) return; // the reader has moved on
  }
}

/** Hold the loaded networks' logits against PyTorch's, which the manifest brings. */
async function check() {
  const lines = [];
  for (const network of loaded()) {
    const pairs = [];
    for (const i of current().labels.keys()) {
      const answer = await inTurn(() => network.answer(trayImage(i)));
      pairs.push(...network.paths.map((path) => [Array.from(answer[path]), network.expected[path][i]]));
    }
    const same = pairs.filter(([ours, theirs]) => argmax(ours) === argmax(theirs)).length;
    const apart = Math.max(...pairs.flatMap(([ours, theirs]) => ours.map((value, i) => Math.abs(value - theirs[i]))));
    lines.push(`${network.title}: ${same} of ${pairs.length} answers are PyTorch's, logits differ by ${apart.toPrecision(1)} at most.`);
  }
  $("check-text").replaceChildren(...lines.map((textContent) => element("li", { textContent })));
  if (!lines.length) notify("Start the lab first: no network is loaded yet.");
}

function restore(search) {
  for (const [key, value] of new URLSearchParams(search)) if (key in state) state[key] = value;
  const [ink] = state.image.match(/(?<=^ink\.)[\w-]{1046}$/) ?? [];
  if (ink) [drawn, state.image] = [toImage(toBytes(ink)), "drawn"];
  return refresh();
}

function draw() {
  const ink = $("ink"), pen = ink.getContext("2d", { willReadFrequently: true });
  const at = ({ offsetX, offsetY }) => [offsetX, offsetY].map((offset) => (offset / ink.clientWidth) * ink.width);
  let last = null;
  const stroke = (event) => {
    if (!last) return;
    pen.stroke(new Path2D(`M${last} L${(last = at(event))}`));
    [drawn, state.image, state.step] = [prepare(ink), "drawn", ""];
    refresh();
  };
  Object.assign(pen, { lineWidth: 22, lineCap: "round", strokeStyle: "#fff" });
  ink.onpointerdown = (event) => (ink.setPointerCapture(event.pointerId), (last = at(event)), stroke(event));
  ink.onpointermove = stroke;
  ink.onpointerup = ink.onpointercancel = () => (last = null);
  $("clear").onclick = () => pen.clearRect(0, 0, ink.width, ink.height);
}

function listen() {
  const click = (name, act) => ($(name).onclick = () => act().catch(({ message }) => notify(message)));
  click("start", () => start().finally(() => ($("start").disabled = false)));
  click("play", play);
  click("check", check);
  click("share", () => navigator.clipboard.writeText(location.href).then(() => ($("share").textContent = "Link copied")));
  for (const link of document.querySelectorAll("a.lab-setup")) {
    link.onclick = (event) => (event.preventDefault(), lab.scrollIntoView(), restore(link.search));
  }
  lab.addEventListener("input", ({ target }) => {
    const name = (target.name || target.id).replace("lab-", "");
    [state.step, state[name]] = ["", target.value];
    refresh();
  });
  new MutationObserver(refresh).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  draw();
}

async function open() {
  const lacking = ["WebAssembly", "DecompressionStream", "OffscreenCanvas"].find((name) => !(name in globalThis));
  if (lacking) throw new Error(`The networks can't run here: this browser has no ${lacking}. Allow it, or use a newer browser.`);
  manifest = await (await get(new URL("manifest.json", folder))).json();
  await restore(location.search);
  const size = await get(runtimeFile, { method: "HEAD" });
  await size.text(); // empty, but a browser reports an unread answer as aborted
  $("start-progress").max = size.headers.get("content-length");
  const bytes = firstNetworks().reduce((sum, network) => sum + network.bytes, $("start-progress").max);
  Object.assign($("start"), { disabled: false, textContent: `Start the lab, ${megabytes(bytes)}` });
  listen();
}

open().catch(({ message }) => notify(message));
