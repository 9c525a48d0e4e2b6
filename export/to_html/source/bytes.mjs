// Bytes of files as texts and numbers.

/** To the nearest whole number, halves to the even one. */
export function rint(value) {
  const floor = Math.floor(value), rest = value - floor;
  return rest < 0.5 || (rest === 0.5 && floor % 2 === 0) ? floor : floor + 1;
}

/** Bytes as a text of as many characters. */
export function latin1(bytes, begin, end) {
  let text = "";
  for (let at = begin; at < Math.min(end, bytes.length); at += 1 << 13) {
    text += String.fromCharCode(...bytes.subarray(at, Math.min(at + (1 << 13), end)));
  }
  return text;
}

/** The bytes of a text in base64. */
export function fromBase64(text) {
  const decoded = atob(text), bytes = new Uint8Array(decoded.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = decoded.charCodeAt(i);
  return bytes;
}

/** Bytes that `deflate` made small; not more than `size` of them. */
export async function inflated(bytes, size) {
  const whole = new Uint8Array(size);
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  let at = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (at + value.length > size) throw new RangeError("more bytes than it says");
    whole.set(value, at);
    at += value.length;
  }
  if (at < size) throw new RangeError("fewer bytes than it says");
  return whole;
}

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

/** The checksum of zip archives. */
export function crc32(bytes) {
  let value = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) value = TABLE[(value ^ bytes[i]) & 0xff] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}
