// The integer network: spiking.c as WebAssembly, which is fed counts and gives sums of logits.

const PROBLEMS = {
  "-1": "the network in this page is damaged", "-2": "not enough memory", "-6": "more steps than the network has",
  "-7": "more events in a step than the network can take", "-8": "logits beyond the network's range",
};
const PAGE = 1 << 16, LARGEST_COUNT = 255;

/** Runs a network, the bytes that `neuromoco export` made of it, on frames of some height and width. */
export class Network {
  #exports;
  #state;
  #counts; // where a step's counts are written
  #size;

  static async open(wasm, network, framing) {
    const { instance } = await WebAssembly.instantiate(wasm, {});
    return new Network(instance.exports, network, framing);
  }

  constructor(exports, network, { height, width }) {
    this.#exports = exports;
    this.#size = 2 * height * width;
    let top = exports.__heap_base.value;
    const place = (bytes) => {
      const begin = (top + 15) & ~15, pages = Math.ceil((begin + bytes) / PAGE) - exports.memory.buffer.byteLength / PAGE;
      if (pages > 0) exports.memory.grow(pages);
      top = begin + bytes;
      return begin;
    };
    const bytes = place(network.length);
    new Uint8Array(exports.memory.buffer).set(network, bytes);
    const needed = exports.spiking_memory(bytes, network.length);
    this.#check(Math.min(needed, 0));
    this.#state = place(exports.spiking_size());
    this.#check(exports.spiking_open(this.#state, bytes, network.length, place(needed), needed));
    this.steps = exports.spiking_steps(this.#state);
    this.classes = exports.spiking_classes(this.#state);
    this.#counts = place(this.#size);
  }

  #check(status) {
    if (status < 0) throw new Error(PROBLEMS[status] ?? `the network failed (${status})`);
  }

  /** Sums of the logits after each step, [T] of [classes], of frames [T, P, H, W]. */
  run(frames) {
    const { memory, ...run } = this.#exports, size = this.#size, state = this.#state, sums = [];
    run.spiking_reset(state);
    for (let step = 0; step < this.steps; step++) {
      const counts = new Uint8Array(memory.buffer, this.#counts, size);
      for (let i = 0; i < size; i++) counts[i] = Math.min(frames[step * size + i], LARGEST_COUNT);
      this.#check(run.spiking_push_counts(state, this.#counts));
      this.#check(run.spiking_step(state));
      sums.push(Int32Array.from(new Int32Array(memory.buffer, run.spiking_logits(state), this.classes)));
    }
    return sums;
  }
}
