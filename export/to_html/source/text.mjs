// Text with an event a line. What the first lines may say, and what is refused: neuromoco/events/text.

import { Columns, EventError, LARGEST_SIDE, TABLE_US } from "./events.mjs";
import { isComplete, placesOf, ROLES, rolesOf, Tidy, titleOf } from "./tables.mjs";

const HEAD = 1 << 16, BLOCK = 1 << 21, LONGEST_LINE = 4096, LONGEST_HEADER = 10, MOST_DIGITS = 19;
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/, WORDS = { true: 1, on: 1, false: 0, off: 0 };
const NOTATIONS = [[",", "."], [";", "."], ["\t", "."], [" ", "."], [";", ","], ["\t", ","], [" ", ","]];
const strip = (text) => text.replace(/^[ \r]+|[ \r]+$/g, "");

/** A text's characters, by its byte-order mark. */
function decoded(bytes) {
  const isWide = (bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff);
  return new TextDecoder(isWide ? (bytes[0] === 0xff ? "utf-16le" : "utf-16be") : "utf-8").decode(bytes);
}

/** Whether the first bytes are text, and soon numbers of events or names of their columns. */
export function looksLikeText(head, size) {
  let text = decoded(head);
  if (/[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/.test(text)) return false;
  if (head.length < size && text.includes("\n")) text = text.slice(0, text.lastIndexOf("\n"));
  const { event, titles } = findEvent(text);
  return event.length >= ROLES.length || isComplete(rolesOf(titles));
}

function fieldsOf(line, [separator]) {
  const parts = separator === " " ? line.split(/\s+/).filter(Boolean) : line.split(separator);
  return parts.map((part) => part.trim().replace(/^["']+|["']+$/g, "").trim());
}

const isNumber = (field, [, decimal]) => NUMBER.test(field.replace(decimal, ".")) || field.toLowerCase() in WORDS;

/** The notation in which a line is an event, or else the usual one of its first separator; and its fields. */
function notated(line) {
  for (const notation of NOTATIONS) {
    const fields = fieldsOf(line, notation);
    if (fields.filter((field) => isNumber(field, notation)).length >= ROLES.length) return [notation, fields];
  }
  const notation = NOTATIONS.slice(0, 3).find(([separator]) => line.includes(separator)) ?? NOTATIONS[3];
  return [notation, fieldsOf(notation[0] === " " ? line.replace(/(?<!\s)[ \t]+(?=[[(])/g, "") : line, notation)];
}

function sidesOf(...texts) {
  return texts.map((text) => {
    const side = /^\d{1,5}$/.test(text ?? "") ? Number(text) : 0;
    return side >= 1 && side <= LARGEST_SIDE ? side : null;
  });
}

/** Reads lines up to the first event. */
function findEvent(text) {
  let start = 0, lines = 0, titles = [], inComment = [], sensor = [null, null];
  for (const raw of text.split("\n")) {
    const line = strip(raw), geometry = /^%\s*geometry:\s*(\d+)\s*,\s*(\d+)/.exec(line);
    if (line.trim() && !"#%".includes(line[0])) {
      const [notation, fields] = notated(strip(line.slice(0, LONGEST_LINE).split("#")[0]));
      const numbers = fields.filter((field) => isNumber(field, notation)).length;
      const isEvent = numbers >= ROLES.length || numbers === fields.length - (fields.at(-1) === "" ? 1 : 0);
      if (fields.length === 2 && numbers === 2 && !lines && sidesOf(...fields).some(Boolean)) sensor = sidesOf(...fields);
      else if (isEvent) return { start, titles: titles.length ? titles : inComment, sensor, event: fields, notation };
      else {
        lines += 1;
        titles = fields;
      }
      if (lines > LONGEST_HEADER) break;
    } else if (geometry) sensor = sidesOf(geometry[1], geometry[2]);
    else if (line.length < LONGEST_LINE) {
      const names = notated(line.replace(/^[#%]+/, ""))[1];
      if (isComplete(rolesOf(names))) inComment = names;
    }
    start += raw.length + 1;
  }
  return { start, titles: titles.length ? titles : inComment, sensor, event: [], notation: NOTATIONS[0] };
}

function headerOf(text, usual) {
  let head = text.slice(0, HEAD);
  if (head.length === HEAD) head = head.slice(0, head.lastIndexOf("\n") + 1);
  const { start, titles, sensor, event, notation } = findEvent(head);
  if (!event.length && head.length > HEAD / 2) throw new EventError(`the first ${HEAD} bytes hold comments and no event`);
  const fields = event.length || titles.length;
  const points = event.map((field) => field.includes("."));
  const isGuess = points.length === 4 && points[0] && !points.slice(1).some(Boolean); // t x y p of Mueggler et al. 2017
  const { places, order } = placesOf(titles, fields, usual, isGuess);
  if (Math.max(...Object.values(places)) >= fields) {
    throw new EventError(`the first event has ${fields} fields, its columns are ${titles.join(", ").slice(0, 300)}`);
  }
  const [t, x, y] = ROLES.map((role) => (order === "named" ? titleOf(titles[places[role]]) : {}));
  const named = sidesOf(x.size, y.size);
  return { start, fields, notation, places, order, unit: t.unit ?? null, sensor: named.some(Boolean) ? named : sensor };
}

/** Text. `columns` and `unit` are those of files that do not say them. */
export function readText(bytes, { columns: usual, unit }) {
  const text = decoded(bytes), header = headerOf(text, usual), columns = new Columns();
  const tidy = new Tidy(columns, header.unit ?? unit, header.order);
  let number = text.slice(0, header.start).split("\n").length - 1;
  for (let at = header.start; at < text.length;) {
    let end = at + BLOCK < text.length ? text.lastIndexOf("\n", at + BLOCK) + 1 : text.length;
    if (end <= at) end = text.indexOf("\n", at) + 1 || text.length;
    const lines = text.slice(at, end).split("\n");
    addLines(tidy, lines, number, header);
    number += lines.length - 1;
    at = end;
  }
  return { columns, source: "CSV or text", sensor: header.sensor, late: TABLE_US };
}

function addLines(tidy, lines, before, header) {
  const { notation, fields: count, places } = header, events = { t: [], x: [], y: [], p: [] };
  let isFloat = false;
  lines.forEach((raw, index) => {
    if (raw.length > LONGEST_LINE) throw new EventError(`line ${before + index + 1}: is longer than ${LONGEST_LINE} bytes: no text of events`);
    const line = strip(raw.split("#", 1)[0]);
    if (!line.trim()) return;
    const fields = fieldsOf(line, notation);
    if (fields.length !== count) throw fault(before + index, `${fields.length} instead of ${count} fields, in ${quoted(line)}`);
    for (const role of ROLES) events[role].push(numberOf(fields[places[role]], role, notation[1], before + index));
    isFloat ||= /[.,eE]/.test(fields[places.t]);
  });
  if (isFloat) events.t = events.t.map(Number);
  tidy.add(events, isFloat);
}

const fault = (line, what) => new EventError(`line ${line + 1}: ${what}`);
const quoted = (text) => `'${(text.length <= 40 ? text : `${text.slice(0, 40)}...`).replace(/[^\x20-\x7e]/g, "?")}'`;

/** The number in a field; a bigint for a time that is beyond exact numbers. */
function numberOf(field, role, decimal, line) {
  if (role === "p" && field.toLowerCase() in WORDS) return WORDS[field.toLowerCase()];
  const text = decimal === "." ? field : field.replace(decimal, "."), value = NUMBER.test(text) ? Number(text) : NaN;
  if (!Number.isFinite(value)) {
    const kind = /^[+-]?(inf|infinity|nan)$/i.test(text) || !Number.isNaN(value) ? "finite number" : "number";
    throw fault(line, `${quoted(field)} in column ${role} is no ${kind}`);
  }
  if (text.split(/[.eE]/)[0].replace(/^[+-]/, "").length > MOST_DIGITS) {
    throw fault(line, `${quoted(field)} in column ${role} has more than ${MOST_DIGITS} digits`);
  }
  if (role === "p" && ![-1, 0, 1].includes(value)) {
    throw fault(line, `the polarity is ${quoted(field)}; polarities are 0 and 1, or -1 and 1`);
  }
  if ((role === "x" || role === "y") && !Number.isInteger(value)) {
    throw fault(line, `${role} is ${quoted(field)}; coordinates are whole numbers`);
  }
  return role === "t" && !Number.isSafeInteger(value) && /^[+-]?\d+$/.test(text) ? BigInt(text) : value;
}
