// Reads event files as the page does. Standard input: JSON [[file, reading], ...]; output: what was read of each.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

const { readRecording } = await import(`${process.argv[2]}/readers.mjs`);
const { EventError } = await import(`${process.argv[2]}/events.mjs`);

async function facts(file, reading) {
  try {
    const { t, x, y, p, width, height, source, notes } = await readRecording(new Uint8Array(readFileSync(file)), reading);
    const hash = createHash("sha256");
    for (const column of [BigInt64Array.from(t, BigInt), x, y, p]) hash.update(new Uint8Array(column.buffer));
    return { count: t.length, width, height, source, notes, sha256: hash.digest("hex") };
  } catch (error) {
    if (!(error instanceof EventError)) return { crash: error.stack };
    return { error: error.message };
  }
}

const answers = [];
for (const [file, reading] of JSON.parse(readFileSync(0, "utf-8"))) answers.push(await facts(file, reading));
console.log(JSON.stringify(answers));
