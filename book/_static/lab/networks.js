// The book's networks, run in this page: ONNX Runtime, what is fetched, and what a network can be asked.

export const SIDE = 28, PIXELS = SIDE * SIDE; // of an image

const folder = new URL(".", import.meta.url), runtime = new URL("../onnxruntime/", folder);
const RUNTIME = "ort-wasm-simd-threaded.wasm.bin";
const NAMES = [["cnn", "CNN"], ["q-", "Q-"], ["-adv", " (adv. trained)"]];

export const titleOf = (name) => NAMES.reduce((title, [from, to]) => title.replace(from, to), name);

let tries = 0; // to load the runtime
let ort = null; // ONNX Runtime, once the reader has asked for it
let turn = Promise.resolve();

/** Run one task after another: a network can't answer two questions at once. */
export const inTurn = (task) => (turn = turn.then(task, task));

export const isRunning = () => ort !== null;

function fail(name, reason) {
  throw new Error(`${name} could not be loaded: ${reason}. Check the connection, then try again.`);
}

const fileOf = (url) => url.pathname.split("/").pop();

async function get(url) {
  const response = await fetch(url).catch(() => null);
  if (response?.ok) return response;
  return fail(fileOf(url), response ? `the server answered ${response.status}` : "there was no answer");
}

const json = async (url) => (await get(url)).json().catch(() => fail(fileOf(url), "it broke off"));

/** Fetch and unpack a gzip file, telling `progress` how many bytes have come. */
async function unpack(url, progress = () => {}) {
  const response = await get(url);
  let received = 0;
  const transform = (chunk, output) => (progress((received += chunk.length)), output.enqueue(chunk));
  const packed = response.body.pipeThrough(new TransformStream({ transform }));
  const unpacked = new Response(packed.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  return new Uint8Array(await unpacked.catch(() => fail(fileOf(url), "it broke off")));
}

/** What the lab offers: data sets, their test images, their networks. */
export const loadManifest = () => json(new URL("manifest.json", folder));

/** How many bytes the runtime has: in a file of the site's, since not every server tells sizes beforehand. */
export const runtimeBytes = async () => (await json(new URL("files.json", runtime)))[RUNTIME];

export async function startRuntime(progress) {
  if (ort) return;
  const wasm = await unpack(new URL(RUNTIME, runtime), progress);
  const script = new URL("ort.wasm.bundle.min.mjs", runtime);
  if (tries++) script.search = `?again=${tries}`; // an import that failed is never asked for again under its name
  const loaded = await import(script).catch(() => fail("The runtime", "there was no answer"));
  Object.assign(loaded.env.wasm, { numThreads: 1, wasmBinary: wasm.buffer }); // threads need headers that few hosts send
  ort = loaded;
}

/** One network of the manifest: weights that its graphs share, and a session for each graph that was asked for. */
export class Network {
  sessions = {};

  constructor(entry) {
    Object.assign(this, entry, { title: titleOf(entry.name) });
  }

  async load(progress) {
    const bytes = await unpack(new URL(this.file, folder), progress);
    this.weights = new Uint8Array(this.half + this.single);
    for (let i = 0; i < this.half / 2; i++) { // of the half-precision numbers, all high bytes come first
      this.weights[2 * i] = bytes[this.half / 2 + i];
      this.weights[2 * i + 1] = bytes[i];
    }
    let start = this.half + this.single;
    this.weights.set(bytes.subarray(this.half, start), this.half);
    const cut = ([graph, length]) => [graph, bytes.slice(start, (start += length))];
    this.protos = Object.fromEntries(Object.entries(this.graphs).map(cut));
  }

  async run(graph, inputs) {
    const externalData = [{ path: "weights", data: this.weights }];
    this.sessions[graph] ??= await ort.InferenceSession.create(this.protos[graph], { externalData });
    return this.sessions[graph].run(inputs);
  }

  /** The logits of each path, and with a Q-Layer the codes and the gate, for one image. */
  async answer(image) {
    const found = await this.run("answers", { image: tensor(image) });
    return Object.fromEntries(Object.entries(found).map(([name, { data }]) => [name, data]));
  }

  /** The class that it answers with: with a Q-Layer, that of the Q-path. */
  verdict(answer) {
    return argmax(answer[this.paths[0]]);
  }

  /**
   * The gradient, in the image, of the cross-entropy of `label` on a path, or of the margin by which it loses; -1 is the
   * network's own answer.
   */
  async gradient(path, image, label = -1, ofMargin = false) {
    const inputs = { image: tensor(image), label: new ort.Tensor("int64", [BigInt(label)], [1]) };
    inputs.margin = new ort.Tensor("bool", [ofMargin], [1]);
    const { logits, gradient } = await this.run(`gradient-${path}`, inputs);
    if (label < 0) label = argmax(logits.data);
    const margin = Math.fround(Math.max(...logits.data.filter((_, i) => i !== label)) - logits.data[label]);
    return { label, margin, slope: gradient.data };
  }
}

const tensor = (image) => new ort.Tensor("float32", image, [1, 1, SIDE, SIDE]);
export const argmax = (values) => values.reduce((best, value, i) => (value > values[best] ? i : best), 0);

export function softmax(logits) {
  const largest = Math.max(...logits), powers = Array.from(logits, (value) => Math.exp(value - largest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}
