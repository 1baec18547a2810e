// The page's state in its address, so that a link brings it back: digit, epsilon and guess.

import { toBytes, toImage, toText } from "../lab/images.js";

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
