// A network with a Q-Layer so small that it can be drawn: two inputs, six hidden units, features of two numbers.

import { nearest } from "./cells.js";
import { normal, uniform } from "./random.js";

export const CLASSES = 3, HIDDEN = 6, RATE = 0.02, DROP = 0.25;

/** The tensors of a network with so many codes, and their shapes. */
export const shapes = (codes) => ({
  hidden: [HIDDEN, 2], hiddenBias: [HIDDEN], encoder: [2, HIDDEN], encoderBias: [2],
  codes: [codes, 2],
  tailQ: [CLASSES, 2], tailQBias: [CLASSES], tailE: [CLASSES, 2], tailEBias: [CLASSES],
});

const zeros = (codes) => Object.fromEntries(
  Object.entries(shapes(codes)).map(([name, shape]) => [name, new Float64Array(shape.reduce((a, b) => a * b))]),
);

/** Three classes of 30 points each, two clusters a class around a ring: no straight line separates them. */
export function makeData(seed) {
  const next = normal(seed + 1);
  return Array.from({ length: 90 }, (_, i) => {
    const cluster = i % 6, angle = (cluster * Math.PI) / 3 + 0.3;
    return { x: [Math.cos(angle) + 0.13 * next(), Math.sin(angle) + 0.13 * next()], label: cluster % CLASSES };
  });
}

/** An untrained network: kernels and codes Glorot-uniform, biases 0, as the book's networks start. */
export function start(seed, codes) {
  const next = uniform(seed), tensors = zeros(codes);
  for (const [name, shape] of Object.entries(shapes(codes))) {
    if (shape.length === 1) continue;
    const limit = Math.sqrt(6 / (shape[0] + shape[1]));
    tensors[name].forEach((_, i) => (tensors[name][i] = limit * (2 * next() - 1)));
  }
  return { tensors, first: zeros(codes), second: zeros(codes), steps: 0, mask: uniform(seed + 2) };
}

/** What each point's feature is, and the hidden units behind it. */
function encode({ hidden, hiddenBias, encoder, encoderBias }, [x, y]) {
  const units = Array.from(hiddenBias, (bias, i) => Math.tanh(hidden[2 * i] * x + hidden[2 * i + 1] * y + bias));
  const feature = [0, 1].map((k) => units.reduce((sum, unit, i) => sum + encoder[k * HIDDEN + i] * unit, encoderBias[k]));
  return { units, feature };
}

/** Class probabilities of a feature or code, by one tail. */
export function answer(kernel, bias, [x, y]) {
  const logits = Array.from(bias, (b, c) => kernel[2 * c] * x + kernel[2 * c + 1] * y + b);
  const top = Math.max(...logits), powers = logits.map((logit) => Math.exp(logit - top));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

/** A dropout mask: each number of each feature 0 with probability DROP, else 1 / (1 - DROP). */
export const dropoutMask = (next, count) =>
  Array.from({ length: count }, () => [0, 1].map(() => (next() < DROP ? 0 : 1 / (1 - DROP))));

/**
 * The four losses of eq. 7 and 8 on all points, and the gradient of their weighted sum.
 * weights: {q, e, codebook, commitment}; mask: of dropout in front of the layer, or null.
 * Each loss reaches only what the stop-gradients let it: L_Q tail and codes, L_E tail and encoder, L_Q->E the codes,
 * L_E->Q the encoder.
 */
export function lossesAndGradient(tensors, data, weights, mask = null) {
  const n = data.length, codes = pairs(tensors.codes);
  const losses = { q: 0, e: 0, codebook: 0, commitment: 0 }, gradient = zeros(codes.length);
  const seen = data.map(({ x, label }, i) => {
    const { units, feature } = encode(tensors, x);
    const z = mask ? feature.map((value, k) => value * mask[i][k]) : feature;
    const index = nearest(codes, z), code = codes[index], back = [0, 0]; // back: gradient with respect to z
    const gap = (code[0] - z[0]) ** 2 + (code[1] - z[1]) ** 2;
    losses.codebook += gap / n;
    losses.commitment += gap / n;
    const right = {};
    for (const [path, input] of [["q", code], ["e", z]]) {
      const [kernel, bias] = path === "q" ? ["tailQ", "tailQBias"] : ["tailE", "tailEBias"];
      const p = answer(tensors[kernel], tensors[bias], input);
      losses[path] -= Math.log(Math.max(p[label], 1e-300)) / n;
      right[path] = p.every((share, c) => c === label || share < p[label]);
      p.forEach((share, c) => {
        const d = (weights[path] * (share - (c === label ? 1 : 0))) / n;
        gradient[bias][c] += d;
        for (const k of [0, 1]) {
          gradient[kernel][2 * c + k] += d * input[k];
          const carried = d * tensors[kernel][2 * c + k];
          if (path === "q") gradient.codes[2 * index + k] += carried;
          else back[k] += carried;
        }
      });
    }
    for (const k of [0, 1]) {
      gradient.codes[2 * index + k] += (2 * weights.codebook * (code[k] - z[k])) / n;
      back[k] += (2 * weights.commitment * (z[k] - code[k])) / n;
      if (mask) back[k] *= mask[i][k];
      gradient.encoderBias[k] += back[k];
    }
    units.forEach((unit, u) => {
      let d = 0;
      for (const k of [0, 1]) {
        gradient.encoder[k * HIDDEN + u] += back[k] * unit;
        d += back[k] * tensors.encoder[k * HIDDEN + u];
      }
      d *= 1 - unit * unit;
      gradient.hiddenBias[u] += d;
      gradient.hidden[2 * u] += d * x[0];
      gradient.hidden[2 * u + 1] += d * x[1];
    });
    return { feature: z, index, right };
  });
  return { losses, gradient, seen };
}

/** Take one Adam step on all points, in place; return what was seen before it. */
export function learn(network, data, weights, dropout = false) {
  const mask = dropout ? dropoutMask(network.mask, data.length) : null;
  const found = lossesAndGradient(network.tensors, data, weights, mask);
  network.steps += 1;
  for (const [name, slope] of Object.entries(found.gradient)) {
    const [tensor, first, second] = [network.tensors[name], network.first[name], network.second[name]];
    slope.forEach((g, i) => {
      first[i] = 0.9 * first[i] + 0.1 * g;
      second[i] = 0.999 * second[i] + 0.001 * g * g;
      const mean = first[i] / (1 - 0.9 ** network.steps), square = second[i] / (1 - 0.999 ** network.steps);
      tensor[i] -= (RATE * mean) / (Math.sqrt(square) + 1e-8);
    });
  }
  return found;
}

/** Section 3.5: move each inactive code towards its closest feature by one step of Adam, or onto it; in place. */
export function updateInactive({ codes }, features, inactive, strategy, rate = RATE) {
  for (const i of inactive) {
    const target = features[nearest(features, [codes[2 * i], codes[2 * i + 1]])];
    for (const k of [0, 1]) {
      // The first step of Adam is as long as its rate, however far the target is.
      codes[2 * i + k] = strategy === "pull" ? codes[2 * i + k] + rate * Math.sign(target[k] - codes[2 * i + k]) : target[k];
    }
  }
}

/** Root mean square distance of points from their mean. */
export function spread(points) {
  const mean = [0, 1].map((k) => points.reduce((sum, point) => sum + point[k], 0) / points.length);
  return Math.sqrt(points.reduce((sum, [x, y]) => sum + (x - mean[0]) ** 2 + (y - mean[1]) ** 2, 0) / points.length);
}

/** A flat array as pairs. */
export const pairs = (flat) => Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i], flat[2 * i + 1]]);
