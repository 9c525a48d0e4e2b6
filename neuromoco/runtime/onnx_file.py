"""An exported ONNX file, from recordings to logits, with numpy and ONNX Runtime alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.checkpoint import parse_header
from neuromoco.errors import CheckpointError
from neuromoco.events import Recording
from neuromoco.frames import batch_frames
from neuromoco.runtime.header import ExportHeader
from neuromoco.runtime.prediction import Floats

NEXT = "next."  # the output of a state has the name of its input behind this
LARGEST_BATCH = 64


class OnnxNetwork:
    """A classifier in an ONNX file of any target and input."""

    def __init__(self, source: Path | str | bytes, threads: int = 0) -> None:
        """Opens a file, or takes its bytes, with `threads` of ONNX Runtime; 0 uses one per core."""
        # From 1.29 on, the runtime's Linux wheels send telemetry unless this is set before they are loaded.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        name = "the model" if isinstance(source, bytes) else str(source)
        if not isinstance(source, bytes) and not Path(source).is_file():
            raise CheckpointError(f"{name}: {'is a folder' if Path(source).is_dir() else 'does not exist'}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # what goes wrong is raised
        try:
            self._session = onnxruntime.InferenceSession(
                source if isinstance(source, bytes) else str(source), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime has many classes of them, all for files that are not usable
            reason = str(error).splitlines()[0][:200]
            raise CheckpointError(f"{name}: is no ONNX file, or is cut or damaged ({reason})") from error
        self.header = parse_header(name, self._session.get_modelmeta().custom_metadata_map, ExportHeader, "an ONNX")
        self.outputs = [output.name for output in self._session.get_outputs()]
        self._shapes = {value.name: value.shape for value in self._session.get_inputs()}

    def logits(self, recordings: Sequence[Recording]) -> Floats:
        """Logits [T, N, classes] of N recordings."""
        if self.header.input == "events":
            answers = [self.run(event_columns(recording))["logits_per_step"] for recording in recordings]
        else:
            batches = [recordings[i : i + LARGEST_BATCH] for i in range(0, len(recordings), LARGEST_BATCH)]
            answers = [self.frame_logits(self.frames(batch)) for batch in batches]
        return np.concatenate(answers, axis=1)

    def frames(self, recordings: Sequence[Recording]) -> Floats:
        """Frames [T, N, P, H, W] of N recordings."""
        return batch_frames(recordings, self.header.frames)

    def frame_logits(self, frames: Floats) -> Floats:
        """Logits [T, N, classes] of frames [T, N, P, H, W], for files that take frames."""
        if self.header.target == "onnx":
            return self.run({"frames": frames})["logits_per_step"]
        state, answers = self.rest(frames.shape[1]), []
        for step in frames:
            answer, state = self.step(step, state)
            answers.append(answer)
        return np.stack(answers)

    def rest(self, batch: int) -> dict[str, Floats]:
        """The state in which N recordings start, for files of one step."""
        return {name: np.zeros((batch, *self._shapes[name][1:]), np.float32) for name in self.header.states}

    def step(self, frames: Floats, state: dict[str, Floats]) -> tuple[Floats, dict[str, Floats]]:
        """Logits [N, classes] of one time step's frames [N, P, H, W], and the state after it."""
        answer = self.run({"frames": frames, **state})
        return answer["logits"], {name: answer[NEXT + name] for name in state}

    def run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """All outputs by name."""
        return dict(zip(self.outputs, self._session.run(None, inputs), strict=True))


def event_columns(recording: Recording) -> dict[str, NDArray[np.integer[Any]]]:
    """The inputs of a file that takes events, by name, for one recording."""
    return {
        "t": recording.t,
        **{name: getattr(recording, name).astype(np.int32) for name in "xyp"},
        "sensor": np.array([recording.height, recording.width]),
    }
