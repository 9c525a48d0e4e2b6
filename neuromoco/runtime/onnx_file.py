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
from neuromoco.frames import batch_frames, check_crop
from neuromoco.runtime.header import NEXT, ExportHeader
from neuromoco.runtime.onnx_guard.check import check_model
from neuromoco.runtime.onnx_guard.model import read_metadata, read_model
from neuromoco.runtime.prediction import Floats
from neuromoco.support.untrusted import one_line, read_bytes

LARGEST_BATCH = 64
LARGEST_FILE = 1 << 31  # bytes; the format ends there


class OnnxNetwork:
    """A classifier in an ONNX file of any target and input."""

    def __init__(self, source: Path | str | bytes, threads: int = 0) -> None:
        """Opens a file, or takes its bytes, with `threads` of ONNX Runtime; 0 uses one per core.

        A file is checked before the runtime sees it; bytes are a model that was just made, of any outputs.

        Raises:
            CheckpointError: no file that we write, or one that differs from its header.
        """
        # From 1.29 on, the runtime's Linux wheels send telemetry unless this is set before they are loaded.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        self._name = "the model" if isinstance(source, bytes) else str(source)
        try:
            raw = source if isinstance(source, bytes) else read_bytes(source, LARGEST_FILE)
        except ValueError as error:
            raise CheckpointError(f"{self._name}: {error}") from None
        try:
            metadata = read_metadata(raw)
        except ValueError as error:
            raise self._damaged(error) from None
        self.header = parse_header(self._name, metadata, ExportHeader, "an ONNX")
        if not isinstance(source, bytes):
            try:
                check_model(read_model(raw), self.header)
            except ValueError as error:
                raise self._damaged(error) from None
        self._session = self._start(raw, threads)
        self.outputs = [output.name for output in self._session.get_outputs()]
        self._shapes = {value.name: value.shape for value in self._session.get_inputs()}

    def _start(self, raw: bytes, threads: int) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # what goes wrong is raised
        options.add_session_config_entry("session.load_model_format", "ONNX")  # not its own format, unchecked
        try:
            return onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime has many classes of them, all for files that are not usable
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> CheckpointError:
        reason = one_line(error)
        return CheckpointError(f"{self._name}: is no ONNX file of neuromoco, or is cut or damaged ({reason})")

    def logits(self, recordings: Sequence[Recording]) -> Floats:
        """Logits [T, N, classes] of N recordings."""
        if self.header.input == "events":
            for recording in recordings:
                check_crop(recording, self.header.frames)
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
        if self.header.portable and frames.shape[1] > 1:  # such a file takes one at a time
            return np.concatenate([self.frame_logits(one) for one in np.split(frames, frames.shape[1], axis=1)], axis=1)
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
        """All outputs by name.

        Raises:
            CheckpointError: the runtime fails, or a logit is not a finite number.
        """
        try:
            found = dict(zip(self.outputs, self._session.run(None, inputs), strict=True))
        except Exception as error:  # of many classes, as above
            raise CheckpointError(f"{self._name}: cannot be computed ({one_line(error)})") from None
        if not np.isfinite(found["logits"]).all():
            raise CheckpointError(f"{self._name}: answers with numbers that are not finite")
        return found


def event_columns(recording: Recording) -> dict[str, NDArray[np.integer[Any]]]:
    """The inputs of a file that takes events, by name, for one recording."""
    return {
        "t": recording.t,
        **{name: getattr(recording, name).astype(np.int32) for name in "xyp"},
        "sensor": np.array([recording.height, recording.width]),
    }
