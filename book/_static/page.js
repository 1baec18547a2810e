// Loaded in the head of every page: settings that can't break it, light paper without solutions, and what scrolls
// sideways shows it.

const root = document.documentElement;

// ---- Settings that the browser has kept. The theme takes them as they are; one that it doesn't know leaves a page
// without colours, and a browser that keeps nothing stops the theme's own script before it has chosen any.

// One that forbids to keep anything, as in a frame of somebody else's page, stops the theme's menu and search as well.
for (const name of ["localStorage", "sessionStorage"]) {
  try {
    window[name].getItem("");
  } catch {
    const kept = new Map();
    const store = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, `${value}`), removeItem: (key) => kept.delete(key) };
    Object.defineProperty(window, name, { value: store });
  }
}

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
try {
  if (!["auto", "light", "dark"].includes(localStorage.getItem("mode") ?? "auto")) localStorage.removeItem("mode");
  if (!["light", "dark"].includes(localStorage.getItem("theme") ?? "light")) localStorage.removeItem("theme");
} catch {} // storage is switched off: nothing is kept
if (!["auto", "light", "dark"].includes(root.dataset.mode)) root.dataset.mode = "auto";
if (!["light", "dark"].includes(root.dataset.theme)) root.dataset.theme = prefersDark.matches ? "dark" : "light";

// ---- Paper is light. The whole theme changes, not some of its colours: what is drawn for dark pages has many places.

const paper = matchMedia("print");
let onScreen = null; // the theme to go back to after printing

function turnLight() {
  if (root.dataset.theme !== "dark") return;
  onScreen = root.dataset.theme;
  root.dataset.theme = "light";
}

function turnBack() {
  if (onScreen) root.dataset.theme = onScreen;
  onScreen = null;
}

addEventListener("beforeprint", turnLight);
addEventListener("afterprint", turnBack);
paper.addEventListener("change", () => (paper.matches ? turnLight() : turnBack()));
new MutationObserver(() => paper.matches && turnLight()).observe(root, { attributeFilter: ["data-theme"] });

// ---- Paper leaves solutions out; a teacher's address, ?solutions, asks for them.

if (new URLSearchParams(location.search).has("solutions")) root.classList.add("with-solutions");

// ---- What is wider than the page scrolls by itself: a shadow on its edge says so, and a keyboard reaches it.

const resized = new ResizeObserver((entries) => {
  for (const { target } of entries) showMore(target.matches(".scrolls") ? target : target.parentElement);
});

function showMore(frame) {
  const hidden = frame.scrollWidth - frame.clientWidth, seen = Math.abs(frame.scrollLeft);
  // The shadows lie on a box around the frame, since they must not move with what scrolls.
  frame.parentElement.classList.toggle("more-left", hidden > 1 && seen > 1);
  frame.parentElement.classList.toggle("more-right", hidden > 1 && hidden - seen > 1);
  if (hidden > 1) frame.tabIndex = 0; // only what scrolls is a stop for the Tab key
  else frame.removeAttribute("tabindex");
}

function watch(frame, content) {
  frame.classList.add("scrolls");
  frame.parentElement.classList.add("scroll-edges");
  frame.addEventListener("scroll", () => showMore(frame), { passive: true });
  for (const part of content ? [frame, content] : [frame]) resized.observe(part);
}

/** Put an element into a new box, and return the box. */
function wrap(element, className) {
  const box = Object.assign(document.createElement("div"), { className });
  element.replaceWith(box);
  box.append(element);
  return box;
}

document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll(".bd-article table")) {
    if (table.closest(".jupyter-widgets, .highlighttable, .lab")) continue; // laid out to fit
    const ready = table.closest(".pst-scrollable-table-container");
    const frame = ready ?? wrap(table, "");
    frame.classList.add("table-scroll");
    wrap(frame, "table-edges");
    frame.setAttribute("role", "group");
    frame.setAttribute("aria-label", table.getAttribute("aria-label") || table.caption?.textContent.trim() || "table");
    watch(frame, table);
  }
  for (const code of document.querySelectorAll(".bd-article .highlight > pre")) watch(code);
  for (const drawing of document.querySelectorAll(".bd-article .small-print")) watch(drawing, drawing.firstElementChild);
});

// ---- Hidden code opens by a line that says so; the label that Jupyter Book adds says something else to a screen reader.

addEventListener("DOMContentLoaded", () => {
  for (const line of document.querySelectorAll("details > summary[aria-label]")) line.removeAttribute("aria-label");
});

// ---- Each button that unfolds a box is called after the box: "Toggle hidden content", six times on a page, says nothing.

addEventListener("load", () => {
  for (const button of document.querySelectorAll("button.toggle-button")) {
    const title = button.closest(".admonition")?.querySelector(":scope > .admonition-title");
    if (title) button.setAttribute("aria-label", [...title.childNodes].filter((node) => node !== button).map((node) => node.textContent).join("").trim());
  }
});
