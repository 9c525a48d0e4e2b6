"""Classification with an exported model: numpy and ONNX Runtime, or the integer twin of a Loihi export; no torch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from neuromoco.checkpoint import best_weights, is_checkpoint
from neuromoco.errors import CheckpointError, ConfigError
from neuromoco.events import Recording
from neuromoco.runtime.loihi.manifest import read_manifest
from neuromoco.runtime.onnx_file import OnnxNetwork
from neuromoco.runtime.prediction import Prediction, answer, judge, opened, predict_batch, timed
from neuromoco.support.extras import need
from neuromoco.support.untrusted import is_regular

if TYPE_CHECKING:
    from neuromoco.runtime.checkpoint_file import TrainedClassifier

    AnyClassifier: TypeAlias = "OnnxClassifier | LoihiClassifier | TrainedClassifier"

Backend = Literal["auto", "onnx", "torch", "loihi-sim"]
TAKES = {
    "onnx": "an .onnx file",
    "torch": "a checkpoint",
    "loihi-sim": "a folder that `neuromoco export --target loihi` wrote",
}
HDF5 = b"\x89HDF\r\n\x1a\n"
OTHERS = "give the checkpoint, or export it with --target onnx, onnx-step or loihi"


class OnnxClassifier:
    """A classifier in an ONNX file.

    Attributes:
        network: the file.
        header: what it says about itself.
    """

    def __init__(self, path: Path | str, threads: int = 0) -> None:
        """Opens a file.

        Args:
            path: an ONNX file that `neuromoco export` wrote.
            threads: of ONNX Runtime; 0 uses one per core.

        Raises:
            CheckpointError: not such a file.
        """
        self.network = OnnxNetwork(path, threads)
        self.header = self.network.header

    def predict(
        self,
        recordings: Sequence[Recording | Path | str],
        stop_at: float | None = None,
        windows: bool = False,
        abstain: float | None = None,
    ) -> list[Prediction]:
        """Classifies recordings, in batches.

        Args:
            recordings: of any sensor and length, or their files.
            stop_at: stop a recording at the first time step at which a class has this probability. Only files of
                one step can ("onnx-step"); the others compute all steps at once.
            windows: whether these are windows of longer recordings, whose duration does not tell whether they fit.
            abstain: share of errors among the answers that are given, see `neuromoco.confidence.abstention`.

        Raises:
            ConfigError: an early stop with another file, or a level that too few recordings validated.
            EventFileError: a file cannot be read.
        """
        known = opened(recordings, self.header)
        if stop_at is not None:
            return [self._until(recording, stop_at, windows, abstain) for recording in known]
        if self.header.input == "events":
            return [self._from_events(recording, windows, abstain) for recording in known]
        return predict_batch(self.network, known, windows, abstain)

    def _from_events(self, recording: Recording, window: bool, abstain: float | None) -> Prediction:
        logits, running = timed(self.network.logits, [recording])
        timings = {"frames": 0.0, "network": running}
        fit = None
        if self.header.fit is not None:
            frames, framing = timed(self.network.frames, [recording])
            fits, judging = timed(judge, self.header, [recording], frames, window)
            fit, timings["fit"] = fits[0], framing + judging
        return answer(logits[:, 0], self.header, timings, fit, abstain)

    def _until(self, recording: Recording, stop_at: float, window: bool, abstain: float | None) -> Prediction:
        check_early_stop(self, stop_at)
        frames, framing = timed(self.network.frames, [recording])
        (fit,) = judge(self.header, [recording], frames, window)
        begin, state, logits = time.perf_counter(), self.network.rest(1), []
        for step in frames:
            of_step, state = self.network.step(step, state)
            logits.append(of_step[0])
            timings = {"frames": framing, "network": time.perf_counter() - begin}
            prediction = answer(np.stack(logits), self.header, timings, fit, abstain)
            if prediction.confidence >= stop_at:
                break
        return prediction


class LoihiClassifier:
    """A classifier in the folder of a Loihi export, computed as Lava's fixed-point simulator would.

    Attributes:
        network: the folder.
        header: what the export says about itself and its source.
    """

    def __init__(self, folder: Path | str) -> None:
        """Opens a folder.

        Raises:
            CheckpointError: not such a folder.
            MissingExtraError: h5py is not installed.
        """
        read_manifest(folder)  # what is no export needs no package
        need("loihi", "a Loihi export")
        from neuromoco.runtime.loihi.folder import TwinNetwork

        self.network = TwinNetwork(folder)
        self.header = self.network.header

    def predict(
        self, recordings: Sequence[Recording | Path | str], windows: bool = False, abstain: float | None = None
    ) -> list[Prediction]:
        """Classifies recordings, or files of them, all in one batch; see `OnnxClassifier`."""
        return predict_batch(self.network, opened(recordings, self.header), windows, abstain)


def backend_of(path: Path | str) -> Backend:
    """The backend that runs a model, by the model's content."""
    if Path(path).is_dir():
        return "loihi-sim"
    return "torch" if is_checkpoint(path) else "onnx"


def load_classifier(
    path: Path | str, device: str = "auto", threads: int = 0, backend: Backend = "auto"
) -> AnyClassifier:
    """Loads a classifier from an exported model or, where torch is installed, from a checkpoint.

    Args:
        path: an ONNX file, the folder of a Loihi export, a checkpoint or the run folder around it; the content decides.
        device: for a checkpoint: "auto", "cpu" or "cuda".
        threads: for an ONNX file: of ONNX Runtime; 0 uses one per core.
        backend: the backend that the model must be for; "auto" takes any.

    Returns:
        An object whose `predict(recordings)` returns a `Prediction` for each recording.

    Raises:
        CheckpointError: `path` is none of these, or is damaged.
        ConfigError: the model is for another backend.
        MissingExtraError: a checkpoint without torch, or a Loihi export without h5py.

    Examples:
        >>> import neuromoco
        >>> classifier = neuromoco.load_classifier("models/sew_resnet_tiny-digits.onnx")
        >>> answer = classifier.predict([neuromoco.read_recording("models/examples/3.bin")])[0]
        >>> answer.label
        '3'
    """
    path = best_weights(path)
    model_backend = backend_of(path)
    if backend not in ("auto", model_backend):
        raise ConfigError(f"{path}: --backend {backend} takes {TAKES[backend]}; this is for {model_backend}")
    if model_backend == "loihi-sim":
        return LoihiClassifier(path)
    if model_backend == "onnx":
        if _is_hdf5(path):
            raise CheckpointError(f"{path}: is an HDF5 file, such as an NIR graph, for other simulators; {OTHERS}")
        return OnnxClassifier(path, threads)
    need("train", "a checkpoint (an exported .onnx file does not)")
    from neuromoco.runtime.checkpoint_file import TrainedClassifier

    return TrainedClassifier(path, device)


def _is_hdf5(path: Path | str) -> bool:
    if not is_regular(path):
        return False
    with Path(path).open("rb") as file:
        return file.read(len(HDF5)) == HDF5


def check_early_stop(classifier: AnyClassifier, stop_at: float) -> None:
    """Refuses a classifier that cannot stop early at this probability."""
    if not 0.0 < stop_at <= 1.0:
        raise ConfigError(f"a probability of {stop_at} to stop at; it must be above 0 and at most 1")
    if getattr(classifier.header, "target", "a checkpoint") != "onnx-step":
        raise ConfigError(
            "an early stop needs a file of one step, and this model computes all steps at once: "
            "neuromoco export --target onnx-step"
        )
