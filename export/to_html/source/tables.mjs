// Columns of events under the names and in the numbers of others, for text and arrays. The rules are those of
// neuromoco/events (columns.py, tidy.py): what would be a guess is refused.

import { rint } from "./bytes.mjs";
import { EventError, grouped, LARGEST_SIDE } from "./events.mjs";

export const ROLES = ["t", "x", "y", "p"];
const NAMES = {
  t: ["t", "ts", "time", "times", "timestamp", "timestamps"],
  x: ["x", "xs", "xpos", "xaddr", "xcoord", "xcoordinate", "col", "column"],
  y: ["y", "ys", "ypos", "yaddr", "ycoord", "ycoordinate", "row"],
  p: ["p", "ps", "pol", "pols", "polarity", "polarities", "on", "onoff"],
};
const UNITS = { s: "s", sec: "s", second: "s", seconds: "s", ms: "ms", msec: "ms", millisecond: "ms", milliseconds: "ms",
  us: "us", "\u00b5s": "us", "\u03bcs": "us", usec: "us", microsecond: "us", microseconds: "us",
  ns: "ns", nsec: "ns", nanosecond: "ns", nanoseconds: "ns" };
const TITLE = new RegExp(`^([\\p{L}\\p{N}_\\s/.\\-]*?)(?:[_ ](${Object.keys(UNITS).join("|")})|\\s*[\\[(]\\s*([^\\])]*)[\\])])?` +
  "\\s*(?:@(\\d+))?$", "u");
const POWER = { s: 1e6, ms: 1e3, us: 1, ns: 1e-3 };
const LARGEST_US = 2 ** 53, LATEST_US = 4.1e15, LOOKED_AT = 10_000, FEW = 1000, LONG_US = 100_000_000, SLOWEST = 10;
const FASTEST = 1000, TO_CONVERT = "neuromoco convert FILE NEW.npz writes one that says it, with --columns";
const GIVE_UNIT = "neuromoco convert --time-unit writes a file that says it";

/** A column's title, taken apart: its name in lower-case letters, unit and size. */
export function titleOf(text) {
  const plain = text.slice(0, 100).replace(/^[ \t\r\n"'#]+|[ \t\r\n"'#]+$/g, "").toLowerCase()
    .replace(/(dataset_)?events?[_./]/, "");
  const found = TITLE.exec(plain);
  if (!found) return { name: plain };
  const [, name, unit, inside, size] = found;
  return { name: name.replace(/[^a-z]/g, ""), unit: UNITS[unit ?? (inside ?? "").trim()], size };
}

const isOrder = (columns) => columns != null && !columns.includes("=");

/** Names that are given to columns, such as "t=timestamp,x=x_pos", by role. */
function namesIn(columns) {
  if (columns == null || isOrder(columns)) return {};
  return Object.fromEntries(columns.split(",").map((pair) => pair.split("=").map((part) => part.trim().toLowerCase())));
}

/** Places of the columns in an order such as "xytp", in which "_" stands for one to skip. */
function placesIn(order, count) {
  if (order.length > count) throw new EventError(`the network's recordings have the columns ${order}; there are ${count} here`);
  return Object.fromEntries(ROLES.map((role) => [role, order.toLowerCase().indexOf(role)]));
}

/** Titles of the columns of events by role; a missing one is left out. */
export function rolesOf(titles, columns = null) {
  const named = namesIn(columns), exact = new Map(), plain = new Map();
  for (const title of [...titles].reverse()) exact.set(titleOf(title).name, title);
  for (const title of [...titles].reverse()) exact.set(title.trim().toLowerCase(), title);
  const roles = {};
  for (const role of Object.keys(named)) if (exact.has(named[role])) roles[role] = exact.get(named[role]);
  const taken = Object.values(roles);
  for (const title of [...titles].reverse()) if (!taken.includes(title)) plain.set(titleOf(title).name, title);
  for (const role of ROLES.filter((one) => !(one in named))) {
    const name = NAMES[role].find((one) => plain.has(one));
    if (name) roles[role] = plain.get(name);
  }
  return roles;
}

/** What is known of columns, in the order in which it counts; null for the names in the file. */
const waysOf = (usual) => (usual == null ? [null] : isOrder(usual) ? [null, usual] : [usual, null]);

/** Places of t, x, y, p among columns with titles, or `count` without; and how their order is known. */
export function placesOf(titles, count, usual, isGuess) {
  const ways = waysOf(usual), way = ways.find((one) => isComplete(rolesOf(titles, one)));
  if (way !== undefined) {
    const roles = rolesOf(titles, way);
    return { places: Object.fromEntries(ROLES.map((role) => [role, titles.indexOf(roles[role])])), order: "named" };
  }
  if (isOrder(usual)) return { places: placesIn(usual, count), order: "given" };
  if (titles.length) throw noColumns("columns", titles);
  if (isGuess) return { places: { t: 0, x: 1, y: 2, p: 3 }, order: "guessed" };
  throw new EventError(`no line names the columns; ${TO_CONVERT}`);
}

export const isComplete = (roles) => ROLES.every((role) => role in roles);

export function noColumns(what, titles) {
  const missing = ROLES.filter((role) => !(role in rolesOf(titles)));
  return new EventError(`the ${what} are ${shown(titles)}; a recording has t, x, y, p: ${missing.join(", ")} missing; ${TO_CONVERT}`);
}

/** The first names, for a message. */
export function shown(names) {
  return (names.slice(0, 20).join(", ") || "none").slice(0, 300);
}

/** Converts numbers of a table's events, and refuses what no camera makes. */
export class Tidy {
  count = 0;
  #zero = false;
  #minus = false;

  /** `unit` is what the file or the network says of times, `order` how that of the columns is known. */
  constructor(columns, unit, order) {
    this.columns = columns;
    this.given = this.unit = unit ?? null;
    this.order = order;
  }

  /** Adds the next events; `t` has bigint where numbers are not exact, `isFloat` says whether times have points. */
  add({ t, x, y, p }, isFloat) {
    const { columns } = this, begin = columns.count;
    if (this.unit === null && t.length) this.unit = isFloat ? unitOf(t) : "us";
    const whole = this.given === null && this.unit === "us" && isFloat;
    for (let i = 0; i < t.length; i++) {
      if (whole && t[i] !== rint(t[i])) this.#refuse(i, "the time", t[i], `those before it were whole: ${GIVE_UNIT}`);
      columns.add(this.#microseconds(t[i], isFloat, i), this.#side("x", x[i], i), this.#side("y", y[i], i), this.#polarity(p[i], i));
    }
    if (!this.count) this.#checkPlausible(begin);
    this.count += t.length;
  }

  #refuse(i, what, value, allowed) {
    throw new EventError(`${what} of event ${this.count + i} is ${value}; ${allowed}`);
  }

  #microseconds(value, isFloat, i) {
    const factor = POWER[this.unit];
    let time;
    if (isFloat) time = rint(factor < 1 ? value / 1000 : value * factor);
    else if (factor < 1) time = typeof value === "bigint" ? Number(roundedDown(value)) : Math.floor((value + 500) / 1000);
    else time = Number(value) * factor;
    if (!(Math.abs(time) < LARGEST_US)) this.#refuse(i, "the time", value, "a time is finite and below 2^53 us");
    return time;
  }

  #side(name, value, i) {
    if (typeof value !== "bigint" && !Number.isInteger(value)) this.#refuse(i, name, value, "coordinates are whole numbers");
    return value >= 0 && value < LARGEST_SIDE ? value : LARGEST_SIDE;
  }

  #polarity(value, i) {
    if (value !== 1 && value !== 0 && value !== -1) {
      this.#refuse(i, "the polarity", value, "polarities are 0 and 1, or -1 and 1");
    }
    this.#zero ||= value === 0;
    this.#minus ||= value === -1;
    if (this.#zero && this.#minus) {
      throw new EventError("polarities of -1 and of 0 in one file; polarities are 0 and 1, or -1 and 1");
    }
    return value === 1 ? 1 : 0;
  }

  #checkPlausible(begin) {
    const t = this.columns.t.subarray(begin, this.columns.count), count = t.length, isGuess = this.given === null;
    if (!count) return;
    if (isGuess && Math.abs(t[count - 1]) > LATEST_US) {
      throw new EventError(`a time of ${t[count - 1]} us, if the unit is the usual one, is that of no clock: ${GIVE_UNIT}`);
    }
    if (count < FEW) return;
    if (this.order !== "named") this.#checkOrder(begin, Math.min(count, LOOKED_AT));
    const duration = t[count - 1] - t[0];
    if (isGuess && duration > LONG_US && count / duration * 1e6 < SLOWEST) {
      throw new EventError(`${count} events in ${grouped(Math.round(duration / 1e6))} s, if the unit is the usual one: ${GIVE_UNIT}`);
    }
    if (isGuess && count > LOOKED_AT && count > FASTEST * (Math.abs(duration) + 1)) {
      throw new EventError(`${count} events in ${duration} us are more than a camera sends: ${GIVE_UNIT}`);
    }
  }

  #checkOrder(begin, some) {
    const steps = (name, test) => {
      let found = 0;
      for (let i = begin + 1; i < begin + some; i++) found += test(this.columns[name][i] - this.columns[name][i - 1]);
      return found;
    };
    const back = steps("t", (step) => step < 0), steady = ["x", "y"].find((name) => !steps(name, (step) => step < 0));
    if (back > Math.floor(some / 4) && (steady || this.order === "guessed")) {
      const why = steady ? `column ${steady} never decreases` : "nothing names the columns";
      throw new EventError(`times run back at ${back} of ${some} events, and ${why}; ${TO_CONVERT}`);
    }
  }
}

/** Microseconds of nanoseconds that are beyond exact numbers, half up. */
function roundedDown(value) {
  const shifted = value + 500n, quotient = shifted / 1000n;
  return shifted % 1000n < 0n ? quotient - 1n : quotient;
}

/** The unit of times with points that do not say it. */
function unitOf(t) {
  if (t.some((time) => time !== rint(time)) || t.every((time) => time === 0)) return "s";
  throw new EventError(`the times are floating-point numbers, but whole, such as ${t[t.length - 1]}: ${GIVE_UNIT}`);
}
