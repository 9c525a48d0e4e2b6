"""The HTTP server in a thread of the tests' process, with limits of a test's choice."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from neuromoco.app.server.access import Access, Gate
from neuromoco.app.server.application import build_app
from neuromoco.app.server.running import BoundedServer
from neuromoco.app.server.service import Service
from neuromoco.app.server.stream import LARGEST_MESSAGE
from neuromoco.app.server.upload import Limits
from neuromoco.app.worker.analysis import offered_models


@dataclass
class ThreadServer:
    """A server in a thread of this process, and the folder that it makes its folder in."""

    client: httpx.Client
    port: int
    temporary: Path
    running: BoundedServer
    service: Service
    thread: Thread

    def classify(self, content: bytes, name: str = "walk.bin", **fields: str) -> httpx.Response:
        return self.client.post("/classify", files={"file": (name, content)}, data=fields)

    def raw(self, *parts: bytes, pause: float = 0.0) -> bytes:
        """What comes back for bytes sent as they are."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=15) as connection:
            answer = b""
            # A refusal may come, and the connection may end, before everything was sent.
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                for part in parts:
                    connection.sendall(part)
                    time.sleep(pause)
            with contextlib.suppress(ConnectionResetError):
                while got := connection.recv(1 << 16):
                    answer += got
            return answer

    def worker(self) -> int | None:
        """The process id of the only worker; None while it starts."""
        (worker,) = self.service._sandbox._workers
        return worker._process.pid

    def inside(self) -> int:
        return self.client.get("/healthz").json()["inside"]

    def uploads(self) -> list[Path]:
        return [path for path in self.temporary.rglob("*") if path.is_file()]


@contextlib.contextmanager
def serving(temporary: Path, limits: Limits, workers: int = 1, access: Access | None = None) -> Iterator[ThreadServer]:
    service = Service(offered_models(), limits, workers)
    server = BoundedServer(Gate(build_app(service), access or Access()), service.end, LARGEST_MESSAGE)
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(temporary))
        thread = Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                yield ThreadServer(client, port, temporary, server, service, thread)
        finally:
            server.should_exit = True
            thread.join(20)
            listening.close()
    assert not thread.is_alive()
    assert list(temporary.iterdir()) == []


def without_times(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key not in ("schema", "milliseconds", "latency_ms")}


def wait_until(condition: Any) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
