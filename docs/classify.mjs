import { readFile } from "node:fs/promises";
import { InferenceSession, Tensor } from "onnxruntime-node";

const [model, recording] = process.argv.slice(2);
if (!recording) throw new Error("usage: node classify.mjs model.onnx recording.bin");
const bytes = await readFile(recording);
const [t, x, y, p] = [[], [], [], []];
let elapsed = 0;
for (let at = 0; at + 5 <= bytes.length; at += 5) {
  const word = bytes.readUIntBE(at + 2, 3);
  // Row 240 is no event: it says that the 23-bit clock has advanced by 8192 us once more.
  if (bytes[at + 1] === 240) { elapsed += 8192; continue; }
  t.push((word & 0x7fffff) + elapsed);
  x.push(bytes[at]);
  y.push(bytes[at + 1]);
  p.push(word >> 23);
}
if (!t.length || bytes.length % 5) throw new Error(`${recording}: no events, or cut: an event has 5 bytes`);

const session = await InferenceSession.create(model);
const times = new Tensor("int64", BigInt64Array.from(t, BigInt), [t.length]);
const int32 = (column) => new Tensor("int32", Int32Array.from(column), [column.length]);
const sensor = new Tensor("int64", BigInt64Array.of(34n, 34n), [2]);
const { label, logits } = await session.run({ t: times, x: int32(x), y: int32(y), p: int32(p), sensor });
console.log(label.data[0]);
console.log(Array.from(logits.data, (value) => value.toFixed(3)).join(" "));
