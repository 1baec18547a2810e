// The smallest autoregressive model: 4 by 4 pixels, each with a chance of being white that depends on its left and upper
// neighbours. Guess the next pixel, see how surprised the model is, and add up the probabilities of all pictures.

import { button, choice, element, frame, table } from "./kit.js";
import { uniform } from "./random.js";

export const SIDE = 4, PIXELS = SIDE * SIDE;

/** Chance that a pixel is white, given the picture's pixels before it; outside of the picture all is black. */
export const chanceAt = (chance, picture, at) =>
  chance[Math.floor(at / SIDE)][at % SIDE][at % SIDE ? picture[at - 1] : 0][at < SIDE ? 0 : picture[at - SIDE]];

/** The factor of each pixel: the probability of what it is, given those before. */
export const factors = (chance, picture) =>
  picture.map((white, at) => (white ? chanceAt(chance, picture, at) : 1 - chanceAt(chance, picture, at)));

/** The product of the factors of the first `known` pixels. */
export const likelihood = (chance, picture, known = PIXELS) =>
  factors(chance, picture).slice(0, known).reduce((product, factor) => product * factor, 1);

/** The sum over all 65,536 pictures, one by one. */
export function total(chance) {
  let sum = 0;
  for (let number = 0; number < 2 ** PIXELS; number++) {
    sum += likelihood(chance, Array.from({ length: PIXELS }, (_, at) => (number >> at) & 1));
  }
  return sum;
}

/** A picture drawn pixel by pixel, each from its chance given those before. */
export function draw(chance, next) {
  const picture = new Array(PIXELS).fill(0);
  for (let at = 0; at < PIXELS; at++) picture[at] = next() < chanceAt(chance, picture, at) ? 1 : 0;
  return picture;
}

export const bits = (factor) => -Math.log2(factor);

const name = (at) => `row ${Math.floor(at / SIDE) + 1}, column ${(at % SIDE) + 1}`;
const colour = (white) => (white ? "white" : "black");
const share = (value) => `${(100 * value).toFixed(value < 0.1 || value > 0.9 ? 1 : 0)} %`;

export function fill(place) {
  const { chance, digits } = JSON.parse(place.dataset.chain);
  const pictures = digits.map(({ pixels }) => Array.from(pixels, Number));
  const next = uniform(1), state = { picture: [...pictures[0]], known: 0, hits: 0, sum: null, last: null };
  const facts = table("So far", ["", "value"]);
  const cells = Array.from({ length: PIXELS }, (_, at) => button("", () => flip(at)));
  const grid = element("div", { className: "toy-pixels", role: "group", "aria-label": "the middle of a digit, 4 by 4 pixels" }, ...cells);
  const guesses = [0, 1].map((white) => button(`Next is ${colour(white)}`, () => guess(white)));
  const names = Object.fromEntries(digits.map(({ label }, i) => [i, `the middle of ${label === 8 ? "an" : "a"} ${label}`]));
  const controls = element("div", { className: "toy-controls" },
    choice("Picture", names, "0", (i) => start(pictures[i])),
    element("div", { className: "toy-row" }, ...guesses, button("Show all", () => ((state.known = PIXELS), (state.last = null), show()))),
    element("div", { className: "toy-row" },
      button("Draw one from the model", () => (start(draw(chance, next)), (state.known = PIXELS), show())),
      button("Add up all 65,536", () => ((state.sum = total(chance)), (state.last = added()), show()))),
    facts.node);
  const body = element("div", {},
    element("figure", { className: "toy-picture" }, grid, element("figcaption", {},
      "A shown pixel holds its surprise in bits. When all are shown, press one to flip it: its own number changes, and that of its right and lower neighbours, but none of an earlier pixel.")),
    controls);
  const voice = frame(place, {
    question: "A model gives each picture of 4 by 4 pixels, black or white, a probability: the product of 16 factors, one per pixel. There are 65,536 such pictures. What do all their probabilities add up to?",
    options: ["To 1, exactly", "To less than 1", "That depends on the factors"],
  }, body, () => show());

  const added = () => `All 65,536 add up to ${state.sum.toFixed(9)}: each factor shares out what is left among two colours, so the sum is 1 whatever the factors.`;

  function start(picture) {
    Object.assign(state, { picture: [...picture], known: 0, hits: 0, last: null });
    show();
  }

  function guess(white) {
    const actual = state.picture[state.known], chances = chanceAt(chance, state.picture, state.known);
    state.hits += white === actual;
    state.last = `The pixel in ${name(state.known)} is ${colour(actual)}. The model expected white with ${share(chances)}, so this costs it ${bits(actual ? chances : 1 - chances).toFixed(2)} bits.`;
    state.known++;
    show();
  }

  function flip(at) {
    state.picture[at] = 1 - state.picture[at];
    const factor = factors(chance, state.picture)[at];
    state.last = `The pixel in ${name(at)} is ${colour(state.picture[at])} now, at a cost of ${bits(factor).toFixed(2)} bits.`;
    show();
  }

  function show() {
    const { picture, known } = state, all = factors(chance, picture), whole = known === PIXELS;
    cells.forEach((cell, at) => {
      const shown = at < known;
      cell.disabled = !whole;
      cell.className = shown ? (picture[at] ? "is-white" : "is-black") : at === known ? "is-next" : "";
      cell.textContent = shown ? bits(all[at]).toFixed(1) : at === known ? "?" : "";
      cell.setAttribute("aria-label", `${name(at)}: ${shown ? `${colour(picture[at])}, ${bits(all[at]).toFixed(1)} bits` : "hidden"}`);
    });
    const guessed = guesses.includes(document.activeElement);
    guesses.forEach((one) => (one.disabled = whole));
    if (whole && guessed) cells[PIXELS - 1].focus(); // the button that was pressed can hold the focus no longer
    if (place.dataset.state !== "open") return;
    const product = likelihood(chance, picture, known);
    const rows = [
      ["pixels known", `${known} of ${PIXELS}`],
      ["product of their factors", product > 0.001 ? product.toFixed(4) : product.toExponential(1)],
      ["surprise, the sum of their bits", bits(product).toFixed(1)],
    ];
    if (state.last !== null && !whole) rows.push(["your guesses", `${state.hits} of ${known} right`]);
    if (state.sum !== null) rows.push(["sum over all 65,536 pictures", state.sum.toFixed(9)]);
    facts.show(rows);
    const text = state.last ?? (whole
      ? `This picture has probability ${product.toExponential(1)}: ${bits(product).toFixed(1)} bits of surprise, where a guess without any knowledge costs 16.`
      : `${state.sum === null ? "Add up all 65,536 to see whether you expected right." : added()} Guess the marked pixel from those before it, or let the model draw a picture.`);
    voice.tell(text);
    voice.say(text);
  }
  show();
}
