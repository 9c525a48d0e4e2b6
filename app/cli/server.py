"""The command that serves a classifier over HTTP."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from neuromoco.app.cli.command_group import AsJson, Quiet, RootPath, Token, app, complain, out, print_json
from neuromoco.errors import ConfigError
from neuromoco.support.extras import need


@app.command()
def serve(
    model: Annotated[
        Path | None,
        typer.Option(help="An .onnx file, a Loihi export or a checkpoint to offer besides the bundled models."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; any but loopback admits other machines.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")] = 8000,
    max_mb: Annotated[int, typer.Option(min=1, max=4096, help="Largest accepted file, in MB.")] = 64,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Number of processes that read and classify.")] = 2,
    token: Token = None,
    root_path: RootPath = "",
    cors: Annotated[
        list[str] | None,
        typer.Option(help="An origin whose pages may ask, too, such as https://lab.example; by default none."),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Classify event files over HTTP: POST /classify, described at /docs.

    Example: neuromoco serve --model walk.onnx --port 8000
    """
    need("serve", "neuromoco serve")
    from neuromoco.app.server.access import Gate, access_for
    from neuromoco.app.server.application import build_app
    from neuromoco.app.server.running import address_of, end_on_sigterm, listen, run, warning_of
    from neuromoco.app.server.service import Service
    from neuromoco.app.server.stream import LARGEST_MESSAGE
    from neuromoco.app.server.upload import Limits
    from neuromoco.app.worker.analysis import offered_models
    from neuromoco.runtime.facts import facts_of

    end_on_sigterm()
    with listen(host, port) as listening:
        access = access_for(listening.getsockname()[0], root_path, token, cors or ())
        if model is not None and "class_names" not in facts_of(model):
            raise ConfigError(f"--model {model}: is a recording; give an exported file, a Loihi export or a checkpoint")
        service = Service(offered_models(model), Limits(max_bytes=max_mb << 20), workers)
        if (warning := warning_of(host, listening, access)) is not None:
            complain(warning)
        url = address_of(listening)
        if as_json:
            print_json({"url": url}, indent=None)
        else:
            out.print(f"neuromoco serves at {url}/classify (described at {url}/docs)")
        sys.stdout.flush()  # the program that started the server may wait for this line
        gate = Gate(build_app(service), access, where=url.rsplit(":", 1)[1])
        run(gate, listening, service.end, LARGEST_MESSAGE)
