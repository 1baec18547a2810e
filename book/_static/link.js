// A page whose state stands in its address, for the start page and the lab alike: write it there, and hand it out.

const PAUSE = 250; // milliseconds
let writing = null, asked = false;

/** Whether the page has had a state of its own to write: the address may be older. */
export const hasState = () => asked;

/**
 * Write the address, what `link` gives by then, once the reader pauses. A stroke or a film changes the state many times a
 * second, and browsers allow few writes: WebKit throws past a hundred in ten seconds. One that is a little old does no harm.
 */
export function remember(link) {
  asked = true;
  clearTimeout(writing);
  writing = setTimeout(() => {
    try {
      history.replaceState(history.state, "", link());
    } catch {} // too often, or not allowed here
  }, PAUSE);
}

/** Copy a text; where a page may not, as one over plain http, show it marked in `box`. Says whether it is copied. */
async function copy(text, box) {
  try {
    await navigator.clipboard.writeText(text);
    box.hidden = true;
    return true;
  } catch {} // no clipboard here, or no permission
  Object.assign(box, { hidden: false, value: text });
  box.focus();
  box.select();
  return document.execCommand?.("copy") ?? false;
}

/** Copy a link, and let the button say what became of it; returns its words. */
export async function share(link, button, box) {
  button.textContent = (await copy(link, box)) ? "Link copied" : "Copy the marked link";
  return button.textContent;
}
