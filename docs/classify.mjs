import { readFile } from "node:fs/promises";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { readEvents } from "./events.mjs";

const [modelPath, recording, given] = process.argv.slice(2);
if (!recording) throw new Error("usage: node classify.mjs model.onnx recording [WIDTHxHEIGHT]");
const model = await readFile(modelPath);
const about = aboutModel(model);
if (about.input !== "events") throw new Error(`${modelPath}: takes frames; export it with --input events`);
const { sensor: known, ...rest } = about.reading ?? {};
const asked = Object.keys(rest).filter((name) => rest[name] !== null && rest[name] !== false);
if (asked.length) throw new Error(`${modelPath}: its recordings are read with ${asked}: use neuromoco convert first`);

const events = readEvents(await readFile(recording));
const count = events.t.length;
if (!count) throw new Error(`${recording}: no events`);
const [width, height] = given?.split("x").map(Number) ?? events.sensor ?? known ?? events.likely ?? [];
if (!(width > 0 && height > 0)) throw new Error(`${recording}: names no sensor, nor does the model: give WIDTHxHEIGHT`);
const [left, top, columns, rows] = about.frames.crop ?? [0, 0, width, height];
if (left + columns > width || top + rows > height) throw new Error(`${recording}: the model uses more than its sensor`);

// Some cameras let times step back a little, and the model wants them in order.
let latest = -Infinity, sorted = true;
for (const time of events.t) {
  if (time < latest - 10_000) throw new Error(`${recording}: times run back: damaged, or the clock was set back`);
  sorted &&= time >= latest;
  latest = Math.max(latest, time);
}
const order = Uint32Array.from({ length: count }, (_, i) => i);
if (!sorted) order.sort((a, b) => events.t[a] - events.t[b] || a - b);
const int64 = (values) => new Tensor("int64", BigInt64Array.from(values, BigInt), [values.length]);
const int32 = (column) => new Tensor("int32", Int32Array.from(order, (i) => column[i]), [count]);
const session = await InferenceSession.create(model);
const { label, logits } = await session.run({
  t: int64(Array.from(order, (i) => events.t[i])),
  x: int32(events.x), y: int32(events.y), p: int32(events.p),
  sensor: int64([height, width]),
});
console.log(label.data[0]);
console.log(Array.from(logits.data, (value) => value.toFixed(3)).join(" "));

/** What neuromoco says about a model: the entry `neuromoco` of `metadata_props`, field 14 of an ONNX file (protobuf). */
function aboutModel(bytes) {
  for (const entry of fields(bytes, 14)) {
    const [[key], [value]] = [fields(entry, 1), fields(entry, 2)];
    if (key?.toString() === "neuromoco") return JSON.parse(value.toString());
  }
  throw new Error(`${modelPath}: is no ONNX file of neuromoco`);
}

/** The contents of all fields of one number, of those that have a length (wire type 2), in a protobuf message. */
function fields(bytes, wanted) {
  let at = 0;
  const varint = () => {
    let value = 0, scale = 1, byte;
    do { byte = bytes[at++]; value += (byte & 127) * scale; scale *= 128; } while (byte > 127);
    return value;
  };
  const found = [];
  while (at < bytes.length) {
    const key = varint(), type = key % 8, length = type === 2 ? varint() : { 1: 8, 5: 4 }[type] ?? 0;
    if (type === 0) varint();
    if (type === 2 && (key - 2) / 8 === wanted) found.push(bytes.subarray(at, at + length));
    at += length;
  }
  return found;
}
