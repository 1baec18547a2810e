// The mini-lab of the first page: one digit, one slider, what two networks answer, and what the reader expects of it.

import { remember, share } from "../link.js";
import { link, read } from "./address.js";
import { fall, imageAt, loadBook, NAMES, outcome, rightAnswer } from "./data.js";
import { load, offer, study, unseen } from "./own.js"; // at once: an import that failed can't be asked for again

const $ = (name) => document.getElementById(`start-${name}`);
const GUESSES = { cnn: "the plain CNN falls first", "q-base": "Q-base falls first", together: "both fall together" };
const THE = { cnn: "the plain CNN", "q-base": "Q-base" };
const SIDE = 28;

// What the reader has chosen; but for what the slider has shown, all of it stands in the address.
const state = { digit: "", step: 0, guess: "", drawn: null };
const reached = new Map(); // by digit, the furthest position of the slider
let book, last, own = null; // what the page was built with; the slider's last position; the reader's digit
let latest = 0; // study of the reader's digit

const current = () => (state.digit === "own" ? own : book.digits.find(({ key }) => key === state.digit));
const epsilon = (at) => book.epsilons[at].toFixed(2);
const percent = (p) => `${Math.round(100 * p)}\u00a0%`;
const capital = (text) => text[0].toUpperCase() + text.slice(1);
const isLocked = () => book.networks.length > 1 && !state.guess;

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function paint(canvas, image) {
  const pixels = new ImageData(SIDE, SIDE);
  image.forEach((level, i) => pixels.data.set([255 * level, 255 * level, 255 * level, 255], 4 * i));
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

// ---- What is there from the beginning

function build() {
  const card = (name) => {
    const parts = [element("p", { className: "start-name", textContent: NAMES[name] }), element("p", { className: "start-answer" })];
    const made = element("div", { className: "start-card" }, ...parts, element("p", { className: "start-sure" }));
    made.dataset.network = name;
    return made;
  };
  $("answers").replaceChildren(...book.networks.map(card));
  const strip = (name) => {
    const cells = element("div", { className: "start-strip", role: "img" }, ...book.epsilons.map(() => element("i")));
    const row = [element("span", { className: "start-row", textContent: NAMES[name] }), cells, element("span", { className: "start-mine" })];
    for (const part of row) part.dataset.network = name;
    return row;
  };
  $("strips").replaceChildren(...book.networks.flatMap(strip));
  const choice = (digit) => {
    const picture = element("canvas", { width: SIDE, height: SIDE, role: "img", ariaLabel: `test image of a ${digit.label}` });
    paint(picture, digit.clean);
    return element("label", {}, element("input", { type: "radio", name: "start-digit", value: digit.key }), picture);
  };
  const yours = [element("input", { type: "radio", name: "start-digit", value: "own" }), element("span", { textContent: "yours" })];
  $("digits").append(...book.digits.map(choice), element("label", { id: "start-yours" }, ...yours));
  $("eps").max = last;
  const alone = book.missing.map((name) => `${NAMES[name]}'s weights are not released yet, so it is missing here.`);
  $("missing").textContent = alone.join(" ");
  $("missing").hidden = !alone.length;
}

// ---- From the state to what is shown

function show() {
  const digit = current(), at = state.step;
  reached.set(digit.key, Math.max(at, reached.get(digit.key) ?? 0));
  paint($("image"), imageAt(digit, book.epsilons[at]));
  const whose = digit.label === null ? "Your digit" : `A handwritten ${digit.label}`;
  $("caption").textContent = at ? `${whose}, each pixel moved by up to ${epsilon(at)}` : `${whose}, as it is`;
  $("image").ariaLabel = $("caption").textContent;
  for (const card of $("answers").children) showAnswer(card, digit, at);
  for (const strip of $("strips").querySelectorAll(".start-strip")) showStrip(strip, digit);
  for (const mine of $("strips").querySelectorAll(".start-mine")) {
    mine.textContent = [mine.dataset.network, "together"].includes(state.guess) ? "your guess" : "";
  }
  $("guess").hidden = !isLocked();
  $("eps").disabled = isLocked();
  $("eps").value = at;
  $("eps").setAttribute("aria-valuetext", epsilon(at));
  $("eps-text").textContent = epsilon(at);
  $("outcome").replaceChildren(...outcomeOf(digit));
  $("source").textContent = digit.label === null
    ? "The pattern follows the gradient of the plain CNN, so it is aimed at the plain CNN; Q-base gets what arrives."
    : "The pattern was made on a third network, the attacker's own. Neither of these two was used to make it.";
  $("yours").hidden = !own;
  for (const radio of $("digits").querySelectorAll("input")) radio.checked = radio.value === state.digit;
}

function showAnswer(card, digit, at) {
  const name = card.dataset.network, { classes = [], probabilities = [] } = digit.answers[name] ?? {}, known = classes[at] !== undefined;
  const isRight = classes[at] === rightAnswer(digit, name), words = digit.label === null ? ["holds", "changed"] : ["right", "wrong"];
  const [, answer, sure] = card.children;
  card.dataset.verdict = !known ? "" : isRight ? "right" : "wrong";
  const verdict = isRight ? `✓ ${words[0]}` : `✗ ${words[1]}`;
  answer.replaceChildren(element("b", { textContent: known ? classes[at] : "…" }), " ", element("span", { textContent: known ? verdict : "" }));
  sure.textContent = known ? `${percent(probabilities[at][classes[at]])} sure` : "not asked yet";
  sure.style.setProperty("--sure", known ? probabilities[at][classes[at]] : 0);
}

/** One network's answers, position by position, as far as the reader has been. */
function showStrip(strip, digit) {
  const name = strip.dataset.network, classes = digit.answers[name]?.classes ?? [], seen = reached.get(digit.key);
  const states = book.epsilons.map((_, i) => {
    if (i > seen || classes[i] === undefined) return "";
    return classes[i] === rightAnswer(digit, name) ? "right" : "wrong";
  });
  [...strip.children].forEach((cell, i) => (cell.className = states[i] + (i === state.step ? " here" : "")));
  const first = states.indexOf("wrong"), words = digit.label === null ? "first changes" : "is first wrong";
  strip.ariaLabel = first < 0 ? `${NAMES[name]}: holds up to ${epsilon(seen)}` : `${NAMES[name]}: ${words} at ${epsilon(first)}`;
}

/** The guess, and what has come of it. */
function outcomeOf(digit) {
  if (isLocked()) return ["The slider waits for your guess."];
  const guess = state.guess ? [element("b", { textContent: "Your guess:" }), ` ${GUESSES[state.guess]}. `] : [];
  const seen = reached.get(digit.key), found = outcome(digit, book.networks, seen, last);
  if (!found) {
    const known = digit.key !== "own" || Object.keys(digit.answers).length;
    return [...guess, known ? "Now move the slider." : "The networks below must be loaded to attack it."];
  }
  const mark = state.guess ? element("b", { textContent: found === state.guess ? "✓ " : "✗ " }) : "";
  return [...guess, mark, happened(digit, found, seen), " ", elsewhere(digit)];
}

function happened(digit, found, seen) {
  const at = (name) => fall(digit, name, last);
  if (found === "neither") return `Up to ${epsilon(last)}, ${book.networks.length > 1 ? "neither falls" : "it holds"}.`;
  if (found === "together") return `Both fall at ${epsilon(at("cnn"))}.`;
  const [other] = book.networks.filter((name) => name !== found);
  if (!other) return `${capital(THE[found])} falls at ${epsilon(at(found))}.`;
  const then = at(other) <= seen ? `falls at ${epsilon(at(other))}` : seen === last ? `holds up to ${epsilon(last)}` : "still holds";
  return `${capital(THE[found])} falls first, at ${epsilon(at(found))}; ${THE[other]} ${then}.`;
}

/** One digit shows little: what happens on many. */
function elsewhere(digit) {
  if (digit.label === null) return "";
  const { images, ...counts } = book.counts, share = (name) => percent(counts[name] / images);
  if (book.networks.length < 2) return `Of ${images} test images, it falls on ${share(book.networks[0])}.`;
  return `And on ${images} test images? The plain CNN falls first on ${share("cnn")}, Q-base on ${share("q-base")}, both together on ${share("together")}, neither on ${share("neither")}.`;
}

// ---- Words for those who listen

let speaking = null;
let told = ""; // the outcome that was read out last

/** Read out what is to be seen, once the reader pauses. */
function announce() {
  clearTimeout(speaking);
  speaking = setTimeout(() => {
    const answers = [...$("answers").children].map((card) => [...card.children].map((part) => part.textContent.replace(/[✓✗] /, "")).join(", "));
    const known = $("outcome").textContent.replace(/✓/, "Yes.").replace(/✗/, "No.");
    $("spoken").textContent = `Epsilon ${epsilon(state.step)}. ${answers.join(". ")}. ${known === told ? "" : known}`;
    told = known;
  }, 600);
}

function notify(message) {
  Object.assign($("notice"), { textContent: message, hidden: !message });
  if (message) $("notice").scrollIntoView({ block: "nearest" }); // the button that was pressed may be far below
}

function changed(values) {
  Object.assign(state, values);
  $("share").textContent = "Copy link";
  show();
  if (state.digit !== "own" || state.drawn) remember(() => link(state));
  announce();
}

// ---- What the reader does

function guess(value) {
  changed({ guess: value });
  $("eps").focus({ preventScroll: true }); // what one moves next
}

function startOver() {
  reached.clear();
  changed({ digit: book.digits[book.opening].key, step: 0, guess: "" });
  $("guess").querySelector("button").focus({ preventScroll: true });
}

const handOut = async () => ($("spoken").textContent = await share(link(state), $("share"), $("link")));

/** Offer the pad, or put it away; the first time, say what has to be loaded for it. */
async function draw() {
  const opens = $("own").hidden;
  $("own").hidden = !opens;
  $("draw").setAttribute("aria-expanded", `${opens}`);
  if (!opens || $("begin").hidden || !$("load").disabled) return;
  const focused = document.activeElement === $("draw");
  const offered = await offer(book.networks);
  $("load").textContent = `Load ${(offered.bytes / 1e6).toFixed(1)} MB, then draw`;
  $("sizes").textContent = `${offered.text}. They run in this page; nothing leaves your device.`;
  $("progress").max = offered.bytes;
  $("load").disabled = false;
  if (focused) $("load").focus({ preventScroll: true });
  $("load").onclick = doing(async () => {
    if ($("load").ariaDisabled === "true") return; // not disabled: that would take the focus from it
    $("load").ariaDisabled = "true";
    notify("");
    try {
      await load(offered, (bytes) => Object.assign($("progress"), { hidden: false, value: bytes }));
      await openPad(offered.networks);
    } finally {
      $("load").ariaDisabled = "false";
      $("progress").hidden = true;
    }
  });
}

async function openPad(networks) {
  const { makePad } = await import("../lab/pad.js");
  const take = (image) => {
    const mine = ++latest, isStale = () => mine !== latest;
    Object.assign(state, { digit: "own", drawn: image });
    own ??= unseen(image);
    reached.delete("own");
    const found = (digit) => {
      own = digit;
      if (state.digit === "own") changed({}); // not if the reader has gone back to another one
    };
    $("live").dataset.busy = "yes";
    study(networks, image, book.epsilons, { wanted: () => state.step, found, isStale })
      .catch(({ message }) => notify(message))
      .finally(() => isStale() || delete $("live").dataset.busy);
  };
  const clear = () => {
    latest++;
    delete $("live").dataset.busy;
    own = null;
    changed({ drawn: null, ...(state.digit === "own" && { digit: book.digits[book.opening].key, step: 0 }) });
  };
  const pad = makePad({ take, clear });
  const focused = document.activeElement === $("load");
  $("begin").hidden = true;
  document.getElementById("lab-drawing").hidden = false;
  if (focused) document.getElementById("lab-clear").focus({ preventScroll: true });
  $("spoken").textContent = "The pad is ready. Draw a digit, or open a picture of one.";
  if (state.drawn) {
    pad.show(state.drawn);
    take(state.drawn);
  }
}

const doing = (act) => () => act().catch(({ message }) => notify(message));

function listen() {
  for (const button of $("guess").querySelectorAll("button")) button.onclick = () => guess(button.value);
  $("eps").oninput = ({ target }) => changed({ step: +target.value });
  $("digits").onchange = ({ target }) => changed({ digit: target.value, step: 0 });
  $("again").onclick = startOver;
  $("share").onclick = doing(handOut);
  $("draw").onclick = doing(draw);
}

async function open() {
  book = await loadBook().catch(() => null);
  if (!book?.digits.length) return; // the still picture stays
  last = book.epsilons.length - 1;
  const guesses = book.networks.length > 1 ? Object.keys(GUESSES) : [];
  const asked = read(location.search, { digits: book.digits.map(({ key }) => key), guesses, last });
  Object.assign(state, { digit: book.digits[book.opening].key }, asked);
  if (state.drawn) own = unseen(state.drawn);
  build();
  show();
  listen();
  $("still").hidden = true;
  $("live").hidden = false;
  if (state.drawn) await draw();
}

open().catch(({ message }) => notify(message));
