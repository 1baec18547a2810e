// A plane of images through a clean one: rightwards along the attacker's direction, upwards along one drawn at random.
// What the network answers was computed when the book was built; the page only looks it up.

import { choice, element, frame, movable, percent, placeOf, shape, table } from "./kit.js";

const bytes = (packed) => Uint8Array.from(atob(packed), (byte) => byte.charCodeAt(0));

/** The planes as the page holds them, with pixels in [0, 1] and directions of -1, 0 and 1. */
export function unpack({ planes, ...rest }) {
  return {
    ...rest,
    planes: planes.map(({ label, image, towards, chance, answers, sure }) => ({
      label,
      image: Float64Array.from(bytes(image), (byte) => byte / 255),
      towards: Int8Array.from(bytes(towards), (byte) => byte - 1),
      chance: Int8Array.from(bytes(chance), (byte) => byte - 1),
      answers: Uint8Array.from(answers, Number),
      sure: bytes(sure),
    })),
  };
}

/** How far along both directions a place in [0, 1] x [0, 1] is. */
export const along = ({ left, low, width }, [x, y]) => [left + width * x, low + width * y];

/** The nearest point of the grid that was asked: {row, column, at}. */
export function nearest({ points }, [x, y]) {
  const [column, row] = [x, y].map((value) => Math.min(points - 1, Math.max(0, Math.round(value * (points - 1)))));
  return { row, column, at: row * points + column };
}

/** The image at a point of the plane, pixels kept between black and white. */
export const imageAt = ({ image, towards, chance }, [a, b]) =>
  image.map((level, i) => Math.min(1, Math.max(0, level + a * towards[i] + b * chance[i])));

/** How far the answer stays as it is from the clean image, by a step of (columns, rows); null within the plane. */
export function border(told, plane, [dx, dy]) {
  const { points, width } = told, start = nearest(told, [-told.left / width, -told.low / width]);
  for (let far = 0; ; far++) {
    const column = start.column + dx * far, row = start.row + dy * far;
    if (Math.min(row, column) < 0 || Math.max(row, column) >= points) return null;
    if (plane.answers[row * points + column] !== plane.answers[start.at]) return (far * width) / (points - 1);
  }
}

/** A path of the 100 by 100 picture that covers all points with this answer, y upwards. */
export function region(answers, points, answer) {
  const size = 100 / points;
  let path = "";
  for (let row = 0; row < points; row++) {
    for (let column = 0, run = 0; column <= points; column++) {
      if (column < points && answers[row * points + column] === answer) run++;
      else if (run) {
        path += `M${((column - run) * size).toFixed(2)},${(100 - (row + 1) * size).toFixed(2)}h${(run * size).toFixed(2)}v${size.toFixed(2)}h${(-run * size).toFixed(2)}z`;
        run = 0;
      }
    }
  }
  return path;
}

/** The place of the point with this answer that is nearest to the middle of them all. */
export function middle(answers, points, answer) {
  const all = [...answers.keys()].filter((i) => answers[i] === answer).map((i) => [i % points, Math.floor(i / points)]);
  const centre = [0, 1].map((k) => all.reduce((sum, place) => sum + place[k], 0) / all.length);
  const far = ([x, y]) => (x - centre[0]) ** 2 + (y - centre[1]) ** 2;
  return all.reduce((best, place) => (far(place) < far(best) ? place : best));
}

const way = (name, far) => (far === null ? `${name} it does not change on this map` : `${name} it changes ${far.toFixed(2)} away`);
/** Which way the nearest wrong answer lies, by how far it is along the attacker's direction and along the random one. */
export function nearer(towards, chance) {
  if (towards === null && chance === null) return "There is no wrong answer on either way";
  if (towards !== null && chance !== null && Math.abs(towards - chance) < 0.02) return "The nearest wrong answer is about as far either way";
  const right = chance === null || (towards !== null && towards < chance);
  return `The nearest wrong answer lies ${right ? "to the right" : "upwards or downwards"}`;
}

function axis(text, at) {
  const words = shape("text", { class: "toy-axis", transform: at, "aria-hidden": "true" });
  words.textContent = text;
  return words;
}

const screen = (words) => element("canvas", { width: 28, height: 28, role: "img", "aria-label": words });

function paint(canvas, image) {
  const pixels = new ImageData(28, 28);
  image.forEach((value, i) => pixels.data.set([255 * value, 255 * value, 255 * value, 255], 4 * i));
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

export function fill(place) {
  const told = unpack(JSON.parse(place.dataset.planes)), { points, width } = told;
  const clean = [-told.left / width, -told.low / width], state = { plane: "0", at: clean };
  let voice = null;

  const map = shape("g", { "aria-hidden": "true", class: "toy-map" }), reach = shape("path", { class: "toy-budget" });
  const start = shape("path", { class: "toy-start", d: "M-1.6,0H1.6M0-1.6V1.6", transform: `translate(${100 * clean[0]} ${100 * (1 - clean[1])})` });
  const mark = shape("g", { class: "toy-handle toy-vector" }, shape("circle", { r: 6, class: "toy-grip" }), shape("circle", { r: 1.9 }));
  const picture = shape("svg", { viewBox: "0 0 100 100", role: "group", class: "toy-plane" }, map, shape("g", { class: "toy-effects" }, reach, start),
    axis("the attacker's direction →", "translate(3 97)"), axis("a random one →", "translate(5 90) rotate(-90)"), mark);
  const shown = screen(""), caption = element("span");
  const facts = table("At the dot", ["", "value"]);

  const here = () => told.planes[state.plane];
  const words = () => {
    const [a, b] = along(told, state.at);
    return `${a.toFixed(2)} along the attacker's direction, ${b.toFixed(2)} along the random one, read as ${here().answers[nearest(told, state.at).at]}`;
  };
  const handle = movable(picture, mark, "image", () => state.at, (to) => ((state.at = to), show()), words);
  picture.addEventListener("click", (event) => event.target.closest(".toy-handle") || handle.move(placeOf(picture, event)));

  const faces = Object.fromEntries(told.planes.map(({ image }, i) => {
    const face = screen("");
    face.setAttribute("aria-hidden", "true");
    paint(face, image);
    return [i, face];
  }));
  const names = Object.fromEntries(told.planes.map(({ label }, i) => [i, `digit ${label}, number ${i + 1}`]));
  const controls = element("div", { className: "toy-controls" },
    choice("Clean image", names, "0", (value) => {
      Object.assign(state, { plane: value, at: clean });
      draw();
      handle.describe();
    }, faces),
    element("figure", { className: "toy-there" }, shown, element("figcaption", {}, caption)), facts.node);
  const body = element("div", {},
    element("figure", { className: "toy-picture" }, picture, element("figcaption", {},
      "To the right, the attacker's direction; upwards, a random one. The cross is the clean image; drag the dot, tap, or use the arrow keys. The dashed diamond holds what needs no larger epsilon than the dot.")),
    controls);
  voice = frame(place, {
    question: "Every point of this square is an image: the clean one at the cross, to the right more and more of the attacker's change, upwards more and more of a random one. Which way lies the nearest wrong answer?",
    options: ["To the right", "Upwards or downwards", "About as far either way"],
  }, body, draw);

  function draw() {
    const { answers, label } = here(), sizes = new Map();
    answers.forEach((answer) => sizes.set(answer, (sizes.get(answer) ?? 0) + 1));
    const order = [...sizes.keys()].sort((a, b) => (b === label) - (a === label) || sizes.get(b) - sizes.get(a));
    const size = 100 / points;
    map.replaceChildren(
      ...order.map((answer, i) => shape("path", { d: region(answers, points, answer), class: `toy-region is-${Math.min(i, 4)}` })),
      ...order.filter((answer) => sizes.get(answer) > 0.02 * points ** 2).map((answer) => {
        const [column, row] = middle(answers, points, answer);
        const [x, y] = [(column + 0.5) * size, 100 - (row + 0.5) * size + 1.8], covered = Math.hypot(x - 100 * clean[0], y - 100 * (1 - clean[1])) < 9;
        const text = shape("text", { x, y: covered ? y - 9 : y, "text-anchor": "middle", class: "toy-answer" });
        text.textContent = answer;
        return text;
      }),
    );
    picture.setAttribute("aria-label", `what the network answers around a ${label}`);
    show();
  }

  function show() {
    const plane = here(), [a, b] = along(told, state.at), { at } = nearest(told, state.at), answer = plane.answers[at];
    const open = place.dataset.state === "open", eps = Math.abs(a) + Math.abs(b);
    mark.setAttribute("transform", `translate(${100 * state.at[0]} ${100 * (1 - state.at[1])})`);
    const r = (100 * eps) / width, [x, y] = [100 * clean[0], 100 * (1 - clean[1])];
    reach.setAttribute("d", `M${x - r},${y}L${x},${y - r}L${x + r},${y}L${x},${y + r}Z`);
    paint(shown, imageAt(plane, [a, b]));
    const said = open ? `read as ${answer}` : "the image at the dot";
    caption.textContent = said;
    shown.setAttribute("aria-label", `the image at the dot${open ? `, ${said}` : ""}`);
    place.classList.toggle("is-over", open && answer !== plane.label);
    facts.show([
      ["along the attacker's direction", a.toFixed(2)],
      ["along the random one", b.toFixed(2)],
      ["epsilon that both need together", eps.toFixed(2)],
      ["the network answers", open ? `${answer} (${percent(plane.sure[at] / 100)})` : "your guess first"],
    ]);
    if (!open) return;
    const towards = border(told, plane, [1, 0]), both = [border(told, plane, [0, 1]), border(told, plane, [0, -1])].filter((far) => far !== null);
    const chance = both.length ? Math.min(...both) : null;
    const text = `${nearer(towards, chance)}: ${way("along the attacker's direction", towards)}; ${way("along the random one", chance)}.`
      + ` At the dot the clean ${plane.label} is read as ${answer}, ${answer === plane.label ? "which is right" : "which is wrong"}.`;
    voice.tell(text);
    voice.say(text);
  }
  draw();
}
