// Prophesee's RAW files (EVT2, EVT2.1, EVT3) and DAT files. Layouts: neuromoco/events/prophesee.

import { CAMERA_US, Columns, EventError, LARGEST_SIDE } from "./events.mjs";
import { latin1 } from "./bytes.mjs";

const LARGEST_HEADER = 1 << 20, OUTSIDE = LARGEST_SIDE - 15;
const ENCODINGS = { EVT2: /^(EVT2|2)(\.0)?$/i, "EVT2.1": /^(EVT21|EVT2\.1|2\.1)$/i, EVT3: /^(EVT3|3)(\.0)?$/i };
const WORD_BYTES = { EVT2: 4, "EVT2.1": 8, EVT3: 2 };

/** Header lines that begin with a mark: values by key in lower case, and where the data begin. */
export function parseHeader(head, mark) {
  const line = /%([^\x00-\x08\x0a-\x1f\x7f]*)\r?\n/y, fields = {};
  let begin = 0, ended = false;
  while (!ended && head.startsWith(mark, begin)) {
    line.lastIndex = begin;
    const found = line.exec(head);
    if (!found) break;
    const [key, value] = partition(found[1].trim(), " ");
    fields[key.toLowerCase()] = value.trim();
    begin = line.lastIndex;
    ended = key === "end";
  }
  const [name, ...pairs] = (fields.format ?? "").split(";");
  if (pairs.length) {
    fields.format = name.trim();
    for (const [key, value] of pairs.map((pair) => partition(pair, "="))) fields[key.trim().toLowerCase()] = value.trim();
  }
  return { fields, begin, ended };
}

function partition(text, mark) {
  const at = text.indexOf(mark);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + mark.length)];
}

function readHeader(bytes, mark) {
  const head = latin1(bytes, 0, LARGEST_HEADER), header = parseHeader(head, mark), rest = head.slice(header.begin);
  if (!header.ended && rest.startsWith(mark) && !rest.includes("\n") && /^%[^\x00-\x08\x0a-\x1f\x7f]*$/.test(rest)) {
    throw new EventError("the header is cut: its last line does not end");
  }
  return header;
}

function sensorOf(fields) {
  const isNamed = "width" in fields && "height" in fields;
  const text = isNamed ? `${fields.width}x${fields.height}` : fields.geometry;
  if (text === undefined) return null;
  const sides = (/^([0-9]{1,9})x([0-9]{1,9})$/.exec(text) ?? [0, 0, 0]).slice(1, 3).map(Number);
  if (!sides.every((side) => side >= 1 && side <= LARGEST_SIDE)) {
    throw new EventError(`the header's sensor is '${text.slice(0, 40)}'; it reads WIDTHxHEIGHT, each from 1 to ${LARGEST_SIDE}`);
  }
  return sides;
}

/** The time that was subtracted from every event. */
function originOf(fields) {
  const text = fields.t0 ?? "0";
  if (!/^[0-9]{1,15}$/.test(text)) {
    throw new EventError(`the header's t0 is '${text.slice(0, 40)}'; it is a whole number of microseconds`);
  }
  return Number(text);
}

/** Continues a counter that starts again at 0; cameras may step back over that place by less than `back`. */
class Counter {
  turns = 0;
  last = null;

  constructor(period, back) {
    this.period = period;
    this.back = back;
  }

  next(value) {
    const step = value - (this.last ?? value);
    if (step < -this.period / 2) this.turns += 1;
    if (step > this.period - this.back && this.turns) this.turns -= 1;
    this.last = value;
    return value + this.turns * this.period;
  }
}

export function checkWhole(bytes, begin, size, name) {
  const length = bytes.length - begin;
  if (length % size) {
    throw new EventError(`${length} bytes of events are not a whole number of ${size}-byte ${name}: the file is cut or damaged`);
  }
  return length / size;
}

const viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Prophesee RAW. `known` is the sensor of files that do not name it. */
export function readRaw(bytes, { sensor: known }) {
  const { fields, begin } = readHeader(bytes, "% "), name = fields.format || fields.evt || "";
  const encoding = Object.keys(ENCODINGS).find((one) => ENCODINGS[one].test(name));
  if (!encoding) {
    throw new EventError(`holds '${name.slice(0, 40)}'; of Prophesee's encodings EVT2, EVT2.1 and EVT3 are read`);
  }
  const order = fields.endianness ?? "little", allowed = encoding === "EVT2.1" ? ["little", "legacy"] : ["little"];
  if (!allowed.includes(order)) {
    throw new EventError(`${encoding} with endianness '${order.slice(0, 40)}'; ${allowed.join(" and ")} is read`);
  }
  const sensor = sensorOf(fields) ?? known;
  if (!sensor) throw new EventError("the header does not name the sensor; neuromoco convert --sensor writes a file that does");
  const count = checkWhole(bytes, begin, WORD_BYTES[encoding], `${encoding} words`);
  const columns = new Columns(), view = viewOf(bytes), origin = originOf(fields);
  if (encoding === "EVT3") addEvt3(columns, view, begin, count, origin);
  else addEvt2(columns, view, begin, count, origin, encoding, order === "legacy");
  return { columns, source: `Prophesee RAW ${encoding}`, sensor };
}

function reserved(type, encoding) {
  return new EventError(`a word of the reserved type 0x${type.toString(16)} in ${encoding}: the file is cut or damaged`);
}

function addEvt2(columns, view, begin, count, origin, encoding, highFirst) {
  const clock = new Counter(2 ** 28, 2 ** 10), isVector = encoding === "EVT2.1", size = WORD_BYTES[encoding];
  const ofHead = isVector && !highFirst ? 4 : 0;
  let high = null; // of the time; events before the first one have none
  for (let i = 0, at = begin; i < count; i++, at += size) {
    const word = view.getUint32(at + ofHead, true), type = word >>> 28;
    if (type === 0x8) {
      high = clock.next(word & 0xfffffff) * 64 + origin;
    } else if (type > 1) {
      if (type !== 0xa && type !== 0xe && type !== 0xf) throw reserved(type, encoding);
    } else if (high !== null) {
      const t = high + ((word >>> 22) & 63), x = (word >>> 11) & 2047, y = word & 2047;
      if (!isVector) columns.add(t, x, y, type);
      else addMask(columns, t, x, y, type, view.getUint32(at + 4 - ofHead, true));
    }
  }
}

function addMask(columns, t, x, y, p, mask) {
  for (let bits = mask; bits; bits &= bits - 1) columns.add(t, x + 31 - Math.clz32(bits & -bits), y, p);
}

function addEvt3(columns, view, begin, count, origin) {
  const clock = new Counter(2 ** 12, 8);
  let high = -1, low = 0, t = 0, y = -1, base = -1, polarity = 0, camera = -1;
  for (let i = 0, at = begin; i < count; i++, at += 2) {
    const word = view.getUint16(at, true), type = word >> 12, rest = word & 0xfff;
    if (type === 0x0) {
      if (camera >= 0 && camera !== rest >> 11) {
        throw new EventError("the EVT3 file holds events of two cameras; neuromoco convert --select writes those of one");
      }
      camera = rest >> 11;
      y = rest & 0x7ff;
    } else if (type === 0x2) {
      if (high >= 0 && y >= 0) columns.add(t, rest & 0x7ff, y, rest >> 11);
    } else if (type === 0x3) {
      base = rest & 0x7ff;
      polarity = rest >> 11;
    } else if (type === 0x4 || type === 0x5) { // one bit for each of 12 or 8 pixels
      if (base < 0) continue;
      if (high >= 0 && y >= 0) addMask(columns, t, base, y, polarity, type === 0x4 ? rest : rest & 0xff);
      base = Math.min(base + (type === 0x4 ? 12 : 8), OUTSIDE);
    } else if (type === 0x6) {
      low = rest;
      t = high * 4096 + low + origin;
    } else if (type === 0x8) {
      const now = clock.next(rest);
      if (now !== high) low = 0; // until the next low half
      high = now;
      t = high * 4096 + low + origin;
    } else if (word !== 0x9999 && (type === 0x1 || type === 0x9 || type === 0xb || type === 0xc)) {
      throw reserved(type, "EVT3");
    }
  }
}

/** Prophesee DAT, versions 1 and 2; without a header if the network's recordings are such files. */
export function readDat(bytes, { isBare }) {
  const { fields, begin: end } = readHeader(bytes, "%"), text = fields.version ?? "1";
  if (!end && !isBare) throw new EventError("no header of a DAT file");
  const version = { 0: 1, 1: 1, "1.0": 1, 2: 2, "2.0": 2 }[text];
  if (!version) throw new EventError(`DAT version '${text.slice(0, 40)}'; versions 1 and 2 are read`);
  const sensor = sensorOf(fields) ?? (version === 1 ? [304, 240] : null), begin = end ? end + 2 : 0;
  if (end) checkType(bytes, end);
  const count = checkWhole(bytes, begin, 8, "DAT events"), [xBits, yBits] = version === 1 ? [9, 8] : [14, 14];
  const columns = new Columns(), view = viewOf(bytes), clock = new Counter(2 ** 32, CAMERA_US), origin = originOf(fields);
  for (let i = 0, at = begin, latest = 0; i < count; i++, at += 8) {
    const t = clock.next(view.getUint32(at, true)), word = view.getUint32(at + 4, true);
    if (!end && latest - t > CAMERA_US) throw new EventError("times run back: no ATIS file without header, or damaged");
    latest = Math.max(latest, t);
    columns.add(t + origin, word & ((1 << xBits) - 1), (word >>> xBits) & ((1 << yBits) - 1), (word >>> (xBits + yBits)) & 1);
  }
  return { columns, source: end ? `Prophesee DAT ${version}` : "ATIS td .dat", sensor };
}

function checkType(bytes, at) {
  const [kind, size] = [bytes[at], bytes[at + 1]];
  if (size === undefined) throw new EventError("the DAT file ends before the type of its events: it is cut");
  if (kind === 0x0e) throw new EventError("the DAT file holds external triggers; changes of brightness are read (CD)");
  if ((kind !== 0x00 && kind !== 0x0c) || size !== 8) {
    const named = `0x${kind.toString(16).padStart(2, "0")}`;
    throw new EventError(`DAT events of type ${named} and ${size} bytes; type 0x0c (CD) or 0x00 of 8 bytes is read`);
  }
}
