"""Classification of many files, whole or window by window, in one process or several."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from neuromoco.errors import NeuromocoError
from neuromoco.events import ReadOptions, Recording, read_recording, read_windows
from neuromoco.runtime.load import Backend, check_early_stop, load_classifier
from neuromoco.runtime.prediction import Prediction, check_complete, timed

if TYPE_CHECKING:
    from neuromoco.runtime.load import AnyClassifier


@dataclass(frozen=True)
class FileResult:
    """What became of a file, or of a window of it.

    Attributes:
        file: which.
        result: the classification, or why there is none; None for a window without events.
        window: its begin and end in microseconds from the first event; None for a whole file.
    """

    file: Path
    result: Prediction | NeuromocoError | None
    window: tuple[int, int] | None = None


@dataclass(frozen=True)
class Job:
    """How files are classified.

    Attributes:
        model: an exported file or folder, or a checkpoint.
        device: for a checkpoint.
        backend: the one that the model must be for.
        any_length: also recordings much shorter than those of the training.
        stop_at: see `OnnxClassifier.predict`.
        window: cut recordings into windows of so many microseconds.
        options: what files do not say of themselves.
    """

    model: Path
    device: str = "auto"
    backend: Backend = "auto"
    any_length: bool = False
    stop_at: float | None = None
    window: int | None = None
    options: ReadOptions | None = None

    def load(self, threads: int = 0) -> AnyClassifier:
        """The classifier.

        Raises:
            CheckpointError: the model is not usable.
            ConfigError: an early stop with a model that cannot.
        """
        classifier = load_classifier(self.model, self.device, threads, self.backend)
        if self.stop_at is not None:
            check_early_stop(classifier, self.stop_at)
        return classifier

    def answers(self, classifier: AnyClassifier, file: Path) -> Iterator[FileResult]:
        """The answer to a file, or to its windows one after another; the last may be why there are no more."""
        if self.window is None:
            yield FileResult(file, self.answer(classifier, file))
            return
        begin = 0
        try:
            for recording in read_windows(file, self.window, self.options):
                result = self._predict(classifier, recording) if len(recording) else None
                yield FileResult(file, result, (begin, begin + self.window))
                begin += self.window
        except NeuromocoError as error:
            yield FileResult(file, error, (begin, begin + self.window))

    def answer(self, classifier: AnyClassifier, file: Path) -> Prediction | NeuromocoError:
        """The answer to a whole file, or why there is none."""
        try:
            recording, reading = timed(read_recording, file, None, None, self.options)
            if not self.any_length:
                check_complete(file, recording, classifier.header.seen)
            prediction = self._predict(classifier, recording)
            return replace(prediction, timings={"read": reading, **prediction.timings})
        except NeuromocoError as error:
            return error

    def _predict(self, classifier: AnyClassifier, recording: Recording) -> Prediction:
        stop = {} if self.stop_at is None else {"stop_at": self.stop_at}
        (prediction,) = classifier.predict([recording], **stop)
        return prediction


def classify_files(files: Sequence[Path], job: Job, processes: int = 1) -> Iterator[FileResult]:
    """The answers to every file, in the order of the files.

    Raises:
        NeuromocoError: the model is not usable; see `Job.load`.
    """
    if processes == 1:
        classifier = job.load()
        for file in files:
            yield from job.answers(classifier, file)
        return
    job.load(threads=1)  # what is wrong with the model is said once, here
    # Spawned, not forked: a runtime's threads do not survive a fork. One thread each, or they fight for cores.
    with ProcessPoolExecutor(processes, get_context("spawn"), _Worker.start, (job,)) as pool:
        for answers in pool.map(_Worker.answers, files):
            yield from answers


class _Worker:
    """What a process of `classify_files` keeps."""

    job: Job
    classifier: AnyClassifier

    @classmethod
    def start(cls, job: Job) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
        cls.job, cls.classifier = job, job.load(threads=1)

    @classmethod
    def answers(cls, file: Path) -> list[FileResult]:
        return list(cls.job.answers(cls.classifier, file))
