// What is drawn: events on a canvas, bars of evidence, tables. All text from a file or its name is set as text.

import { grouped } from "./events.mjs";
import { before } from "./frames.mjs";

const LARGEST_SIDE = 240, FULL = 0.95, MOST_CLASSES = 5;
const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes, a function of each event "on...", and content. */
export function el(tag, attributes = {}, ...content) {
  const node = ["svg", "path"].includes(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...content.filter((one) => one !== null));
  return node;
}

export function card(title, kind, ...content) {
  return el("section", { class: `card ${kind}` }, el("h2", {}, title), ...content);
}

export function facts(rows) {
  const line = ([name, value]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, value));
  return el("table", { class: "facts" }, el("tbody", {}, ...rows.map(line)));
}

export const percent = (share) => `${(100 * share).toFixed(1)} %`;

/** The colours of the page, which follow the system's. */
function colours() {
  const style = getComputedStyle(document.documentElement);
  return ["--paper", "--on", "--off"].map((name) => {
    const value = Number.parseInt(style.getPropertyValue(name).trim().slice(1), 16);
    return [value >> 16, (value >> 8) & 255, value & 255];
  });
}

/** A canvas that shows events of a sensor; of a large one, neighbouring pixels are counted together. */
export class EventCanvas {
  constructor(width, height) {
    this.shrink = Math.ceil(Math.max(width, height) / LARGEST_SIDE);
    [this.width, this.height] = [width, height].map((side) => Math.ceil(side / this.shrink));
    const { width: columns, height: rows } = this;
    this.canvas = el("canvas", { width: columns, height: rows, role: "img", "aria-label": "Events by pixel: orange ON, blue OFF" });
  }

  /** Draws the events of a recording from number `first` until before `last`; returns their number. */
  draw({ x, y, p }, first, last) {
    const { width, height, shrink } = this, counts = [0, 1].map(() => new Uint32Array(width * height));
    for (let i = first; i < last; i++) counts[p[i]][Math.floor(y[i] / shrink) * width + Math.floor(x[i] / shrink)]++;
    const active = [...counts[0], ...counts[1]].filter(Boolean).sort((a, b) => a - b);
    const full = active[Math.floor(FULL * (active.length - 1))] ?? 1, [paper, on, off] = colours();
    const image = new ImageData(width, height);
    for (let i = 0; i < width * height; i++) {
      const [a, b] = [counts[1][i], counts[0][i]].map((count) => Math.min(count / full, 1));
      const most = Math.max(a, b), share = most ? a / (a + b) : 0;
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = paper[c] + most * (share * on[c] + (1 - share) * off[c] - paper[c]);
      image.data[4 * i + 3] = 255;
    }
    this.canvas.getContext("2d").putImageData(image, 0, 0);
    return last - first;
  }
}

/** Draws grey values, 0 to 1. */
export function drawGrey(canvas, grey) {
  const image = new ImageData(canvas.width, canvas.height);
  grey.forEach((value, i) => image.data.set([255 * value, 255 * value, 255 * value, 255], 4 * i));
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Bars of the likeliest classes after each step; `show(done)` makes those of steps after these pale. */
export function evidenceTable(names, answer) {
  const table = el("table", { class: "evidence", "aria-label": "Probability of the likeliest classes after each time step" });
  const body = el("tbody");
  for (const number of answer.order.slice(0, MOST_CLASSES)) {
    const cells = answer.evidence.map((shares, step) => {
      const bar = el("i");
      bar.style.height = `${38 * shares[number]}px`;
      return el("td", { title: `step ${step + 1}: ${percent(shares[number])}` }, bar, el("span", { class: "unseen" }, percent(shares[number])));
    });
    body.append(el("tr", {}, el("th", { scope: "row", title: names[number] }, el("span", {}, names[number])), ...cells,
      el("td", {}, percent(answer.evidence.at(-1)[number]))));
  }
  table.append(body);
  const show = (done) => {
    for (const row of body.rows) [...row.cells].slice(1, -1).forEach((cell, step) => cell.classList.toggle("later", step >= done));
  };
  return { table, show };
}

const PLAY = "M4 2l10 6-10 6z", PAUSE = "M3 2h4v12H3zM9 2h4v12H9z", SLICES = 60, SLICE_MS = 60;

/** Plays a recording: `node`, and `end()`; `moved(time)` is told up to when events are shown. */
export function player(recording, moved) {
  const { t } = recording, length = t[t.length - 1] - t[0] + 1, canvas = new EventCanvas(recording.width, recording.height);
  const path = el("path", { d: PLAY }), output = el("output");
  const slider = el("input", { type: "range", min: 1, max: SLICES, value: SLICES, "aria-label": "Time", oninput: () => { stop(); draw(); } });
  const all = el("input", { type: "checkbox", checked: true, onchange: () => draw() });
  const button = el("button", { type: "button", "aria-label": "Play", onclick: () => (timer ? stop() : play()) },
    el("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, path));
  let timer = null;

  function draw() {
    const slice = Number(slider.value), edge = (number) => before(t, t[0] + length * number / SLICES);
    const first = all.checked ? 0 : edge(slice - 1), last = edge(slice), at = (number) => (length * number / SLICES / 1000).toFixed(1);
    const many = canvas.draw(recording, first, last);
    output.textContent = `${at(all.checked ? 0 : slice - 1)} to ${at(slice)} ms, ${grouped(many)} events`;
    slider.setAttribute("aria-valuetext", output.textContent);
    moved(t[0] + length * slice / SLICES);
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    path.setAttribute("d", PLAY);
    button.setAttribute("aria-label", "Play");
  }

  function play() {
    path.setAttribute("d", PAUSE);
    button.setAttribute("aria-label", "Pause");
    timer = setInterval(() => {
      if (!button.isConnected) return stop();
      slider.value = Number(slider.value) % SLICES + 1;
      return draw();
    }, SLICE_MS);
  }

  draw();
  const keys = el("span", {}, el("span", { class: "key" }, "ON"), el("span", { class: "key dark" }, "OFF"));
  const node = el("div", {}, el("div", { class: "pictures" }, el("figure", {}, canvas.canvas)),
    el("div", { class: "controls" }, button, slider, el("label", {}, all, "all events so far")),
    el("p", { class: "note times" }, keys, output));
  return { node, draw, end: stop };
}
