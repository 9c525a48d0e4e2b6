// Answers files with the network of a page. Standard input: JSON {data, files}; output: the answer to each, as JSON.
import { readFileSync } from "node:fs";

const { Answerer } = await import(`${process.argv[2]}/answer.mjs`);
const { EventError } = await import(`${process.argv[2]}/events.mjs`);
const { readRecording } = await import(`${process.argv[2]}/readers.mjs`);

const { data, files, windows } = JSON.parse(readFileSync(0, "utf-8"));
const answerer = await Answerer.open(data), answers = [];
for (const file of files) {
  try {
    const answer = answerer.answer(await readRecording(new Uint8Array(readFileSync(file)), data.reading), windows);
    answers.push({ ...answerer.json(answer), ends: answer.ends, evidence: answer.evidence });
  } catch (error) {
    if (!(error instanceof EventError)) throw error;
    answers.push({ error: error.message });
  }
}
console.log(JSON.stringify(answers));
