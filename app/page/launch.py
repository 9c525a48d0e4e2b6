"""Builds the page with Gradio, behind the guard and the gate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from neuromoco.app.page.gradio_parts import GradioSessions, check_gradio, load_gradio, mount
from neuromoco.app.page.guard import Guard
from neuromoco.app.page.handlers import PageHandlers
from neuromoco.app.page.layout import FOLDER, lay_out
from neuromoco.app.page.uploads import Uploads
from neuromoco.app.server.access import Access, Gate
from neuromoco.app.server.upload import Limits, Receiver
from neuromoco.app.worker.analysis import ModelFiles
from neuromoco.app.worker.sandbox import Sandbox

MOST_UPLOADS = 16  # of the largest accepted size, that are kept at the same time


class Page:
    """The page, which is not served yet.

    Args:
        sandbox: analyses visitors' files.
        known: the models that visitors may choose.
        folder: for uploads alone.
        max_mb: largest accepted file.
        access: who may ask.
        where: the port, which distinguishes the cookies of several pages.

    Raises:
        MissingPackageError: the installed Gradio is not as the page needs it.
    """

    def __init__(
        self, sandbox: Sandbox, known: Sequence[ModelFiles], folder: Path, max_mb: int, access: Access, where: str
    ) -> None:
        gradio, limits = load_gradio(), Limits(max_bytes=max_mb << 20, most_files=1)
        self._sandbox, self._receiver = sandbox, Receiver(folder, limits, field="files")
        uploads = Uploads(folder, MOST_UPLOADS * limits.max_bytes)
        page = lay_out(gradio, PageHandlers(sandbox, known), uploads, max_mb)
        app = mount(page, access, max_file_size=limits.max_bytes, theme=_theme(gradio), css_paths=FOLDER / "page.css")
        check_gradio(page, app, uploads)
        guard = Guard(app, GradioSessions(page), uploads, self._receiver)
        self.app: ASGIApp = Gate(guard, access, where=where)

    def end(self) -> None:
        """Refuses all that is under way, in a moment."""
        self._receiver.end()
        self._sandbox.close()


def _theme(gradio: Any) -> Any:
    return gradio.themes.Base(
        primary_hue="teal",
        neutral_hue="slate",
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica", "Arial", "sans-serif"],
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"],
    )
