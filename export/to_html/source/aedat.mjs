// AEDAT 2.0, the files of jAER and v2e. Layouts of the cameras' addresses: neuromoco/events/aedat/aedat2.py.

import { Columns, EventError } from "./events.mjs";
import { latin1 } from "./bytes.mjs";
import { checkWhole } from "./prophesee.mjs";

export const MAGIC = "#!AER-DAT2.";
const LARGEST_HEADER = 1 << 22, LOOKED_AT = 1 << 17, MOST_STRAY = 0.01;
const DVS128 = { name: "DVS128", sensor: [128, 128], notEvents: 1 << 31 | 1 << 15, unused: 0x7fff0000,
  polarity: 0, on: 0, xShift: 1, xMask: 0x7f, yShift: 8, yMask: 0x7f };
const DVS640 = { name: "DVS640", sensor: [640, 480], notEvents: 1 << 31, unused: 0x7fe00000,
  polarity: 0, on: 1, xShift: 1, xMask: 0x3ff, yShift: 11, yMask: 0x3ff };
const DAVIS = { name: "DAVIS", sensor: null, notEvents: 1 << 31 | 1 << 10, unused: 0,
  polarity: 11, on: 1, xShift: 12, xMask: 0x3ff, yShift: 22, yMask: 0x1ff };
const CHIPS = [ // sensors, and how the names of their classes in jAER begin after the package
  [[128, 128], ["dvs128", "davis128"]], [[240, 180], ["davis240", "sbret10"]], [[346, 260], ["davis346", "davi346"]],
  [[640, 480], ["davis640", "dvs640"]], [[208, 192], ["davis208"]],
];

/** AEDAT 2.0. `known` is the sensor of files that do not name it. */
export function readAedat2(bytes, { sensor: known }) {
  const head = latin1(bytes, 0, LARGEST_HEADER), line = /#(?:[\t\x20-\x7e\x80-\xff]+\r?|\r)\n/y;
  let begin = 0;
  while (line.test(head)) begin = line.lastIndex;
  if (begin <= MAGIC.length) throw new EventError("the AEDAT 2.0 header does not end: cut or damaged");
  if (begin > LARGEST_HEADER - MAGIC.length) {
    throw new EventError(`the AEDAT 2.0 header is longer than ${LARGEST_HEADER} bytes: damaged`);
  }
  const count = checkWhole(bytes, begin, 8, "AEDAT 2.0 records"), view = new DataView(bytes.buffer, bytes.byteOffset + begin);
  const addresses = Array.from({ length: Math.min(count, LOOKED_AT) }, (_, i) => view.getUint32(8 * i));
  let found;
  try {
    found = cameraOf(head.slice(0, begin), addresses, null);
  } catch (error) {
    if (!known) throw error;
    found = cameraOf(head.slice(0, begin), addresses, known);
  }
  const { layout, sensor } = found, columns = addressesOf(view, count, layout, sensor);
  if (count && !columns.count) throw new EventError(`the AEDAT 2.0 file holds ${count} samples of frames or others, and no events`);
  return { columns, source: "AEDAT 2.0", sensor };
}

function addressesOf(view, count, layout, [width, height]) {
  const columns = new Columns();
  let last = null, t = 0;
  for (let i = 0; i < count; i++) {
    const address = view.getUint32(8 * i), time = view.getInt32(8 * i + 4);
    if (address & layout.notEvents) continue;
    t += last === null ? time : (time - last) | 0; // the shorter way, over an overflow
    last = time;
    // jAER counts columns from the right and rows from the bottom.
    const x = address & layout.unused ? -1 : width - 1 - ((address >>> layout.xShift) & layout.xMask);
    const y = height - 1 - ((address >>> layout.yShift) & layout.yMask);
    columns.add(t, x, y, ((address >>> layout.polarity) & 1) ^ (1 - layout.on));
  }
  return columns;
}

const isSame = (one, other) => one?.[0] === other?.[0] && one?.[1] === other?.[1];

/** The camera that a header names, else the one that the first addresses show; and its sensor. */
function cameraOf(header, addresses, sensor) {
  const chip = /^#[ \t]*AEChip:[ \t]*(\S+)/m.exec(header);
  const board = /^#[ \t]*HardwareInterface:[^\r\n]*?(DVS128|DAVIS)/im.exec(header);
  let layout;
  if (chip) {
    const name = chip[1].split(".").at(-1), lower = name.toLowerCase();
    const size = CHIPS.find(([, names]) => names.some((one) => lower.startsWith(one)))?.[0];
    layout = [DVS128, DVS640].find((one) => lower.startsWith(one.name.toLowerCase())) ?? DAVIS;
    if (!size && !lower.includes("davis")) {
      throw new EventError(`an AEDAT 2.0 file of the camera '${name.slice(0, 60)}'; those of DVS128 and DAVIS are read`);
    }
    sensor ??= size ?? null;
  } else if (board) {
    layout = board[1].toUpperCase() === "DVS128" ? DVS128 : DAVIS;
  } else {
    const byV2e = /^#[^\r\n]*AEDat2Output in v2e/m.test(header);
    layout = layoutOf(addresses, sensor ?? (byV2e ? DVS640.sensor : null));
  }
  if (sensor && layout.sensor && !isSame(sensor, layout.sensor)) {
    throw new EventError(`a ${layout.name}, which has ${layout.sensor.join(" x ")} pixels, not ${sensor.join(" x ")}`);
  }
  sensor = layout.sensor ?? sensor;
  if (!sensor) throw new EventError("a DAVIS of unknown size; neuromoco convert --sensor 346x260 writes a file that names it");
  return { layout, sensor };
}

/** The layout of addresses; of a sensor that is known from elsewhere, where they do not show it. */
function layoutOf(addresses, sensor) {
  const ofPixels = addresses.filter((address) => address < 2 ** 31), stray = MOST_STRAY * ofPixels.length;
  const few = (test) => ofPixels.filter(test).length <= stray;
  const isNarrow = few((address) => address >= 1 << 16), is640 = isSame(sensor, DVS640.sensor);
  const isDavis = few((address) => !(address & 1 << 10) && (address & 0x3ff) !== 0);
  if (isNarrow && isDavis) return !sensor || isSame(sensor, DVS128.sensor) ? DVS128 : DAVIS; // too few to tell
  if (isDavis) return DAVIS;
  if (isNarrow && !is640) return DVS128;
  if (!is640) throw new EventError("the header names no camera, and the addresses are none of a DVS128 or a DAVIS");
  return DVS640;
}
