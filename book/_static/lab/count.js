// The current attack on all test images, and what is left of its table when something changes.

import { ATTACKS, successOver } from "./attacks.js";
import { inTurn } from "./networks.js";
import { $, current, element, loaded, now, state, TITLES, trayImage, wait } from "./state.js";

/** What the numbers hang on; a network without a layer has no choice of path. */
const setUp = () => [state.data, now.road, state.attack, state.eps, state.steps].join();

/** Put a table away that is about something else by now. */
export function forgetOld() {
  if ($("success-table").dataset.of === setUp()) return;
  $("success-table").hidden = true;
  $("success-text").textContent = "";
}

/** Attack each image of the tray on each loaded network by itself, and return the counts in words; nothing once `isOver`. */
export async function count(isOver) {
  const judges = loaded(), { attack } = state, { road } = now, options = { attack, eps: +state.eps, steps: +state.steps };
  const { labels } = current(), images = labels.map((_, i) => trayImage(i)), rows = [];
  const table = $("success-table"), body = table.tBodies[0];
  const steps = attack === "fgsm" ? "" : `, ${state.steps} steps`;
  const through = judges.some(({ attacked }) => attacked.length > 1) ? `, gradient through ${TITLES[road]} where there is a layer` : "";
  table.caption.textContent = `${TITLES[state.data]}: ${ATTACKS[attack]}, epsilon ${options.eps.toFixed(2)}${steps}, made on each network by itself${through}`;
  table.dataset.of = setUp();
  table.hidden = false;
  body.replaceChildren();
  for (const network of judges) {
    const path = network.attacked.includes(road) ? road : network.attacked[0];
    const progress = (i) => (($("success-text").textContent = `${network.title}: image ${i + 1} of ${images.length}`), wait(0));
    const found = await inTurn(() => successOver(images, labels, network, path, options, progress, isOver));
    if (!found) return "";
    const cells = [found.before, found.after, found.changed].map((number) => element("td", { textContent: `${number}` }));
    rows.push(`${network.title}: ${found.changed} of ${found.images} answers changed, ${found.after} right.`);
    body.append(element("tr", {}, element("th", { scope: "row", textContent: network.title }), ...cells));
  }
  return rows.join(" ");
}
