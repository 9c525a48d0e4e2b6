"""Builds the page with Gradio and serves it from a thread."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from neuromoco.app.page.handlers import PageHandlers
from neuromoco.app.page.layout import FOLDER, lay_out
from neuromoco.app.worker.analysis import ModelFiles
from neuromoco.app.worker.sandbox import Sandbox

AT_ONCE = 2  # files analysed at the same time; others queue


def load_gradio() -> Any:
    """Gradio without telemetry, and with a separate folder for every upload."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read at import and again later
    import gradio
    from gradio import route_utils

    if route_utils.GradioUploadFile.__module__ == route_utils.__name__:
        # Gradio names the folder of an upload by its content: if two visitors sent the same file, the end of the
        # first analysis would delete the file of the second.
        class SeparateUpload(route_utils.GradioUploadFile):
            def __init__(self, *arguments: Any, **options: Any) -> None:
                super().__init__(*arguments, **options)
                self.sha.update(os.urandom(16))

        route_utils.GradioUploadFile = SeparateUpload
    return gradio


def build_page(sandbox: Sandbox, known: Sequence[ModelFiles], max_mb: int) -> Any:
    """The page, a `gradio.Blocks` that is not served yet."""
    return lay_out(load_gradio(), PageHandlers(sandbox, known), max_mb)


def launch_page(page: Any, host: str, port: int | None, max_mb: int) -> None:
    """Serves a page from a separate thread; returns when the page is reachable."""
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
