"""Portable ONNX files in other runtimes: the largest error of a logit, and the share of equal answers, in a table.

    python -m benchmarks.runtimes [CHECKPOINT] [--data FOLDER] [--python PATH ...] [--web FOLDER] [--only NAME ...]

Three networks: the checkpoint's (the one that ships with the package) and two small ones with random weights. Each
answers N recordings (the bundled ones) from four files: frames, events, one step a call, int8. Everything is compared
with torch in float32; int8 is calibrated on every second recording. Each runtime runs in a process of its own, in the
first Python that has it: this one, then those of --python. --web is a folder with node_modules/onnxruntime-web.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import numpy as np

from benchmarks.runtimes import runners
from benchmarks.runtimes.networks import KINDS, Subject, subjects, write_kind
from neuromoco import models
from neuromoco.events import read_recording
from neuromoco.runtime.onnx_guard.operator_sets import OPSET, OPSETS
from neuromoco.support.files import files_in

HERE = Path(__file__).parent
LONGEST = 300  # seconds a cell
WORDS = 90  # characters of a reason
TITLES = {
    "onnxruntime": "ONNX Runtime",
    "onnx": "ONNX reference evaluator",
    "openvino-f32": "OpenVINO, hint f32",
    "openvino": "OpenVINO, no hint",
    "wasm": "onnxruntime-web, wasm",
    "webgpu": "onnxruntime-web, WebGPU",
    "tract": "tract",
    "litert": "TFLite (onnx2tf, LiteRT)",
    "ncnn": "ncnn (pnnx)",
}


def find_commands(candidates: list[str], web: Path | None) -> dict[str, list[str]]:
    """For each runtime that is installed, what runs it, but for the folder: the first Python that has its packages."""
    found: dict[str, list[str]] = {}
    if web is not None:
        found["wasm"] = ["node", str(HERE / "web.mjs"), str(web.resolve())]
        found["webgpu"] = [sys.executable, str(HERE / "browser.py"), str(web.resolve())]
    for python in candidates:
        code = "import sys; from importlib.metadata import version; [version(name) for name in sys.argv[1:]]"
        for name, (_, packages) in runners.RUNTIMES.items():
            command = [python, "-c", code, *packages]
            if name not in found and not subprocess.run(command, capture_output=True, check=False).returncode:
                found[name] = [python, str(HERE / "runners.py"), name]
    return found


def run(command: list[str]) -> dict[str, str]:
    """What a runner prints, or why it printed nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, check=False)
    except subprocess.TimeoutExpired:
        return {"problem": f"not within {LONGEST} s"}
    try:
        answer: dict[str, str] = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return {"problem": f"ends with code {done.returncode}: {' '.join(done.stderr.split())[-WORDS:]}"}
    return answer


def cell(of: Subject, folder: Path, answer: dict[str, str]) -> str:
    """The figures of a runtime on a file, or the reason in a few words."""
    if "problem" in answer:
        words = answer["problem"].replace("|", "/")
        return words if len(words) <= WORDS else f"{words[:WORDS]}..."
    found = np.fromfile(folder / "logits.bin", np.float32).reshape(of.logits.shape)
    equal = np.mean(found.argmax(1) == of.logits.argmax(1))
    return f"{np.abs(found - of.logits).max():.1e}, {equal:.0%}"


def main() -> None:
    """Prints a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", type=Path, default=models.model_path(suffix=".safetensors"))
    parser.add_argument("--data", type=Path, help="recordings; by default the bundled ones")
    parser.add_argument("--most", type=int, default=10, help="recordings, the first of them")
    parser.add_argument("--python", action="append", default=[], help="another Python that has runtimes")
    parser.add_argument("--web", type=Path, help="folder with node_modules/onnxruntime-web")
    parser.add_argument("--only", nargs="*", choices=TITLES, default=list(TITLES), help="runtimes")
    parser.add_argument("--opset", type=int, choices=OPSETS, default=OPSET)
    parser.add_argument("--seed", type=int, default=0, help="of random weights")
    options = parser.parse_args()
    files = models.example_paths() if options.data is None else files_in([options.data])
    recordings = [read_recording(path) for path in files[: options.most]]
    commands = find_commands([sys.executable, *options.python], options.web)
    versions: dict[str, str] = {}
    print(f"{date.today()}, {len(recordings)} recordings, opset {options.opset}: {' '.join(sys.argv[1:])}")
    for of in subjects(options.checkpoint, recordings, options.seed):
        print(f"\n{of.name}\n\n| runtime | {' | '.join(KINDS)} |\n|---|{'---|' * len(KINDS)}")
        for name in options.only:
            cells = []
            for kind in KINDS:
                with tempfile.TemporaryDirectory() as place:
                    folder = Path(place) / "files"
                    if name not in commands:
                        cells.append("not installed")
                        continue
                    write_kind(of, kind, options.opset, folder)
                    answer = run([*commands[name], str(folder)])
                    versions |= {name: answer["version"]} if "version" in answer else {}
                    cells.append(cell(of, folder, answer))
            print(f"| {TITLES[name]} | {' | '.join(cells)} |", flush=True)
    print(f"\n{'; '.join(versions.values())}")


if __name__ == "__main__":
    main()
