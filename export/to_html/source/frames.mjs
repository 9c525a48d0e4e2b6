// Events -> frames: counts per time step, polarity and pixel, as neuromoco/frames.py makes them.

import { EventError } from "./events.mjs";

/** Where each slice begins and ends among events: slice i has those from bounds[i] until before bounds[i + 1]. */
export function sliceBounds(t, steps, by) {
  const count = t.length, bounds = [0];
  for (let i = 1; i < steps; i++) {
    bounds.push(by === "count" ? i * Math.floor(count / steps) : before(t, edgeOf(t, i, steps)));
  }
  return [...bounds, count];
}

/** Where slice i of equal duration begins, rounded up. */
function edgeOf(t, i, steps) {
  const span = t.length ? t[t.length - 1] - t[0] + 1 : 0, rest = span % steps;
  return (t.length ? t[0] : 0) + (span - rest) / steps * i + Math.ceil(rest * i / steps);
}

/** How many of some times that do not decrease are before one. */
export function before(t, time) {
  let low = 0, high = t.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (t[middle] < time) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The events in the part [left, top, width, height] of a recording, as from a sensor of its size. */
export function cropped(recording, crop) {
  if (!crop) return recording;
  const [left, top, width, height] = crop, { t, x, y, p } = recording;
  if (left + width > recording.width || top + height > recording.height) {
    throw new EventError(`the network uses the part ${crop.join(",")} of a sensor, which one of ${recording.width} x ${recording.height} pixels does not have`);
  }
  const isInside = (_, i) => x[i] >= left && x[i] < left + width && y[i] >= top && y[i] < top + height;
  const pick = (column, shift) => column.filter(isInside).map((value) => value - shift);
  return { ...recording, t: pick(t, 0), x: pick(x, left), y: pick(y, top), p: pick(p, 0), width, height };
}

/** Counts [T, P, H, W] of a recording, of which a network's part was taken. */
export function toFrames({ t, x, y, p, width: sensorWidth, height: sensorHeight }, { steps, slice_by: by, height, width }) {
  const counts = new Int32Array(steps * 2 * height * width), bounds = sliceBounds(t, steps, by);
  const [columns, rows] = [placesOf(sensorWidth, width), placesOf(sensorHeight, height)];
  for (let step = 0; step < steps; step++) {
    for (let i = bounds[step]; i < bounds[step + 1]; i++) {
      const plane = (2 * step + p[i]) * height, [left, right] = columns[x[i]], [top, bottom] = rows[y[i]];
      for (let row = top; row < bottom; row++) {
        for (let column = left; column < right; column++) counts[(plane + row) * width + column]++;
      }
    }
  }
  return counts;
}

/** For each pixel of a sensor's side where it begins and ends in frames: larger sensors shrink, smaller ones are repeated. */
function placesOf(sensor, side) {
  const of = (pixel) => (sensor >= side ? Math.floor(pixel * side / sensor) : Math.ceil(pixel * side / sensor));
  return Array.from({ length: sensor }, (_, pixel) => [of(pixel), sensor >= side ? of(pixel) + 1 : of(pixel + 1)]);
}
