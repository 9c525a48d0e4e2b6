"""Compares recordings of the simulated camera with real ones of N-MNIST.

    python benchmarks/simulated_vs_real.py --real FOLDER [--picture OUT.png]

FOLDER holds real recordings, at any depth. Every figure is a distribution over recordings.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuromoco.datasets.digits import DIGIT_MOTION, DIGIT_SENSOR, digit_images
from neuromoco.events import Recording, read_recording
from neuromoco.simulate import record

SUFFIXES = (".bin", ".aedat4", ".npz")
QUANTILES = (0, 5, 50, 95, 100)
HEADINGS = ("min", "5 %", "50 %", "95 %", "max")


def measures(recording: Recording) -> dict[str, float]:
    """What is compared, of one recording with at least one event."""
    third = DIGIT_MOTION.saccade_us
    saccade = np.bincount(np.minimum(recording.t // third, 2), minlength=3) / len(recording)
    # Fewer than 3 events in a pixel are mostly background.
    pixel = np.bincount(recording.y.astype(np.int64) * recording.width + recording.x)
    busy = pixel[pixel >= 3]
    return {
        "events": len(recording),
        "duration ms": recording.duration / 1e3,
        "ON share": recording.on_share,
        "share in saccade 1": saccade[0],
        "share in saccade 2": saccade[1],
        "share in saccade 3": saccade[2],
        "pixels with >= 3 events": busy.size,
        "events in such a pixel": float(np.median(busy)) if busy.size else 0.0,
    }


def columns(recordings: Sequence[Recording]) -> dict[str, NDArray[np.float64]]:
    """The measures of all recordings: name -> [N]."""
    rows = [measures(recording) for recording in recordings if len(recording)]
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in rows[0]}


def table(real: dict[str, NDArray[np.float64]], simulated: dict[str, NDArray[np.float64]]) -> str:
    """One line per measure: quantiles of both kinds, and the share of simulated within min..max of real."""
    lines = [" " * 24 + f"{'real':^45} {'simulated':^45}", f"{'':24}"]
    lines[1] += " ".join("".join(f"{h:>9}" for h in HEADINGS) for _ in range(2)) + f"{'inside':>9}"
    for name, values in real.items():
        digits = 3 if "share" in name else 1 if "ms" in name else 0
        cells = ["".join(f"{q:9,.{digits}f}" for q in np.percentile(v, QUANTILES)) for v in (values, simulated[name])]
        inside = np.mean((simulated[name] >= values.min()) & (simulated[name] <= values.max()))
        lines.append(f"{name:24}{cells[0]} {cells[1]} {inside:8.2%}")
    return "\n".join(lines)


def frames(recording: Recording, slices: int = 4) -> NDArray[np.float64]:
    """Count frames as colours, ON red and OFF blue on white: [slices, height, width, 3]."""
    index = np.minimum(recording.t * slices // DIGIT_MOTION.duration_us, slices - 1)
    counts = np.zeros((2, slices, recording.height, recording.width))
    np.add.at(counts, (recording.p, index, recording.y, recording.x), 1)
    off, on = np.clip(counts / 6, 0, 1)
    return 1 - np.stack([off, np.clip(on + off, 0, 1), on], axis=-1)


def draw(real: Sequence[Recording], simulated: Sequence[Recording], path: Path, rows: int = 8) -> None:
    """Writes a picture: on the left real recordings, on the right simulated ones, 4 slices of time each."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(rows, 9, figsize=(13.5, 1.5 * rows))
    for axis in axes.ravel():
        axis.set_axis_off()
    for row in range(rows):
        for start, recordings in ((0, real), (5, simulated)):
            chosen = recordings[(2 * row + 1) * len(recordings) // (2 * rows)]
            for slot, frame in enumerate(frames(chosen)):
                axes[row, start + slot].imshow(frame)
    axes[0, 0].set_title("real", loc="left")
    axes[0, 5].set_title("simulated", loc="left")
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table, and draws the picture if one is wanted."""
    parser = argparse.ArgumentParser(description="Compare simulated digits with real N-MNIST recordings.")
    parser.add_argument("--real", type=Path, required=True, help="folder of real recordings, at any depth")
    parser.add_argument("--picture", type=Path, help="PNG to write, real and simulated frames side by side")
    parser.add_argument("--limit", type=int, help="simulate this many digits, evenly chosen (default: all)")
    options = parser.parse_args(arguments)
    paths = sorted(path for path in options.real.rglob("*") if path.suffix in SUFFIXES)
    if not paths:
        parser.error(f"no recordings ({', '.join(SUFFIXES)}) in {options.real}")
    real = [read_recording(path) for path in paths]

    images, _ = digit_images()
    limit = options.limit if options.limit is not None else len(images)
    if not 1 <= limit <= len(images):
        parser.error(f"--limit {limit}; it is 1 to {len(images)}")
    chosen = np.linspace(0, len(images) - 1, limit).round().astype(int)
    begin = time.perf_counter()
    simulated = [record(images[i], sensor=DIGIT_SENSOR, motion=DIGIT_MOTION, seed=int(i)) for i in chosen]
    seconds = time.perf_counter() - begin

    print(table(columns(real), columns(simulated)))
    print(f"\nreal: {len(real)} recordings")
    print(f"simulated: {limit} recordings; the seed of each is the number of its digit, 0 to {chosen[-1]}")
    print(f"simulated in {seconds:.1f} s, {seconds / limit * 1e3:.1f} ms a digit")
    if options.picture:
        draw(real, simulated, options.picture)
        print(f"picture: {options.picture}")


if __name__ == "__main__":
    main()
