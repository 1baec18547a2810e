// Images of 28 x 28 levels: how ink of any size becomes one, as MNIST was made, and how one travels in an address.
// qlayer_core/prepare.py takes the same steps in the same order; a test holds the two against each other.

import { PIXELS, SIDE } from "./networks.js";

const BOX = 20; // pixels that the longer side of a digit's ink gets

// ---- Ink to image

/** Each of `count` equal parts of the length that holds `size` pixels: which pixels it covers, and how much of each. */
function parts(size, length, count) {
  const step = length / BOX;
  return Array.from({ length: count }, (_, i) => {
    const [low, high] = [i * step, Math.min(size, (i + 1) * step)], covered = [];
    for (let at = Math.floor(low); at < high; at++) covered.push([at, (Math.min(high, at + 1) - Math.max(low, at)) / step]);
    return covered;
  });
}

/**
 * Levels 0 to 255, row by row, white ink on black: cut out, made to fit a box of 20 x 20 by the mean level of the area
 * that each new pixel covers, and put where its centre of mass is the middle of 28 x 28. Null where there is no ink, or specks so few that none is left.
 */
export function prepareLevels(levels, width) {
  let [left, top, right, bottom] = [Infinity, Infinity, -1, -1];
  levels.forEach((level, i) => {
    if (!level) return;
    const x = i % width, y = (i - x) / width;
    left = Math.min(left, x);
    right = Math.max(right, x);
    top = Math.min(top, y);
    bottom = Math.max(bottom, y);
  });
  if (right < 0) return null;
  const [wide, high] = [right - left + 1, bottom - top + 1], longer = Math.max(wide, high);
  // A whole number over a whole number that is no smaller: the quotient can't pass the box.
  const [columns, rows] = [wide, high].map((side) => Math.ceil((BOX * side) / longer));
  const across = parts(wide, longer, columns), down = parts(high, longer, rows);
  const narrow = Array.from({ length: high }, (_, y) =>
    across.map((covered) => covered.reduce((sum, [x, share]) => sum + share * levels[(top + y) * width + left + x], 0)));
  const small = down.map((covered) =>
    across.map((_, x) => Math.floor(Math.min(255, covered.reduce((sum, [y, share]) => sum + share * narrow[y][x], 0)) + 0.5)));
  let mass = 0, sumX = 0, sumY = 0;
  small.forEach((row, y) => row.forEach((level, x) => {
    mass += level;
    sumX += level * (x + 0.5);
    sumY += level * (y + 0.5);
  }));
  if (!mass) return null;
  const [dx, dy] = [sumX, sumY].map((moment) => Math.floor(SIDE / 2 - moment / mass + 0.5));
  return new Float32Array(PIXELS).map((_, i) => {
    const [x, y] = [(i % SIDE) - dx, Math.floor(i / SIDE) - dy];
    return (small[y]?.[x] ?? 0) / 255;
  });
}

/** White ink on a transparent canvas, as an image; null where there is none. */
export function prepare(ink) {
  const { data } = ink.getContext("2d").getImageData(0, 0, ink.width, ink.height);
  return prepareLevels(Uint8Array.from({ length: data.length / 4 }, (_, i) => data[4 * i + 3]), ink.width);
}

// ---- Pictures of any kind to ink

/** The `share` of the sorted values that lies below: a level that is there, never a mean. */
const quantile = (values, share) => values.sort((a, b) => a - b)[Math.floor(share * (values.length - 1))];

/** Levels of a picture's ink, white on black, from its bytes red, green, blue, opacity: see `ink` in prepare.py. */
export function inkOf(rgba, width, height) {
  const grey = new Uint8Array(width * height);
  let seen = 0, light = 0;
  for (let i = 0; i < grey.length; i++) {
    const [red, green, blue, opacity] = rgba.subarray(4 * i, 4 * i + 4);
    grey[i] = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16; // the weights of television, in 65,536ths
    seen += opacity;
    light += opacity * grey[i];
  }
  if (seen < 255 * grey.length) { // what is dark lies on white, what is light on black
    const below = light > 127 * seen ? 0 : 255;
    grey.forEach((level, i) => (grey[i] = Math.floor((level * rgba[4 * i + 3] + below * (255 - rgba[4 * i + 3]) + 127) / 255)));
  }
  const edge = [];
  grey.forEach((level, i) => {
    const x = i % width, y = (i - x) / width;
    if (x === 0 || y === 0 || x === width - 1 || y === height - 1) edge.push(level);
  });
  let paper = quantile(edge, 0.5);
  const isLight = paper > 127;
  if (isLight) paper = 255 - paper;
  const turned = isLight ? grey.map((level) => 255 - level) : grey;
  // Paper has grain: what differs from it no more than its own edge does is not ink.
  const grain = Math.min(64, 2 * quantile(edge.map((level) => Math.abs((isLight ? 255 - level : level) - paper)), 0.9));
  const above = turned.map((level) => (level - paper > grain ? level - paper : 0));
  const darkest = above.reduce((most, level) => Math.max(most, level), 0), full = 255 - paper;
  const top = darkest < 0.75 * full ? darkest : full; // a pencil's line is made as strong as a pen's
  return top ? above.map((level) => Math.floor((255 * level) / top + 0.5)) : above;
}

/** A picture of the reader's own, a file in any format that the browser knows, as an image of a digit. */
export async function prepareFile(file) {
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const picture = await createImageBitmap(file, options).catch(() => null);
  const name = file.name ?? "this file";
  if (!picture) throw new Error(`${name} is no picture that this browser can read: take a PNG or a JPEG.`);
  try {
    const { width, height } = picture;
    if (width * height > 5e7) throw new Error(`${name} has ${width} × ${height} pixels: make it smaller than 50 million.`);
    const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d");
    context.drawImage(picture, 0, 0);
    const image = prepareLevels(inkOf(context.getImageData(0, 0, width, height).data, width, height), width);
    if (!image) throw new Error(`${name} shows nothing but its background, or specks that vanish at 28 × 28: take a picture of one digit.`);
    return image;
  } finally {
    picture.close(); // four bytes a pixel, which the garbage collector knows nothing of
  }
}

// ---- An image as text

export const toImage = (bytes) => Float32Array.from(bytes, (byte) => byte / 255);
export const toBytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
export const toText = (image) =>
  btoa(String.fromCharCode(...image.map((x) => 255 * x + 0.5))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
