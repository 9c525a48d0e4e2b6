"""A Loihi export in Lava's simulator compared with the integer twin: every spike of every layer, every logit."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from neuromoco.errors import MissingPackageError, NeuromocoError
from neuromoco.events import read_recording
from neuromoco.export.to_loihi.write import RUNNER
from neuromoco.runtime.loihi.blocks import LARGEST_MESSAGE
from neuromoco.runtime.loihi.folder import TwinNetwork
from neuromoco.runtime.loihi.manifest import MANIFEST, NET
from neuromoco.runtime.loihi.twin import run
from neuromoco.support.sampling import evenly_spaced

SCRIPT = "run_lava.py"
NOT_INSTALLED = 2  # the exit code of the script
GRACE_SECONDS = 10.0  # that the script has to end all that it has started


def verify_folder(folder: Path, files: Sequence[Path], most: int) -> dict[str, Any]:
    """Runs a Loihi export in Lava, in a process of its own, and compares the result with the integer twin's.

    It runs at most `most` of the recordings, evenly chosen, with this package's runner: the export may be a stranger's,
    and nothing in it is executed. The "problem" of the result is a line or None; "runner" says whether the export's own
    copy of the runner is "same", "different" or "absent".

    Raises:
        NeuromocoError: no Loihi export, an unreadable recording, or Lava is not installed or failed.
    """
    twin = TwinNetwork(folder)
    recordings = [read_recording(file) for file in evenly_spaced(files, most)]
    frames = twin.frames(recordings)
    begin = time.perf_counter()
    lava = _in_lava(folder, np.minimum(frames, LARGEST_MESSAGE).astype(np.uint8))
    seconds = time.perf_counter() - begin
    expected = run(twin.graph, frames, keep=lambda _: True)
    layers: list[dict[str, Any]] = []
    for layer in twin.manifest.layers:
        if layer.kind in ("input", "readout"):
            continue
        spikes = expected.spikes[layer.name]
        differ = int(np.count_nonzero(spikes != lava[f"spikes/{layer.index}"]))
        count = int(spikes.sum(dtype=np.float64))
        layers.append({"name": layer.name, "spikes": count, "compared": spikes.size, "differ": differ})
    logits_differ = int(np.count_nonzero(expected.logits.sum(0) != lava["logits"]))
    differ = sum(layer["differ"] for layer in layers)
    wrong = differ or logits_differ
    return {
        "runner": compare_runner(folder),
        "recordings": len(recordings),
        "layers": layers,
        "logits_differ": logits_differ,
        "seconds": seconds,
        "problem": f"{differ} spikes and {logits_differ} logits of Lava differ from the twin's" if wrong else None,
    }


def compare_runner(folder: Path) -> str:
    """Whether an export's copy of the runner is the "same" as this package's, "different" or "absent"."""
    ours = {path.relative_to(RUNNER): path.read_bytes() for path in RUNNER.rglob("*.py")}
    theirs = [path for top in {path.parts[0] for path in ours} for path in _files(folder / top)]
    if not theirs:
        return "absent"
    names = {path.relative_to(folder) for path in theirs if path.suffix != ".pyc"}  # a run leaves those
    same = names == set(ours) and all(_holds(folder / name, content) for name, content in ours.items())
    return "same" if same else "different"


def _files(path: Path) -> list[Path]:
    return [each for each in path.rglob("*") if not each.is_dir()] if path.is_dir() else [path] * path.exists()


def _holds(path: Path, content: bytes) -> bool:
    # The size first: the file may be of any size, or none at all.
    return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content


def _in_lava(folder: Path, frames: Any) -> dict[str, Any]:
    """Arrays that this package's run_lava.py writes for frames [T, N, P, H, W]."""
    with _exit_by_exception(), tempfile.TemporaryDirectory() as place:
        inputs, answer = Path(place) / "frames.npz", Path(place) / "answer.npz"
        np.savez_compressed(inputs, frames=frames)
        for name in (MANIFEST, NET):  # all that Lava needs of the folder
            shutil.copyfile(folder / name, Path(place) / name)
        words = [sys.executable, str(RUNNER / SCRIPT), "--folder", place, "--frames", str(inputs), "--out", str(answer)]
        # Its temporary files go into this folder, and it ends if this process is killed.
        settings = os.environ | {"TMPDIR": place, "RUN_LAVA_PARENT": str(os.getpid())}
        code, last = _ran([*words, "--taps"], settings, place)
        if code == NOT_INSTALLED:
            raise MissingPackageError(last)
        if code or not answer.is_file():
            raise NeuromocoError(f"{folder}: {SCRIPT} ended with code {code}: {last}")
        with np.load(answer, allow_pickle=False) as arrays:
            return dict(arrays)


def _ran(words: list[str], settings: dict[str, str], place: str) -> tuple[int, str]:
    """Runs a program in `place`, in a session of its own; returns its exit code and the last line that it printed."""
    # Not subprocess.run: after an interrupt it kills the script before that can end its own processes.
    script = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=settings,
        cwd=place,
        start_new_session=True,
    )
    try:
        printed, complained = script.communicate()
    except BaseException:
        _end(script)
        raise
    return script.returncode, (complained.strip() or printed.strip() or "no message").splitlines()[-1]


def _end(script: subprocess.Popen[str]) -> None:
    """Ends a script and its session, by asking first."""
    # Background jobs of a shell ignore SIGINT, and so do their children.
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    try:
        script.send_signal(signal.SIGTERM if ignored else signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            script.wait(GRACE_SECONDS)
    finally:
        # The script alone: its parts die with it, then multiprocessing's tracker unlinks their shared memory.
        script.kill()
        script.wait()
        with contextlib.suppress(ProcessLookupError):
            for _ in range(20):
                os.killpg(script.pid, 0)
                time.sleep(0.1)
            os.killpg(script.pid, signal.SIGKILL)


@contextlib.contextmanager
def _exit_by_exception() -> Iterator[None]:
    """Turns signals that would end this process at once into SystemExit, so that the script is ended too."""

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    in_main = threading.current_thread() is threading.main_thread()
    numbers = [number for number in (signal.SIGTERM, getattr(signal, "SIGHUP", None)) if in_main and number is not None]
    changed = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    for number in changed:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)
