// numpy's arrays: .npy, and .npz, an archive of them. Which are events: neuromoco/events/arrays. Nothing is unpickled.

import { Columns, EventError, TABLE_US } from "./events.mjs";
import { crc32, inflated, latin1 } from "./bytes.mjs";
import { isComplete, noColumns, placesOf, ROLES, rolesOf, shown, Tidy, titleOf } from "./tables.mjs";

export const NPY = "\x93NUMPY";
export const ZIP = "PK\x03\x04";
const LARGEST_RATIO = 200, HARMLESS_BYTES = 1 << 26, MOST_ARRAYS = 1000, LARGEST_ARRAYS = 2 ** 30, PIECE = 1 << 16;
const FEWEST = 4, MOST = 16; // columns of an array without names
const damaged = (what, why) => new EventError(`the ${what} file is cut or damaged (${why})`);

export async function readNpz(bytes, { columns, unit }) {
  const arrays = [];
  for (const { name, content } of await members(bytes)) arrays.push(parseArray("npz", content, name));
  const side = (title) => sideOf(arrays.find((array) => array.title === title));
  return { ...eventsIn("npz", arrays, columns, unit), sensor: [side("width"), side("height")] };
}

export function readNpy(bytes, { columns, unit }) {
  return { ...eventsIn("npy", [parseArray("npy", bytes, "")], columns, unit), sensor: [null, null] };
}

/** The arrays in an archive, unpacked: `{ name, content }`. */
async function members(bytes) {
  const found = entries(bytes), size = found.reduce((sum, one) => sum + one.size, 0);
  if (size > LARGEST_ARRAYS || (size > HARMLESS_BYTES && size > LARGEST_RATIO * bytes.length)) {
    throw new EventError(`the archive unpacks to ${size} bytes, which is too much for this page`);
  }
  if (found.length > MOST_ARRAYS) throw new EventError(`the archive holds ${found.length} arrays; up to ${MOST_ARRAYS} are read`);
  const unpacked = [];
  for (const { name, method, size: whole, packed, checksum } of found) {
    if (method !== 0 && method !== 8) throw new EventError(`the archive packs ${shown([name])} by method ${method}; 0 and 8 are read`);
    let content = packed;
    try {
      if (method === 8) content = await inflated(packed, whole);
    } catch (error) {
      throw damaged("npz", `${shown([name])}: ${error.message || "cannot be unpacked"}`);
    }
    if (content.length !== whole || crc32(content) !== checksum) throw damaged("npz", `the checksum of ${shown([name])} differs`);
    unpacked.push({ name: name.slice(0, -4), content });
  }
  return unpacked;
}

/** What the directory at the end of a zip archive lists. */
function entries(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), found = [];
  try {
    let end = bytes.length - 22;
    while (end >= Math.max(0, bytes.length - 66_000) && view.getUint32(end, true) !== 0x06054b50) end--;
    const count = view.getUint16(end + 10, true);
    for (let at = view.getUint32(end + 16, true), i = 0; i < count; i++) {
      if (view.getUint32(at, true) !== 0x02014b50) throw new RangeError("no entry of an archive");
      const [method, packed, size] = [view.getUint16(at + 10, true), view.getUint32(at + 20, true), view.getUint32(at + 24, true)];
      const [long, extra, comment] = [28, 30, 32].map((place) => view.getUint16(at + place, true));
      const name = latin1(bytes, at + 46, at + 46 + long), local = view.getUint32(at + 42, true);
      const begin = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
      if (view.getUint32(local, true) !== 0x04034b50 || begin + packed > bytes.length) throw new RangeError("no entry of an archive");
      const content = bytes.subarray(begin, begin + packed);
      if (name.endsWith(".npy")) found.push({ name, method, size, packed: content, checksum: view.getUint32(at + 16, true) });
      at += 46 + long + extra + comment;
    }
  } catch (error) {
    if (error instanceof RangeError) throw damaged("npz", "its directory is missing or wrong");
    throw error;
  }
  return found;
}

/** An array: its description, and the place of its numbers. */
function parseArray(what, bytes, name) {
  const version = bytes[6], long = version === 1 ? 2 : 4, view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (latin1(bytes, 0, 6) !== NPY || bytes.length < 12 || version < 1 || version > 3) throw damaged(what, `${shown([name])} is no array`);
  const begin = 8 + long + (long === 2 ? view.getUint16(8, true) : view.getUint32(8, true));
  const text = latin1(bytes, 8 + long, begin);
  let about;
  try { // a literal of Python
    about = JSON.parse(text.replace(/\(/g, "[").replace(/\)/g, "]").replace(/'/g, '"').replace(/,\s*([\]}])/g, "$1")
      .replace(/[\f\v]/g, " ").replace(/\bTrue\b/g, "true").replace(/\bFalse\b/g, "false"));
  } catch {
    throw damaged(what, `the description of ${shown([name || "the array"])} cannot be read`);
  }
  if (Object.keys(about ?? {}).sort().join() !== "descr,fortran_order,shape") throw damaged(what, "its description has other keys");
  const { descr, fortran_order: byColumns, shape } = about;
  if (!Array.isArray(shape) || !shape.every((side) => Number.isSafeInteger(side) && side >= 0)) throw damaged(what, "its shape is none");
  const fields = Array.isArray(descr) ? fieldsIn(descr) : null, kind = fields ? null : kindOf(descr);
  const size = fields ? fields.size : kind.size, total = shape.reduce((product, side) => product * side, 1) * size;
  if (kind?.letter === "O" || fields?.list.some((field) => field.kind.letter === "O")) {
    throw new EventError(`${shown([name || "the array"])} holds Python objects, which are never loaded; save arrays of numbers: numpy.savez(FILE, t=t, x=x, y=y, p=p)`);
  }
  if (begin + total > bytes.length) throw damaged(what, `${begin + total - bytes.length} bytes of its array are missing`);
  if (begin + total < bytes.length) throw new EventError(`the ${what} file is damaged: ${bytes.length - begin - total} bytes follow its array`);
  const cut = Math.max(name.lastIndexOf("."), name.lastIndexOf("/"), 0);
  const wide = shape.filter((side) => side !== 1), width = widthOf(shape, wide);
  return { name, place: name.slice(0, cut), title: name.slice(cut).replace(/^[./]/, ""), view, begin, shape, kind, fields, size,
    width, count: shape.reduce((product, side) => product * side, 1) / Math.max(width, 1),
    apart: width > 1 && Boolean(byColumns) === (shape.at(-1) === width) };
}

/** Columns: 1, or those of a table; 0 if it is neither. */
function widthOf(shape, wide) {
  if (wide.length < 2) return shape.length === 1 || shape.length === 2 ? 1 : 0;
  return (wide.length === 2 && [...wide].reverse().find((side) => side >= FEWEST && side <= MOST)) || 0;
}

/** A type of numbers, such as "<i8". */
function kindOf(text) {
  const found = /^([<>|=]?)([a-zA-Z?])(\d*)$/.exec(String(text));
  if (!found) throw new EventError(`holds ${shown([String(text)])}; events are numbers`);
  const letter = found[2] === "?" ? "b" : found[2];
  return { text, little: found[1] !== ">", letter, size: Number(found[3] || 1) * (letter === "U" ? 4 : 1) };
}

/** The fields of records, and the bytes of one. */
function fieldsIn(descr) {
  const list = [];
  let size = 0;
  for (const field of descr) {
    if (!Array.isArray(field) || field.length < 2 || !Array.isArray(field[2] ?? [])) throw new EventError("holds records that cannot be read");
    const [title, type, shape] = field, each = (shape ?? []).reduce((product, side) => product * side, 1);
    const name = String(Array.isArray(title) ? title.at(-1) : title);
    const kind = Array.isArray(type) ? { letter: "V", size: fieldsIn(type).size, text: "records" } : kindOf(type);
    if (name && kind.letter !== "V") list.push({ name, kind, at: size, isOne: each === 1 });
    size += kind.size * each;
  }
  return { list, size };
}

const READERS = {
  b1: "getUint8", i1: "getInt8", u1: "getUint8", i2: "getInt16", u2: "getUint16", i4: "getInt32", u4: "getUint32",
  f2: "getUint16", f4: "getFloat32", f8: "getFloat64", i8: "getBigInt64", u8: "getBigUint64",
};

/** A column of numbers: every `step` bytes from `at` on; `part` gives some of them, bigint where numbers are not exact. */
function columnOf({ view, begin }, kind, at, step, name) {
  const { letter, size, little } = kind, method = READERS[`${letter}${size}`];
  if (!method) throw new EventError(`${shown([name])} holds ${shown([String(kind.text)])}; events are numbers`);
  const convert = { b1: (byte) => (byte ? 1 : 0), f2: fromHalf }[`${letter}${size}`] ?? ((value) => value);
  const half = letter === "u" ? "getUint32" : "getInt32", [low, high] = little ? [0, 4] : [4, 0];
  const isLong = size === 8 && letter !== "f";
  const read = isLong ? (place) => view[half](place + high, little) * 2 ** 32 + view.getUint32(place + low, little)
    : (place) => convert(view[method](place, little));
  return {
    isFloat: letter === "f",
    part(first, end) {
      const numbers = new Float64Array(end - first), origin = begin + at + first * step;
      for (let i = 0; i < numbers.length; i++) numbers[i] = read(origin + i * step);
      if (!isLong || numbers.every(Number.isSafeInteger)) return numbers;
      return Array.from(numbers, (number, i) => (Number.isSafeInteger(number) ? number : view[method](origin + i * step, little)));
    },
  };
}

/** A number of 16 bits: 1 sign, 5 exponent, 10 fraction. */
function fromHalf(bits) {
  const sign = bits >> 15 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * fraction / 1024);
}

/** The one place among arrays that holds events, converted. */
function eventsIn(source, arrays, usual, unit) {
  if (arrays.some((array) => array.shape.length && array.shape.every((side) => side > 0) === false && arrays.length === 1)) {
    throw new EventError(`the ${source} file holds no events`);
  }
  const vectors = arrays.filter((array) => array.width === 1), places = [];
  for (const place of new Set(vectors.filter((one) => one.kind).map((array) => array.place))) {
    const here = vectors.filter((array) => array.place === place && array.kind && "iufb".includes(array.kind.letter));
    const titles = here.map((array) => array.title), roles = findRoles(titles, usual);
    if (isComplete(roles)) places.push({ place, ...ofVectors(here, roles) });
  }
  for (const array of vectors.filter((one) => one.fields)) {
    const titles = array.fields.list.map((field) => field.name), roles = findRoles(titles, usual);
    if (isComplete(roles)) places.push({ place: array.name, ...ofRecords(array, roles) });
  }
  const tables = arrays.filter((array) => array.width > 1 && array.kind && "iuf".includes(array.kind.letter));
  if (!places.length && usual && !usual.includes("=")) {
    for (const table of tables) places.push({ place: table.name, ...ofTable(table, placesOf([], table.width, usual).places) });
  }
  if (places.length > 1) throw new EventError(`holds events at ${places.length} places, ${shown(places.map((one) => one.place))}; ` +
    "neuromoco convert --select writes those of one");
  if (!places.length) throw nothing(arrays, tables);
  return converted(source, places[0], unit);
}

/** Titles of events by role: as the network's recordings name them, or in the usual way. */
function findRoles(titles, usual) {
  const roles = usual && usual.includes("=") ? rolesOf(titles, usual) : {};
  return isComplete(roles) ? roles : rolesOf(titles);
}

function ofVectors(here, roles) {
  const chosen = ROLES.map((role) => here.find((array) => array.title === roles[role]));
  if (new Set(chosen.map((array) => array.count)).size > 1) {
    throw new EventError(`columns differ in length: ${chosen.map((array) => `${array.title} ${array.count}`).join(", ")}`);
  }
  const columns = chosen.map((array) => columnOf(array, array.kind, 0, array.size, array.title));
  return { columns, count: chosen[0].count, unit: titleOf(roles.t).unit, order: "named" };
}

function ofRecords(array, roles) {
  const columns = ROLES.map((role) => {
    const { name, kind, at, isOne } = array.fields.list.find((field) => field.name === roles[role]);
    if (!isOne) throw new EventError(`field ${shown([name])} holds several numbers; a column holds one`);
    return columnOf(array, kind, at, array.size, name);
  });
  return { columns, count: array.count, unit: titleOf(roles.t).unit, order: "named" };
}

function ofTable(table, places) {
  const { kind, size, count, width, apart } = table;
  const columns = ROLES.map((role) => {
    const place = places[role];
    return columnOf(table, kind, apart ? place * count * size : place * size, apart ? size : width * size, role);
  });
  return { columns, count, order: "given" };
}

function converted(source, { columns: [t, x, y, p], count, unit: named, order }, unit) {
  const columns = new Columns(Math.max(count, 1)), tidy = new Tidy(columns, named ?? unit, order);
  for (let first = 0; first < count; first += PIECE) {
    const end = Math.min(first + PIECE, count), part = (column) => column.part(first, end);
    tidy.add({ t: part(t), x: part(x), y: part(y), p: part(p) }, t.isFloat);
  }
  return { columns, source, late: TABLE_US };
}

function nothing(arrays, tables) {
  const records = arrays.find((array) => array.fields);
  if (records) return noColumns("fields", records.fields.list.map((field) => field.name));
  const holds = shown(arrays.map((array) => `${array.name || "an array"} (${array.shape.join(", ")}) of ${array.kind?.text ?? "records"}`));
  if (tables.length) return new EventError(`the columns of ${holds} have no names; neuromoco convert --columns txyp writes a file that names them`);
  if (arrays.length === 1) return new EventError(`holds ${holds}; events are [E] with fields, [E, 4] numbers, or four arrays [E]`);
  return noColumns("arrays", arrays.filter((array) => array.width === 1).map((array) => array.name));
}

/** A side of the sensor, from an array of one number. */
function sideOf(array) {
  if (!array) return null;
  if (!array.kind || !"iuf".includes(array.kind.letter) || array.shape.some((side) => side !== 1)) {
    throw new EventError(`${array.name} is no number`);
  }
  const [side] = columnOf(array, array.kind, 0, array.size, array.name).part(0, 1);
  if (!Number.isInteger(side)) throw new EventError(`a ${array.name} of ${side}; the sides of a sensor are whole numbers`);
  return side;
}
