"""The answers for all windows of a file, one after another, as `neuromoco predict --window --json` prints them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from neuromoco.app.worker.analysis import (
    Analyser,
    AnalysisRequest,
    StageClock,
    naming,
    predict_command,
    survey_within_limits,
)
from neuromoco.confidence import abstention
from neuromoco.errors import ConfigError, NeuromocoError
from neuromoco.events.reader import read_parts
from neuromoco.runtime.batch import SCHEMA, FileResult, Job
from neuromoco.runtime.prediction import Prediction

if TYPE_CHECKING:
    from neuromoco.events.survey import Survey

MOST_LINES = 10_000  # windows of one request


def window_lines(analyser: Analyser, request: AnalysisRequest) -> Iterator[dict[str, Any]]:
    """A line for each window, in plain data; the last line is a summary.

    Windows begin at multiples of the stride from the first event, and the last one is the first that reaches the end.

    Raises:
        EventFileError: the file cannot be read.
        ConfigError: more windows than are allowed, or an option that does not fit the file or the model.
    """
    length = request.window_us
    assert length is not None, "the server asks for it"
    stride, clock = request.stride_us or length, StageClock()
    command = predict_command(request)  # refuses a backend that the model lacks
    classifier = analyser.load(request.model.files[request.backend])
    if request.abstain is not None:
        abstention(classifier.header.calibration, request.abstain)
    clock.lap("model")
    counts = Counts()
    with naming(request):
        survey = survey_within_limits(request.file, analyser.options(request))
        windows = 1 + max(0, -(-(survey.last_us - survey.first_us + 1 - length) // stride))
        if windows > MOST_LINES:
            raise ConfigError(
                f"{windows:,} windows; at most {MOST_LINES:,} are answered at once: give a longer "
                f"{'window_ms' if request.stride_us is None else 'stride_ms'}"
            )
        clock.lap("survey")
        crop = survey.occupied() if request.reading.crop == "activity" else request.reading.crop
        options, path = request.reading.options, request.model.files[request.backend]
        job = Job(path, any_length=True, window=length, options=options, crop=crop, abstain=request.abstain)
        if request.stride_us is None:
            results = job.results(classifier, request.file)
        else:
            results = _overlapping(analyser, request, job, survey, windows)
        for result in results:
            if isinstance(result.result, NeuromocoError):
                raise result.result
            counts.add(result.result if isinstance(result.result, Prediction) else None)
            yield result.to_json() | {"file": request.name}
    clock.lap("answers")
    summary = {
        **counts.to_json(),
        "backend": request.backend,
        "facts": survey.facts(),
        "milliseconds": {stage: round(ms, 3) for stage, ms in clock.milliseconds.items()},
        "command": command if request.stride_us is None else None,
    }
    yield {"schema": SCHEMA, "file": request.name, "summary": summary}


def _overlapping(
    analyser: Analyser, request: AnalysisRequest, job: Job, survey: Survey, windows: int
) -> Iterator[FileResult]:
    """The results of windows that begin a stride after each other."""
    length, stride = int(request.window_us or 0), int(request.stride_us or 0)
    classifier = analyser.load(job.model)
    spans = [(number * stride, number * stride + length) for number in range(windows)]
    shifted = [(survey.first_us + begin, survey.first_us + end) for begin, end in spans]
    parts = read_parts(request.file, shifted, analyser.options(request))
    for span, recording in zip(spans, parts, strict=True):
        yield job.of_window(classifier, request.file, recording, span)


@dataclass
class Counts:
    """How many windows there were, and what they showed."""

    windows: int = 0
    empty: int = 0
    unlike: int = 0
    unsure: int = 0
    labels: Counter[str] = field(default_factory=Counter)

    def add(self, prediction: Prediction | None) -> None:
        """Counts a window; None of one in which nothing moves."""
        self.windows += 1
        if prediction is None:
            self.empty += 1
            return
        self.unlike += prediction.fit is not None and not prediction.fit.fits
        self.unsure += prediction.unsure
        self.labels[prediction.label] += 1

    def to_json(self) -> dict[str, Any]:
        """The same, as plain data; labels by how often, of all windows with events."""
        figures = {"windows": self.windows, "empty": self.empty, "unlike": self.unlike, "unsure": self.unsure}
        return {**figures, "labels": dict(self.labels.most_common())}
