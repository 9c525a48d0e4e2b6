"""The command that opens the page."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from neuromoco import models
from neuromoco.app.cli.command_group import AsJson, Quiet, RootPath, Token, app, complain, out, print_json
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
    port: Annotated[
        int, typer.Option(envvar="GRADIO_SERVER_PORT", min=0, max=65535, help="Port to listen on; 0 picks a free one.")
    ] = 7860,
    max_mb: Annotated[int, typer.Option("--max-mb", min=1, max=4096, help="Largest accepted file, in MB.")] = 64,
    token: Token = None,
    root_path: RootPath = "",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Open a page that shows the events in a file and how the network classifies them.

    Example: neuromoco app --model walk.onnx
    """
    need("app", "the page")
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # ONNX Runtime would report its use to its vendor
    from neuromoco.app.page.gradio_parts import load_gradio
    from neuromoco.app.page.launch import Page
    from neuromoco.app.server.access import access_for
    from neuromoco.app.server.running import address_of, end_on_sigterm, listen, run, warning_of
    from neuromoco.app.worker.analysis import AnalysisRequest, offered_models
    from neuromoco.app.worker.sandbox import Sandbox
    from neuromoco.runtime.facts import facts_of

    if model is not None:
        facts_of(model)  # fails before anything starts if it is not a model
    known = offered_models(model)
    end_on_sigterm()
    with listen(host, port) as listening, tempfile.TemporaryDirectory(prefix="neuromoco-page-") as folder:
        access = access_for(listening.getsockname()[0], root_path, token)
        uploads, own = Path(folder, "uploads"), Path(folder, "gradio")
        uploads.mkdir()
        os.environ["GRADIO_TEMP_DIR"] = str(own)
        example = models.example_paths()[0]
        load_gradio()  # takes seconds, and longer while workers start
        sandbox = Sandbox(2, AnalysisRequest(example, example.name, known[0], known[0].default_backend))
        try:
            url = address_of(listening)
            page = Page(sandbox, known, uploads, max_mb, access, where=url.rsplit(":", 1)[1])
            if (warning := warning_of(host, listening, access)) is not None:
                complain(warning)
            asked = "?token=..., with your token once" if token else ""
            if as_json:
                print_json({"url": url}, indent=None)
            else:
                out.print(f"neuromoco is at {url}/{asked}   (Ctrl-C ends it)")
            sys.stdout.flush()
            run(page.app, listening, page.end)
        finally:
            sandbox.close()
