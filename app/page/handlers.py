"""The handlers of the page's controls. A visitor's file is only ever read as an event file, in the sandbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, cast

from neuromoco.app.page.uploads import delete
from neuromoco.app.page.views import empty_view, error_view, result_view
from neuromoco.app.worker.analysis import DAY_MS, MOST_WINDOWS, Analysis, AnalysisRequest, ModelFiles, predict_command
from neuromoco.app.worker.reading import FIELDS, reading_of
from neuromoco.app.worker.sandbox import Sandbox
from neuromoco.errors import ConfigError, NeuromocoError
from neuromoco.runtime.load import Backend
from neuromoco.support.untrusted import one_line

LONG_MS = 1000.0  # longer recordings are kept for a while, so that visitors can go through their windows


class PageInputs(NamedTuple):
    """What a visitor has set, as it came."""

    model: str  # a name
    backend: str
    window_ms: float | None = None  # length of a window; None or 0 for the whole recording
    window: int | None = 0  # number of the window, from 0
    abstain: float | None = None  # share of wrong answers to keep; None or 0 for every answer
    reading: Sequence[str | None] = ()  # words for `FIELDS`, in their order


@dataclass(frozen=True)
class PageState:
    """What a visitor is looking at."""

    request: AnalysisRequest
    analysis: Analysis
    upload: Path | None = None  # the visitor's file while it is kept

    @property
    def is_long(self) -> bool:
        """Whether the recording is worth going through by windows."""
        return bool(self.analysis.facts["duration_ms"] > LONG_MS)


View: TypeAlias = tuple[str, PageState | None]  # HTML, and what to remember of it


def forget(state: PageState | None) -> None:
    """Deletes the file that is kept for a visitor."""
    if state is not None and state.upload is not None:
        delete(state.upload)


def level_of(word: str | None) -> float | None:
    """A share of wrong answers in a word; None of an empty one."""
    if not word:
        return None
    try:
        return float(word)
    except ValueError:
        raise ConfigError(f"abstain: give a share between 0 and 1, such as 0.05, not {one_line(word)}") from None


def _told(handler: Callable[..., View]) -> Callable[..., View]:
    """A handler that shows a mistake in what its visitor sent, and keeps what the visitor is looking at."""

    @wraps(handler)
    def tell(self: PageHandlers, state: PageState | None, *values: Any) -> View:
        try:
            return handler(self, state, *values)
        except NeuromocoError as error:
            return error_view("", str(error)), state

    return tell


class PageHandlers:
    """Runs the analyses that the controls ask for."""

    def __init__(self, sandbox: Sandbox, known: Sequence[ModelFiles]) -> None:
        self._sandbox = sandbox
        self.models = {model.name: model for model in known}

    def backends(self, model: str) -> list[Backend]:
        """The backends that can run a model on this machine."""
        has_torch = find_spec("torch") and find_spec("spikingjelly")
        return [name for name in self.model(model).files if name != "torch" or has_torch]

    def model(self, name: str) -> ModelFiles:
        """An offered model."""
        if name not in self.models:
            raise ConfigError(f"no model named {name}; there are {', '.join(self.models)}")
        return self.models[name]

    def classify(self, file: Path | None, inputs: PageInputs) -> Any:
        """The prediction as plain data, for programs; the file is deleted."""
        if file is None:
            raise NeuromocoError("no file was given")
        try:
            request = self._request(file, inputs)
            return self._sandbox.analyse(replace(request, timeline=False, pictures=False)).to_json()
        finally:
            delete(file)

    def show(self, file: Path, inputs: PageInputs, *, upload: bool) -> View:
        """The view of a file. An upload is deleted unless it is long."""
        state = None
        try:
            request = self._request(file, inputs)
            state = PageState(request, self._sandbox.analyse(request), file if upload else None)
            if not state.is_long:
                forget(state)
                state = replace(state, upload=None)
            return result_view(request, state.analysis), state
        except NeuromocoError as error:
            return error_view(file.name, str(error)), None
        finally:
            if state is None and upload:
                delete(file)

    @_told
    def update(self, state: PageState | None, inputs: PageInputs) -> View:
        """The view of the same file with other settings."""
        if state is None:
            return empty_view(), None
        file = state.request.file
        request = self._request(file, inputs)
        if request == state.request:
            return result_view(request, state.analysis), state
        if not file.exists():
            message = "your file was deleted after it was classified: drop it again to use the new settings"
            return error_view(state.request.name, message), None
        html, new = self.show(file, inputs, upload=False)
        if new is not None:
            return html, replace(new, upload=state.upload)
        # A window without events: the visitor of a long upload may choose another.
        return html, state if state.upload else None

    @_told
    def switch_backend(self, state: PageState | None, backend: str) -> View:
        """The same view with another backend's prediction first, computed if it is not there yet."""
        if state is None:
            return empty_view(), None
        request = replace(state.request, backend=cast(Backend, backend))
        if backend not in state.analysis.predictions:
            window_ms = None if request.window_us is None else request.window_us / 1000
            words = tuple(request.reading.fields().values())
            inputs = PageInputs(request.model.name, backend, window_ms, request.window, request.abstain, words)
            return self.update(state, inputs)
        analysis = replace(state.analysis, backend=backend, command=predict_command(request))
        return result_view(request, analysis), replace(state, request=request, analysis=analysis)

    def _request(self, file: Path, inputs: PageInputs) -> AnalysisRequest:
        """What to do with a file."""
        model, backend, window_ms, window, abstain, words = inputs
        known = next((one for one in self.backends(model) if one == backend), None)
        if known is None:
            raise ConfigError(f"{model} has no {backend}; it has {', '.join(self.backends(model))}")
        length = max(1, round(window_ms * 1000)) if window_ms and window_ms > 0 else None
        number = max(0, int(window or 0)) if length else 0
        if (window_ms or 0) > DAY_MS or number > MOST_WINDOWS:
            most = f"up to {DAY_MS:.0f} ms, and numbers up to {MOST_WINDOWS:,}"
            raise ConfigError(f"window {number} of {window_ms} ms; windows have {most}")
        if abstain and not 0.0 < abstain < 1.0:
            raise ConfigError(f"{abstain:g} of the answers may be wrong; give a share between 0 and 1, such as 0.05")
        said = reading_of({name: word or "" for name, word in zip(FIELDS, words, strict=False)})
        return AnalysisRequest(
            file,
            file.name,
            self.model(model),
            known,
            length,
            number,
            said,
            timeline=True,
            abstain=abstain or None,
            compare=True,
            pictures=True,
        )
