// Which of two mean digits is nearer: a linear classifier, and how pushes of its pixels add up.

import { uniform } from "./random.js";

/** Bytes in base64 as levels in [0, 1]. */
export const levels = (packed) => Float64Array.from(atob(packed), (byte) => byte.charCodeAt(0) / 255);

const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);

/** score(x) = w x + b = |x - m1|^2 - |x - m0|^2: positive where the first mean is nearer. */
export function classifier([first, second]) {
  const weight = first.map((level, i) => 2 * (level - second[i])), bias = dot(second, second) - dot(first, first);
  return { weight, bias, score: (image) => dot(weight, image) + bias };
}

/**
 * Push the `count` pixels of largest weight by eps each, in the direction that hurts most or in one drawn at random.
 * inside: pixels stay between black and white, as those of an image must.
 * Returns the pushed image, what each pixel takes off the margin (in the order of their weights), the margin before and
 * after (negative: the other digit), the sum, and the bound eps * ||w||_1 over these pixels.
 */
export function push({ weight, score }, image, { eps, count, direction = "worst", inside = true, seed = 0 }) {
  const before = score(image), sign = before >= 0 ? 1 : -1, next = uniform(seed);
  const signs = image.map(() => (next() < 0.5 ? -1 : 1)); // of all pixels, so that more of them don't change the first
  const order = [...weight.keys()].sort((a, b) => Math.abs(weight[b]) - Math.abs(weight[a]) || a - b).slice(0, count);
  const pushed = Float64Array.from(image);
  for (const i of order) {
    const way = direction === "worst" ? -sign * Math.sign(weight[i]) : signs[i];
    pushed[i] = image[i] + eps * way;
    if (inside) pushed[i] = Math.min(1, Math.max(0, pushed[i]));
  }
  const parts = order.map((i) => -sign * weight[i] * (pushed[i] - image[i]));
  const total = parts.reduce((sum, part) => sum + part, 0);
  const bound = eps * order.reduce((sum, i) => sum + Math.abs(weight[i]), 0);
  return { pushed, order, parts, total, bound, margin: Math.abs(before), left: Math.abs(before) - total };
}

/** How many of the parts, in their order, it takes to cross the margin; null if they don't. */
export function crossing(parts, margin) {
  let sum = 0;
  for (let i = 0; i < parts.length; i++) if ((sum += parts[i]) > margin) return i + 1;
  return null;
}

/** Smallest epsilon, in steps of 0.01 up to 0.5, at which the answer changes; null if none does. */
export function smallestEps(model, image, options) {
  for (let k = 1; k <= 50; k++) if (push(model, image, { ...options, eps: k / 100 }).left < 0) return k / 100;
  return null;
}
