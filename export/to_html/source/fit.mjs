// Whether a recording is of the kind that the network was trained on: figures of it, compared with the network's
// reference. The figures are those of neuromoco/fit/figures.py, the verdict that of reference.py and verdict.py.

const TINY = 1e-5, PARTS = 4, DURATION_SHARE = 0.75, LARGEST_SCORE = 1e6;

/** Figures of frames [T, P, H, W] in the order of `neuromoco.fit.figures.NAMES`. */
export function figures(frames, { steps, height, width }, duration, sensor) {
  const pixels = height * width, moments = [], shares = new Float64Array(pixels);
  let filled = 0, mixed = 0, change = 0;
  for (let plane = 0; plane < 2 * steps; plane++) moments.push(momentsOf(frames.subarray(plane * pixels), height, width));
  const at = (step, pixel) => frames[2 * step * pixels + pixel] + frames[(2 * step + 1) * pixels + pixel];
  for (let step = 0; step < steps; step++) {
    for (let i = 0; i < pixels; i++) {
      const off = frames[2 * step * pixels + i], on = frames[(2 * step + 1) * pixels + i];
      shares[i] += off + on;
      filled += (off > 0) + (on > 0);
      mixed += Math.min(off, on);
      if (step) change += Math.abs(off + on - at(step - 1, i));
    }
  }
  const sum = (number, of = () => true) => moments.reduce((total, one, plane) => total + (of(plane) ? one[number] : 0), 0);
  const events = Math.max(1, sum(0)), row = sum(1) / events, column = sum(2) / events;
  const tall = Math.max(0, sum(3) / events - row * row) + TINY, wide = Math.max(0, sum(4) / events - column * column) + TINY;
  for (let i = 0; i < pixels; i++) shares[i] /= events;
  const squares = Math.max(TINY, shares.reduce((total, share) => total + share * share, 0));
  const time = Math.max(1, duration);
  return [
    Math.log(1e6 * events / time), sum(0, (plane) => plane % 2) / events, row, column, Math.log(tall) / 2, Math.log(wide) / 2,
    -Math.log(squares * pixels), Math.log(Math.max(1, filled) / frames.length), together(shares, height, width) / squares,
    mixed / events, change / events, Math.log(Math.max(1, sensor[0] * sensor[1])), ...motion(moments, steps), Math.log(time),
  ];
}

/** Of a plane of counts: their sum, and sums of their rows, columns and the squares of these, as shares of its sides. */
function momentsOf(counts, height, width) {
  const sums = [0, 0, 0, 0, 0];
  for (let i = 0, y = 0; y < height; y++) {
    const row = (y + 0.5) / height;
    for (let x = 0; x < width; x++, i++) {
      if (!counts[i]) continue;
      const column = (x + 0.5) / width, count = counts[i];
      sums[0] += count; sums[1] += count * row; sums[2] += count * column;
      sums[3] += count * row * row; sums[4] += count * column * column;
    }
  }
  return sums;
}

/** Products of neighbouring pixels, the mean of both directions. */
function together(shares, height, width) {
  let sum = 0;
  for (let i = 0; i < shares.length; i++) {
    if ((i + 1) % width) sum += shares[i] * shares[i + 1];
    if (i + width < shares.length) sum += shares[i] * shares[i + width];
  }
  return sum / 2;
}

/** From the mean position of OFF to that of ON events along both axes, in parts of the time. */
function motion(moments, steps) {
  const begins = Array.from({ length: PARTS }, (_, part) => Math.floor(part * steps / PARTS)), rows = [], columns = [];
  begins.forEach((begin, part) => {
    const end = Math.max(begin + 1, begins[part + 1] ?? steps), [off, on] = [[0, 0, 0], [0, 0, 0]];
    for (let step = begin; step < end; step++) {
      for (let i = 0; i < 3; i++) {
        off[i] += moments[2 * step][i];
        on[i] += moments[2 * step + 1][i];
      }
    }
    const apart = (axis) => (on[0] ? on[axis] / on[0] : 0) - (off[0] ? off[axis] / off[0] : 0);
    rows.push(on[0] && off[0] ? apart(1) : 0);
    columns.push(on[0] && off[0] ? apart(2) : 0);
  });
  return [...rows, ...columns];
}

/** The reference of a network's training recordings, as its header has it; `wording` is what verdicts are made of. */
export class FitReference {
  constructor(reference, wording) {
    this.reference = reference;
    this.wording = wording;
    [this.whole, ...this.windows] = [reference.whole, ...reference.windows].map(prepared);
  }

  /** The verdict `{ fits, score, reasons }` on figures; those of a window of a longer recording say nothing by its duration. */
  judge(values, duration, sensor, isWindow = false) {
    let { score, scale, cluster } = isWindow ? this.#nearestOfWindows(values.slice(0, -1), duration) : nearest(this.whole, values);
    if (!isWindow) {
      const ofDuration = this.#ofDuration(duration);
      if (ofDuration > 1) score = Math.max(score, ofDuration);
    }
    score = Math.min(score, LARGEST_SCORE);
    if (score <= 1) return { fits: true, score, reasons: [] };
    const away = cluster.mean.map((mean, i) => values[i] - mean);
    return { fits: false, score, reasons: this.#reasons(away, scale.deviations[scale.clusters.indexOf(cluster)], duration, sensor) };
  }

  #nearestOfWindows(values, duration) {
    const after = this.windows.findIndex((scale) => scale.duration <= duration), end = after < 0 ? this.windows.length : after;
    const found = this.windows.slice(Math.max(0, end - 1), end + 1).map((scale) => nearest(scale, values));
    return found.reduce((best, one) => (one.score < best.score ? one : best));
  }

  #ofDuration(duration) {
    const { shortest_us: shortest, longest_us: longest } = this.reference;
    return Math.max(DURATION_SHARE * shortest / Math.max(1, duration), DURATION_SHARE * duration / Math.max(1, longest));
  }

  #reasons(away, deviations, duration, sensor) {
    const { names, notable, most, other } = this.wording, { shortest_us: shortest, longest_us: longest } = this.reference;
    const found = new Map();
    away.forEach((difference, i) => {
      const size = Math.abs(difference) / deviations[i];
      if (size > notable || (names[i] === "duration" && !(shortest <= duration && duration <= longest))) {
        const words = this.#words(names[i], difference, duration, sensor);
        found.set(words, Math.max(found.get(words) ?? 0, size));
      }
    });
    const order = [...found.keys()].sort((a, b) => found.get(b) - found.get(a)).slice(0, most);
    return order.length ? order : [other];
  }

  #words(name, difference, duration, sensor) {
    const { shortest_us: shortest, longest_us: longest, sensor: usual } = this.reference;
    if (name === "duration") {
      const [low, high] = [seconds(shortest), seconds(longest)];
      return `lasts ${seconds(duration)}; trained on ${low === high ? low : `${low} to ${high}`}${duration < shortest ? ", cut short?" : ""}`;
    }
    if (name === "sensor") return `sensor of ${sensor[1]} x ${sensor[0]} pixels; trained on ${usual[1]} x ${usual[0]}`;
    if (name.startsWith("motion")) return "edges move otherwise";
    return this.wording.words[name][difference < 0 ? 1 : 0].replace("{}", plain(Math.exp(Math.min(difference, 50)), 2));
  }
}

function prepared({ clusters, duration_us: duration, limit }) {
  const factors = clusters.map(({ mean, covariance }) => cholesky(covariance, mean.length));
  const variances = clusters.map(({ mean, covariance }) => mean.map((_, i) => covariance[i * (i + 3) / 2]));
  return { clusters, duration, limit, factors, deviations: variances.map((one) => one.map(Math.sqrt)) };
}

/** The lower triangle L, row by row, with L times its transpose a covariance, of which the lower triangle is given. */
function cholesky(covariance, size) {
  const lower = Float64Array.from(covariance), at = (i, j) => i * (i + 1) / 2 + j;
  for (let i = 0; i < size; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = lower[at(i, j)];
      for (let k = 0; k < j; k++) sum -= lower[at(i, k)] * lower[at(j, k)];
      lower[at(i, j)] = i === j ? Math.sqrt(sum) : sum / lower[at(j, j)];
    }
  }
  return lower;
}

/** The cluster that figures are nearest to, and how far they are from it. */
function nearest(scale, values) {
  const squares = scale.clusters.map(({ mean }, k) => {
    const lower = scale.factors[k], solved = [];
    let sum = 0;
    for (let i = 0; i < mean.length; i++) {
      let rest = values[i] - mean[i];
      for (let j = 0; j < i; j++) rest -= lower[i * (i + 1) / 2 + j] * solved[j];
      solved.push(rest / lower[i * (i + 3) / 2]);
      sum += solved[i] * solved[i];
    }
    return sum / mean.length;
  });
  const least = Math.min(...squares);
  return { score: Math.sqrt(least) / scale.limit, scale, cluster: scale.clusters[squares.indexOf(least)] };
}

/** A duration with its unit: 1.5 s, 139 ms, 20 us. */
export function seconds(duration) {
  for (const [unit, size] of [["s", 1e6], ["ms", 1e3]]) if (duration >= 0.9995 * size) return `${plain(duration / size, 3)} ${unit}`;
  return `${duration} us`;
}

/** A number of 0 or more with so many significant digits and without an exponent: 0.53, 24, 5,400. */
export function plain(value, digits) {
  if (value >= 1e6) return "more than 1,000,000";
  if (value < 0.001) return "less than 0.001";
  const rounded = Number(value.toPrecision(digits));
  return rounded >= 10 ** (digits - 1) ? rounded.toLocaleString("en", { maximumFractionDigits: 0 }) : String(rounded);
}
