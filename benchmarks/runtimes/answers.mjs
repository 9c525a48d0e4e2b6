// Logits of every recording from an ONNX file in onnxruntime-web, under Node.js and in a browser; files as runners.py
// describes. `read` gives the bytes of a file, as an ArrayBuffer.
const TYPES = { float32: Float32Array, int64: BigInt64Array, int32: Int32Array };

export async function answers(ort, provider, read) {
  const session = await ort.InferenceSession.create(new Uint8Array(await read("model.onnx")), { executionProviders: [provider] });
  const { recordings, steps } = JSON.parse(new TextDecoder().decode(await read("inputs.json")));
  const found = [];
  for (const recording of recordings) {
    const feeds = {};
    for (const [name, { type, shape, file }] of Object.entries(recording)) {
      feeds[name] = new ort.Tensor(type, new TYPES[type](await read(file)), shape);
    }
    found.push(steps === undefined ? [...(await session.run(feeds)).logits.data] : await stepped(ort, session, feeds, steps));
  }
  return found;
}

/** The mean over the steps of a recording, each of which hands its state to the next. */
async function stepped(ort, session, { frames, ...state }, steps) {
  const sum = [], size = frames.data.length / steps;
  for (let t = 0; t < steps; t += 1) {
    const step = new ort.Tensor("float32", frames.data.slice(t * size, (t + 1) * size), frames.dims.slice(1));
    const answer = await session.run({ frames: step, ...state });
    for (const name of Object.keys(state)) state[name] = answer[`next.${name}`];
    answer.logits.data.forEach((value, i) => { sum[i] = (sum[i] ?? 0) + value / steps; });
  }
  return sum;
}
