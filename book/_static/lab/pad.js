// The pad to draw a digit on, as a drawing program has it, and pictures that the reader brings.

import { prepare, prepareFile } from "./images.js";
import { SIDE } from "./networks.js";
import { $, lab, notify } from "./state.js";

const PEN = 22; // the width of its line, of the pad's 280

/** Let the reader draw, clear, choose a file or drop one: `take` gets each image, `clear` is called for an empty pad. */
export function makePad({ take, clear }) {
  const ink = $("ink"), pen = ink.getContext("2d", { willReadFrequently: true });
  Object.assign(pen, { lineWidth: PEN, lineCap: "round", lineJoin: "round", strokeStyle: "#fff", fillStyle: "#fff" });
  const at = ({ clientX, clientY }) => {
    const { left, top, width } = ink.getBoundingClientRect();
    return [clientX - left, clientY - top].map((offset) => (offset / width) * ink.width);
  };
  let pointer = null, last = null, asked = null;
  let latest = 0; // of what the pad was asked for: a picture takes a while to be read

  // A stroke reports a few times a frame; one image a frame is enough.
  const changed = () => (asked ??= requestAnimationFrame(() => {
    asked = null;
    const image = prepare(ink);
    if (image) take(image);
  }));

  ink.onpointerdown = (event) => {
    // Only what draws: the first finger, the pen's tip, the mouse's main button; and one of them at a time.
    if (pointer !== null || event.button !== 0 || !event.isPrimary) return;
    latest++;
    [pointer, last] = [event.pointerId, at(event)];
    try {
      ink.setPointerCapture(pointer);
    } catch {} // it has gone up already
    pen.beginPath();
    pen.arc(...last, PEN / 2, 0, 2 * Math.PI); // a tap is a dot
    pen.fill();
    changed();
  };
  ink.onpointermove = (event) => {
    if (event.pointerId !== pointer) return;
    pen.beginPath();
    pen.moveTo(...last);
    pen.lineTo(...(last = at(event)));
    pen.stroke();
    changed();
  };
  ink.onpointerup = ink.onpointercancel = ink.onlostpointercapture = (event) => {
    if (event.pointerId === pointer) pointer = null;
  };

  const wipe = () => {
    latest++;
    if (asked !== null) cancelAnimationFrame(asked);
    [pointer, asked] = [null, null];
    pen.clearRect(0, 0, ink.width, ink.height);
  };
  $("clear").onclick = () => (wipe(), clear());

  /** Put an image on the pad, to be seen and drawn on. */
  const show = (image) => {
    wipe();
    const small = new OffscreenCanvas(SIDE, SIDE), pixels = new ImageData(SIDE, SIDE);
    image.forEach((level, i) => pixels.data.set([255, 255, 255, Math.round(255 * level)], 4 * i));
    small.getContext("2d").putImageData(pixels, 0, 0);
    pen.drawImage(small, 0, 0, ink.width, ink.height);
  };

  const bring = async (file) => {
    if (!file) return;
    const mine = ++latest;
    const [image, words] = await prepareFile(file).then((image) => [image, ""], ({ message }) => [null, message]);
    if (mine !== latest) return; // the reader has cleared, drawn or brought something since
    notify(words);
    if (image) (show(image), take(image));
  };
  $("file").onchange = ({ target }) => {
    bring(target.files[0]);
    target.value = ""; // so that the same file can be chosen again
  };
  const brings = (event) => event.dataTransfer?.types.includes("Files") && !$("drawing").hidden;
  const over = (event) => {
    if (brings(event)) event.preventDefault(); // else the browser would open the file instead
    lab.classList.toggle("lab-dropping", event.type === "dragover" && brings(event));
  };
  lab.ondragover = lab.ondragleave = over;
  lab.ondrop = (event) => (over(event), brings(event) && bring(event.dataTransfer.files[0]));

  return { show, wipe };
}
