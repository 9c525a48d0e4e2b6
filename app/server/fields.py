"""What may accompany a file: fields of a form, or of the query, checked and made into the request of a worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from neuromoco.app.server.bodies import Body, UploadedFile
from neuromoco.app.server.errors import RefusedError
from neuromoco.app.worker.analysis import DAY_MS, MOST_WINDOWS, AnalysisRequest, ModelFiles
from neuromoco.app.worker.reading import FIELDS, Reading, reading_of
from neuromoco.config import parse_settings
from neuromoco.config.base import Settings
from neuromoco.errors import ConfigError
from neuromoco.runtime.load import Backend
from neuromoco.support.untrusted import one_line


class ModelFields(Settings):
    """Which model answers."""

    model: str | None = Field(None, max_length=200, description="A name from /models; by default the first.")
    backend: Literal["onnx", "loihi-sim", "torch"] | None = Field(
        None, description="What runs the model; by default the model's first backend."
    )
    window_ms: float | None = Field(
        None, ge=0.001, le=DAY_MS, description="Length of a window; by default the whole file."
    )
    stride_ms: float | None = Field(
        None, ge=0.001, le=DAY_MS, description="From one window to the next, with windows; by default their length."
    )
    abstain: float | None = Field(
        None, gt=0.0, lt=1.0, description="Share of wrong answers to keep by answering that the others are unsure."
    )


class Fields(ModelFields):
    """Fields that may accompany a file, besides those for reading it."""

    window: int = Field(0, ge=0, le=MOST_WINDOWS, description="Number of the window, from 0.")
    windows: bool = Field(
        False, description="Answer all windows of window_ms, each in a line of JSON as soon as it is known."
    )
    timeline: bool = Field(False, description="Whether to say, too, what the whole file shows and when.")
    compare: bool = Field(
        False, description="Whether onnx and loihi-sim both answer, with the spikes of loihi-sim: four times as long."
    )


KNOWN = ("file", *Fields.model_fields, *FIELDS)


class Jobs:
    """Makes requests of workers from what visitors send.

    Args:
        models: that visitors may name; the first is the default.
    """

    def __init__(self, models: Mapping[str, ModelFiles]) -> None:
        self._models = models

    def of_body(self, body: Body) -> list[AnalysisRequest]:
        """A request for each file of a body.

        Raises:
            RefusedError: no file, or a field that is not allowed.
        """
        fields, reading = checked_fields(body.fields)
        if not body.files:
            raise RefusedError(422, "bad_value", "file: is missing: curl -F file=@walk.aedat4 URL/classify")
        model, backend = self.model(fields)
        length, stride = microseconds(fields.window_ms), microseconds(fields.stride_ms)
        if fields.windows and length is None:
            raise RefusedError(422, "bad_value", "windows: needs window_ms, the length of a window")
        if fields.windows and (fields.window or fields.timeline or fields.compare):
            raise RefusedError(422, "bad_value", "windows: without window, timeline and compare")
        if stride is not None and not fields.windows:
            raise RefusedError(422, "bad_value", "stride_ms: needs windows=true")

        def job(file: UploadedFile) -> AnalysisRequest:
            return AnalysisRequest(
                file.path,
                file.name,
                model,
                backend,
                length,
                fields.window,
                reading,
                fields.timeline,
                fields.abstain,
                compare=fields.compare,
                all_windows=fields.windows,
                stride_us=stride,
            )

        return [job(file) for file in body.files]

    def model(self, fields: ModelFields) -> tuple[ModelFiles, Backend]:
        """The model that answers, and its backend.

        Raises:
            RefusedError: there is no such model.
        """
        name = next(iter(self._models)) if fields.model is None else fields.model
        if name not in self._models:
            names = ", ".join(self._models)
            raise RefusedError(400, "bad_argument", f"model: no such model; there are {names}")
        model = self._models[name]
        return model, fields.backend or model.default_backend


def checked_fields(given: Mapping[str, str]) -> tuple[Fields, Reading]:
    """Fields from words; an empty one says nothing. Raises `RefusedError` if one is not allowed."""
    if unknown := [name for name in given if name not in KNOWN or name == "file"]:
        message = f"no field named {one_line(unknown[0])}; there are {', '.join(KNOWN)}"
        raise RefusedError(400, "bad_argument", message)
    try:
        reading = reading_of(given)
    except ConfigError as error:
        raise RefusedError(400, "bad_argument", str(error)) from None
    try:
        words = {name: word for name, word in given.items() if name not in FIELDS and word}
        return parse_settings(Fields, words, "fields"), reading
    except ConfigError as error:
        raise RefusedError(422, "bad_value", str(error).removeprefix("fields: ")) from None


def microseconds(milliseconds: float | None) -> int | None:
    """The same duration in whole microseconds, at least 1."""
    return None if milliseconds is None else max(1, round(milliseconds * 1e3))
