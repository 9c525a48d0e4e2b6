"""The page: drop an event file, see what the network sees.

`Desk` is what stands behind the controls. Nothing that a visitor sends is loaded but as an event file, in the sandbox.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from neuromoco import models
from neuromoco.app.page.views import empty_view, error_view, result_view
from neuromoco.app.worker.analysis import Analysis, Model, Request, command_of
from neuromoco.app.worker.sandbox import Sandbox
from neuromoco.errors import NeuromocoError
from neuromoco.runtime.load import Backend

FOLDER = Path(__file__).parent
LONG_MS = 1000.0  # recordings that last longer are kept for a while, to look at them window by window
KEPT_SECONDS = 600
AT_ONCE = 2  # files under way; the others queue
BACKEND_NAMES = {"onnx": "ONNX Runtime", "loihi-sim": "Loihi fixed point", "torch": "PyTorch"}


@dataclass(frozen=True)
class Shown:
    """What a visitor looks at.

    Attributes:
        request: what was asked.
        analysis: what came out.
        upload: the visitor's file while it is kept.
    """

    request: Request
    analysis: Analysis
    upload: Path | None = None


def forget(shown: Shown | None) -> None:
    """Deletes what is kept of a visitor."""
    if shown is not None and shown.upload is not None:
        _delete(shown.upload)


def _delete(upload: Path) -> None:
    upload.unlink(missing_ok=True)
    if upload.parent.is_dir() and not any(upload.parent.iterdir()):
        upload.parent.rmdir()  # each upload has a folder of its own


class Desk:
    """Answers the controls.

    Args:
        sandbox: reads and classifies.
        known: the models to choose from.
    """

    def __init__(self, sandbox: Sandbox, known: Sequence[Model]) -> None:
        self._sandbox = sandbox
        self.models = {model.name: model for model in known}

    def backends(self, model: str) -> list[Backend]:
        """What can compute a model here."""
        files = self.models[model].files
        here = [name for name in files if name != "torch" or (find_spec("torch") and find_spec("spikingjelly"))]
        return cast(list[Backend], here)

    def classify(self, file: str | None, model: str, backend: str, window_ms: float | None, window: int) -> Any:
        """The answer alone, for programs.

        Raises:
            NeuromocoError: in one line.
        """
        if file is None:
            raise NeuromocoError("no file was given")
        try:
            return self._sandbox.analyse(self._request(Path(file), model, backend, window_ms, window)).to_json()
        finally:
            _delete(Path(file))

    def look(self, file: Path, model: str, backend: str, window_ms: float | None, window: int, ours: bool) -> Any:
        """What is shown of a file, and what to remember: HTML, `Shown`. A visitor's file is deleted."""
        shown = None
        try:
            request = self._request(file, model, backend, window_ms, window)
            shown = Shown(request, self._sandbox.analyse(request), None if ours else file)
            if shown.upload and shown.analysis.facts["duration_ms"] <= LONG_MS:
                forget(shown)
                shown = replace(shown, upload=None)
            return result_view(request, shown.analysis, BACKEND_NAMES), shown
        except NeuromocoError as error:
            return error_view(file.name, str(error)), None
        finally:
            if shown is None and not ours:
                _delete(file)

    def again(self, shown: Shown | None, model: str, backend: str, window_ms: float | None, window: int) -> Any:
        """The same file with other settings."""
        if shown is None:
            return empty_view(), None
        file = shown.request.file
        request = self._request(file, model, backend, window_ms, window)
        if request == shown.request:
            return result_view(request, shown.analysis, BACKEND_NAMES), shown
        if not file.exists():
            gone = (
                "your file was deleted once it was answered: drop it again, and it is answered with what is chosen now"
            )
            return error_view(shown.request.name, gone), None
        ours = shown.upload is None
        html, new = self.look(file, model, backend, window_ms, window, True)
        if new is None and not ours:
            return html, shown  # a window without events: the visitor may choose another
        return html, new and replace(new, upload=shown.upload)

    def switch(self, shown: Shown | None, backend: str) -> Any:
        """The same answer with another backend first; one that has not answered is asked."""
        if shown is None:
            return empty_view(), None
        request = replace(shown.request, backend=cast(Backend, backend))
        if backend not in shown.analysis.predictions:
            length = None if request.window_us is None else request.window_us / 1000
            return self.again(shown, request.model.name, backend, length, request.window)
        analysis = replace(shown.analysis, backend=backend, command=command_of(request))
        return result_view(request, analysis, BACKEND_NAMES), replace(shown, request=request, analysis=analysis)

    def _request(self, file: Path, model: str, backend: str, window_ms: float | None, window: int) -> Request:
        if model not in self.models:
            raise NeuromocoError(f"no model named {model}; there are {', '.join(self.models)}")
        if backend not in self.backends(model):
            raise NeuromocoError(f"{model} has no {backend}; it has {', '.join(self.backends(model))}")
        length = round(window_ms * 1000) if window_ms and window_ms > 0 else None
        number = max(0, int(window or 0)) if length else 0
        return Request(file, file.name, self.models[model], backend, length, number)


def examples() -> list[tuple[str, str]]:
    """What is shown of each bundled recording, and its name."""
    return [(path.stem, path.name) for path in models.example_paths()]


def example_path(name: str) -> Path | None:
    """A bundled recording; a visitor's name is compared, never opened."""
    return next((path for path in models.example_paths() if path.name == name), None)
