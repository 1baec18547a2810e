// The attacks: the same steps, in the same single precision, as the Python package's. And what one learns by many of them.

import { lineSearch } from "./carlini-wagner.js";

export const ATTACKS = { fgsm: "FGSM", bim: "BIM", "bim-paper": "BIM, paper's step", pgd: "PGD", cw: "C&W" };
export const PAPER_STEP = 0.01; // of appendix B
const LARGEST = 40; // hundredths: epsilons that a search tries, those of the slider
const PAUSE = 40; // milliseconds of computing after which the page may answer its reader

/** FGSM goes all the way at once; BIM takes the paper's step, or one that crosses half the box two and a half times. */
export function stepSize(attack, eps, steps) {
  if (attack === "bim-paper") return PAPER_STEP;
  return attack === "fgsm" ? eps : (2.5 * eps) / steps;
}

/** Yield the image after each step, the clean one first. `first`, if known, is the gradient there. */
export async function* film(network, path, clean, { attack, eps, steps, first }) {
  const [reach, size] = [eps, stepSize(attack, eps, steps)].map(Math.fround);
  const [low, high] = [clean.map((x) => Math.max(0, x - reach)), clean.map((x) => Math.min(1, x + reach))];
  const inBox = (x, i) => Math.min(high[i], Math.max(low[i], x));
  let { label, slope } = first ?? (await network.gradient(path, clean));
  let image = clean;
  yield image;
  if (attack === "cw") return yield* lineSearch(network, path, clean, { low, high, label, rounds: steps });
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

/** The last image of a film; null if meanwhile `isStale`. A network's answer lets no click through, so it pauses. */
async function last(network, path, clean, options, isStale) {
  let image = clean, paused = performance.now();
  for await (image of film(network, path, clean, options)) {
    if (performance.now() - paused > PAUSE) {
      await new Promise((resolve) => setTimeout(resolve));
      paused = performance.now();
    }
    if (isStale()) return null;
  }
  return image;
}

/**
 * The smallest epsilon, in hundredths, at which an attack through `path` changes the network's answer; null if it holds
 * up to the largest, undefined if meanwhile `isStale`. A larger epsilon need not fool where a smaller one does, so each
 * is tried, from below. `progress` is told which, and lets the page breathe.
 */
export async function smallestEpsilon(network, path, clean, { attack, steps, first }, progress, isStale) {
  first ??= await network.gradient(path, clean);
  const before = network.verdict(await network.answer(clean));
  for (let hundredths = 1; hundredths <= LARGEST; hundredths++) {
    const eps = hundredths / 100;
    await progress(eps);
    const image = await last(network, path, clean, { attack, eps, steps, first }, isStale);
    if (!image || isStale()) return undefined;
    if (network.verdict(await network.answer(image)) !== before) return eps;
  }
  return null;
}

/** Attack each image on the network itself: how many are classified correctly before and after, on how many the answer changes. */
export async function successOver(images, labels, network, path, options, progress, isStale) {
  const count = { images: images.length, before: 0, after: 0, changed: 0 };
  for (const [i, clean] of images.entries()) {
    await progress(i);
    const image = await last(network, path, clean, options, isStale);
    if (!image || isStale()) return undefined;
    const before = network.verdict(await network.answer(clean)), after = network.verdict(await network.answer(image));
    count.before += before === labels[i];
    count.after += after === labels[i];
    count.changed += before !== after;
  }
  return count;
}
