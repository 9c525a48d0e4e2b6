// Pictures before the simulated camera. Standard input: JSON {picture, width, height, sensor, motion, window, frames};
// output: the recording in three saccades, and the live one of frames [[picture, time], ...].
import { readFileSync } from "node:fs";

const { LiveEvents, recordSaccades } = await import(`${process.argv[2]}/camera.mjs`);
const { picture, width, height, sensor, motion, window, frames } = JSON.parse(readFileSync(0, "utf-8"));
const plain = ({ t, x, y, p }) => ({ t: [...t], x: [...x], y: [...y], p: [...p] });
const live = new LiveEvents(width, height, sensor, window);
const seen = frames.map(([one, time]) => plain(live.see(one, time)));
console.log(JSON.stringify({ saccades: plain(recordSaccades(picture, width, height, sensor, motion)), live: seen }));
