"""The command that serves a classifier over HTTP."""

from __future__ import annotations

import ipaddress
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neuromoco.app.cli.command_group import app, complain, out
from neuromoco.errors import ConfigError, NeuromocoError
from neuromoco.support.extras import need

if TYPE_CHECKING:
    from uvicorn import Server

MOST_CONNECTIONS = 128
GRACE_SECONDS = 5  # after SIGTERM, to finish files


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
) -> None:
    """Classify event files over HTTP: POST /classify, described at /docs.

    Example: neuromoco serve --model walk.onnx --port 8000
    """
    need("serve", "neuromoco serve")
    listening = _listen(host, port)
    with listening:
        address, number = listening.getsockname()[:2]
        printed = f"[{address}]" if ":" in address else address
        server = _server(model, address, max_mb, workers)
        if not ipaddress.ip_address(address).is_loopback:
            complain(NeuromocoError(f"--host {host}: other machines can reach the server, and it asks for no password"))
        out.print(
            f"neuromoco serves at http://{printed}:{number}/classify (described at http://{printed}:{number}/docs)"
        )
        sys.stdout.flush()  # the program that started the server may wait for this line
        server.run([listening])


def _server(model: Path | None, address: str, max_mb: int, workers: int) -> Server:
    from uvicorn import Config, Server

    from neuromoco.app.server.application import build_app
    from neuromoco.app.server.protocol import HeaderTimeoutProtocol
    from neuromoco.app.server.upload import Limits
    from neuromoco.app.worker.analysis import offered_models
    from neuromoco.runtime.facts import facts_of

    if model is not None and "class_names" not in facts_of(model):
        raise ConfigError(f"--model {model}: is a recording; give an exported file, a Loihi export or a checkpoint")
    hosts = ("127.0.0.1", "localhost") if address == "127.0.0.1" else ("*",)
    config = Config(
        build_app(offered_models(model), Limits(max_bytes=max_mb << 20), workers, hosts),
        http=HeaderTimeoutProtocol,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        headers=[("x-content-type-options", "nosniff"), ("cache-control", "no-store")],
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises the signal again after its cleanup
    return Server(config)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise ConfigError(f"--host {host} --port {port}: {error.strerror}; --port 0 picks a free one") from None
