// What the lab is about at this moment, and its two ways out: the address that brings it back, and words for the reader.

import { hasState } from "../link.js";
import { toBytes, toImage, toText } from "./images.js";
import { PIXELS } from "./networks.js";

export const lab = document.getElementById("lab");
export const $ = (name) => document.getElementById(`lab-${name}`);

/** What the reader has chosen: all of it stands in the address. Without an epsilon, the lab finds one that fools. */
export const state = { data: "mnist", image: "14", net: "cnn", path: "e", attack: "fgsm", eps: "", steps: "20", step: "" };
export const DEFAULTS = Object.freeze({ ...state });

/** What belongs to it. */
export const now = {
  manifest: null,
  networks: [], // of the current data set
  kept: {}, // by data set: those that were there before, with what is loaded and unpacked of them
  drawn: null, // the reader's own image
  clean: { key: "" }, // { key, image, answers: by network, first: gradients by network and path }
  frames: [], // the film
  road: "e", // the path that the reader took last, where there is a choice
  cell: null, // the position that is looked at: { network, head, at }
};

/** What a gradient can pass in a network with the layer. */
export const ROADS = { e: "E-path", shortcut: "shortcut", "straight-through": "straight through", soft: "soft codes" };

export const TITLES = {
  ...{ logits: "", q: "Q-path", ...ROADS },
  ...{ mnist: "MNIST", "fashion-mnist": "Fashion-MNIST", drawn: "yours" },
};

export const current = () => now.manifest.datasets[state.data];
export const loaded = () => now.networks.filter((network) => network.ready);
export const attacked = () => now.networks.find((network) => network.name === state.net);
export const trayImage = (i) => toImage(toBytes(current().images).subarray(i * PIXELS, (i + 1) * PIXELS));
const cleanImage = () => (state.image === "drawn" ? now.drawn : trayImage(+state.image));

/** What the clean image is known by: a drawing by its levels, not by settings that a step of the film changes. */
export const imageKey = () => `${state.data} ${state.image === "drawn" ? toText(now.drawn) : state.image}`;

/** The clean image that the reader has chosen by now, with what is known of it. */
export function look() {
  const key = imageKey();
  if (key !== now.clean.key) now.clean = { key, image: cleanImage(), answers: new Map(), first: {} };
  return now.clean;
}

export const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
export const range = (length, make) => Array.from({ length }, (_, i) => make(i));

export function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// ---- The address

/** The state as a query; a drawing is in it, level by level. */
export function query() {
  const image = state.image === "drawn" ? `ink.${toText(now.drawn)}` : state.image;
  return `?${new URLSearchParams({ ...state, image })}`;
}

/** The address of the state; what is handed out leads to the lab, wherever on the page its reader is. */
export const link = (hash = location.hash) => new URL(query() + hash, location.href).href;

export function read(search) {
  for (const [key, value] of new URLSearchParams(search)) if (key in state) state[key] = value;
  const [ink] = state.image.match(/(?<=^ink\.)[\w-]{1046}$/) ?? [];
  if (ink) [now.drawn, state.image] = [toImage(toBytes(ink)), "drawn"];
}

// Who loads the page again gets back what was there, also where the address could not be written in time: a browser that
// is told to load again may have looked it up before a write of the same moment.
const MEMORY = "lab";
const isReload = () => performance.getEntriesByType("navigation")[0]?.type === "reload";
addEventListener("pagehide", () => {
  try {
    if (hasState()) sessionStorage.setItem(MEMORY, query());
    else if (!isReload()) sessionStorage.removeItem(MEMORY);
  } catch {} // nothing is kept
});

/** What the lab is opened with: the address, or what a page that is loaded again could no longer write there. */
export function opening() {
  try {
    if (isReload()) return sessionStorage.getItem(MEMORY) ?? location.search;
  } catch {} // nothing is kept
  return location.search;
}

// ---- Words

/** Show a notice, or none; unless told not to, where the reader sees it: the lab is longer than a screen. */
export function notify(message, seen = true) {
  Object.assign($("notice"), { textContent: message, hidden: !message });
  if (message && seen) $("notice").scrollIntoView({ block: "nearest" });
}

let speaking = null;

/** Read a text out to those who listen, once nothing newer comes. */
export function announce(text) {
  clearTimeout(speaking);
  speaking = setTimeout(() => ($("spoken").textContent = text), 700);
}
