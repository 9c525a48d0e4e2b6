// One entry for every event file: its content decides how it is read, not its name. What is read and what is refused
// is what neuromoco/events/reader.py reads and refuses; other formats are refused by name.

import { MAGIC, readAedat2 } from "./aedat.mjs";
import { NPY, readNpy, readNpz, ZIP } from "./arrays.mjs";
import { latin1 } from "./bytes.mjs";
import { Columns, EventError, LARGEST_SIDE, toRecording } from "./events.mjs";
import { checkWhole, parseHeader, readDat, readRaw } from "./prophesee.mjs";
import { looksLikeText, readText } from "./text.mjs";

const HEAD = 4000, LARGEST_BYTES = 1 << 28;
const ATIS_BYTES = 5, MARK_ROW = 240, MARK_US = 1 << 13, FEW = 16, MOST_PER_US = 100;
const ATIS_SENSORS = [[34, 34], [240, 180], [256, 240]];
export const READ = "ATIS .bin, Prophesee RAW (EVT2, EVT2.1, EVT3) and DAT, AEDAT 2.0, npz, npy, CSV or text";

const fieldsOf = (head, mark) => parseHeader(head, mark).fields;
const FORMATS = [
  ["aedat2", (head) => head.startsWith(MAGIC), readAedat2],
  ["evt", (head) => ["evt", "format"].some((key) => key in fieldsOf(head, "% ")), readRaw],
  ["dat", (head) => "version" in fieldsOf(head, "%") || (fieldsOf(head, "%").data ?? "").startsWith("file containing"), readDat],
  ["npz", (head) => head.startsWith(ZIP) && nameInZip(head).endsWith(".npy"), readNpz],
  ["npy", (head) => head.startsWith(NPY), readNpy],
];
const UNMARKED = [["csv", (_, bytes) => looksLikeText(bytes.subarray(0, HEAD), bytes.length), readText], ["atis", looksLikeAtis, readAtis]];
// Formats that neuromoco reads and this page does not, and files that people give by mistake.
const CONVERTED = [["#!AER-DAT4", "AEDAT 4"], ["#!AER-DAT3", "AEDAT 3.1"], ["Event Stream", "Event Stream"], ["\x89HDF\r\n\x1a\n", "HDF5"],
  ["#ROSBAG V2", "ROS 1"], ["\x89MCAP", "ROS 2 (MCAP)"], ["SQLite format 3", "ROS 2 (SQLite)"], ["MATLAB 5.0 MAT-file", "MATLAB"],
  ["MATLAB 7.3 MAT-file", "MATLAB"]];
const OTHERS = [["\x89PNG", "a PNG picture"], ["\xff\xd8\xff", "a JPEG picture"], ["GIF8", "a GIF picture"], ["%PDF", "a PDF document"],
  ["PK\x03\x04", "a zip archive without numpy arrays"], ["\x1f\x8b", "a gzip file (unpack it first)"],
  ["7z\xbc\xaf", "a 7z archive (unpack it first)"], ["#!AER-DAT", "an AEDAT recording of an unknown version"],
  ["% ", "a Prophesee recording of an unknown kind"]];

/**
 * The recording in a file: `{ t, x, y, p, width, height, source, notes }`; see `toRecording`.
 * `reading` is what the network's recordings did not say of themselves: format, sensor, columns, time_unit, flip.
 */
export async function readRecording(bytes, reading = {}) {
  if (!bytes.length) throw new EventError("is empty (0 bytes)");
  if (bytes.length > LARGEST_BYTES) throw new EventError(`has ${Math.ceil(bytes.length / 2 ** 20)} MB; up to ${LARGEST_BYTES / 2 ** 20} are read here`);
  const known = reading.sensor ?? null, { columns: usual, time_unit: unit } = reading;
  const [key, read] = formatOf(bytes, reading.format);
  const found = await read(bytes, { sensor: known, columns: usual, unit, isBare: key === "dat" && reading.format === "dat" });
  const sides = found.sensor ?? [null, null], sensor = sides.map((side, axis) => side ?? known?.[axis] ?? null);
  if (!sensor.every((side) => side === null || (side >= 1 && side <= LARGEST_SIDE))) {
    throw new EventError(`a sensor of ${sensor.join(" x ")}; a side has 1 to ${LARGEST_SIDE} pixels`);
  }
  return toRecording(found.columns, { ...found, sensor, flip: reading.flip ?? "" });
}

function formatOf(bytes, usual) {
  const head = latin1(bytes, 0, HEAD), recognises = ([, test]) => test(head, bytes);
  const marked = FORMATS.find(recognises);
  if (marked) return [marked[0], marked[2]];
  const other = CONVERTED.find(([magic]) => head.startsWith(magic));
  if (other) throw new EventError(`is a recording of ${other[1]}; this page reads ${READ}: neuromoco convert FILE NEW.npz writes one of these`);
  const mistake = OTHERS.find(([magic]) => head.startsWith(magic));
  if (mistake) throw new EventError(`is ${mistake[1]}; this page reads ${READ}`);
  const expected = [...FORMATS, ...UNMARKED].find(([key]) => key === usual);
  const found = expected ?? UNMARKED.find(recognises);
  if (!found) throw new EventError(`is no event recording that this page knows; it reads ${READ}`);
  return [found[0], found[2]];
}

const nameInZip = (head) => head.slice(30, 30 + head.charCodeAt(26) + 256 * head.charCodeAt(27));

/** ATIS: x, y, then 1 bit of polarity and 23 bits of microseconds; a row of 240 is no event but a mark of the clock. */
function readAtis(bytes) {
  const count = checkWhole(bytes, 0, ATIS_BYTES, "ATIS events"), columns = new Columns(count);
  for (let i = 0, at = 0, marks = 0, last = 0; i < count; i++, at += ATIS_BYTES) {
    if (bytes[at + 1] === MARK_ROW) {
      marks += 1;
      continue;
    }
    const t = ((bytes[at + 2] & 0x7f) << 16 | bytes[at + 3] << 8 | bytes[at + 4]) + MARK_US * marks;
    if (t < last) throw new EventError(`times run backwards at event ${columns.count}: no ATIS recording, or damaged`);
    last = t;
    columns.add(t, bytes[at], bytes[at + 1], bytes[at + 2] >> 7);
  }
  return { columns, source: "ATIS .bin", likely: ATIS_SENSORS };
}

/** The format has no signature: the first events have to be those of a camera. */
function looksLikeAtis(_, bytes) {
  const head = bytes.subarray(0, HEAD), whole = Math.floor(head.length / ATIS_BYTES);
  const isText = (byte) => byte === 9 || byte === 10 || byte === 13 || (byte >= 32 && byte < 127);
  if (!whole || head.every((byte) => byte === 0) || head.every(isText)) return false;
  let first = null, last = 0, marks = 0, events = 0, isVaried = false, column = null;
  for (let at = 0; at < whole * ATIS_BYTES; at += ATIS_BYTES) {
    const [x, y, high, middle, low] = head.subarray(at, at + ATIS_BYTES);
    if (y > MARK_ROW) return false;
    if (y === MARK_ROW) {
      marks += 1;
      continue;
    }
    const t = ((high & 0x7f) << 16 | middle << 8 | low) + MARK_US * marks;
    first ??= t; column ??= x;
    if (t < last) return false;
    last = t;
    events += 1;
    isVaried ||= high >> 7 === 1 || x !== column;
  }
  return events < FEW || (events <= MOST_PER_US * (last - first) && isVaried); // spikes of SLAYER's .bs1 do not vary
}
