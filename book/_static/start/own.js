// The reader's own digit: the lab's pad, and the two networks, which run in the page once they are asked for.

import { argmax, inTurn, loadManifest, Network, PIXELS, runtimeBytes, softmax, startRuntime } from "../lab/networks.js";
import { imageAt, NAMES } from "./data.js";

const ATTACKED = "cnn"; // whose gradient is followed
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

/** What there is to load, and how large it is: { networks, bytes, text }. */
export async function offer(names) {
  const [{ datasets }, runtime] = await Promise.all([loadManifest(), runtimeBytes()]);
  const networks = names.map((name) => datasets.mnist.networks.find((entry) => entry.name === name)).filter(Boolean);
  if (networks.length < names.length) throw new Error("The networks were not there when this site was built.");
  const sizes = networks.map(({ name, bytes }) => `${NAMES[name]} ${megabytes(bytes)}`);
  const bytes = networks.reduce((sum, network) => sum + network.bytes, runtime);
  return { networks: networks.map((entry) => new Network(entry)), bytes, text: `${sizes.join(", ")}, the program that runs them ${megabytes(runtime)}` };
}

/** Load it all, telling `progress` how many bytes have come. */
export async function load({ networks }, progress) {
  let done = 0;
  const part = (bytes) => progress(done + bytes);
  await startRuntime(part);
  done += await runtimeBytes();
  for (const network of networks) {
    await network.load(part);
    done += network.bytes;
  }
}

/** A digit that no network has seen yet; see `loadBook`. */
export const unseen = (image) => ({ key: "own", label: null, clean: image, signs: new Float32Array(PIXELS), answers: {} });

/**
 * Attack an image through the CNN's gradient, and ask the networks at each position of the slider: the clean image
 * first, then what `wanted` says is looked at, then the rest. Calls `found` with the digit, each time that more is
 * known of it; stops once `isStale`.
 */
export async function study(networks, image, epsilons, { wanted, found, isStale }) {
  const attacked = networks.find(({ name }) => name === ATTACKED) ?? networks[0], digit = unseen(image);
  const { slope } = await inTurn(() => attacked.gradient("logits", image));
  digit.signs = Float32Array.from(slope, Math.sign);
  for (const { name } of networks) digit.answers[name] = { classes: [], probabilities: [] };
  const { classes } = digit.answers[networks.at(-1).name]; // of the network that is asked last
  for (let left = epsilons.length; left > 0; left--) {
    const at = [0, wanted(), ...epsilons.keys()].find((i) => classes[i] === undefined);
    const attackedImage = imageAt(digit, epsilons[at]);
    for (const network of networks) {
      if (isStale()) return;
      const answer = await inTurn(() => network.answer(attackedImage)), logits = answer[network.paths[0]];
      digit.answers[network.name].classes[at] = argmax(logits);
      digit.answers[network.name].probabilities[at] = softmax(logits);
    }
    if (isStale()) return;
    found(digit);
    await new Promise((resolve) => setTimeout(resolve)); // let the page breathe
  }
}
