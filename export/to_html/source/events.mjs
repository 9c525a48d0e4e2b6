// Events of a recording, and what is done to those of every file: events outside the sensor are dropped, times of a clock
// that was set back go on, and the events are sorted. The rules are those of neuromoco/events (clock.py, extent.py).

export const LARGEST_SIDE = 65535;
export const CAMERA_US = 10_000; // by which events of a camera may be late
export const TABLE_US = 1_000_000; // and those of a table
export const LARGEST_EVENTS = 10_000_000;
const MOST_RESTARTS = 20, MOST_STRAY = 0.01, LARGEST_INFERRED = 4096, LARGEST_GAP = 0.25, SAMPLED = 13, FEW = 1 << 14;

/** A mistake in a file, in one line for its owner. */
export class EventError extends Error {
  constructor(message) {
    super(message.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "?")); // parts of it are from the file
  }
}

export const grouped = (number) => number.toLocaleString("en");

/** Columns of events that grow: times in whole microseconds, columns and rows from anywhere, polarities 0 and 1. */
export class Columns {
  count = 0;

  constructor(room = 4096) {
    [this.t, this.x, this.y, this.p] = [Float64Array, Int32Array, Int32Array, Uint8Array].map((Kind) => new Kind(room));
  }

  add(t, x, y, p) {
    const at = this.count++;
    if (at === this.t.length) this.#grow();
    this.t[at] = t; this.x[at] = x; this.y[at] = y; this.p[at] = p;
  }

  #grow() {
    if (this.count > LARGEST_EVENTS) {
      throw new EventError(`holds more than ${grouped(LARGEST_EVENTS)} events; neuromoco predict has no limit`);
    }
    for (const name of "txyp") {
      const before = this[name];
      this[name] = new before.constructor(2 * before.length);
      this[name].set(before);
    }
  }
}

/** Continues times after a camera's clock was set back; see neuromoco/events/clock.py. */
class Clock {
  restarts = 0;
  disordered = false;
  inOrder = true;

  constructor(late) {
    this.late = late; // what an event may be late
    this.offset = 0; // what is added to times now
    this.step = 0; // and by how much that was changed last
    this.changes = 0;
    this.latest = null;
  }

  /** All times, continued in place; as they are in the file if they run back too often to be those of a clock. */
  continue(times, count) {
    const raw = times.slice(0, count);
    for (let i = 0; i < count && !this.disordered; i++) times[i] = this.#next(times[i]);
    if (this.disordered) times.set(raw);
  }

  #next(raw) {
    if (!(Math.abs(raw) < 2 ** 53)) throw new EventError(`a time of ${raw} us, more than 285 years: damaged`);
    const { late, step } = this, latest = this.latest ?? raw + this.offset;
    let t = raw + this.offset;
    if (t < latest) this.inOrder = false;
    if (t < latest - late || (step > 0 && t > latest + late && t - step >= latest - late)) {
      if (this.changes === 2 * MOST_RESTARTS) {
        this.disordered = true;
        this.restarts = 0;
        return raw;
      }
      this.step = Math.max(latest - t, -step);
      this.restarts += this.step > 0 ? 1 : -1;
      this.changes += 1;
      this.inOrder = false;
      this.offset += this.step;
      t += this.step;
    }
    this.latest = Math.max(latest, t);
    return t;
  }
}

/**
 * A recording of the events that a reader found: `{ t, x, y, p, width, height, source, notes }`.
 * `sensor` is [width, height], each null if it is not known; `likely` are sensors of the cameras that write the format.
 */
export function toRecording(columns, { source, sensor = [null, null], likely = [], late = CAMERA_US, flip = "" }) {
  const outside = dropOutside(columns, source, sensor);
  const clock = new Clock(late), { count } = columns;
  clock.continue(columns.t, count);
  let [width, height] = sensor;
  if (width === null || height === null) {
    const found = likelySensor(columns, likely);
    width ??= found[0]; height ??= found[1];
  }
  const order = clock.inOrder && !clock.disordered ? null : inOrder(columns.t, count);
  const t = new Float64Array(count), x = new Uint16Array(count), y = new Uint16Array(count), p = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    const from = order ? order[i] : i;
    t[i] = columns.t[from]; p[i] = columns.p[from];
    x[i] = flip.includes("x") ? width - 1 - columns.x[from] : columns.x[from];
    y[i] = flip.includes("y") ? height - 1 - columns.y[from] : columns.y[from];
  }
  const notes = [];
  if (outside) notes.push(`${grouped(outside)} events outside the sensor were dropped`);
  if (clock.restarts) notes.push(`the clock was set back ${clock.restarts} times; times go on from the latest before`);
  return { t, x, y, p, width, height, source, notes };
}

function inOrder(times, count) {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  return order.sort((a, b) => times[a] - times[b] || a - b);
}

/** Drops events outside the sensor, or outside of any; returns their number, of which at most 1 % are allowed. */
function dropOutside(columns, source, [width, height]) {
  const { count, t, x, y, p } = columns, right = width ?? LARGEST_SIDE, bottom = height ?? LARGEST_SIDE;
  let kept = 0, first = -1, place = "";
  for (let i = 0; i < count; i++) {
    if (x[i] >= 0 && x[i] < right && y[i] >= 0 && y[i] < bottom) {
      t[kept] = t[i]; x[kept] = x[i]; y[kept] = y[i]; p[kept] = p[i];
      kept++;
    } else if (first < 0) {
      first = i;
      place = `x=${x[i]}, y=${y[i]}`;
    }
  }
  if (!count) throw new EventError(`the ${source} file holds no events`);
  const outside = count - kept;
  if (outside > MOST_STRAY * count) {
    const where = width && height ? `the ${width} x ${height} sensor` : "any sensor";
    const share = (100 * outside / count).toFixed(1);
    throw new EventError(`${outside} of ${count} events (${share}%) lie outside ${where}, the first at ${place}; up to ` +
      "1 % are dropped: damaged, or of another sensor");
  }
  columns.count = kept;
  return outside;
}

/** The smallest of a format's sensors that holds every event, or without these, the extent of the events. */
function likelySensor({ x, y, count }, sensors) {
  const sides = [1, 1];
  for (let i = 0; i < count; i++) {
    if (x[i] >= sides[0]) sides[0] = x[i] + 1;
    if (y[i] >= sides[1]) sides[1] = y[i] + 1;
  }
  const holds = ([width, height]) => sides[0] <= width && sides[1] <= height;
  if (sensors.length && holds(sensors[0])) return sensors[0];
  [x, y].forEach((places, axis) => checkExtent("xy"[axis], places, count, sides[axis]));
  if (!sensors.length) return sides;
  const found = sensors.find(holds);
  if (!found) {
    throw new EventError(`the file does not name its sensor, and its events need ${sides.join(" x ")} pixels, more than ` +
      `${sensors.at(-1).join(" x ")}, the largest sensor of this format: damaged`);
  }
  return found;
}

function checkExtent(name, places, count, side) {
  if (side > LARGEST_INFERRED) {
    throw new EventError(`the file does not name its sensor, and ${name} reaches ${side - 1}, beyond every camera: damaged`);
  }
  let gap = null;
  for (const step of [count > FEW ? SAMPLED : 1, 1]) { // a sample is enough, unless it holds a gap
    const counts = new Uint32Array(side);
    for (let i = 0; i < count; i += step) counts[places[i]]++;
    counts[side - 1] ||= 1;
    if (!(gap = wideGap(counts))) return;
  }
  throw new EventError(`the file does not name its sensor, and a few events lie at ${name}=${gap[1]} or beyond, far from ` +
    `all others (up to ${name}=${gap[0]}): damaged, or write one that names it, with neuromoco convert --sensor`);
}

/** The places before and after a wide gap among the last 1 % of the events, given their number at each place. */
function wideGap(counts) {
  const occupied = [...counts.keys()].filter((place) => counts[place]);
  const all = occupied.reduce((sum, place) => sum + counts[place], 0);
  let gap = null;
  for (let i = occupied.length - 1, beyond = 0; i > 0; i--) {
    beyond += counts[occupied[i]];
    if (beyond > MOST_STRAY * all) break;
    if (occupied[i] - occupied[i - 1] > LARGEST_GAP * (occupied[i - 1] + 1)) gap = [occupied[i - 1], occupied[i]];
  }
  return gap;
}
