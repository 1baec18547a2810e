// Sliders and lists for those who don't see the page: what a handle stands at, and what has become of the picture.

const SLIDER = ".widget-inline-hbox .noUi-handle", LIST = ".widget-inline-hbox select";
const PAUSE = 600; // milliseconds after the last move: a result is read out once, not at every position passed

/** A handle is named by its label and says the value beside it, not the value's place in a list; buttons say what they do. */
function nameWidgets() {
  for (const control of document.querySelectorAll(`${SLIDER}, ${LIST}`)) {
    const box = control.closest(".widget-inline-hbox"), label = box.querySelector(".widget-label")?.textContent;
    const value = box.querySelector(".widget-readout")?.textContent;
    if (label && !control.ariaLabel) control.setAttribute("aria-label", label);
    if (value && control.matches(SLIDER) && control.getAttribute("aria-valuetext") !== value) {
      control.setAttribute("aria-valuetext", value); // the slider's script writes its own at each move
    }
  }
  for (const player of document.querySelectorAll(".widget-play")) {
    player.querySelectorAll("button").forEach((button, i) => button.setAttribute("aria-label", ["Play", "Stop", "Repeat"][i]));
  }
}

// A page changes thousands of times while it is being put together: names are looked after once a frame.
let asked = null;
const soon = () => (asked ??= requestAnimationFrame(() => ((asked = null), nameWidgets())));
new MutationObserver(soon).observe(document.documentElement, {
  childList: true,
  subtree: true,
  characterData: true,
  attributeFilter: ["aria-valuetext"],
});

const spoken = Object.assign(document.createElement("p"), { className: "visually-hidden" });
spoken.setAttribute("role", "status"); // a polite live region
spoken.id = "slider-result";
document.addEventListener("DOMContentLoaded", () => document.body.append(spoken));

const text = (element) => element.innerText.replace(/\s+/g, " ").trim();

/** What the visible page of an explorer says in a sentence or two. */
function resultOf(explorer) {
  const visible = (selector) => [...explorer.querySelectorAll(selector)].filter((found) => found.checkVisibility());
  const own = visible("[data-say]").map((found) => found.dataset.say); // a page that knows better what to say
  if (own.length) return own.join(" ");
  const answers = visible(".ql-bars").flatMap((table) => {
    const networks = [...table.querySelectorAll("thead th[colspan]")].flatMap((th) => Array(th.colSpan).fill(text(th)));
    const verdicts = [...table.querySelectorAll("thead tr:last-child th")].map(text);
    return verdicts.map((verdict, i) => `${networks[i]}: ${verdict.replace("✓", "right").replace("✗", "wrong")}.`);
  });
  const values = visible(".ql-values tbody tr").map((row) => `${[...row.cells].map(text).join(": ")}.`);
  if (answers.length || values.length) return [...answers, ...values].join(" ");
  return visible("img").map((image) => image.alt).concat(visible(".ql > p").slice(0, 1).map(text)).join(" ");
}

let waiting;

function announce({ target, key }) {
  if (["Tab", "Shift", "Control", "Alt", "Meta"].includes(key)) return; // nothing moves by them
  const control = target.closest?.(`${SLIDER}, .noUi-target, ${LIST}, .widget-play button`);
  const explorer = control?.closest(".widget-subarea");
  if (!explorer) return;
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    const box = control.closest(".widget-inline-hbox"), at = box?.querySelector("select option:checked, .widget-readout");
    const where = at ? `${text(box.querySelector(".widget-label"))} ${at.textContent}. ` : "";
    const found = where + resultOf(explorer);
    if (spoken.textContent !== found) spoken.textContent = found;
  }, PAUSE);
}

for (const kind of ["keydown", "pointerup", "change"]) document.addEventListener(kind, announce, { capture: true });
