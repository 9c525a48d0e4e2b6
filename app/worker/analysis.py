"""Everything that the page and the server report about one event file: facts, animation, predictions with evidence.

`Analyser.analyse` is plain computation on a path; `sandbox.Sandbox` runs it where a bad file can do no harm.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neuromoco import models
from neuromoco.app.worker.reading import Reading
from neuromoco.app.worker.spikes import SpikingTwin
from neuromoco.confidence import abstention
from neuromoco.config.frames import Crop
from neuromoco.errors import ConfigError, EventFileError, MissingPackageError
from neuromoco.events import ReadOptions, Recording, read_recording, survey_recording
from neuromoco.events.survey import Survey
from neuromoco.frames import filled_part_of, to_frames
from neuromoco.runtime.load import Backend, LoihiClassifier, backend_of, load_classifier
from neuromoco.runtime.prediction import Prediction, predict_batch
from neuromoco.runtime.timeline import Timeline, TimelineRule, make_timeline

if TYPE_CHECKING:
    from neuromoco.runtime.load import AnyClassifier

LARGEST_EVENTS = 20_000_000
DAY_MS = 86_400_000.0  # longest window that a visitor may ask for
MOST_WINDOWS = 1_000_000
MOST_STRIDES = 4_000  # of a timeline; some seconds
ANIMATION_STEPS = 48
ANIMATION_SIDE = 128  # pixels; on larger sensors, neighbouring pixels are counted together
RATE_POINTS = 120
COMPARED = ("onnx", "loihi-sim")  # always answer; torch takes seconds to load and answers only on request


@dataclass(frozen=True)
class ModelFiles:
    """A model that visitors may choose. The person who starts the program offers it; no visitor can add one."""

    name: str
    files: dict[Backend, Path]  # what each backend loads; the first backend is the default

    @property
    def default_backend(self) -> Backend:
        """The backend that answers unless another is chosen."""
        return next(iter(self.files))


def offered_models(own: Path | None = None) -> list[ModelFiles]:
    """The models that ship with the package, after the user's own, if there is one."""
    offered = [] if own is None else [ModelFiles(own.stem, {backend_of(own): own})]
    for name in models.available_models():
        paths: dict[Any, Path] = {backend: models.model_path(name, end) for backend, end in models.SUFFIXES.items()}
        offered.append(ModelFiles(name, {backend: path for backend, path in paths.items() if path.exists()}))
    return offered


@dataclass(frozen=True)
class AnalysisRequest:
    """What to do with a file."""

    file: Path
    name: str  # what its owner calls it; used only in messages and in the command
    model: ModelFiles
    backend: Backend = "onnx"  # its prediction is shown first
    window_us: int | None = None  # length of a window; None for the whole file
    window: int = 0  # number of the window, from 0
    reading: Reading = field(default_factory=Reading)
    timeline: bool = False  # say what the whole recording shows, and when
    abstain: float | None = None  # share of wrong answers to keep, see `neuromoco.confidence`
    compare: bool = False  # let the other backend of `COMPARED` answer, too
    pictures: bool = False  # show the events, their rate, and the spikes of the last layer
    all_windows: bool = False  # answer each window in a line of its own, see `windows.window_lines`
    stride_us: int | None = None  # from one of them to the next; None for their length


@dataclass
class Analysis:
    """The result for one file."""

    facts: dict[str, Any]  # about the whole file, see `neuromoco.events.survey`
    windows: int  # how many windows the file has
    window_us: tuple[int, int]  # begin and end of the classified window, from the first event
    animation: NDArray[np.uint16] | None = None  # event counts [A, P, h, w], in slices of equal duration
    rate: list[float] = field(default_factory=list)  # events per second, in equal parts of the whole file
    predictions: dict[str, Prediction] = field(default_factory=dict)  # by backend
    backend: str = "onnx"  # the requested one
    agreement: bool | None = None  # whether all backends give the same label; None if only one answered
    spike_rates: dict[str, float] = field(default_factory=dict)  # by neuron and step, by layer (fixed point)
    # Step and neuron of every spike of the last layer's busiest neurons (fixed point), and how many neurons these are.
    raster: list[tuple[int, int]] = field(default_factory=list)
    raster_neurons: int = 0
    milliseconds: dict[str, float] = field(default_factory=dict)  # by stage
    command: str = ""  # gives the same prediction
    timeline: Timeline | None = None  # of the requested backend, if it was asked for and the recording is long enough

    def to_json(self) -> dict[str, Any]:
        """The prediction of the requested backend and the labels of the others, as plain data."""
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
            "timeline": None if self.timeline is None else self.timeline.to_json(),
        }


class Analyser:
    """Analyses one file after another; classifiers stay loaded."""

    def __init__(self) -> None:
        self._loaded: dict[Path, AnyClassifier] = {}

    def analyse(self, request: AnalysisRequest) -> Analysis:
        """Reads and classifies a file.

        Raises:
            EventFileError: the file cannot be read.
            ConfigError: an option that does not fit the file or the model.
        """
        file = request.model.files.get(request.backend)
        if request.abstain is not None and file is not None:  # before the file is read, which is not at fault
            abstention(self.load(file).header.calibration, request.abstain)
        with naming(request):
            return self._analyse(request)

    def _analyse(self, request: AnalysisRequest) -> Analysis:
        clock = StageClock()
        options = self.options(request)
        clock.lap("model")
        survey = survey_within_limits(request.file, options)
        clock.lap("survey")
        duration = survey.last_us - survey.first_us + 1
        length = request.window_us or duration
        begin = request.window * length
        recording = read_recording(request.file, begin, begin + length, options)
        if not len(recording):
            raise EventFileError(f"no events from {begin / 1e3:,.0f} to {(begin + length) / 1e3:,.0f} ms")
        crop = survey.occupied() if request.reading.crop == "activity" else request.reading.crop
        recording = filled_part_of(recording, crop, request.name)
        clock.lap("read")
        analysis = Analysis(
            facts=survey.facts(),
            windows=-(-duration // length),
            window_us=(begin, begin + length),
            backend=request.backend,
            milliseconds=clock.milliseconds,
            command=predict_command(request),
        )
        if request.pictures:
            analysis.animation = _animation(recording)
            analysis.rate = survey.rate_curve(RATE_POINTS)[0].tolist()
            clock.lap("frames")
        self._classify(request, recording, analysis, clock)
        if request.timeline:
            analysis.timeline = self._timeline(request, duration, crop)
            clock.lap("timeline")
        return analysis

    def _timeline(self, request: AnalysisRequest, duration: int, crop: Crop) -> Timeline | None:
        """None for a recording that is too short or too long, or that cannot be read in windows."""
        classifier = self.load(request.model.files[request.backend])
        rule = TimelineRule.for_recordings(classifier.header.seen, {})
        if not 2 * rule.window_us <= duration <= MOST_STRIDES * rule.stride_us:
            return None
        try:
            return make_timeline(classifier, request.file, rule, request.reading.options, crop)
        except EventFileError:  # events in no order of time, which are answered whole
            return None

    def _classify(self, request: AnalysisRequest, recording: Recording, analysis: Analysis, clock: StageClock) -> None:
        files = request.model.files
        others = [name for name in files if request.compare and name in COMPARED and name != request.backend]
        for backend in (request.backend, *others):
            try:
                classifier = self.load(files[backend])
            except MissingPackageError:  # h5py may not be installed
                if backend == request.backend:
                    raise
                continue
            clock.lap(f"load {backend}")
            windows, abstain = request.window_us is not None, request.abstain
            if isinstance(classifier, LoihiClassifier):
                twin = SpikingTwin(classifier.network)
                (analysis.predictions[backend],) = predict_batch(twin, [recording], windows, abstain)
                analysis.spike_rates = twin.spike_rates()
                if request.pictures:
                    analysis.raster, analysis.raster_neurons = twin.raster()
            else:
                (analysis.predictions[backend],) = classifier.predict([recording], windows=windows, abstain=abstain)
            clock.lap(f"answer {backend}")
        labels = {prediction.label for prediction in analysis.predictions.values()}
        analysis.agreement = len(labels) == 1 if len(analysis.predictions) > 1 else None

    def options(self, request: AnalysisRequest) -> ReadOptions:
        """What the visitor says, and what is known of the recordings that the model was trained on."""
        file, given = request.model.files.get(request.backend), request.reading.options
        return given if file is None else self.load(file).header.read_options(given)

    def load(self, file: Path) -> AnyClassifier:
        """The classifier in a model's file."""
        if file not in self._loaded:
            self._loaded[file] = load_classifier(file, "cpu", threads=1)
        return self._loaded[file]


def survey_within_limits(file: Path, options: ReadOptions) -> Survey:
    """The survey of a file; raises `EventFileError` if it has too many events, too."""
    survey = survey_recording(file, options)
    if survey.events > LARGEST_EVENTS:
        raise EventFileError(
            f"{survey.events:,} events; at most {LARGEST_EVENTS:,} are accepted here: "
            "neuromoco predict on your machine has no limit"
        )
    return survey


def _animation(recording: Recording) -> NDArray[np.uint16]:
    shrink = -(-max(recording.width, recording.height) // ANIMATION_SIDE)
    size = (-(-recording.height // shrink), -(-recording.width // shrink))
    return np.minimum(to_frames(recording, ANIMATION_STEPS, "time", size), 65_535).astype(np.uint16)


@contextmanager
def naming(request: AnalysisRequest) -> Iterator[None]:
    """Makes errors begin with the visitor's name of the file."""
    try:
        yield
    except EventFileError as error:
        raise EventFileError(_named(str(error), request)) from None
    except ConfigError as error:
        raise ConfigError(_named(str(error), request)) from None


def _named(message: str, request: AnalysisRequest) -> str:
    """A message that begins with the visitor's name of the file, and has no other."""
    message = message.replace(str(request.file), request.name)
    return message if message.startswith(f"{request.name}: ") else f"{request.name}: {message}"


def predict_command(request: AnalysisRequest) -> str:
    """The command that gives the same prediction."""
    name, files = request.model.name, request.model.files
    if request.backend not in files:
        raise ConfigError(f"{name} has no file for {request.backend}; it has {', '.join(files)}")
    words = ["neuromoco", "predict", request.name, "--any-length"]
    bundled = name in models.available_models()
    words += ["--backend", request.backend] if bundled else ["--model", str(files[request.backend])]
    if request.window_us is not None:
        words += ["--window", f"{request.window_us}us"]
    if request.abstain is not None:
        words += ["--abstain", f"{request.abstain:g}"]
    return shlex.join([*words, *request.reading.options_in_words(), "--json"])


class StageClock:
    """Milliseconds by stage."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = {}
        self._begin = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Ends a stage."""
        now = time.perf_counter()
        self.milliseconds[stage] = 1e3 * (now - self._begin)
        self._begin = now
