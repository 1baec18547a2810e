// The Carlini-Wagner L-infinity attack on one image: the steps of qlayer_core/attacks/carlini_wagner.py, in the same precision.

const SMOOTHER = Math.fround(0.999999); // keeps atanh finite at the faces of the box
const RATE = Math.fround(0.01), HALVINGS = 5, DOUBLINGS = 5; // the package's own
const { fround } = Math;

/**
 * Yield the image after each round of the line search for one inside the box that is not classified as `label`; the
 * clean image at last if none was found. It moves in tanh space, where the box has no edge, down the gradient of the
 * margin, and remembers its step from round to round.
 */
export async function* lineSearch(network, path, clean, { low, high, label, rounds }) {
  const width = high.map((x, i) => x - low[i]);
  const tanh = (w) => fround(Math.tanh(w));
  const decode = (w) => w.map((x, i) => fround(low[i] + fround(fround(width[i] * fround(fround(tanh(x) / SMOOTHER) + 1)) / 2)));
  const inBox = (image) => image.map((x, i) => Math.min(high[i], Math.max(low[i], x)));

  /** At a place of tanh space, the label's lead over the next class, and the direction in which it falls. */
  const look = async (w) => {
    const { margin, slope } = await network.gradient(path, decode(w), label, true);
    const chain = (x, i) => slope[i] * fround(fround(width[i] / 2 / SMOOTHER) * fround(1 - fround(tanh(x) ** 2)));
    return { w, lead: Math.max(0, -margin), direction: w.map(chain) };
  };

  let rate = RATE, best = await look(clean.map((x, i) => {
    const place = fround(fround(x - low[i]) / Math.max(width[i], 1e-12));
    return Math.atanh(fround(SMOOTHER * fround(2 * place - 1)));
  }));
  for (let round = 0; round < rounds && best.lead > 0; round++) {
    const start = best;
    let trials = 0, found = start;
    const attempt = async () => {
      found = await look(start.w.map((x, i) => x + fround(rate * start.direction[i])));
      if (found.lead < best.lead) best = found;
    };
    while (trials < HALVINGS && found.lead >= start.lead) {
      await attempt();
      rate /= 2;
      trials++;
    }
    rate *= 2;
    // Where the first trial helped, try larger steps.
    for (let more = 0; more < DOUBLINGS && trials === 1 && found.lead <= best.lead; more++) {
      rate *= 2;
      await attempt();
    }
    if (trials === 1) rate /= 2;
    yield inBox(decode(best.w));
  }
  if (best.lead > 0) yield clean;
}
