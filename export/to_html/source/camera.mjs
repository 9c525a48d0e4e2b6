// A simulated event camera before pictures: a pixel remembers the logarithm of the intensity at its last event, and
// reports ON or OFF as soon as it has risen or fallen by a threshold. The model is that of neuromoco/simulate/camera.py.

import { rint } from "./bytes.mjs";

const ROUNDING = 1 + 1e-9; // a change that falls short of a threshold only by rounding still counts

/** Numbers from 0 to below 1; the same seed gives the same ones (mulberry32). */
export function randomNumbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let value = Math.imul(state ^ (state >>> 15), state | 1);
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
}

function normal(random) {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

function poisson(mean, random) {
  let count = -1;
  for (let sum = 0; sum < mean; count++) sum -= Math.log(1 - random());
  return Math.max(count, 0);
}

/** Pixels that turn intensities, 0 to 1, into events; `config` is a `SensorConfig`, `seed` that of background events. */
export class EventPixels {
  constructor(width, height, config, seed = 0) {
    Object.assign(this, { width, height, config, random: randomNumbers(seed) });
    const ofCamera = randomNumbers(config.serial); // the same thresholds in every recording
    const factors = () => Float64Array.from({ length: width * height }, () => Math.exp(config.mismatch * normal(ofCamera)));
    this.on = factors().map((factor) => factor * config.threshold_on);
    this.off = factors().map((factor) => factor * config.threshold_off);
    this.level = null;
  }

  /** Begins with a picture [height * width], which gives no events. */
  begin(picture) {
    this.level = this.#levelOf(picture, new Float64Array(picture.length));
    this.next = new Float64Array(picture.length);
    this.reference = this.level.slice();
    this.last = new Float64Array(picture.length).fill(-Infinity); // time of each pixel's last event
  }

  #levelOf(picture, level) {
    const { eps } = this.config;
    for (let i = 0; i < level.length; i++) level[i] = Math.log(picture[i] + eps);
    return level;
  }

  /** Events [t, pixel, p] while the picture becomes another, linearly in its logarithm, from one time to another. */
  change(picture, from, to) {
    const { level, reference, on, off, random, last } = this, next = this.#levelOf(picture, this.next), found = [];
    for (let i = 0; i < next.length; i++) {
      const change = (next[i] - reference[i]) * ROUNDING;
      if (change >= on[i] || -change >= off[i]) this.#crossings(i, level[i], next[i], from, to - from, found);
    }
    const { noise_hz: rate, noise_on_share: share, refractory_us: refractory } = this.config;
    for (let left = poisson(rate * next.length * (to - from) * 1e-6, random); left > 0; left--) {
      found.push([from + Math.floor(random() * (to - from)), Math.floor(random() * next.length), random() < share ? 1 : 0]);
    }
    [this.level, this.next] = [next, level];
    return found.sort((a, b) => a[0] - b[0]).filter(([t, pixel]) => {
      if (refractory && t - last[pixel] < refractory) return false;
      last[pixel] = t;
      return true;
    });
  }

  #crossings(pixel, start, end, from, length, found) {
    const before = this.reference[pixel], change = end - before, isOn = change > 0;
    const size = isOn ? this.on[pixel] : this.off[pixel], count = Math.trunc(change * ROUNDING / size);
    this.reference[pixel] += count * size;
    const slope = end - start, first = (before - start) / slope, each = (isOn ? size : -size) / slope;
    for (let k = 1; k <= Math.abs(count); k++) {
      const part = Math.min(Math.max(first + k * each, 0), 1);
      found.push([from + rint(part * length), pixel, isOn ? 1 : 0]);
    }
  }
}

/** Where the picture is at a time of three saccades along the sides of a triangle: x and y in pixels. */
export function saccadePath(time, { base, height, saccade_us: each }) {
  const corners = [[-base / 2, -height / 2], [0, height / 2], [base / 2, -height / 2], [-base / 2, -height / 2]];
  const sides = Math.min(Math.max(time / each, 0), 3), turn = sides - Math.floor(sides);
  const along = sides - Math.sin(2 * Math.PI * turn) / (2 * Math.PI); // starts and ends at rest
  const from = Math.min(Math.floor(along), 2), part = along - from;
  return [0, 1].map((axis) => corners[from][axis] + part * (corners[from + 1][axis] - corners[from][axis]));
}

/** A picture [height * width] of which every pixel has moved, sampled bilinearly; beyond its border, its nearest pixel. */
function displaced(picture, width, height, [right, down], to) {
  const left = Math.floor(-right), top = Math.floor(-down), fx = -right - left, fy = -down - top;
  const columns = Int32Array.from({ length: width + 1 }, (_, i) => Math.min(Math.max(i + left, 0), width - 1));
  for (let y = 0, at = 0; y < height; y++) {
    const upper = width * Math.min(Math.max(y + top, 0), height - 1), lower = width * Math.min(Math.max(y + top + 1, 0), height - 1);
    for (let x = 0; x < width; x++, at++) {
      const a = columns[x], b = columns[x + 1];
      to[at] = (1 - fy) * ((1 - fx) * picture[upper + a] + fx * picture[upper + b])
        + fy * ((1 - fx) * picture[lower + a] + fx * picture[lower + b]);
    }
  }
  return to;
}

const LEAST_CONTRAST = 0.15; // of a picture, below which its noise would become strokes
const DARKEST = 0.01; // share of the pixels that are surely ink, if there is a stroke
const LIGHTEST = 0.1; // and of those that are surely paper

/**
 * Grey values as strokes on white paper, as in N-MNIST: pale ones become paper, dark ones ink that absorbs `depth` of the
 * light. `paper` and `ink` are shares of the contrast; the strokes are lighter than their ground if `isInverted`.
 */
export function asInk(grey, { paper, ink, depth }, isInverted) {
  const values = isInverted ? grey.map((value) => 1 - value) : grey, sorted = values.slice().sort();
  const dark = sorted[Math.floor(DARKEST * sorted.length)], light = sorted[Math.floor((1 - LIGHTEST) * (sorted.length - 1))];
  const contrast = Math.max(light - dark, LEAST_CONTRAST);
  return values.map((value) => {
    const share = Math.min(Math.max(((light - value) / contrast - paper) / (ink - paper), 0), 1);
    return 1 - depth * share * share * (3 - 2 * share);
  });
}

/** A recording of a still picture that is moved before the camera. */
export function recordSaccades(picture, width, height, config, motion, seed = 0) {
  const pixels = new EventPixels(width, height, config, seed), end = 3 * motion.saccade_us, moved = new Float64Array(picture.length);
  const events = [], at = (time) => displaced(picture, width, height, saccadePath(time, motion), moved);
  pixels.begin(at(0));
  for (let time = 0; time < end; time += config.step_us) {
    const next = Math.min(time + config.step_us, end);
    events.push(...pixels.change(at(next), time, next));
  }
  return asRecording(events, width, height);
}

/** Events of the last microseconds of a scene that is seen frame by frame. */
export class LiveEvents {
  #events = [];

  constructor(width, height, config, window) {
    Object.assign(this, { width, height, window, pixels: new EventPixels(width, height, config), time: null });
  }

  /** Takes the next frame, at a time in microseconds; returns the recording of the window that ends with it. */
  see(picture, time) {
    if (this.time === null || time - this.time > this.window) this.pixels.begin(picture); // or after a break
    else if (time > this.time) for (const event of this.pixels.change(picture, this.time, time)) this.#events.push(event);
    this.time = time;
    const begin = this.#events.findIndex(([t]) => t > time - this.window);
    this.#events = begin < 0 ? [] : this.#events.slice(begin);
    return asRecording(this.#events, this.width, this.height);
  }
}

function asRecording(events, width, height) {
  return {
    t: Float64Array.from(events, ([t]) => t), x: Uint16Array.from(events, ([, pixel]) => pixel % width),
    y: Uint16Array.from(events, ([, pixel]) => Math.floor(pixel / width)), p: Uint8Array.from(events, ([, , p]) => p),
    width, height, source: "simulated camera", notes: [],
  };
}
