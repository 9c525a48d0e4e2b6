// onnxruntime-web (wasm) under Node.js: node web.mjs PACKAGES FOLDER, as runners.py.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { answers } from "./answers.mjs";

const [packages, folder] = process.argv.slice(2);

async function run() {
  const ort = createRequire(join(packages, "package.json"))("onnxruntime-web");
  ort.env.wasm.numThreads = 1;
  const read = (name) => new Uint8Array(readFileSync(join(folder, name))).buffer;
  const found = await answers(ort, "wasm", read);
  writeFileSync(join(folder, "logits.bin"), Buffer.from(new Float32Array(found.flat()).buffer));
  const { version } = JSON.parse(readFileSync(join(packages, "node_modules/onnxruntime-web/package.json")));
  return { version: `onnxruntime-web ${version}, Node.js ${process.version}` };
}

run()
  .catch((error) => ({ problem: `${error.message ?? error}`.split(/\s+/).join(" ") }))
  .then((answer) => console.log(JSON.stringify(answer)));
