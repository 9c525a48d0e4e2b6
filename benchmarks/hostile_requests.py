"""Requests that no browser sends, for `benchmarks.serve_load`: each with what may come back."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import socket
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import httpx
import numpy as np

from neuromoco import models

GOOD = models.example_paths()[3].read_bytes()
HEAD = b"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
FORM = HEAD + b"Content-Type: multipart/form-data; boundary=b\r\n"
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
CLOSED = 0  # the connection was closed without an answer
REFUSED = frozenset({400, 401, 403, 404, 405, 408, 413, 415, 422, 431, CLOSED})
HARMLESS = REFUSED | {200}


@dataclass(frozen=True)
class Hostile:
    """A request: what it tries, how it is sent, and which status it may get."""

    name: str
    send: Callable[[str], int]
    allowed: frozenset[int] = REFUSED


def hostile_requests(max_bytes: int, folder: Path, secret: Path) -> Iterator[Hostile]:
    """All of them.

    Args:
        max_bytes: the server's limit.
        folder: where files are made.
        secret: a good recording outside the server's folder, which no answer may come from.
    """
    yield from _names(secret)
    yield from _fields(secret)
    yield from _files(folder, secret)
    yield from _bodies(max_bytes)
    yield from _headers()


def _upload(content: bytes, name: str = "x.bin", **fields: str) -> Callable[[str], int]:
    def send(url: str) -> int:
        return httpx.post(f"{url}/classify", files={"file": (name, content)}, data=fields, timeout=60).status_code

    return send


def _raw(*parts: bytes, pause: float = 0.0) -> Callable[[str], int]:
    def send(url: str) -> int:
        host, port = url.removeprefix("http://").split(":")
        answer = b""
        with socket.create_connection((host, int(port)), timeout=90) as connection:
            try:
                for part in parts:
                    connection.sendall(part)
                    time.sleep(pause)
                while b"\r\n" not in answer and (got := connection.recv(1 << 16)):
                    answer += got
            except (ConnectionResetError, BrokenPipeError):
                pass
        return int(answer.split()[1]) if answer.startswith(b"HTTP/1.1 ") else CLOSED

    return send


def _form(body: bytes, headers: bytes = b"") -> Callable[[str], int]:
    return _raw(FORM + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body)


def _names(secret: Path) -> Iterator[Hostile]:
    for name in (
        "../../../../tmp/pwned.bin",
        "/etc/passwd",
        "C:\\Windows\\pwned.bin",
        str(secret),
        "--model=/etc/passwd",
    ):
        yield Hostile(f"file name {name[-25:]}", _upload(GOOD, name), HARMLESS)
    for name in (b"a\x00b", b"a\tb\x1b[2J", b"\xff\xfe\xe2\x80\xae", b"%0d%0aSet-Cookie: x"):
        part = PART.replace(b'"x"', b'"%s"' % name)
        yield Hostile(f"file name {name!r}", _form(part + GOOD + b"\r\n--b--\r\n"), HARMLESS)
    star = PART.replace(b'filename="x"', b"filename*=utf-8''..%2f..%2fpwned")
    yield Hostile("file name in the extended form", _form(star + GOOD + b"\r\n--b--\r\n"), HARMLESS)
    yield Hostile(
        "file name of 20 kB", _form(PART.replace(b'"x"', b'"%s"' % (b"x" * 20_000)) + GOOD + b"\r\n--b--\r\n")
    )


def _fields(secret: Path) -> Iterator[Hostile]:
    for model in ("/etc/passwd", "../../evil.safetensors", "http://127.0.0.1:1/x.onnx"):
        yield Hostile(f"model {model}", _upload(GOOD, model=model))
    yield Hostile("a window beyond all numbers", _upload(GOOD, window_ms="1e308", window="9" * 400))
    yield Hostile("more fields than there are", _upload(GOOD, file=str(secret), path=str(secret)), HARMLESS)
    yield Hostile("1,000 fields", _upload(GOOD, **{f"x{n}": "y" for n in range(1000)}))
    yield Hostile("a field of 1 MB", _upload(GOOD, model="x" * 1_000_000))
    yield Hostile(
        "a path in place of the file", lambda url: httpx.post(url + "/classify", json={"file": str(secret)}).status_code
    )


class _Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def _files(folder: Path, secret: Path) -> Iterator[Hostile]:
    evil = io.BytesIO()
    np.save(evil, np.array([_Evil(secret.parent / "executed")], object), allow_pickle=True)
    yield Hostile("a pickled .npy", _upload(evil.getvalue(), "x.npy"))
    yield Hostile("a pickle", _upload(pickle.dumps(_Evil(secret.parent / "executed")), "x.pkl"))
    yield Hostile("a pickle in an .npz", _upload(_zip({f"{c}.npy": evil.getvalue() for c in "txyp"}), "x.npz"))
    zeros = io.BytesIO()
    np.save(zeros, np.zeros(1 << 27, np.int64))  # 1 GB, 1 MB packed
    yield Hostile("a zip bomb .npz", _upload(_zip({f"{c}.npy": zeros.getvalue() for c in "tx"}), "x.npz"))
    yield Hostile("a zip with members elsewhere", _upload(_zip({"../../pwned.npy": b"x", "/tmp/pwned": b"x"}), "x.npz"))
    huge = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<i8', 'fortran_order': False, 'shape': (999999999999, 4), }".ljust(
        117
    )
    yield Hostile("an .npy that claims 32 TB", _upload(huge + b"\n", "x.npy"))
    for kind in ("external link", "external storage", "virtual data set", "gzip bomb"):
        allowed = HARMLESS if kind == "gzip bomb" else REFUSED  # 16.8 M events in 130 kB: within the limits
        yield Hostile(f"HDF5: {kind}", _upload(_hdf5(folder / f"{kind}.h5", kind, secret), "x.h5"), allowed)
    for kind, content in {
        "a checkpoint": models.model_path(suffix=".safetensors").read_bytes(),
        "an ONNX file": models.model_path().read_bytes(),
        "nul bytes": bytes(1_000_003),
        "a program": b"\x7fELF" + bytes(100),
        "a page": b"<html><script>alert(1)</script>",
        "a line of 3 MB": b"1," * 1_500_000,
        "a gzip bomb": gzip.compress(bytes(1 << 28)),
    }.items():
        yield Hostile(f"{kind} as recording", _upload(content))


def _zip(members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


def _hdf5(path: Path, kind: str, secret: Path) -> bytes:
    with h5py.File(path, "w") as file:
        for column in "txyp":
            name = f"events/{column}"
            if kind == "external link":
                file[name] = h5py.ExternalLink(str(secret), f"/events/{column}")
            elif kind == "external storage":
                file.create_dataset(name, (100,), "i8", external=[(str(secret), 0, 800)])
            elif kind == "virtual data set":
                layout = h5py.VirtualLayout((100,), "i8")
                layout[:] = h5py.VirtualSource(str(secret), f"/events/{column}", (100,))
                file.create_virtual_dataset(name, layout)
            else:
                file.create_dataset(name, data=np.zeros(1 << 24, "i8"), chunks=(1 << 22,), compression="gzip")
    return path.read_bytes()


def _bodies(max_bytes: int) -> Iterator[Hostile]:
    large = bytes(max_bytes + 1)
    chunk = b"%x\r\n%s\r\n" % (1 << 16, bytes(1 << 16))
    chunked = FORM + b"Transfer-Encoding: chunked\r\n\r\n"
    yield Hostile("one byte too many", _upload(large))
    yield Hostile("a length of 10^15", _raw(FORM + b"Content-Length: 1000000000000000\r\n\r\n" + PART))
    yield Hostile(
        "chunks without end", _raw(chunked + b"%x\r\n%s\r\n" % (len(PART), PART), *[chunk] * (max_bytes >> 15))
    )
    yield Hostile("a chunk of 2^64 bytes", _raw(chunked + b"ffffffffffffffff\r\n" + PART))
    yield Hostile("a chunk size that is none", _raw(chunked + b"-5\r\nhello\r\n"))
    yield Hostile("a body that stops", _raw(FORM + b"Content-Length: 9999\r\n\r\n" + PART))
    yield Hostile("a body drop by drop", _raw(FORM + b"Content-Length: 9999\r\n\r\n" + PART, *[b"x"] * 15, pause=4.9))
    yield Hostile("headers that stop", _raw(b"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "))
    yield Hostile("two files", _form(PART + b"1\r\n" + PART + GOOD + b"\r\n--b--\r\n"), HARMLESS)
    yield Hostile(
        "a form in a form",
        _form(b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\n--c--\r\n--b--\r\n"),
    )
    yield Hostile("a part of 10,000 headers", _form(b"--b\r\n" + b"X: y\r\n" * 10_000 + b"\r\n--b--\r\n"))
    yield Hostile("1 MB of half boundaries", _form(PART + b"\r\n--" * 250_000))
    yield Hostile("a packed body", _form(gzip.compress(bytes(1 << 24)), b"Content-Encoding: gzip\r\n"))


def _headers() -> Iterator[Hostile]:
    body = PART + GOOD + b"\r\n--b--\r\n"
    length = b"Content-Length: %d\r\n" % len(body)
    for kind in (b"application/json", b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data"):
        yield Hostile(
            f"a form that says {kind.decode()}",
            _raw(HEAD + b"Content-Type: " + kind + b"\r\n" + length + b"\r\n" + body),
        )
    long = b"Content-Type: multipart/form-data; boundary=" + b"b" * 10_000
    yield Hostile("a boundary of 10 kB", _raw(HEAD + long + b"\r\n" + length + b"\r\n" + body))
    yield Hostile("two lengths", _raw(FORM + length + b"Content-Length: 5\r\n\r\n" + body))
    yield Hostile("a length and chunks", _raw(FORM + length + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"))
    yield Hostile("a header of 1 MB", _raw(FORM + b"X: " + b"y" * 1_000_000 + b"\r\n\r\n"))
    yield Hostile("20,000 headers", _raw(FORM + b"X: y\r\n" * 20_000 + b"\r\n"))
    yield Hostile("another host", _raw(FORM.replace(b"127.0.0.1", b"evil.example") + length + b"\r\n" + body))
    yield Hostile("forwarded for", _form(body, b"X-Forwarded-For: ::1\r\nX-Forwarded-Host: evil\r\n"), HARMLESS)
    for path in (
        b"/../../etc/passwd",
        b"/%2e%2e/%2e%2e/etc/passwd",
        b"//etc/passwd",
        b"/docs/%00",
        b"http://evil.example/",
    ):
        yield Hostile(f"GET {path.decode()}", _raw(b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % path))
    for method in (b"PUT", b"TRACE", b"CONNECT", b"DELETE"):
        yield Hostile(method.decode(), _raw(b"%s /classify HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % method))
    yield Hostile("no HTTP", _raw(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"))
