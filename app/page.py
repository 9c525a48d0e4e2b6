"""The page: drop an event file, see what the network sees.

`Desk` is what stands behind the controls; `build_page` lays them out. Gradio is imported by `build_page` alone:
nothing else of the package needs it. Nothing that a visitor sends is loaded but as an event file, in the sandbox.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from neuromoco import models
from neuromoco.app.analysis import Analysis, Model, Request, command_of
from neuromoco.app.page_parts import empty_view, error_view, result_view
from neuromoco.app.runtime import Backend
from neuromoco.app.sandbox import Sandbox
from neuromoco.errors import NeuromocoError

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


def load_gradio() -> Any:
    """Gradio, with no word to its makers and with a folder of its own for every upload."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when it is imported, and again later
    import gradio
    from gradio import route_utils

    if route_utils.GradioUploadFile.__module__ == route_utils.__name__:
        # Gradio names the folder of an upload by its content: of two visitors with the same file, the first
        # answered would delete that of the second.
        class OwnFolder(route_utils.GradioUploadFile):
            def __init__(self, *arguments: Any, **options: Any) -> None:
                super().__init__(*arguments, **options)
                self.sha.update(os.urandom(16))

        route_utils.GradioUploadFile = OwnFolder
    return gradio


def build_page(sandbox: Sandbox, known: Sequence[Model], max_mb: int) -> Any:
    """The page, a `gradio.Blocks` that is not served yet."""
    from neuromoco.app.page_layout import lay_out

    return lay_out(load_gradio(), Desk(sandbox, known), max_mb)


def launch_page(page: Any, host: str, port: int | None, max_mb: int) -> None:
    """Serves a page from a thread of its own; returns when it can be looked at."""
    gradio = load_gradio()
    theme = gradio.themes.Base(
        primary_hue="teal",
        neutral_hue="slate",
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica", "Arial", "sans-serif"],
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"],
    )
    page.queue(max_size=64, default_concurrency_limit=AT_ONCE)
    page.launch(
        server_name=host, server_port=port, max_file_size=max_mb << 20, theme=theme, css_paths=FOLDER / "page.css",
        share=False, inbrowser=False, quiet=True, prevent_thread_lock=True, show_error=False, footer_links=["api"],
        run_history=False, enable_monitoring=False, ssr_mode=False, pwa=False, mcp_server=False,
    )  # fmt: skip


def examples() -> list[tuple[str, str]]:
    """What is shown of each bundled recording, and its name."""
    return [(path.stem, path.name) for path in models.example_paths()]


def example_path(name: str) -> Path | None:
    """A bundled recording; a visitor's name is compared, never opened."""
    return next((path for path in models.example_paths() if path.name == name), None)
