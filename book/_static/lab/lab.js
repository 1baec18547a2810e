// The attack lab: the book's networks, run and attacked in this page. Here, what the reader can do with it.

import { remember, share } from "../link.js";
import { ATTACKS, film } from "./attacks.js";
import { check } from "./check.js";
import { count, forgetOld } from "./count.js";
import { inTurn, isRunning, loadManifest, Network, runtimeBytes, SIDE, startRuntime } from "./networks.js";
import { makePad } from "./pad.js";
import { compare, compared, firstGradient, LARGEST, search } from "./search.js";
import {
  $, announce, attacked, current, DEFAULTS, element, lab, link, loaded, look, notify, now, opening, read, ROADS, state, TITLES,
  trayImage, wait,
} from "./state.js";
import { describe, megabytes, offer, offerCards, paint, paintImages, showAnswers, showSizes, verdicts } from "./view.js";

export { film, stepSize } from "./attacks.js"; // for those who would run an attack without the page
export { prepare, prepareFile } from "./images.js";
export { Network, startRuntime } from "./networks.js";

const WHOLE = "lab"; // marks an entry of the history to whose state the reader comes back
const LIGHT = 5e6; // bytes that are loaded unasked
let framesKey; // what the film was made of
let latest = 0; // of what the reader asked for
let halted = false; // whether the reader has stopped it
let playing = false; // a film changes the state with every picture: its end is what the address remembers
let pad;
let passed = ""; // the network that the reader has come to among others: it may be one on the way

// ---- Controls that follow the state

/** Bring every control in line with the state. */
function offerAll() {
  const { datasets } = now.manifest;
  offer("data", Object.keys(datasets).filter((name) => datasets[name].networks.length));
  if (!current()) throw new Error("No trained network was there when this site was built: train one, then run make book.");
  const networks = (now.kept[state.data] ??= current().networks.map((entry) => new Network(entry)));
  if (now.networks !== networks) {
    now.networks = networks;
    for (const network of networks) [TITLES[network.name], network.shown] = [network.title, null]; // of an image before
    now.cell = null;
    offerCards(isRunning(), loadAndShow);
    describe();
  }
  offer("net", now.networks.map(({ name }) => name), (value) => {
    const { title, bytes, name } = now.networks.find(({ name }) => name === value), size = element("small", { textContent: ` ${megabytes(bytes)}` });
    size.dataset.of = name;
    return element("span", {}, title, size);
  });
  showSizes();
  const paths = attacked().attacked;
  // What was chosen is not lost on a network that has no choice.
  if (paths.length > 1) state.path = now.road = [state.path, now.road].find((path) => paths.includes(path)) ?? paths[0];
  offer("path", paths);
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
  $("play").disabled = $("step").disabled = !now.frames.length;
  forgetOld();
  const size = firstNetworks().reduce((sum, { bytes }) => sum + bytes, $("start-progress").max);
  $("start").textContent = `Start the lab, ${megabytes(size)}`;
}

// ---- From the state to what is shown

/** Begin a task, and return whether a newer one has overtaken it. */
function begin() {
  const mine = ++latest;
  halted = false;
  delete lab.dataset.loading;
  lab.dataset.busy = "yes";
  return () => mine !== latest;
}

/** Show the state, whatever of it has changed; a newer task overtakes it. Returns what `begin` does. */
async function refresh(found = "") {
  const isStale = begin();
  offerAll();
  $("found").textContent = found;
  $("each-table").hidden = $("each-table").dataset.of !== compared();
  const network = attacked();
  try {
    const isPassed = network.name === passed && network.bytes > LIGHT; // arrow keys lead past it: its card has a button
    if (isRunning() && !network.ready && !isPassed) {
      lab.dataset.loading = "yes"; // there is nothing to stop
      await load(network).finally(() => isStale() || delete lab.dataset.loading); // not in turn: the reader may go on with another
    }
    await inTurn(() => isStale() || update(isStale));
  } catch ({ message }) {
    if (!isStale()) notify(message);
  }
  if (isStale()) return isStale;
  delete lab.dataset.busy;
  if (!playing) remember(link);
  if (isRunning()) announce(`${attacked().ready ? $("found").textContent : unready()} ${verdicts()}`);
  return isStale;
}

async function update(isStale) {
  const { image } = look();
  notify("");
  if (!isRunning()) return paintImages(image);
  const network = attacked();
  const waits = !network.ready; // for the reader: until then there is the clean image to be judged
  if (waits) [now.frames, framesKey, $("found").textContent] = [[image], "", unready()];
  if (!waits && !state.eps && !(await startWhereItFools(isStale))) return;
  const { net, path, attack } = state, [eps, steps] = [+state.eps, +state.steps], { clean } = now;
  const wanted = [clean.key, net, path, attack, eps, steps].join();
  if (!waits && wanted !== framesKey) {
    const first = await firstGradient(network, path, clean), found = [];
    let painted = performance.now();
    for await (const frame of film(network, path, clean.image, { attack, eps, steps, first })) {
      found.push(frame);
      if (performance.now() - painted < 40) continue;
      paintImages(frame);
      $("step-text").textContent = `${found.length - 1} of ${steps}`;
      await wait(0);
      if (isStale()) return;
      if (halted) break;
      painted = performance.now();
    }
    [now.frames, framesKey] = [found, wanted]; // stopped or not: to look at a film must not run it again
    if (halted) $("found").textContent = `Stopped after ${found.length - 1} of ${steps} steps.`;
  }
  $("play").disabled = $("step").disabled = false;
  const { frames } = now, last = ($("step").max = frames.length - 1);
  $("step").value = state.step || last;
  const step = +$("step").value; // one of this film's, whatever the address says
  $("step-text").textContent = `${step} of ${last}`;
  $("step").setAttribute("aria-valuetext", $("step-text").textContent);
  paintImages(frames[step]);
  if (!waits && eps > 0 && frames[last].every((level, i) => level === clean.image[i])) {
    const reason = attack === "cw" ? "it gives the clean image back where it finds none that changes the answer"
      : `${network.title}'s gradient is zero there, so it shows no way to go`;
    notify(`${ATTACKS[attack]} has moved no pixel: ${reason}.`, false); // whoever moves a slider must not lose it
  }
  for (const judge of loaded()) { // whichever of them the image was made on
    if (!clean.answers.has(judge)) clean.answers.set(judge, await judge.answer(clean.image));
    judge.shown = { was: clean.answers.get(judge), now: await judge.answer(frames[step]) };
  }
  showAnswers();
}

/** Choose the smallest epsilon that fools the network on this image, or on the first of the tray that it can be fooled on. */
async function startWhereItFools(isStale) {
  for (const other of ["", ...current().labels.keys()]) {
    if (other !== "") state.image = `${other}`;
    const eps = await search(state.attack, () => isStale() || halted);
    if (isStale()) return false;
    state.eps = eps?.toFixed(2) ?? LARGEST;
    if (eps !== null) break; // found, or stopped
  }
  offerAll();
  return true;
}

async function load(network) {
  const progress = (bytes) => Object.assign(network.bar, { hidden: false, value: bytes });
  await (network.loading ??= network.load(progress).finally(() => ((network.loading = null), (network.bar.hidden = true))));
  network.ready = true;
  showSizes();
  const focused = now.networks.find(({ cards }) => cards?.some((card) => card.contains(document.activeElement)));
  offerCards(isRunning(), loadAndShow);
  const [card] = focused?.cards ?? []; // it is a new one now
  (card?.querySelector("button") ?? card)?.focus({ preventScroll: true });
  showAnswers(); // on the cards of the others, which are new, too
}

const isBusy = () => playing || "busy" in lab.dataset;

/** Show what has been loaded, once nothing runs that this would overtake; what was found meanwhile is read out first, and stays. */
async function showLoaded() {
  while (isBusy()) {
    await wait(100);
    if (!isBusy()) await wait(1000);
  }
  await refresh(framesKey ? $("found").textContent : "");
}

const loadAndShow = (network) => void load(network).then(showLoaded).catch(({ message }) => notify(message));

// ---- What the reader does

const firstNetworks = () => now.networks.filter(({ name }) => ["cnn", "q-base", state.net].includes(name));

async function start() {
  if ($("start").ariaDisabled === "true") return; // not disabled: that would take the focus from it
  $("start").ariaDisabled = "true";
  try {
    await startRuntime((bytes) => Object.assign($("start-progress"), { hidden: false, value: bytes }));
    for (const network of firstNetworks().filter(({ ready }) => !ready)) await load(network);
    await showLoaded();
    const focused = $("begin").contains(document.activeElement);
    $("begin").hidden = true;
    if (focused) $("eps").focus({ preventScroll: true }); // what one moves next
  } finally {
    $("start-progress").hidden = true;
    $("start").ariaDisabled = "false";
  }
}

const unready = () => isRunning() ? `${attacked().title} is not loaded yet: its card has the button for it.`
  : "Start the lab first: no network is loaded yet.";

/** End a task that found nothing: it was stopped, or overtaken by one that says itself how it ends. */
function end(isStale, text) {
  if (isStale()) return;
  text.textContent = halted ? "Stopped." : "";
  if (halted) announce(text.textContent);
  delete lab.dataset.busy;
}

/** Show what was chosen just before, since a task would overtake its film; false if it was stopped or overtaken itself. */
async function shown() {
  const isStale = await refresh();
  return !isStale() && !halted;
}

async function findSmallest() {
  const network = attacked();
  if (!network.ready) return notify(unready());
  if (!(await shown())) return;
  const { attack } = state, who = `${ATTACKS[attack]} on ${network.title}`; // as it is now: the reader may choose others
  const isStale = begin(), eps = await inTurn(() => search(attack, () => isStale() || halted));
  if (eps === undefined) return end(isStale, $("found"));
  if (eps !== null) [state.eps, state.step] = [eps.toFixed(2), ""];
  const isOld = await refresh();
  if (isOld()) return;
  $("found").textContent = eps === null ? `${who}: the answer holds up to ${LARGEST}.` : `${who}: ${eps.toFixed(2)} is the smallest that changes the answer.`;
  announce(`${$("found").textContent} ${verdicts()}`);
}

/** The smallest epsilon of every attack on the current image. */
async function compareAttacks() {
  if (!attacked().ready) return notify(unready());
  if (!(await shown())) return;
  const isStale = begin(), said = await compare(() => isStale() || halted);
  if (said) announce(said);
  end(isStale, $("found"));
}

/** The current attack on each image of the tray, and on each loaded network by itself. */
async function attackAll() {
  if (!loaded().length) return notify(unready());
  if (!(await shown())) return;
  const isStale = begin(), text = $("success-text"), said = await count(() => isStale() || halted);
  if (said) announce(said);
  else if (isStale()) text.textContent = "Stopped, since you changed something.";
  end(isStale, text);
}

async function play() {
  playing = true;
  try {
    for (let step = 0; step < now.frames.length; step++) {
      state.step = `${step}`;
      const isStale = await refresh();
      await wait(1500 / now.frames.length);
      if (isStale()) return; // the reader has moved on, or asked for something else
    }
  } finally {
    playing = false;
    remember(link);
  }
}

const handOut = async () => announce(await share(link("#lab"), $("share"), $("link")));

function restore(search) {
  read(search);
  now.road = Object.hasOwn(ROADS, state.path) ? state.path : "e";
  passed = "";
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
  const actions = { start, play, check, share: handOut, smallest: findSmallest, each: compareAttacks, success: attackAll };
  const failed = ({ message }) => (delete lab.dataset.busy, notify(message));
  for (const [name, act] of Object.entries(actions)) $(name).onclick = () => act().catch(failed);
  $("stop").onclick = () => {
    halted = true;
    $("eps").focus({ preventScroll: true }); // the button is about to go, and would take the focus with it
  };
  for (const set of document.querySelectorAll("a.lab-setup")) {
    set.onclick = (event) => {
      event.preventDefault();
      for (const step of ["replaceState", "pushState"]) history[step](WHOLE, "", link()); // back leads to the text with the link
      lab.scrollIntoView();
      Object.assign(state, DEFAULTS); // the text speaks of what it names, not of what the reader has left there
      ($("begin").hidden ? $("eps") : $("start")).focus({ preventScroll: true });
      restore(set.search);
    };
  }
  lab.addEventListener("input", ({ target }) => {
    const name = (target.name || target.id).replace("lab-", "");
    if (!(name in state)) return; // the file, the link
    [state.step, state[name]] = ["", target.value];
    if (name === "net") passed = target.value;
    refresh();
  });
  // An anchor's entry is none of these: who follows one stays with what is there.
  addEventListener("popstate", ({ state: entry }) => entry === WHOLE && restore(location.search));
  // Canvases don't follow the page's colours by themselves; at once, since paper waits for nothing.
  new MutationObserver(showAnswers).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  matchMedia("(forced-colors: active)").addEventListener("change", showAnswers);
}

async function open() {
  const lacking = ["WebAssembly", "DecompressionStream", "OffscreenCanvas"].find((name) => !(name in globalThis));
  if (lacking) throw new Error(`The networks can't run here: this browser has no ${lacking}. Allow it, or use a newer browser.`);
  now.manifest = await loadManifest();
  pad = makeOwnPad();
  $("start-progress").max = await runtimeBytes();
  await restore(opening());
  $("start").disabled = false;
  listen();
  for (const part of lab.querySelectorAll("[inert]")) part.inert = false;
}

open().catch(({ message }) => notify(message));
