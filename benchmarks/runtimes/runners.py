"""Runs an ONNX file on recordings in one runtime; a script, for Pythons that have only the runtime and numpy.

    python runners.py RUNTIME FOLDER

The folder has `model.onnx` and `inputs.json`: for each recording its inputs, by name a type, a shape and the file of
the numbers; for files of one step, also "steps". Writes `logits.bin`, float32 [N, classes], and prints one line of
JSON: the runtime's version, or why it does not run the file.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, Any]
Session = Callable[[Arrays], Arrays]  # inputs by name -> outputs by name


def names_of(path: Path) -> tuple[list[str], list[str]]:
    """Names of the inputs and outputs of a file, in their order."""
    import onnx

    graph = onnx.load(path).graph
    return [value.name for value in graph.input], [value.name for value in graph.output]


def onnxruntime(path: Path, _: Arrays) -> Session:
    """ONNX Runtime on the CPU."""
    import onnxruntime as ort

    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = [value.name for value in session.get_outputs()]
    return lambda inputs: dict(zip(outputs, session.run(outputs, inputs), strict=True))


def onnx(path: Path, _: Arrays) -> Session:
    """The evaluator in numpy that defines ONNX."""
    from onnx.reference import ReferenceEvaluator

    session = ReferenceEvaluator(str(path))
    return lambda inputs: dict(zip(session.output_names, session.run(None, inputs), strict=True))


def openvino(path: Path, _: Arrays, **hint: str) -> Session:
    """OpenVINO on the CPU with the precision that its processor prefers."""
    import openvino as ov

    compiled = ov.Core().compile_model(path, "CPU", hint)
    return lambda inputs: {key.get_any_name(): value for key, value in compiled(inputs).items()}


def openvino_f32(path: Path, example: Arrays) -> Session:
    """OpenVINO told to compute in float32."""
    return openvino(path, example, INFERENCE_PRECISION_HINT="f32")


def tract(path: Path, _: Arrays) -> Session:
    """tract, by Sonos, in Rust."""
    import tract as library

    runnable = library.onnx().load(str(path)).into_model().into_runnable()
    inputs, outputs = names_of(path)
    return lambda given: dict(
        zip(outputs, (value.to_numpy() for value in runnable.run([given[name] for name in inputs])), strict=True)
    )


def litert(path: Path, example: Arrays) -> Session:
    """TFLite's interpreter (LiteRT) on what onnx2tf makes of the file."""
    import onnx2tf
    from ai_edge_litert.interpreter import Interpreter

    folder = path.parent / "tflite"
    onnx2tf.convert(
        input_onnx_file_path=str(path),
        output_folder_path=str(folder),
        keep_shape_absolutely_input_names=list(example),
        copy_onnx_input_output_names_to_tflite=True,
        disable_model_save=False,
        non_verbose=True,
    )
    interpreter = Interpreter(str(folder / "model_float32.tflite"))
    runner = interpreter.get_signature_runner()
    return lambda inputs: {name: np.asarray(value) for name, value in runner(**inputs).items()}


def ncnn(path: Path, example: Arrays) -> Session:
    """ncnn, by Tencent, on what pnnx makes of the file; its values have no axis of recordings."""
    import ncnn as library
    import pnnx

    inputs, outputs = names_of(path)
    kinds = {"float32": "f32", "int64": "i64", "int32": "i32"}
    shapes = [f"[{','.join(map(str, example[n].shape))}]{kinds[str(example[n].dtype)]}" for n in inputs]
    command = [Path(pnnx.__file__).parent / "pnnx", path.name, f"inputshape={','.join(shapes)}", "fp16=0"]
    done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, timeout=300, check=False)
    written = path.parent / "model.ncnn.param"
    if not written.exists():
        raise RuntimeError(f"pnnx ends with code {done.returncode} and writes nothing")
    layers = written.read_text().split("\n")[2:]
    foreign = sorted({line.split()[0] for line in layers if "." in line.split(" ")[0] or line.startswith("pnnx")})
    if foreign:
        raise RuntimeError(f"ncnn has no {', '.join(foreign)}")
    net = library.Net()
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    if net.load_param(str(written)) or net.load_model(str(path.parent / "model.ncnn.bin")):
        raise RuntimeError("does not load what pnnx wrote")

    def run(given: Arrays) -> Arrays:
        extractor, found = net.create_extractor(), {}
        for number, name in enumerate(inputs):
            extractor.input(f"in{number}", library.Mat(np.ascontiguousarray(given[name][0])).clone())
        for number, name in enumerate(outputs):
            code, value = extractor.extract(f"out{number}")
            if code:
                raise RuntimeError(f"fails at {name}")
            found[name] = np.array(value)[None]
        return found

    return run


# By the name on the command line: how a file is opened, and the packages that it needs.
RUNTIMES: dict[str, tuple[Callable[[Path, Arrays], Session], tuple[str, ...]]] = {
    "onnxruntime": (onnxruntime, ("onnxruntime",)),
    "onnx": (onnx, ("onnx",)),
    "openvino-f32": (openvino_f32, ("openvino",)),
    "openvino": (openvino, ("openvino",)),
    "tract": (tract, ("tract", "onnx")),
    "litert": (litert, ("ai-edge-litert", "onnx2tf", "tensorflow")),
    "ncnn": (ncnn, ("ncnn", "pnnx", "onnx")),
}


def load(folder: Path) -> tuple[list[Arrays], int | None]:
    """The inputs of every recording, and the number of steps where the file computes one a call."""
    listed = json.loads((folder / "inputs.json").read_text())
    read = lambda entry: np.fromfile(folder / entry["file"], entry["type"]).reshape(entry["shape"])  # noqa: E731
    return [{name: read(entry) for name, entry in one.items()} for one in listed["recordings"]], listed.get("steps")


def logits(session: Session, inputs: Arrays, steps: int | None) -> Any:
    """Logits [classes] of one recording; of T steps, each of which hands its state to the next."""
    if steps is None:
        return session(inputs)["logits"][0]
    frames, state = inputs["frames"], {name: value for name, value in inputs.items() if name != "frames"}
    found = []
    for step in frames:
        answer = session({"frames": step, **state})
        state = {name: answer[f"next.{name}"].reshape(state[name].shape) for name in state}
        found.append(answer["logits"].reshape(-1))
    return np.mean(found, axis=0)


def main(name: str, folder: Path) -> dict[str, str]:
    """Runs all recordings; what is printed."""
    open_file, packages = RUNTIMES[name]
    inputs, steps = load(folder)
    example = inputs[0] if steps is None else inputs[0] | {"frames": inputs[0]["frames"][0]}
    session = open_file(folder / "model.onnx", example)
    found = np.stack([logits(session, one, steps) for one in inputs])
    found.astype(np.float32).tofile(folder / "logits.bin")
    return {"version": ", ".join(f"{package} {version(package)}" for package in packages)}


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    printed = io.StringIO()  # by the libraries
    with contextlib.redirect_stdout(printed):
        try:
            answer = main(sys.argv[1], Path(sys.argv[2]))
        except BaseException as error:  # of any library, some of which exit
            lines = [line for line in printed.getvalue().splitlines() if "ERROR:" in line]
            reason = lines[0] if isinstance(error, SystemExit) and lines else f"{type(error).__name__}: {error}"
            answer = {"problem": " ".join(reason.split())}
    print(json.dumps(answer))
