"""Runs the network description of this folder in Lava's fixed-point simulator of Loihi.

    python run_lava.py                                # frames.npz of this folder
    python run_lava.py --frames other.npz --out answers.npz --taps
    python run_lava.py --folder other.loihi           # another export; nothing in it is executed

The folder holds `network.net`, `manifest.json`, `frames.npz` and `lava_parts`; it needs numpy, h5py and Lava
and nothing else. Exit codes: 0 done, 1 other logits than the frame file expects, 2 Lava is not installed or an
argument is not allowed, 3 a file cannot be used, 4 Lava failed, 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys

if __name__ == "__main__":
    # Before anything that takes time; lava_parts/ending.py takes over.
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: os._exit(130))

import argparse
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
LONGEST = 10_000_000  # seconds; the system's timer takes no more than some
INSTALL = (
    "pip install numpy scipy h5py asteval networkx && "
    "pip install --no-deps --ignore-requires-python lava-dl==0.6.0 lava-nc==0.10.0"
)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Classify frames with network.net in Lava's fixed-point simulator.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the export to run; default: the one of this file")
    parser.add_argument("--frames", type=Path, help="default: frames.npz of the export")
    parser.add_argument("--out", type=Path, help="file for the logits, .npz")
    parser.add_argument("--taps", action="store_true", help="write the spikes of every layer to --out too")
    parser.add_argument("--plain-convolution", action="store_true", help="Lava's own convolution: the same, far slower")
    parser.add_argument("--patience", type=float, default=600.0, help="seconds a recording may take, default 600")
    options = parser.parse_args(arguments)
    options.frames = options.frames or options.folder / "frames.npz"
    if options.taps and options.out is None:
        parser.error("--taps writes to a file: give --out FILE.npz")
    if options.out is not None and not options.out.resolve().parent.is_dir():
        parser.error(f"--out: there is no folder {options.out.resolve().parent}")
    if options.out is not None and options.out.is_dir():
        parser.error(f"--out: {options.out} is a folder: give --out FILE.npz")
    if options.out is not None and not os.access(options.out.resolve().parent, os.W_OK):
        parser.error(f"--out: {options.out.resolve().parent} may not be written")
    if options.out is not None and options.out.resolve() == options.frames.resolve():
        parser.error("--out would overwrite --frames")
    if not 0 < options.patience <= LONGEST:  # nan is not either
        parser.error(f"--patience must be above 0 and at most {LONGEST} seconds")
    return options


def report(names: list[str], logits: Any, expected: Any) -> bool:
    """Prints a line a recording.

    Args:
        names: of the classes.
        logits: from Lava.  # [N, classes]
        expected: from the frame file, or None.  # [N, classes]

    Returns:
        Whether all logits are as expected, true where nothing is.
    """
    same = True
    for number, row in enumerate(logits):
        line = f"{number}: {names[row.argmax()]}"
        if expected is not None:
            equal = (row == expected[number]).all()
            line += ", logits equal" if equal else f", logits differ by up to {abs(row - expected[number]).max()}"
            same = same and bool(equal)
        print(line)
    return same


def run(options: argparse.Namespace) -> int:
    """Classifies, writes and reports; returns the exit code."""
    from lava_parts import compat, files

    manifest = files.read_manifest(options.folder / "manifest.json")
    frames, expected = files.read_frames(options.frames, manifest)
    compat.install(plain_convolution=options.plain_convolution)
    # Only now: these modules import Lava.
    from lava_parts.simulate import simulate

    start = time.perf_counter()
    answer = simulate(options.folder, manifest, frames, taps=options.taps, patience=options.patience)
    seconds = time.perf_counter() - start
    try:
        if options.out is not None:
            spikes = {f"spikes/{layer}": array for layer, array in answer.spikes.items()}
            files.write_npz(options.out, {"logits": answer.logits, **spikes})
    finally:
        # Whatever happens to the file: it took long.
        same = report(manifest["class_names"], answer.logits, expected)
    speed = answer.steps / answer.seconds
    print(f"{answer.steps} steps, {speed:.1f} a second; {seconds:.1f} s with building", file=sys.stderr)
    return 0 if same else 1


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    options = parse(arguments)
    # Every layer runs in a process of its own: threads in each would only get in each other's way.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    from lava_parts.errors import LavaFailedError, UnusableFileError

    try:
        return run(options)
    except UnusableFileError as error:
        return complain(str(error), 3)
    except LavaFailedError as error:
        return complain(str(error), 4)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "lava_parts":
            raise
        return complain(f"{error.name} is not installed: {INSTALL}", 2)


def complain(text: str, code: int) -> int:
    """Prints one line; returns the exit code."""
    print(f"run_lava: {' '.join(text.split())}", file=sys.stderr, flush=True)
    return code


def command() -> None:
    """Runs as a script: every way out gives an exit code, and leaves nothing behind."""
    sys.path.insert(0, str(FOLDER))
    try:
        from lava_parts import ending
    except Exception as error:
        sys.exit(complain(f"{FOLDER / 'lava_parts'} is not whole, export it again: {error}", 4))
    ending.install()
    code = 4
    try:
        code = main()
    except SystemExit as error:  # of argparse
        code = error.code if isinstance(error.code, int) else 0
    except BaseException as error:
        complain(f"{type(error).__name__}: {error}", 4)
    finally:
        ending.end(code)


if __name__ == "__main__":
    command()
