// What the small pictures share: elements, controls that say their value, points that one moves, the question before it all.

const SVG = "http://www.w3.org/2000/svg";
const PAUSE = 600; // milliseconds after the last change: a result is read out once, not at every position passed

let names = 0; // of elements that others refer to

/** An element with properties, or attributes where a name has a hyphen, and children; absent ones are left out. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "for") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** An SVG element with attributes and children. */
export function shape(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export const path = (corners) => (corners.length ? `M${corners.map(([x, y]) => `${x.toFixed(2)},${y.toFixed(2)}`).join("L")}Z` : "");

/** A mark for each of four kinds, told apart by its outline too: circle, square, triangle, diamond. */
export const MARKS = ["M-1,0a1,1 0 1,0 2,0a1,1 0 1,0 -2,0", "M-.9-.9h1.8v1.8h-1.8z", "M0-1.2L1.1.8H-1.1z", "M0-1.35L1.35,0L0,1.35L-1.35,0z"];

export const button = (text, onclick) => element("button", { type: "button", textContent: text, onclick });

/** A slider with its name and its value in words. */
export function slider(name, { min, max, step, value, words = (v) => v.toFixed(2), onInput }) {
  const id = `toy-${++names}`, readout = element("output", { for: id, "aria-live": "off" });
  const input = element("input", { type: "range", id, min, max, step });
  const set = (to) => {
    input.value = to;
    readout.textContent = words(+input.value);
    input.setAttribute("aria-valuetext", readout.textContent);
  };
  input.oninput = () => (set(input.value), onInput(+input.value));
  set(value);
  return { node: element("div", { className: "toy-slider" }, element("label", { for: id }, name), readout, input), input, set };
}

/** A choice of one among several; `faces` may stand for their words. */
export function choice(name, options, chosen, onChange, faces = {}) {
  const group = `toy-${++names}`;
  return element("fieldset", { className: "toy-choice" }, element("legend", {}, name), ...Object.entries(options).map(([value, words]) => {
    const input = element("input", { type: "radio", name: group, value, checked: value === chosen, onchange: () => onChange(value) });
    if (faces[value]) input.setAttribute("aria-label", words);
    return element("label", {}, input, element("span", {}, faces[value] ?? words));
  }));
}

export function tick(name, checked, onChange) {
  const input = element("input", { type: "checkbox", checked, onchange: () => onChange(input.checked) });
  return element("label", { className: "toy-tick" }, input, name);
}

/** A table of numbers: rows of [name, ...values] under column names; `show(rows)` fills it. */
export function table(caption, columns) {
  const body = element("tbody");
  const node = element("table", {}, element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...columns.map((text) => element("th", { scope: "col" }, text)))), body);
  const show = (rows) => body.replaceChildren(...rows.map(([name, ...values]) =>
    element("tr", {}, element("th", { scope: "row" }, name), ...values.map((value) => element("td", {}, value)))));
  return { node, show };
}

/**
 * Fill a page's place for a toy: the question, the locked body, and a voice for screen readers. What stood there goes.
 * `ask` is {question, options}; `unlocked` is called once the reader has chosen. Returns {tell, say}: tell(text) shows
 * what came of it beside the reader's guess, say(text) reads it out, politely and not too often.
 */
export function frame(place, ask, body, unlocked) {
  const spoken = element("p", { className: "toy-said", role: "status" });
  const outcome = element("p", { className: "toy-outcome" }), title = `toy-${++names}`;
  const options = ask.options.map((text) => button(text, () => {
    question.replaceChildren(
      element("p", { className: "toy-guess", id: title }, `${ask.question} `, element("b", {}, `You expected: ${text}`)), outcome,
    );
    body.inert = false;
    place.dataset.state = "open";
    body.focus({ preventScroll: true }); // the button that had it is gone
    unlocked();
  }));
  const question = element("div", { className: "toy-question", role: "group", "aria-labelledby": title },
    element("p", { id: title }, element("b", {}, "What do you expect? "), ask.question), element("div", { className: "toy-options" }, ...options));
  body.classList.add("toy-body");
  body.tabIndex = -1;
  body.inert = true;
  place.replaceChildren(question, body, spoken);
  place.dataset.state = "locked";
  let waiting;
  return {
    tell: (text) => (outcome.textContent = text),
    say: (text) => {
      clearTimeout(waiting);
      waiting = setTimeout(() => (spoken.textContent = text), PAUSE);
    },
  };
}

/** Call move([x, y]), in the terms of `placeOf`, while a mouse, a finger or a pen drags a mark of a picture. */
export function draggable(picture, mark, move) {
  let held = null; // the pointer that moves it, so that a second finger doesn't
  mark.addEventListener("pointerdown", (event) => {
    if (held !== null || event.button) return;
    held = event.pointerId;
    mark.setPointerCapture(held);
    mark.focus({ preventScroll: true });
    event.preventDefault();
  });
  mark.addEventListener("pointermove", (event) => event.pointerId === held && move(placeOf(picture, event)));
  for (const kind of ["pointerup", "pointercancel"]) mark.addEventListener(kind, (event) => event.pointerId === held && (held = null));
}

/**
 * Let a mark of a picture be moved, by mouse, finger or pen, and by arrow keys (with Shift in small steps).
 * get() and set([x, y]) are in the plane's numbers, [0, 1] each with y upwards; the picture's box is 100 wide and high.
 */
export function movable(picture, mark, name, get, set, words) {
  const describe = () => {
    const [x, y] = get();
    mark.setAttribute("aria-valuenow", Math.round(100 * x));
    mark.setAttribute("aria-valuetext", words());
  };
  const move = ([x, y]) => {
    set([x, y].map((value) => Math.min(0.99, Math.max(0.01, value))));
    describe();
  };
  const attributes = { tabindex: 0, role: "slider", "aria-label": name, "aria-roledescription": "point", "aria-valuemin": 0, "aria-valuemax": 100 };
  for (const [attribute, value] of Object.entries(attributes)) mark.setAttribute(attribute, value);
  mark.addEventListener("keydown", (event) => {
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ?? [0, 0];
    if (!dx && !dy) return;
    event.preventDefault();
    const [x, y] = get(), by = event.shiftKey ? 0.002 : 0.02;
    move([x + by * dx, y + by * dy]);
  });
  draggable(picture, mark, move);
  describe();
  return { describe, move };
}

/** Where in the plane a pointer is. */
export function placeOf(picture, { clientX, clientY }) {
  const { left, top, width, height } = picture.getBoundingClientRect();
  return [(clientX - left) / width, 1 - (clientY - top) / height];
}

export const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
