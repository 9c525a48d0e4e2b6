// The answer for a recording: its frames through the network, the evidence of each step, and the verdict on fit.

import { fromBase64 } from "./bytes.mjs";
import { EventError } from "./events.mjs";
import { figures, FitReference, plain } from "./fit.mjs";
import { cropped, sliceBounds, toFrames } from "./frames.mjs";
import { Network } from "./runtime.mjs";

/** Answers with the network of a page; `data` is what `export/to_html/export.py` wrote of it. */
export class Answerer {
  #network;
  #reference;

  static async open(data) {
    return new Answerer(data, await Network.open(fromBase64(data.wasm), fromBase64(data.network), data.frames));
  }

  constructor(data, network) {
    this.data = data;
    this.#network = network;
    this.#reference = data.fit && new FitReference(data.fit, data.wording);
  }

  /** Runs the network once on a few counts, so that the browser has compiled it before the first file. */
  warm() {
    const { steps, height, width } = this.data.frames;
    this.#network.run(Uint8Array.from({ length: steps * 2 * height * width }, (_, i) => Number(i % 16 === 0)));
  }

  /**
   * The answer for a recording, or for a window of a longer one: `label`, `confidence`, `decisionStep` (from 1),
   * `evidence` and `logits` [T] of [classes], `order` of the classes, `ends` of the steps in time, `fit`, and `times` in ms.
   */
  answer(recording, isWindow = false) {
    const begin = performance.now(), { frames: framing } = this.data, part = cropped(recording, framing.crop);
    if (!part.t.length) throw new EventError(`holds no events in the part ${framing.crop} of the sensor, which the network uses`);
    const counts = toFrames(part, framing), framed = performance.now();
    const found = this.#evidenceOf(this.#network.run(counts)), computed = performance.now();
    const { t, width, height } = recording, duration = t[t.length - 1] - t[0], sensor = [height, width];
    const fit = this.#reference?.judge(figures(counts, framing, duration, sensor), duration, sensor, isWindow) ?? null;
    const times = { frames: framed - begin, network: computed - framed, fit: performance.now() - computed };
    const ends = sliceBounds(part.t, framing.steps, framing.slice_by).slice(1).map((end) => part.t[Math.max(end, 1) - 1]);
    return { ...found, fit, times, ends };
  }

  /** What sums of logits [T] of [classes] say, which are `scale` times as large as logits. */
  #evidenceOf(sums) {
    const { class_names: names, scale, temperature } = this.data;
    const before = (step, i) => (step ? sums[step - 1][i] : 0);
    const logits = sums.map((sum, step) => [...sum].map((value, i) => Math.fround((value - before(step, i)) / scale)));
    const means = logits.map((_, step) => names.map((_, i) => logits.slice(0, step + 1).reduce((sum, row) => sum + row[i], 0) / (step + 1)));
    const evidence = means.map((mean) => softmax(mean, temperature)), final = evidence.at(-1);
    const winners = means.map((mean) => mean.indexOf(Math.max(...mean))), last = winners.at(-1);
    const changed = winners.findLastIndex((winner) => winner !== last);
    const order = [...names.keys()].sort((a, b) => final[b] - final[a] || a - b);
    return { label: names[last], confidence: final[last], decisionStep: changed + 2, evidence, order, logits };
  }

  /** A verdict in words. */
  verdict({ fits, score, reasons }) {
    return [`${fits ? "fits" : this.data.wording.unlike} (score ${plain(score, 3)}, 1 is the limit)`, ...reasons].join("; ");
  }

  /** An answer as `neuromoco predict --json` writes it. */
  json(answer) {
    const { class_names: names, temperature, wording } = this.data, rounded = (value, digits) => Number(value.toFixed(digits));
    return {
      label: answer.label, confidence: answer.confidence, temperature,
      probabilities: Object.fromEntries(answer.order.map((number) => [names[number], answer.evidence.at(-1)[number]])),
      fit: answer.fit && { ...answer.fit, verdict: answer.fit.fits ? "fits" : wording.unlike },
      decision_step: answer.decisionStep, logits_per_step: answer.logits.map((row) => row.map((value) => rounded(value, 6))),
      milliseconds: Object.fromEntries(Object.entries(answer.times).map(([stage, ms]) => [stage, rounded(ms, 3)])),
    };
  }
}

/** Probabilities of logits, divided by a temperature if there is one. */
function softmax(logits, temperature) {
  const scaled = logits.map((logit) => logit / (temperature || 1)), largest = Math.max(...scaled);
  const shares = scaled.map((value) => Math.exp(value - largest)), total = shares.reduce((sum, share) => sum + share, 0);
  return shares.map((share) => share / total);
}
