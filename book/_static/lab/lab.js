// The attack lab: the book's networks, run and attacked in this page. Here, what the reader can do with it.

import { remember, share } from "../link.js";
import { ATTACKS, film, smallestEpsilon, successOver } from "./attacks.js";
import { argmax, inTurn, isRunning, loadManifest, Network, runtimeBytes, SIDE, startRuntime } from "./networks.js";
import { makePad } from "./pad.js";
import {
  $, announce, attacked, cleanImage, current, element, lab, link, loaded, notify, now, opening, query, read, state, TITLES,
  trayImage, wait,
} from "./state.js";
import { megabytes, offerCards, paint, paintImages, showAnswers, verdicts } from "./view.js";

export { film, stepSize } from "./attacks.js"; // for those who would run an attack without the page
export { prepare, prepareFile } from "./images.js";
export { Network, startRuntime } from "./networks.js";

const LARGEST = "0.40"; // the slider's end
let framesKey; // what the film was made of
let latest = 0; // call of refresh
let pad;

// ---- Controls that follow the state

/** Offer the values of one part of the state as radio buttons; where there is no choice, nothing. */
function offer(name, values, label = (value) => element("span", { textContent: TITLES[value] ?? ATTACKS[value] })) {
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
  const { datasets } = now.manifest;
  offer("data", Object.keys(datasets).filter((name) => datasets[name].networks.length));
  if (!current()) throw new Error("No trained network was there when this site was built: train one, then run make book.");
  if (now.networks.data !== state.data) {
    now.networks = Object.assign(current().networks.map((entry) => new Network(entry)), { data: state.data });
    for (const { name, title } of now.networks) TITLES[name] = title;
    now.cell = null;
    offerCards(isRunning(), loadAndShow);
  }
  offer("net", now.networks.map(({ name }) => name));
  offer("path", attacked().attacked);
  offer("attack", Object.keys(ATTACKS));
  const tray = current().labels.map((_, i) => `${i}`);
  offer("image", now.drawn && state.data === "mnist" ? [...tray, "drawn"] : tray, (value) => {
    if (value === "drawn") return element("span", { textContent: TITLES.drawn });
    const name = `test image ${+value + 1}: ${current().classes[current().labels[value]]}`;
    const picture = element("canvas", { width: SIDE, height: SIDE, role: "img", ariaLabel: name });
    paint(picture, trayImage(+value));
    return picture;
  });
  $("eps").value = state.eps || "0";
  if (state.eps) state.eps = $("eps").value; // one that it offers
  $("steps").value = state.steps;
  state.steps = $("steps").value ||= "20"; // a select shows nothing that it does not offer
  $("iterative").hidden = state.attack === "fgsm";
  $("drawing").hidden = state.data !== "mnist";
}

// ---- From the state to what is shown

/** Show the state, whatever of it has changed; a newer call overtakes an older one. */
async function refresh() {
  const mine = ++latest;
  offerAll();
  lab.dataset.busy = "yes";
  $("found").textContent = "";
  const key = `${state.data} ${state.image === "drawn" ? query() : state.image}`;
  const isStale = () => mine !== latest;
  await inTurn(() => isStale() || update(key, isStale)).catch(({ message }) => notify(message));
  if (isStale()) return;
  delete lab.dataset.busy;
  remember(link);
  if (isRunning()) announce(verdicts());
}

async function update(key, isStale) {
  const image = cleanImage();
  if (key !== now.clean.key) now.clean = { key, image, answers: new Map(), first: {} };
  notify("");
  if (!isRunning()) return paintImages(image);
  const network = attacked();
  if (!network.ready) await load(network);
  if (!state.eps && !(await startWhereItFools(isStale))) return;
  const { net, path, attack } = state, [eps, steps] = [+state.eps, +state.steps], { clean } = now;
  const wanted = [clean.key, net, path, attack, eps, steps].join();
  if (wanted !== framesKey) {
    const first = await firstGradient(network, path), found = [];
    let painted = performance.now();
    for await (const frame of film(network, path, clean.image, { attack, eps, steps, first })) {
      found.push(frame);
      if (performance.now() - painted < 40) continue;
      paintImages(frame);
      await wait(0);
      if (isStale()) return;
      painted = performance.now();
    }
    [now.frames, framesKey] = [found, wanted];
  }
  const { frames } = now, last = ($("step").max = frames.length - 1);
  $("step").value = state.step || last;
  const step = +$("step").value; // one of this film's, whatever the address says
  $("step-text").textContent = `${step} of ${last}`;
  $("step").setAttribute("aria-valuetext", $("step-text").textContent);
  paintImages(frames[step]);
  if (eps > 0 && frames[last].every((level, i) => level === clean.image[i])) {
    notify(`${ATTACKS[attack]} has moved no pixel: ${network.title}'s gradient is zero there, so it shows no way to go.`);
  }
  for (const judge of loaded()) { // whichever of them the image was made on
    if (!clean.answers.has(judge)) clean.answers.set(judge, await judge.answer(clean.image));
    judge.shown = { was: clean.answers.get(judge), now: await judge.answer(frames[step]) };
  }
  showAnswers();
}

const firstGradient = async (network, path) =>
  (now.clean.first[`${network.name} ${path}`] ??= await network.gradient(path, now.clean.image));

/** Look for the smallest epsilon, saying how far the search is. */
async function search(isStale) {
  const network = attacked(), { path, attack } = state, { clean } = now;
  const progress = (eps) => (($("found").textContent = `Trying ${eps.toFixed(2)}`), wait(0));
  const options = { attack, steps: +state.steps, first: await firstGradient(network, path) };
  const found = await smallestEpsilon(network, path, clean.image, options, progress, isStale);
  if (found !== undefined) $("found").textContent = "";
  return found;
}

/** Choose the smallest epsilon that fools the network on this image, or on the first of the tray that it can be fooled on. */
async function startWhereItFools(isStale) {
  for (const other of ["", ...current().labels.keys()]) {
    if (other !== "") {
      state.image = `${other}`;
      now.clean = { key: `${state.data} ${other}`, image: trayImage(other), answers: new Map(), first: {} };
    }
    const eps = await search(isStale);
    if (eps === undefined) return false; // overtaken
    state.eps = eps === null ? LARGEST : eps.toFixed(2);
    if (eps !== null) break;
  }
  offerAll();
  return true;
}

async function load(network) {
  const progress = (bytes) => Object.assign(network.bar, { hidden: false, value: bytes });
  await (network.loading ??= network.load(progress).finally(() => (network.loading = null)));
  network.ready = true;
  offerCards(isRunning(), loadAndShow);
  showAnswers(); // on the cards of the others, which are new, too
}

function loadAndShow(network) {
  const shown = load(network).then(refresh).then(() => network.cards[0].focus({ preventScroll: true }));
  shown.catch(({ message }) => notify(message));
}

// ---- What the reader does

const firstNetworks = () => now.networks.filter(({ name }) => ["cnn", "q-base", state.net].includes(name));

async function start() {
  if ($("start").ariaDisabled === "true") return; // not disabled: that would take the focus from it
  $("start").ariaDisabled = "true";
  try {
    await startRuntime((bytes) => Object.assign($("start-progress"), { hidden: false, value: bytes }));
    for (const network of firstNetworks().filter(({ ready }) => !ready)) await load(network);
    const focused = $("begin").contains(document.activeElement);
    await refresh();
    $("begin").hidden = true;
    if (focused) $("eps").focus({ preventScroll: true }); // what one moves next
  } finally {
    $("start").ariaDisabled = "false";
  }
}

async function findSmallest() {
  const mine = ++latest, isStale = () => mine !== latest, network = attacked();
  if (!network.ready) return notify("Start the lab first: no network is loaded yet.");
  lab.dataset.busy = "yes";
  const eps = await inTurn(() => search(isStale));
  if (eps === undefined) return;
  if (eps !== null) [state.eps, state.step] = [eps.toFixed(2), ""];
  await refresh();
  const who = `${ATTACKS[state.attack]} on ${network.title}`;
  $("found").textContent = eps === null ? `${who}: the answer holds up to ${LARGEST}.` : `${who}: ${eps.toFixed(2)} is the smallest that changes the answer.`;
  announce(`${$("found").textContent} ${verdicts()}`);
}

/** The current attack on each image of the tray, and on each loaded network by itself. */
async function attackAll() {
  const mine = ++latest, isStale = () => mine !== latest, judges = loaded(), { attack } = state;
  if (!judges.length) return notify("Start the lab first: no network is loaded yet.");
  lab.dataset.busy = "yes";
  const images = current().labels.map((_, i) => trayImage(i)), rows = [], options = { attack, eps: +state.eps, steps: +state.steps };
  const table = $("success-table"), body = table.tBodies[0];
  table.caption.textContent = `${ATTACKS[attack]}, epsilon ${(+state.eps).toFixed(2)}, made on each network by itself`;
  table.hidden = false;
  body.replaceChildren();
  for (const network of judges) {
    const path = network.attacked.includes(state.path) ? state.path : network.attacked[0];
    const progress = (i) => (($("success-text").textContent = `${network.title}: image ${i + 1} of ${images.length}`), wait(0));
    const found = await inTurn(() => successOver(images, current().labels, network, path, options, progress, isStale));
    if (!found) return void ($("success-text").textContent = "Stopped, since you changed something.");
    const cells = [found.before, found.after, found.changed].map((count) => element("td", { textContent: `${count}` }));
    rows.push(`${network.title}: ${found.changed} of ${found.images} answers changed, ${found.after} right.`);
    body.append(element("tr", {}, element("th", { scope: "row", textContent: network.title }), ...cells));
  }
  $("success-text").textContent = "";
  announce(rows.join(" "));
  delete lab.dataset.busy;
}

async function play() {
  for (let step = 0; step < now.frames.length; step++) {
    state.step = `${step}`;
    await refresh();
    await wait(1500 / now.frames.length);
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

const handOut = async () => announce(await share(link(), $("share"), $("link")));

function restore(search) {
  read(search);
  if (state.image === "drawn") pad.show(now.drawn);
  return refresh();
}

function makeOwnPad() {
  let before = state.image; // the test image that was looked at before the reader's own
  const take = (image) => {
    if (state.image !== "drawn") before = state.image;
    [now.drawn, state.image, state.step] = [image, "drawn", ""];
    refresh();
  };
  const clear = () => {
    if (state.image === "drawn") [state.image, state.step] = [before, ""];
    now.drawn = null;
    refresh();
  };
  return makePad({ take, clear });
}

function listen() {
  const actions = { start, play, check, share: handOut, smallest: findSmallest, success: attackAll };
  const failed = ({ message }) => (delete lab.dataset.busy, notify(message));
  for (const [name, act] of Object.entries(actions)) $(name).onclick = () => act().catch(failed);
  for (const set of document.querySelectorAll("a.lab-setup")) {
    set.onclick = (event) => (event.preventDefault(), lab.scrollIntoView(), restore(set.search));
  }
  lab.addEventListener("input", ({ target }) => {
    const name = (target.name || target.id).replace("lab-", "");
    if (!(name in state)) return; // the file, the link
    [state.step, state[name]] = ["", target.value];
    refresh();
  });
  // Canvases don't follow the page's colours by themselves; at once, since paper waits for nothing.
  new MutationObserver(showAnswers).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  matchMedia("(forced-colors: active)").addEventListener("change", showAnswers);
}

async function open() {
  const lacking = ["WebAssembly", "DecompressionStream", "OffscreenCanvas"].find((name) => !(name in globalThis));
  if (lacking) throw new Error(`The networks can't run here: this browser has no ${lacking}. Allow it, or use a newer browser.`);
  now.manifest = await loadManifest();
  pad = makeOwnPad();
  await restore(opening());
  $("start-progress").max = await runtimeBytes();
  const bytes = firstNetworks().reduce((sum, network) => sum + network.bytes, $("start-progress").max);
  Object.assign($("start"), { disabled: false, textContent: `Start the lab, ${megabytes(bytes)}` });
  listen();
}

open().catch(({ message }) => notify(message));
