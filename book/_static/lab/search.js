// The smallest epsilon that changes the answer on the current image: of one attack, and of each.

import { ATTACKS, smallestEpsilon } from "./attacks.js";
import { inTurn } from "./networks.js";
import { $, attacked, element, imageKey, look, state, TITLES, wait } from "./state.js";

export const LARGEST = "0.40"; // the slider's end

/** The gradient of a path at the clean image, where all attacks but PGD begin. */
export const firstGradient = async (network, path, { image, first }) =>
  (first[`${network.name} ${path}`] ??= await network.gradient(path, image));

/** Look for the smallest epsilon of an attack, saying how far the search is; undefined once `isOver`. */
export async function search(attack, isOver) {
  if (isOver()) return; // while it waited, another image was chosen, or Stop pressed
  const network = attacked(), { path } = state, clean = look();
  const progress = (eps) => (($("found").textContent = `${ATTACKS[attack]}: trying ${eps.toFixed(2)}`), wait(0));
  const options = { attack, steps: +state.steps, first: await firstGradient(network, path, clean) };
  const found = await smallestEpsilon(network, path, clean.image, options, progress, isOver);
  if (isOver()) return;
  $("found").textContent = "";
  return found;
}

/** What a comparison of all attacks depends on. */
export const compared = () => [imageKey(), state.net, state.path, state.steps].join();

/** Search with every attack, and return what was found in words; nothing once `isOver`. */
export async function compare(isOver) {
  const table = $("each-table"), body = table.tBodies[0], rows = [];
  const through = TITLES[state.path] ? `, gradient through ${TITLES[state.path]}` : "";
  const about = element("span", { textContent: `On ${attacked().title}${through}; ${state.steps} steps` });
  table.caption.replaceChildren(about); // its own: what a newer comparison says is not to be added to
  [table.hidden, table.dataset.of] = [false, compared()];
  body.replaceChildren();
  for (const [attack, title] of Object.entries(ATTACKS)) {
    const eps = await inTurn(() => search(attack, isOver));
    if (eps === undefined) {
      about.textContent += `; stopped before ${title}`;
      return "";
    }
    const textContent = eps === null ? `none up to ${LARGEST}` : eps.toFixed(2);
    rows.push(`${title}: ${textContent}.`);
    body.append(element("tr", {}, element("th", { scope: "row", textContent: title }), element("td", { textContent })));
  }
  return rows.join(" ");
}
