"""Classification of many files, whole or window by window, in one process or several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuromoco.confidence import abstention
from neuromoco.config.frames import Crop
from neuromoco.datasets.settle import settle_files
from neuromoco.errors import EventFileError, NeuromocoError
from neuromoco.events import ReadOptions, Recording, read_recording, read_windows
from neuromoco.events.recording import NOTHING_ODD, Oddities
from neuromoco.frames import cropped, filled_part_of, part_of
from neuromoco.runtime.activity import usual_rate
from neuromoco.runtime.load import Backend, check_early_stop, load_classifier
from neuromoco.runtime.prediction import Prediction, check_complete, timed
from neuromoco.runtime.timeline import Timeline, TimelineRule, make_timeline
from neuromoco.support.console import console, escape
from neuromoco.support.pool import Lost, map_in_processes

if TYPE_CHECKING:
    from neuromoco.runtime.load import AnyClassifier

# What the JSON of a result says that it is. Keys may be added to a version, none may go or change its meaning.
SCHEMA = "neuromoco/predict/1"
QUIET = 0.1  # of the usual events per second; with fewer, nothing moves in a window


@dataclass(frozen=True)
class FileResult:
    """The result for a file, or for a window of it.

    Attributes:
        file: the file.
        result: its classification or timeline, or the error; None for a window without events, or a quiet one.
        window: begin and end in microseconds from the first event; None for a whole file.
        oddities: what was done to the events to read them.
    """

    file: Path
    result: Prediction | Timeline | NeuromocoError | None
    window: tuple[int, int] | None = None
    oddities: Oddities = NOTHING_ODD

    def to_json(self) -> dict[str, Any]:
        """The file, or the window of it, and its result or error, as plain data for JSON."""
        facts: dict[str, Any] = {"schema": SCHEMA, "file": str(self.file)}
        if self.window is not None:
            facts["window_us"] = list(self.window)
        if isinstance(self.result, Prediction | Timeline):
            return facts | self.result.to_json()
        if self.result is None:
            return facts | {"label": None}
        return facts | {"error": str(self.result), "exit_code": self.result.exit_code}


@dataclass(frozen=True)
class Job:
    """How files are classified.

    Attributes:
        model: an exported file or folder, or a checkpoint.
        device: for a checkpoint.
        backend: that the model must be for.
        any_length: whether to answer for recordings much shorter than those of the training also where the model's file
            does not say what fits.
        stop_at: see `OnnxClassifier.predict`.
        window: length in microseconds of the windows that recordings are cut into; None for whole files.
        timeline: settings of `TimelineRule.for_recordings`, to say what recordings show when; None for single answers.
        options: for reading the files.
        crop: the part of the sensor that is used instead of the network's; "activity" is settled for all files.
        abstain: share of errors among the answers that are given, see `neuromoco.confidence.abstention`.
        pass_quiet: whether windows with less than a tenth of the usual events get no answer, as those without events.
    """

    model: Path
    device: str = "auto"
    backend: Backend = "auto"
    any_length: bool = False
    stop_at: float | None = None
    window: int | None = None
    options: ReadOptions | None = None
    crop: Crop = None
    abstain: float | None = None
    timeline: Mapping[str, Any] | None = None
    pass_quiet: bool = False

    def load(self, threads: int = 0) -> AnyClassifier:
        """Loads the classifier.

        Raises:
            CheckpointError: the model is not usable.
            ConfigError: a model that cannot stop early, or a level that too few recordings validated.
        """
        classifier = load_classifier(self.model, self.device, threads, self.backend)
        if self.stop_at is not None:
            check_early_stop(classifier, self.stop_at)
        if self.abstain is not None:
            abstention(classifier.header.calibration, self.abstain)
        if self.timeline is not None:
            TimelineRule.for_recordings(classifier.header.seen, self.timeline)
        return classifier

    def results(self, classifier: AnyClassifier, file: Path) -> Iterator[FileResult]:
        """The result for a file, or for each of its windows; an error ends them."""
        if self.timeline is not None:
            yield self._timeline(classifier, file, self.timeline)
            return
        if self.window is None:
            yield self.whole(classifier, file)
            return
        begin = 0
        try:
            for recording in read_windows(file, self.window, classifier.header.read_options(self.options)):
                yield self.of_window(classifier, file, recording, (begin, begin + self.window))
                begin += self.window
        except NeuromocoError as error:
            yield FileResult(file, error, (begin, begin + self.window))

    def of_window(
        self, classifier: AnyClassifier, file: Path, recording: Recording, window: tuple[int, int]
    ) -> FileResult:
        """The result for a window that was read: its events, and begin and end from the file's first event.

        Raises:
            NeuromocoError: it cannot be classified.
        """
        part, header = self._part(file, recording), classifier.header
        fewest = QUIET * usual_rate(header.seen) * (window[1] - window[0]) / 1e6 if self.pass_quiet else 0.0
        quiet = not len(part) or (self.pass_quiet and len(cropped(part, header.frames)) < fewest)
        result = None if quiet else self._predict(classifier, file, part)
        return FileResult(file, result, window, recording.oddities)

    def whole(self, classifier: AnyClassifier, file: Path) -> FileResult:
        """The result for a whole file."""
        try:
            recording, reading = timed(read_recording, file, None, None, classifier.header.read_options(self.options))
            if not self.any_length and classifier.header.fit is None:
                check_complete(file, recording, classifier.header.seen)
            prediction = self._predict(classifier, file, filled_part_of(recording, self.crop, file))
            result = replace(prediction, timings={"read": reading, **prediction.timings})
            return FileResult(file, result, oddities=recording.oddities)
        except NeuromocoError as error:
            return FileResult(file, error)

    def _timeline(self, classifier: AnyClassifier, file: Path, given: Mapping[str, Any]) -> FileResult:
        rule = TimelineRule.for_recordings(classifier.header.seen, given)
        try:
            timeline = make_timeline(classifier, file, rule, self.options, self.crop)
            return FileResult(file, timeline, oddities=timeline.oddities)
        except NeuromocoError as error:
            return FileResult(file, error)

    def _part(self, file: Path, recording: Recording) -> Recording:
        try:
            return part_of(recording, self.crop)  # type: ignore[arg-type] # in pixels, see `settled`
        except EventFileError as error:
            raise EventFileError(f"{file}: {error}") from None

    def settled(self, files: Sequence[Path], classifier: AnyClassifier) -> Job:
        """This job with a crop in pixels, the same for all of some files; raises as `settle_files`."""
        if self.crop != "activity":
            return self
        options, crop = settle_files(files, classifier.header.read_options(self.options), self.crop)
        return replace(self, options=options, crop=crop)

    def _predict(self, classifier: AnyClassifier, file: Path, recording: Recording) -> Prediction:
        stop: dict[str, Any] = {} if self.stop_at is None else {"stop_at": self.stop_at}
        try:
            windows = self.window is not None
            (prediction,) = classifier.predict([recording], windows=windows, abstain=self.abstain, **stop)
        except EventFileError as error:  # such as a crop that does not fit
            raise EventFileError(f"{file}: {error}") from None
        return prediction

    def warn(self, classifier: AnyClassifier) -> None:
        """Says it in a line if no answer can be sure enough."""
        if self.abstain is not None and not abstention(classifier.header.calibration, self.abstain).answers:
            few = f"the recordings that validated it show no probability above which errors are below {self.abstain:g}"
            console.print(f"{escape(str(self.model))}: all answers are unsure, since {few}", soft_wrap=True)


def classify_files(files: Sequence[Path], job: Job, processes: int = 1) -> Iterator[FileResult]:
    """Classifies files; the results come in the order of the files. One that ends its process is an error of its own.

    Args:
        files: recordings.
        job: how to classify them.
        processes: how many work at the same time.

    Raises:
        NeuromocoError: the model is not usable; see `Job.load`.
    """
    classifier = job.load(threads=0 if processes == 1 else 1)  # one that is not usable is reported once, here
    job.warn(classifier)
    job = job.settled(files, classifier)
    if processes == 1:
        for file in files:
            yield from job.results(classifier, file)
        return
    answers = map_in_processes(_Worker.results, files, processes, _Worker.start, job)
    for file, results in zip(files, answers, strict=True):
        if isinstance(results, Lost):
            yield FileResult(file, EventFileError(f"{file}: {results.reason}"))
        else:
            yield from results


class _Worker:
    """State of a process of `classify_files`."""

    job: Job
    classifier: AnyClassifier

    @classmethod
    def start(cls, job: Job) -> None:
        cls.job, cls.classifier = job, job.load(threads=1)  # more threads would compete for the cores

    @classmethod
    def results(cls, file: Path) -> list[FileResult]:
        return list(cls.job.results(cls.classifier, file))
