"""The command that opens the page."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from pathlib import Path
from typing import Annotated

import typer

from neuromoco import models
from neuromoco.app.cli.command_group import app, out
from neuromoco.errors import ConfigError
from neuromoco.support.extras import need


@app.command(name="app")
def open_page(
    model: Annotated[
        Path | None,
        typer.Option(help="A model of your own to offer besides the bundled ones: .onnx, .loihi or .safetensors."),
    ] = None,
    host: Annotated[
        str, typer.Option(envvar="GRADIO_SERVER_NAME", help="Address to listen on; 0.0.0.0 admits the whole network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="GRADIO_SERVER_PORT", min=1, max=65535, help="Port to listen on.")] = 7860,
    max_mb: Annotated[int, typer.Option("--max-mb", min=1, help="Largest accepted file, in MB.")] = 64,
) -> None:
    """Open a page that shows the events in a file and how the network classifies them.

    Example: neuromoco app --model walk.onnx
    """
    need("app", "the page")
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # ONNX Runtime would report its use to its vendor
    from neuromoco.app.page.launch import build_page, launch_page, load_gradio
    from neuromoco.app.worker.analysis import AnalysisRequest, offered_models
    from neuromoco.app.worker.sandbox import Sandbox
    from neuromoco.runtime.facts import facts_of

    if model is not None:
        facts_of(model)  # fails before anything starts if it is not a model
    known = offered_models(model)
    with tempfile.TemporaryDirectory(prefix="neuromoco-page-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # a folder for uploads alone, deleted with the server
        example = models.example_paths()[0]
        load_gradio()  # takes seconds, and longer while workers start
        sandbox = Sandbox(2, AnalysisRequest(example, example.name, known[0], known[0].default_backend))
        try:
            page = build_page(sandbox, known, max_mb)
            try:
                launch_page(page, host, port, max_mb)
            except OSError:
                raise ConfigError(f"--host {host} --port {port}: cannot listen there; give another --port") from None
            out.print(f"neuromoco is at {page.local_url}   (Ctrl-C ends it)")
            _wait()
            page.close(verbose=False)
        finally:
            sandbox.close()


def _wait() -> None:
    """Waits for Ctrl-C, which raises, or SIGTERM, which returns; both lead to a clean end."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    while not ended.wait(1.0):
        pass
