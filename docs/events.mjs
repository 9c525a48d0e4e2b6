// Readers of event files. Each turns bytes into events: columns t (microseconds), x, y, p (1 brighter, 0 darker), and
// `sensor`, [width, height], where the file names it. Layouts: docs/formats.md names the vendors' descriptions.

/** The events of a file, by its content. */
export function readEvents(bytes) {
  const head = bytes.toString("latin1", 0, 1 << 16);
  if (head.startsWith("#!AER-DAT3.1")) return readAedat3(bytes, head);
  if (head.startsWith("% ")) return readProphesee(bytes, head);
  if (/^"?[a-z]+"?[,;]/i.test(head)) return readCsv(bytes.toString("latin1"));
  return readAtis(bytes);
}

class Events {
  t = []; x = []; y = []; p = []; sensor = null;

  add(t, x, y, p) {
    this.t.push(t); this.x.push(x); this.y.push(y); this.p.push(p);
  }
}

/** Continues a counter that starts again at 0; cameras may step back over that place by less than `back`. */
class Clock {
  turns = 0; last = null;
  constructor(period, back) { this.period = period; this.back = back; }

  next(value) {
    const step = value - (this.last ?? value);
    if (step < -this.period / 2) this.turns += 1;
    if (step > this.period - this.back && this.turns) this.turns -= 1;
    this.last = value;
    return value + this.turns * this.period;
  }
}

function wordsFrom(bytes, begin, size) {
  if ((bytes.length - begin) % size) throw new Error(`cut or damaged: no whole number of events of ${size} bytes`);
  return (bytes.length - begin) / size;
}

/** ATIS .bin (N-MNIST): x, y, then 1 bit of polarity and 23 bits of time. The smallest sensor that fits is taken. */
function readAtis(bytes) {
  const events = new Events();
  let elapsed = 0, width = 0, height = 0;
  wordsFrom(bytes, 0, 5);
  for (let at = 0; at < bytes.length; at += 5) {
    const [x, y] = [bytes[at], bytes[at + 1]], word = bytes.readUIntBE(at + 2, 3);
    // Row 240 is no event: it says that the 23-bit clock has advanced by 8192 us once more.
    if (y === 240) { elapsed += 8192; continue; }
    if (y > 240) throw new Error("is none of the formats that are read, or is damaged");
    events.add((word & 0x7fffff) + elapsed, x, y, word >> 23);
    width = Math.max(width, x + 1); height = Math.max(height, y + 1);
  }
  events.likely = [[34, 34], [240, 180], [256, 240]].find(([w, h]) => width <= w && height <= h) ?? null;
  return events;
}

/** Prophesee RAW in EVT2 or EVT3, and DAT version 2: lines `% key value`, then words, all little-endian. */
function readProphesee(bytes, head) {
  const line = /% ?([^\x00-\x08\x0a-\x1f\x7f]*?)\r?\n/y, fields = {};
  let begin = 0, key;
  for (let found; key !== "end" && head.startsWith("%", begin) && (found = line.exec(head)); begin = line.lastIndex) {
    key = found[1].split(" ", 1)[0].toLowerCase();
    fields[key] = found[1].slice(key.length).trim();
  }
  const [format, ...pairs] = (fields.format ?? "").split(";");
  for (const pair of pairs) fields[pair.split("=")[0].trim().toLowerCase()] = pair.split("=")[1]?.trim();
  const events = new Events(), name = format || (fields.evt && `EVT${fields.evt}`);
  const sides = fields.width ? [fields.width, fields.height] : fields.geometry?.split("x");
  if (sides) events.sensor = sides.map(Number);
  if (/^EVT2(\.0)?$/.test(name)) addEvt2(events, bytes, begin);
  else if (/^EVT3(\.0)?$/.test(name)) addEvt3(events, bytes, begin);
  else if (!name && /^2/.test(fields.version)) addDat(events, bytes, begin);
  else throw new Error(`holds ${name || `version ${fields.version} of DAT`}; read are EVT2, EVT3 and DAT 2`);
  return events;
}

function addEvt2(events, bytes, begin) {
  const clock = new Clock(2 ** 28, 2 ** 10), count = wordsFrom(bytes, begin, 4);
  let high = null; // of the time; events before the first one have none
  for (let i = 0, at = begin; i < count; i += 1, at += 4) {
    const word = bytes.readUInt32LE(at), type = word >>> 28;
    if (type === 0x8) high = clock.next(word & 0xfffffff) * 64;
    else if (type > 1 && ![0xa, 0xe, 0xf].includes(type)) throw new Error(`damaged: a word of type ${type} in EVT2`);
    else if (type <= 1 && high !== null) {
      events.add(high + ((word >>> 22) & 63), (word >>> 11) & 2047, word & 2047, type);
    }
  }
}

function addEvt3(events, bytes, begin) {
  const clock = new Clock(2 ** 12, 8), count = wordsFrom(bytes, begin, 2);
  let high = null, low = 0, y = null, base = null, polarity = 0, camera = null;
  for (let i = 0, at = begin; i < count; i += 1, at += 2) {
    const word = bytes.readUInt16LE(at), type = word >> 12, rest = word & 0xfff, known = high !== null && y !== null;
    if (type === 0x0) {
      y = rest & 0x7ff;
      if (camera !== null && camera !== rest >> 11) throw new Error("holds events of two cameras");
      camera = rest >> 11;
    } else if (type === 0x2) {
      if (known) events.add(high * 4096 + low, rest & 0x7ff, y, rest >> 11);
    } else if (type === 0x3) {
      base = rest & 0x7ff; polarity = rest >> 11;
    } else if (type === 0x4 || type === 0x5) { // one bit for each of 12 or 8 pixels
      if (base === null) continue;
      const pixels = type === 0x4 ? 12 : 8;
      for (let bit = 0; known && bit < pixels; bit += 1) {
        if ((rest >> bit) & 1) events.add(high * 4096 + low, base + bit, y, polarity);
      }
      base += pixels;
    } else if (type === 0x6) low = rest;
    else if (type === 0x8) {
      const now = clock.next(rest);
      if (now !== high) low = 0;
      high = now;
    } else if (word !== 0x9999 && ![0x7, 0xa, 0xd, 0xe, 0xf].includes(type)) {
      throw new Error(`damaged: a word of type ${type} in EVT3`);
    }
  }
}

function addDat(events, bytes, begin) {
  if (![0x00, 0x0c].includes(bytes[begin]) || bytes[begin + 1] !== 8) throw new Error("holds no changes of brightness");
  const clock = new Clock(2 ** 32, 10_000), count = wordsFrom(bytes, begin + 2, 8);
  for (let i = 0, at = begin + 2; i < count; i += 1, at += 8) {
    const word = bytes.readUInt32LE(at + 4);
    events.add(clock.next(bytes.readUInt32LE(at)), word & 0x3fff, (word >>> 14) & 0x3fff, (word >>> 28) & 1);
  }
}

const CAMERAS = { DVS128: [128, 128], DAVIS128: [128, 128], DAVIS208: [208, 192], DAVIS240: [240, 180],
  DAVIS346: [346, 260], DAVIS640: [640, 480] };

/** AEDAT 3.1 (DVS128 Gesture): a header of text, then packets of 28 bytes and their events. */
function readAedat3(bytes, head) {
  const end = /^#!END-HEADER\r?\n/m.exec(head), events = new Events();
  if (!end) throw new Error("cut or damaged: the AEDAT 3.1 header does not end");
  events.sensor = CAMERAS[/^#-*Source\s+\d+:\s*(\w+?)[A-C]?\s*$/m.exec(head)?.[1]] ?? null;
  let at = end.index + end[0].length, camera = null;
  while (at < bytes.length) {
    if (at + 28 > bytes.length) throw new Error("cut or damaged: the file ends within the header of a packet");
    const [type, source] = [bytes.readInt16LE(at), bytes.readInt16LE(at + 2)];
    const [size, , overflow, capacity, number] = [4, 8, 12, 16, 20].map((place) => bytes.readInt32LE(at + place));
    at += 28;
    if (size < 0 || capacity < 0 || number > capacity || at + size * capacity > bytes.length) {
      throw new Error("cut or damaged: a packet is longer than the file");
    }
    for (let i = 0, event = at; type === 1 && i < number; i += 1, event += size) {
      const word = bytes.readUInt32LE(event);
      if (camera !== null && camera !== source) throw new Error("holds events of several cameras");
      camera = source;
      if (word & 1) { // others are marked as not valid
        const time = bytes.readInt32LE(event + 4) + overflow * 2 ** 31;
        events.add(time, word >>> 17, (word >>> 2) & 0x7fff, (word >>> 1) & 1);
      }
    }
    at += size * capacity;
  }
  return events;
}

/** Text: a line that names the columns t (whole microseconds), x, y and p in any order, then a line an event. */
function readCsv(text) {
  const [first, ...lines] = text.trimEnd().split(/\r?\n/), events = new Events();
  const separator = first.includes(";") ? ";" : ",";
  const names = first.split(separator).map((name) => name.trim().replaceAll('"', "").toLowerCase());
  const places = [["t", "t_us", "timestamp"], ["x"], ["y"], ["p", "polarity"]].map((allowed) =>
    names.findIndex((name) => allowed.includes(name)));
  if (places.includes(-1)) throw new Error(`columns ${names}; needed are t, x, y, p`);
  lines.forEach((line, number) => {
    const fields = line.split(separator), values = places.map((place) => Number(fields[place]?.trim() || NaN));
    if (!values.every(Number.isInteger)) throw new Error(`line ${number + 2}: no whole numbers: ${line.slice(0, 40)}`);
    const [t, x, y, p] = values;
    events.add(t, x, y, Math.max(p, 0)); // some write -1 for darker
  });
  return events;
}
