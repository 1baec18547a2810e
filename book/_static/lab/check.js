// The page against PyTorch: the loaded networks' logits on the test images, and those that the manifest brings.

import { argmax, inTurn } from "./networks.js";
import { $, current, element, loaded, trayImage } from "./state.js";

/** Hold the loaded networks' logits against PyTorch's, which the manifest brings. */
export async function check() {
  const lines = [], images = current().labels.map((_, i) => trayImage(i)); // at once: the reader may change the data set
  for (const network of loaded()) {
    const pairs = [];
    for (const [i, image] of images.entries()) {
      const answer = await inTurn(() => network.answer(image));
      pairs.push(...network.paths.map((path) => [Array.from(answer[path]), network.expected[path][i]]));
    }
    const same = pairs.filter(([ours, theirs]) => argmax(ours) === argmax(theirs)).length;
    const apart = Math.max(...pairs.flatMap(([ours, theirs]) => ours.map((value, i) => Math.abs(value - theirs[i]))));
    lines.push(`${network.title}: ${same} of ${pairs.length} answers are PyTorch's, logits differ by ${apart.toPrecision(1)} at most.`);
  }
  if (!lines.length) lines.push("Start the lab first: no network is loaded yet.");
  $("check-text").replaceChildren(...lines.map((textContent) => element("li", { textContent })));
}
