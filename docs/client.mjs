// Asks a server of neuromoco: node client.mjs http://127.0.0.1:8000 walk.bin (Node 22, or a browser, for the stream)
import { readFile } from "node:fs/promises";
import { basename } from "node:path";

export async function classify(url, bytes, name) {
  const form = new FormData();
  form.append("file", new Blob([bytes]), name);
  form.append("backend", "onnx");
  const answer = await fetch(`${url}/classify`, { method: "POST", body: form });
  const told = await answer.json();
  if (!answer.ok) throw new Error(`${told.error} (${told.code})`);
  return told;
}

export async function* windows(url, bytes, name, milliseconds) {
  const query = new URLSearchParams({ name, windows: "true", window_ms: milliseconds });
  const headers = { "content-type": "application/octet-stream" };
  const answer = await fetch(`${url}/classify?${query}`, { method: "POST", body: bytes, headers });
  let rest = "";
  for await (const text of answer.body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}

// Events {t, x, y, p} as records of 16 bytes: time in microseconds, column, row, polarity, three zeros.
export function records(events) {
  const view = new DataView(new ArrayBuffer(16 * events.length));
  events.forEach(({ t, x, y, p }, number) => {
    view.setBigInt64(16 * number, BigInt(t), true);
    view.setUint16(16 * number + 8, x, true);
    view.setUint16(16 * number + 10, y, true);
    view.setUint8(16 * number + 12, p);
  });
  return view.buffer;
}

export function stream(url, chunks, sensor, milliseconds, told) {
  const socket = new WebSocket(`${url.replace(/^http/, "ws")}/stream`);
  return new Promise((resolve, reject) => {
    socket.onopen = () => {
      socket.send(JSON.stringify({ sensor, window_ms: milliseconds }));
      for (const chunk of chunks) socket.send(chunk);
      socket.send(JSON.stringify({ end: true }));
    };
    socket.onmessage = ({ data }) => told(JSON.parse(data));
    socket.onerror = reject;
    socket.onclose = resolve;
  });
}

if (process.argv.length > 3) {
  const [url, file] = process.argv.slice(2);
  const [bytes, name] = [await readFile(file), basename(file)];
  console.log((await classify(url, bytes, name)).label);
  for await (const line of windows(url, bytes, name, 100)) console.log(line.window_us, line.label);
  if (globalThis.WebSocket) {
    const dot = Array.from({ length: 5000 }, (_, n) => ({ t: 60 * n, x: Math.floor(n / 160), y: 17, p: n % 2 }));
    await stream(url, [records(dot)], "34x34", 100, (message) => console.log(message.window_us, message.label));
  }
}
