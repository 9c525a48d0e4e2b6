// The page: an event file, an example or a webcam in; events, evidence, the answer and the verdict on fit out.

import { Answerer } from "./answer.mjs";
import { fromBase64 } from "./bytes.mjs";
import { asInk, LiveEvents, recordSaccades } from "./camera.mjs";
import { card, drawGrey, el, EventCanvas, evidenceTable, facts, percent, player } from "./draw.mjs";
import { EventError, grouped } from "./events.mjs";
import { seconds } from "./fit.mjs";
import { READ, readRecording } from "./readers.mjs";
import { Webcam } from "./webcam.mjs";

const data = JSON.parse(document.getElementById("data").textContent), { frames: framing, class_names: names } = data;
const [view, said, cameraButton] = ["view", "said", "camera"].map((id) => document.getElementById(id));
const FEW = 0.25; // of the fewest events of a training recording: with less, a window is not answered
const LONG_LABEL = 8; // letters, from which a label is set smaller
const LARGEST_WARM = 2 ** 20; // characters of a network that runs in some milliseconds
const LARGE_FILE = 2 ** 21; // bytes that take a moment to read
const LARGEST_CAMERA = 160 * 160; // pixels that are simulated; of larger sensors, those of the frames
const opened = Answerer.open(data);
if (data.network.length < LARGEST_WARM) opened.then((one) => setTimeout(() => one.warm()), () => {});
let answerer = null, shown = null, webcam = null, turn = 0;

function answerCard(name, answer) {
  const { fit } = answer, unlike = fit && !fit.fits;
  return card("Answer", "", el("p", { class: "file" }, name),
    el("p", { class: `label${answer.label.length > LONG_LABEL ? " long" : ""}${unlike ? " unlike" : ""}` }, `${answer.label} `, el("span", {}, percent(answer.confidence))),
    fit ? el("p", { class: unlike ? "warn" : "note" }, `This recording ${unlike ? `is ${answerer.verdict(fit)}` : answerer.verdict(fit)}.`)
      : el("p", { class: "note" }, "The network's file does not say what its training recordings were like."));
}

function decisionNote(answer) {
  return el("p", { class: "note" }, `Bars: probability after each of ${framing.steps} time steps. The label no longer changes after ` +
    `step ${answer.decisionStep}.`);
}

/** Shows an answered recording. */
function show(name, recording, answer) {
  const { t, p, width, height } = recording, duration = t[t.length - 1] - t[0], { table, show: showSteps } = evidenceTable(names, answer);
  const plays = player(recording, (time) => showSteps(answer.ends.filter((end) => end < time).length));
  const total = Object.values(answer.times).reduce((sum, ms) => sum + ms, 0);
  const about = facts([["Format", recording.source], ["Sensor", `${width} x ${height} pixels`], ["Events", grouped(t.length)],
    ["Duration", seconds(duration)], ["ON", percent(p.reduce((sum, one) => sum + one, 0) / p.length)], ["Answered in", `${total.toFixed(1)} ms`]]);
  replace(el("div", { class: "grid" }, answerCard(name, answer), card("Events", "events-card", plays.node),
    card("Evidence by time step", "evidence-card", table, decisionNote(answer)),
    card("The recording", "", about, ...recording.notes.map((note) => el("p", { class: "note" }, `${note}.`)),
      el("details", {}, el("summary", {}, "Numbers, as JSON"), el("pre", { id: "json", tabindex: "0" }, JSON.stringify(answerer.json(answer), null, 1))))));
  shown = plays;
  say(`${name}: ${answer.label}, ${percent(answer.confidence)}${answer.fit ? `, ${answerer.verdict(answer.fit)}` : ""}`);
}

function replace(...content) {
  shown?.end();
  shown = null;
  view.replaceChildren(...content);
  if (view.getBoundingClientRect().top > innerHeight / 2) view.scrollIntoView(); // on a telephone it is below
}

function say(text) {
  if (said.textContent !== text) said.textContent = text;
}

function showError(name, message) {
  replace(el("div", { class: "card bad", role: "alert" }, el("h2", {}, "This did not work"), el("p", {}, `${name}: ${message}`)));
}

/** Reads and answers a file, unless another one is given meanwhile. */
async function take(name, bytesOf) {
  const mine = ++turn;
  stopWebcam();
  try {
    const bytes = await bytesOf(), begin = performance.now();
    answerer = await opened;
    if (bytes.length > LARGE_FILE) await showReading(name);
    const recording = await readRecording(bytes, data.reading), read = performance.now() - begin;
    if (mine !== turn) return;
    const answer = answerer.answer(recording);
    answer.times = { read, ...answer.times };
    show(name, recording, answer);
  } catch (error) {
    if (mine === turn) showError(name, error.message);
  }
}

/** Says that a file is read, and waits until that is drawn. */
async function showReading(name) {
  replace(el("div", { class: "card empty" }, el("h2", {}, "Reading"), el("p", { class: "file" }, name)));
  await new Promise((done) => { requestAnimationFrame(() => setTimeout(done)); });
}

function markExample(chosen) {
  for (const button of document.querySelectorAll("#examples button")) button.setAttribute("aria-pressed", String(button === chosen));
}

function takeFile(file) {
  if (!file) return;
  markExample(null);
  take(file.name, async () => {
    try {
      return new Uint8Array(await file.arrayBuffer());
    } catch {
      throw new EventError("cannot be read: a folder, or not allowed; give one file");
    }
  });
}

/** The camera that is simulated: that of the training recordings, unless it is large. */
function cameraSize() {
  const [height, width] = data.seen.sensor ?? [framing.height, framing.width];
  return framing.crop || width * height <= LARGEST_CAMERA ? [width, height] : [framing.width, framing.height];
}

function stopWebcam() {
  webcam?.stop();
  webcam = null;
  cameraButton.setAttribute("aria-pressed", "false");
  cameraButton.textContent = "Start the webcam";
}

async function startWebcam() {
  const mine = ++turn, [width, height] = cameraSize(), live = liveView(width, height);
  const next = new Webcam(width, height, live.see);
  try {
    answerer = await opened;
    await next.start();
    if (mine !== turn) {
      next.stop();
      return;
    }
    webcam = next;
    markExample(null);
    replace(live.node);
    cameraButton.setAttribute("aria-pressed", "true");
    cameraButton.textContent = "Stop the webcam";
  } catch (error) {
    next.stop();
    if (mine === turn) showError("webcam", error.message);
  }
}

/** What is shown of a webcam: `see(grey, time)` takes a frame, and answers it. */
function liveView(width, height) {
  const { sensor, motion, look } = data.camera, window = Math.round((data.seen.shortest_us + data.seen.longest_us) / 2);
  const events = new EventCanvas(width, height), grey = el("canvas", { width, height, role: "img", "aria-label": "What the camera sees" });
  const [answered, evidence, note] = [el("div"), el("div", { class: "evidence-card" }), el("p", { class: "note", id: "rate" })];
  const begins = [];
  let live = new LiveEvents(width, height, sensor, window), moves = null;
  const node = el("div", { class: "grid" }, answered, card("Camera", "events-card", el("div", { class: "pictures" },
    el("figure", {}, grey, el("figcaption", {}, "Picture")), el("figure", {}, events.canvas, el("figcaption", {}, "Events"))), note), evidence);

  function see(picture, time) {
    const begin = performance.now(), chosen = document.querySelector("input[name=moves]:checked").value;
    if (chosen !== moves) live = new LiveEvents(width, height, sensor, window);
    moves = chosen;
    const isScene = moves === "scene";
    const shown = isScene ? picture : asInk(picture, look, document.getElementById("invert").checked);
    const recording = isScene ? live.see(shown, time) : recordSaccades(shown, width, height, sensor, motion, begins.length);
    const many = recording.t.length;
    drawGrey(grey, shown);
    events.draw(recording, 0, many);
    if (many < Math.max(1, FEW * data.seen.fewest_events)) {
      const hint = isScene ? "move something before it" : "hold up strokes on a plain ground";
      answered.replaceChildren(card("Answer", "", el("p", { class: "label unlike" }, "-"), el("p", { class: "note" }, `The camera sees ${grouped(many)} events: ${hint}.`)));
      evidence.replaceChildren();
    } else answerFrame(recording, isScene);
    count(begin);
  }

  function answerFrame(recording, isWindow) {
    const answer = answerer.answer(recording, isWindow);
    answered.replaceChildren(answerCard("webcam", answer));
    evidence.replaceChildren(card("Evidence by time step", "evidence-card", evidenceTable(names, answer).table, decisionNote(answer)));
    say(`webcam: ${answer.label}${answer.fit && !answer.fit.fits ? `, ${data.wording.unlike}` : ""}`);
  }

  function count(begin) {
    const now = performance.now();
    begins.push(begin);
    while (begins[0] < begin - 1000) begins.shift();
    note.textContent = `${begins.length} frames in the last second, ${(now - begin).toFixed(1)} ms each`;
    note.dataset.frames = begins.length;
  }

  return { node, see };
}

function begin() {
  const { seen, source, encoder } = data, drop = document.getElementById("drop"), file = document.getElementById("file");
  const many = `${grouped(names.length)} classes`, of = `trained on ${grouped(seen.count)} recordings`;
  document.getElementById("about").textContent = `${encoder}, ${many}, ${of}; from ${source}`;
  document.getElementById("reads").textContent = READ;
  file.addEventListener("change", () => takeFile(file.files[0]));
  file.addEventListener("click", () => { file.value = ""; }); // the same file again
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop") takeFile(event.dataTransfer.files[0]);
    });
  }
  const examples = document.getElementById("examples");
  examples.hidden = !data.examples.length;
  document.querySelector(`input[value=${data.examples.length ? "picture" : "scene"}]`).checked = true; // N-MNIST's kind, or others
  for (const { name, content } of data.examples) {
    const choose = ({ target }) => {
      markExample(target);
      take(name, async () => fromBase64(content));
    };
    examples.lastElementChild.append(el("button", { type: "button", class: "button", "aria-pressed": "false", onclick: choose }, name.replace(/\.\w+$/, "")));
  }
  cameraButton.addEventListener("click", () => {
    if (webcam) stopWebcam();
    else startWebcam();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => shown?.draw());
  opened.then(() => { document.documentElement.dataset.ready = "true"; }, (error) => showError("network", error.message));
}

begin();
