"""Everything that the page and the server say of one event file: facts, animation, answers with their evidence.

`analyse` is plain computation on a path; `sandbox.Sandbox` runs it where a bad file can do no harm.
"""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco import models
from neuromoco.errors import ConfigError, EventFileError, MissingPackageError
from neuromoco.events import Recording, read_recording, survey_recording
from neuromoco.events.stream import ReadOptions
from neuromoco.frames import to_frames
from neuromoco.runtime.load import Backend, LoihiClassifier, load_classifier
from neuromoco.runtime.loihi.twin import run
from neuromoco.runtime.prediction import Prediction

LARGEST_EVENTS = 20_000_000
ANIMATION_STEPS = 48
ANIMATION_SIDE = 128  # pixels; larger sensors are counted together
RATE_POINTS = 120
RASTER_NEURONS = 128  # of the last layer, those that spike most
COMPARED = ("onnx", "loihi-sim")  # answer beside another; torch takes seconds to load, and answers when it is asked


@dataclass(frozen=True)
class Model:
    """What a page may use; chosen by who starts it, never by a visitor.

    Attributes:
        name: shown.
        files: what each backend loads, by backend.
    """

    name: str
    files: dict[str, Path]


def known_models(given: Path | None = None) -> list[Model]:
    """The models that come along, after the one that is given."""
    found = []
    for name in models.available_models():
        paths = {"onnx": models.model_path(name), "loihi-sim": models.model_path(name, ".loihi")}
        paths["torch"] = models.model_path(name, ".safetensors")
        found.append(Model(name, {backend: path for backend, path in paths.items() if path.exists()}))
    if given is not None:
        from neuromoco.runtime.load import backend_of

        found.insert(0, Model(given.stem, {backend_of(given): given}))
    return found


@dataclass(frozen=True)
class Request:
    """What is asked of a file.

    Attributes:
        file: where it lies.
        name: what its owner calls it; for messages and the command alone.
        model: what classifies it.
        backend: whose answer is shown first.
        window_us: length of a window, or None for the whole.
        window: number of the window, from 0.
    """

    file: Path
    name: str
    model: Model
    backend: Backend = "onnx"
    window_us: int | None = None
    window: int = 0


@dataclass
class Analysis:
    """The answer, ready for JSON but for the arrays.

    Attributes:
        facts: of the whole file, see `neuromoco.events.survey`.
        windows: how many there are.
        window_us: begin and end of the one that was classified, from the first event.
        animation: event counts uint16 [A, P, h, w], cut by equal durations.
        rate: events per second, in equal parts of the whole file.
        predictions: by backend.
        backend: the one that was asked for.
        agreement: whether all backends gave one label; None if there is but one.
        spike_rates: spikes a neuron and step, by layer (fixed point).
        raster: step and neuron of every spike of the last layer's busiest neurons (fixed point).
        raster_neurons: how many neurons the raster shows.
        milliseconds: by stage.
        command: gives the same answer.
    """

    facts: dict[str, Any]
    windows: int
    window_us: tuple[int, int]
    animation: NDArray[np.uint16]
    rate: list[float]
    predictions: dict[str, Prediction] = field(default_factory=dict)
    backend: str = "onnx"
    agreement: bool | None = None
    spike_rates: dict[str, float] = field(default_factory=dict)
    raster: list[tuple[int, int]] = field(default_factory=list)
    raster_neurons: int = 0
    milliseconds: dict[str, float] = field(default_factory=dict)
    command: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data: the answer of the backend that was asked for, and those of the others beside."""
        return {
            **self.predictions[self.backend].to_json(),
            "backend": self.backend,
            "window_us": list(self.window_us),
            "windows": self.windows,
            "agreement": self.agreement,
            "labels": {name: prediction.label for name, prediction in self.predictions.items()},
            "facts": self.facts,
            "spike_rates": self.spike_rates,
            "milliseconds": {stage: round(ms, 3) for stage, ms in self.milliseconds.items()},
            "command": self.command,
        }


class Analyst:
    """Keeps what it has loaded: a worker answers many files."""

    def __init__(self) -> None:
        self._loaded: dict[Path, Any] = {}

    def analyse(self, request: Request) -> Analysis:
        """Reads and classifies a file.

        Raises:
            EventFileError: not readable, too many events, or a window without events.
            ConfigError: a backend that the model does not have.
        """
        clock = _Clock()
        options = ReadOptions()
        try:
            found = survey_recording(request.file, options)
            if found.events > LARGEST_EVENTS:
                raise EventFileError(
                    f"{request.name}: {found.events:,} events; up to {LARGEST_EVENTS:,} are taken here: "
                    "neuromoco predict on your machine has no limit"
                )
            clock.lap("survey")
            length = request.window_us or found.last_us - found.first_us + 1
            begin = request.window * length
            recording = read_recording(request.file, begin, begin + length, options)
        except EventFileError as error:
            raise EventFileError(str(error).replace(str(request.file), request.name)) from None
        if not len(recording):
            raise EventFileError(
                f"{request.name}: no events from {begin / 1e3:,.0f} to {(begin + length) / 1e3:,.0f} ms"
            )
        clock.lap("read")
        result = Analysis(
            facts=found.facts(),
            windows=-(-(found.last_us - found.first_us + 1) // length),
            window_us=(begin, begin + length),
            animation=_animation(recording),
            rate=found.rate_curve(RATE_POINTS)[0].tolist(),
            backend=request.backend,
        )
        clock.lap("frames")
        self._answer(request, recording, result, clock)
        result.milliseconds = clock.milliseconds
        result.command = command_of(request)
        return result

    def _answer(self, request: Request, recording: Recording, result: Analysis, clock: _Clock) -> None:
        if request.backend not in request.model.files:
            raise ConfigError(
                f"{request.model.name} has no file for {request.backend}; it has {', '.join(request.model.files)}"
            )
        others = [name for name in COMPARED if name in request.model.files and name != request.backend]
        for backend in (request.backend, *others):
            try:
                classifier = self._load(request.model.files[backend])
            except MissingPackageError:  # h5py, where it is not installed
                if backend == request.backend:
                    raise
                continue
            clock.lap(f"load {backend}")
            (result.predictions[backend],) = classifier.predict([recording])
            clock.lap(f"answer {backend}")
            if isinstance(classifier, LoihiClassifier):
                _add_spikes(classifier, recording, result)
                clock.lap("spikes")
        labels = {prediction.label for prediction in result.predictions.values()}
        result.agreement = len(labels) == 1 if len(result.predictions) > 1 else None

    def _load(self, file: Path) -> Any:
        if file not in self._loaded:
            self._loaded[file] = load_classifier(file, "cpu", threads=1)
        return self._loaded[file]


def _add_spikes(classifier: LoihiClassifier, recording: Recording, result: Analysis) -> None:
    graph = classifier.network.graph
    spikes = run(graph, classifier.network.frames([recording]), keep=lambda _: True).spikes
    names = [block.name for block in graph.blocks[1:-1] if not block.name.endswith(".relay")]
    result.spike_rates = {name: float(spikes[name].mean()) for name in names}
    last = spikes[names[-1]][:, 0]
    last = last.reshape(len(last), -1)  # [T, neurons]
    busiest = np.argsort(-last.sum(0), kind="stable")[:RASTER_NEURONS]
    steps, neurons = np.nonzero(last[:, np.sort(busiest)])
    result.raster = list(zip(steps.tolist(), neurons.tolist(), strict=True))
    result.raster_neurons = len(busiest)


def _animation(recording: Recording) -> NDArray[np.uint16]:
    shrink = -(-max(recording.width, recording.height) // ANIMATION_SIDE)
    size = (-(-recording.height // shrink), -(-recording.width // shrink))
    return np.minimum(to_frames(recording, ANIMATION_STEPS, "time", size), 65_535).astype(np.uint16)


def command_of(request: Request) -> str:
    """The command that gives the same answer."""
    model = request.model.files[request.backend]
    bundled = request.model.name in models.available_models()
    words = ["neuromoco", "predict", request.name, "--any-length"]
    words += ["--backend", request.backend] if bundled else ["--model", str(model)]
    if request.window_us is not None:
        words += ["--window", f"{request.window_us}us"]
    return " ".join(shlex.quote(word) for word in [*words, "--json"])


class _Clock:
    """Milliseconds of stages."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = {}
        self._begin = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.milliseconds[stage] = 1e3 * (now - self._begin)
        self._begin = now
