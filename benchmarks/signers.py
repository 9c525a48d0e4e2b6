"""Whether the recordings of each class come in blocks of one person each, and a table of labels that says so.

    python -m benchmarks.signers --data DVS_Sign/train --block 5 --table signers.csv

Names are numbers; `--block` successive ones are taken for one person. For each offset of the blocks, the share of
recordings whose most similar recording of *another* class is of the same block (by cosine of event counts on 32 x 32
pixels): if blocks are persons, offset 0 stands out. Then the accuracy of one nearest neighbour, with and without the
recording's own block: the difference is what a random fold flatters. One JSON object. `--picture blocks.png` draws how
alike recordings of different classes are, by their numbers: persons are squares on the diagonal.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco import read_recording
from neuromoco.frames import to_frames
from neuromoco.support.figures import new_figure, save_figure

SIDE = 32


def similarity(counts: NDArray[Any]) -> NDArray[Any]:
    """Cosine of the roots of counts [S, D] between recordings, [S, S]; -1 with themselves."""
    values = np.sqrt(counts)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    alike = values @ values.T
    np.fill_diagonal(alike, -1.0)
    return alike


def draw_blocks(path: Path, counts: NDArray[Any], labels: NDArray[Any], numbers: NDArray[Any]) -> None:
    """Draws the mean similarity of recordings of different classes, by their numbers."""
    alike, apart = similarity(counts), labels[:, None] != labels
    known = sorted(set(numbers.tolist()))
    of = [numbers == number for number in known]
    means = [[alike[np.ix_(a, b)][apart[np.ix_(a, b)]].mean() for b in of] for a in of]
    figure = new_figure(4.5, 4.0)
    axes = figure.add_subplot()
    image = axes.imshow(means, origin="lower", extent=(known[0] - 0.5, known[-1] + 0.5) * 2)
    axes.set(xlabel="number of a recording", ylabel="number of one of another class")
    figure.colorbar(image, label="mean cosine of event counts")
    save_figure(figure, path)


def block_evidence(counts: NDArray[Any], labels: NDArray[Any], numbers: NDArray[Any], size: int) -> dict[str, Any]:
    """Figures of `size` successive numbers; counts are [S, D], labels and numbers [S]."""
    alike = similarity(counts)
    other_class = np.where(labels[:, None] == labels, -1.0, alike).argmax(1)
    same = {}
    for offset in range(size):
        blocks = (numbers + offset) // size
        same[offset] = round(float((blocks == blocks[other_class]).mean()), 3)
    blocks = numbers // size
    other_block = np.where(blocks[:, None] == blocks, -1.0, alike).argmax(1)
    return {
        "nearest_of_another_class_in_same_block_by_offset": same,
        "chance": round(float((blocks[:, None] == blocks).mean()), 3),
        "nearest_neighbour": round(float((labels[alike.argmax(1)] == labels).mean()), 3),
        "nearest_neighbour_of_other_blocks": round(float((labels[other_block] == labels).mean()), 3),
    }


def main() -> None:
    """Measures one folder of class folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of class folders")
    parser.add_argument("--block", type=int, default=5, help="recordings of a person in a class")
    parser.add_argument("--picture", type=Path, help="draw the blocks here")
    parser.add_argument("--table", type=Path, help="write the table of labels here")
    options = parser.parse_args()
    files = sorted(path for path in options.data.glob("*/*") if path.stem.isdecimal())
    numbers = np.array([int(path.stem) for path in files])
    frames = [to_frames(read_recording(path), 1, "count", (SIDE, SIDE)).sum(1).ravel() for path in files]
    labels = np.unique([path.parent.name for path in files], return_inverse=True)[1]
    counts = np.array(frames, float)
    print(json.dumps(block_evidence(counts, labels, numbers, options.block)))
    if options.picture:
        draw_blocks(options.picture, counts, labels, numbers)
    if options.table:
        with options.table.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["file", "class", "signer"])
            for path, number in zip(files, numbers.tolist(), strict=True):
                table.writerow([path.relative_to(options.data).as_posix(), path.parent.name, number // options.block])


if __name__ == "__main__":
    main()
