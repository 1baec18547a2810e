// Codes in the plane: the nearest one (eq. 2), its cell, and what a nudge within a budget can do.

/** Index of the code nearest to a point; the lowest where two are equally near, as in the book's layer. */
export function nearest(codes, [x, y]) {
  let best = 0, least = Infinity;
  codes.forEach(([a, b], i) => {
    const distance = (a - x) ** 2 + (b - y) ** 2;
    if (distance < least) [best, least] = [i, distance];
  });
  return best;
}

export const distance = ([a, b], [c, d]) => Math.hypot(a - c, b - d);

/** Corners of a code's cell inside the box [low, high]^2: the box, cut by the bisector to each other code; [] if empty. */
export function cell(codes, index, low, high) {
  const [x, y] = codes[index];
  let corners = [[low, low], [high, low], [high, high], [low, high]];
  codes.forEach(([a, b], other) => {
    if (other === index) return;
    if (a === x && b === y) { // twins share no border: the one that comes first takes all
      if (other < index) corners = [];
      return;
    }
    // Positive on this code's side of the bisector.
    const side = ([u, v]) => (x - a) * (u - (x + a) / 2) + (y - b) * (v - (y + b) / 2);
    corners = corners.flatMap((corner, i) => {
      const next = corners[(i + 1) % corners.length], [here, there] = [side(corner), side(next)];
      const kept = here >= 0 ? [corner] : [];
      if (here * there >= 0) return kept;
      const share = here / (here - there);
      return [...kept, [corner[0] + share * (next[0] - corner[0]), corner[1] + share * (next[1] - corner[1])]];
    });
  });
  return corners;
}

/** How far a nudge goes: its length in a circle, its larger coordinate in a square. */
export const size = (shape, [dx, dy]) => (shape === "circle" ? Math.hypot(dx, dy) : Math.max(Math.abs(dx), Math.abs(dy)));

/** The nudge that takes a point into a cell with these corners on the shortest way, measured by the shape. */
export function wayInto(corners, [x, y], shape) {
  let best = [Infinity, Infinity];
  const consider = ([u, v]) => {
    if (size(shape, [u - x, v - y]) < size(shape, best)) best = [u - x, v - y];
  };
  corners.forEach(([a, b], i) => {
    const [c, d] = corners[(i + 1) % corners.length], [dx, dy] = [c - a, d - b], [px, py] = [x - a, y - b];
    // Along an edge the length is least at the foot of the perpendicular; the larger coordinate where one of the two is 0
    // or both are equally large; either of them also at an end.
    const turns = shape === "circle"
      ? [(px * dx + py * dy) / (dx * dx + dy * dy)]
      : [px / dx, py / dy, (px - py) / (dx - dy), (px + py) / (dx + dy)];
    for (const share of [0, ...turns]) if (share >= 0 && share <= 1) consider([a + share * dx, b + share * dy]);
  });
  return best;
}

/**
 * The nudge within the budget after which the code is as far as possible from the one before; null if none changes it.
 * Exact: a code can be reached if its cell is no further off than the budget.
 */
export function worstNudge(codes, point, eps, shape, low, high) {
  const from = nearest(codes, point);
  let worst = null;
  codes.forEach((code, index) => {
    const corners = index === from ? [] : cell(codes, index, low, high);
    if (!corners.length) return;
    const nudge = wayInto(corners, point, shape), middle = mean(corners);
    // A hair past the border, where no rounding decides.
    const beyond = [0, 1].map((i) => nudge[i] + 1e-7 * (middle[i] - point[i] - nudge[i]));
    const moved = distance(codes[from], code);
    if (size(shape, beyond) <= eps && (!worst || moved > worst.moved)) worst = { nudge: beyond, to: index, moved };
  });
  return worst;
}

/** The nudge along the shortest way to any border, at full budget if that doesn't reach it. */
export function towardsBorder(codes, point, eps, shape, low, high) {
  const from = nearest(codes, point);
  const ways = codes.map((_, index) => (index === from ? [] : cell(codes, index, low, high)))
    .filter((corners) => corners.length).map((corners) => wayInto(corners, point, shape));
  const [dx, dy] = ways.reduce((a, b) => (size(shape, b) < size(shape, a) ? b : a), [Infinity, Infinity]);
  const length = size(shape, [dx, dy]);
  return Number.isFinite(length) && length > 0 ? [(eps * dx) / length, (eps * dy) / length] : [eps, 0];
}

/** A nudge drawn evenly from the circle or square of radius eps. */
export function randomNudge(next, eps, shape) {
  if (shape === "square") return [eps * (2 * next() - 1), eps * (2 * next() - 1)];
  const radius = eps * Math.sqrt(next()), angle = 2 * Math.PI * next();
  return [radius * Math.cos(angle), radius * Math.sin(angle)];
}

const mean = (points) => [0, 1].map((i) => points.reduce((sum, point) => sum + point[i], 0) / points.length);
