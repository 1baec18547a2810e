// The page's state in its address, so that a link brings it back: digit, epsilon and guess.

import { toBytes, toImage, toText } from "../lab/images.js";

const PAUSE = 250; // milliseconds
let writing = null;

/** What an address asks for, of what there is; whatever else it says is left aside. */
export function read(search, { digits, guesses, last }) {
  const asked = new URLSearchParams(search), digit = asked.get("digit") ?? "", found = {};
  const [ink] = digit.match(/(?<=^ink\.)[\w-]{1046}$/) ?? [];
  if (ink) Object.assign(found, { digit: "own", drawn: toImage(toBytes(ink)) });
  else if (digits.includes(digit)) found.digit = digit;
  if (guesses.includes(asked.get("guess"))) found.guess = asked.get("guess");
  const step = Math.round(100 * parseFloat(asked.get("eps")));
  // Nobody moves the slider before a guess, by an address neither.
  if (step >= 0 && (found.guess || !guesses.length)) found.step = Math.min(last, step);
  return found;
}

export function link({ digit, step, guess, drawn }) {
  const query = new URLSearchParams({ digit: digit === "own" ? `ink.${toText(drawn)}` : digit, eps: (step / 100).toFixed(2) });
  if (guess) query.set("guess", guess);
  return new URL(`?${query}${location.hash}`, location.href).href;
}

/** Write the address once the reader pauses: browsers allow few writes, and one that is a little old does no harm. */
export function remember(state) {
  clearTimeout(writing);
  writing = setTimeout(() => {
    try {
      history.replaceState(history.state, "", link(state));
    } catch {} // too often, or not allowed here
  }, PAUSE);
}

/** Copy a text; where a page may not, as one over plain http, show it marked in `box`. Says whether it is copied. */
export async function copy(text, box) {
  try {
    await navigator.clipboard.writeText(text);
    box.hidden = true;
    return true;
  } catch {} // no clipboard here, or no permission
  Object.assign(box, { hidden: false, value: text });
  box.focus();
  box.select();
  return document.execCommand?.("copy") ?? false;
}
