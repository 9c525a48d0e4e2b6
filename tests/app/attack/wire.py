"""Sends requests as they are, and tells what came back; a server that nobody may be made to ask."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.app.attack.requests import GOOD, form, post
from tests.helpers.page_server import Server

CLOSED = 0  # the connection was closed without an answer
CANARY = b"the body of another server"
SECRET = "the content of a file of this machine"


@dataclass
class Place:
    """A server that is attacked, a file that nobody may read, and an address that nobody may be made to ask."""

    server: Server
    secret: Path
    canary: str
    asked: list[bytes] = field(default_factory=list)

    @property
    def host(self) -> str:
        """Its address and port."""
        return self.server.url.removeprefix("http://").strip("/")

    def connect(self, seconds: float = 30.0) -> socket.socket:
        """A connection to it."""
        name, port = self.host.split(":")
        return socket.create_connection((name, int(port)), seconds)

    def send(self, sent: bytes, cut: bool = False) -> tuple[int, bytes]:
        """Status and all bytes of the answer; `cut` hangs up after what was sent."""
        for name, value in (("host", self.host), ("canary", self.canary), ("secret", str(self.secret))):
            sent = sent.replace(b"{%s}" % name.encode(), value.encode())
        answer = b""
        with self.connect() as connection, contextlib.suppress(ConnectionResetError, BrokenPipeError, OSError):
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):  # an answer may come before all was sent
                connection.sendall(sent)
                if cut:
                    connection.shutdown(socket.SHUT_WR)
            while got := connection.recv(1 << 16):
                answer += got
        return (int(answer.split()[1]) if answer.startswith(b"HTTP/1.1 ") else CLOSED), answer

    def is_well(self) -> bool:
        """Whether it answers a good upload."""
        kind = b"multipart/form-data; boundary=b"
        if "serve" in self.server.process.args:  # type: ignore[operator]
            _, answer = self.send(post(b"/classify", form(b"file", GOOD), kind))
            return b'"label":"3"' in answer
        status, answer = self.send(post(b"/gradio_api/upload", form(b"files", GOOD), kind))
        if status != 200:
            return False
        data = [{"path": body_of(answer)[0]}, "sew_resnet_tiny-digits", "onnx", 0, 0]
        _, answer = self.send(post(b"/gradio_api/call/classify", json.dumps({"data": data}).encode()))
        event = body_of(answer).get("event_id", "")
        _, answer = self.send(b"GET /gradio_api/call/classify/%s HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
                              % event.encode())  # fmt: skip
        return b'"label": "3"' in answer

    def wrong(self, name: str, status: int, answer: bytes) -> list[str]:
        """What is wrong with an answer to a hostile request."""
        told = [word for word in self._forbidden() if word in answer]
        bad = [f"{name}: status {status}"] if status >= 500 else []
        return bad + [f"{name}: told {word!r}" for word in told]

    def _forbidden(self) -> list[bytes]:
        own = [str(path) for path in (self.server.folder, self.secret.parent, Path(__file__).parents[3], Path.home())]
        return [b"root:", SECRET.encode(), CANARY, b"Traceback", b"site-packages", *(word.encode() for word in own)]


def body_of(answer: bytes) -> Any:
    """The JSON of an answer; {} if it has none."""
    try:
        return json.loads(answer.split(b"\r\n\r\n", 1)[1])
    except (ValueError, IndexError):
        return {}


@contextlib.contextmanager
def attacked(server: Server, folder: Path) -> Iterator[Place]:
    """A server with a secret next to it, and a canary that notes who asks."""
    secret = folder / "secret.txt"
    secret.write_text(SECRET)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        place = Place(server, secret, f"127.0.0.1:{listening.getsockname()[1]}")
        listening.settimeout(0.2)
        ended = threading.Event()

        def watch() -> None:
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    connection, _ = listening.accept()
                    with connection:
                        place.asked.append(connection.recv(1 << 16))
                        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(CANARY), CANARY))

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            yield place
        finally:
            ended.set()
            watching.join()
