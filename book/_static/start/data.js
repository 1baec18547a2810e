// What the page was built with: digits, where the attack moves their pixels, what each network answers at each epsilon.

import { toBytes, toImage } from "../lab/images.js";

export const NAMES = { cnn: "plain CNN", "q-base": "Q-base" };
const CLASSES = 10;

/**
 * A digit is { key, label, clean, signs, answers }: its class, null for the reader's own; 784 levels; 784 of -1, 0, 1;
 * and, by network, { classes, probabilities } at each position of the slider.
 */
export async function loadBook() {
  const response = await fetch(new URL("start.json", import.meta.url));
  if (!response.ok) throw new Error(`start.json could not be loaded: the server answered ${response.status}.`);
  const book = await response.json();
  return { ...book, digits: book.digits.map(unpack) };
}

function unpack({ label, pixels, signs, answers }) {
  const read = ({ class: classes, probabilities }) => {
    const bytes = toBytes(probabilities);
    return {
      classes: Array.from(classes, Number),
      probabilities: Array.from(classes, (_, i) => Array.from(bytes.subarray(i * CLASSES, (i + 1) * CLASSES), (byte) => byte / 255)),
    };
  };
  return {
    key: `${label}`,
    label,
    clean: toImage(toBytes(pixels)),
    signs: Float32Array.from(toBytes(signs), (sign) => sign - 1),
    answers: Object.fromEntries(Object.entries(answers).map(([name, found]) => [name, read(found)])),
  };
}

/** The digit as FGSM makes it: every pixel moved by epsilon, and kept between black and white. */
export const imageAt = ({ clean, signs }, eps) => clean.map((level, i) => Math.min(1, Math.max(0, level + eps * signs[i])));

/** What a network must say to be right; about the reader's own digit, what it said before the attack. */
export const rightAnswer = ({ label, answers }, name) => label ?? answers[name]?.classes[0];

/** The first position with a wrong answer; one past the last where there is none; undefined while that isn't known. */
export function fall(digit, name, last) {
  const classes = digit.answers[name]?.classes ?? [];
  for (let at = 0; at <= last; at++) {
    if (classes[at] === undefined) return undefined;
    if (classes[at] !== rightAnswer(digit, name)) return at;
  }
  return last + 1;
}

/** What has happened first to a digit, as far as the reader has moved: a network's name, "together", "neither" or null. */
export function outcome(digit, networks, reached, last) {
  const falls = networks.map((name) => fall(digit, name, last));
  if (falls.includes(undefined)) return null;
  const first = Math.min(...falls);
  if (first > reached) return reached === last ? "neither" : null;
  const fallen = networks.filter((_, i) => falls[i] === first);
  return fallen.length > 1 ? "together" : fallen[0];
}
