"""Requests that no browser sends: what the page and the server must stand, as they go over the wire.

The same list goes to both. `{host}` stands for the address that is asked, `{canary}` for the address of a server that
nobody may be made to ask, and `{secret}` for a file that nobody may read.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from neuromoco import models
from tests.app.attack.sockets import hostile_sockets

GOOD = models.example_paths()[3].read_bytes()
JOIN, CALL, UPLOAD = b"/gradio_api/queue/join", b"/gradio_api/call/classify", b"/gradio_api/upload"
UPLOADS = ((UPLOAD, b"files"), (b"/classify", b"file"))  # of the page and of the server, with the field of the file
TRAVERSALS = (
    b"../../../../etc/passwd", b"%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd", b"..%2f..%2f..%2f..%2fetc%2fpasswd",
    b"..%5c..%5cetc%5cpasswd", b"..;/..;/etc/passwd", b"....//....//etc/passwd", b"/etc/passwd", b"%2fetc%2fpasswd",
    b"%00/etc/passwd", b"%c0%ae%c0%ae/etc/passwd", b"%252e%252e%252fetc%252fpasswd", b"{secret}", b"file://{secret}",
    b"file%3a%2f%2f{secret}", b"~/.ssh/id_rsa", b"/proc/self/environ",
)  # fmt: skip
PREFIXES = (b"/", b"/assets/", b"/static/", b"/gradio_api/file=", b"/gradio_api/file/", b"/svelte/", b"/docs/")
ADDRESSES = (
    b"http://{canary}/x", b"http:/{canary}/x", b"//{canary}/x", b"http%3A%2F%2F{canary}%2Fx", b"HTTP://{canary}/x",
    b"http://x@{canary}/x", b"ftp://{canary}/x", b"gopher://{canary}/x", b"http://example.com/",
)  # fmt: skip
FETCHERS = (b"/gradio_api/file=", b"/gradio_api/proxy=", b"/gradio_api/file/", b"/file=", b"/proxy=", b"/")
# Gradio's routes that the page does not need.
UNNEEDED = (
    b"/user /token /app_id /dev/reload /login_check /run-history/buckets /run-history/records /runs /deep_link "
    b"/custom_component/x/client/component/index.js /heartbeat/x /queue/status /mcp/ /mcp/sse /mcp/schema "
    b"/profiling/traces /profiling/summary /vibe-code /startup-events /openapi.json /info/ /stream/x/0/0/playlist.m3u8 "
    b"/stream/x/0/0/playlist-file /upload_progress?upload_id=x /call/classify/0 /call/../info /theme.css "
    b"/call/classify/00000000000000000000000000000000 /queue/data /queue/data?session_hash=x /component_server"
).split()
OUTSIDE = (
    b"/login /logout /monitoring /monitoring/summary /monitoring/x /pwa_icon /pwa_icon/9 /robots.txt /manifest.json"
)
UNNEEDED_POSTS = (
    b"/run/classify /run/predict /api/predict /api/classify/ /call/v2/classify /stream/x /stream/x/close /reset "
    b"/cancel /component_server /vibe-edit /undo-vibe-edit /vibe-code /vibe-starter-queries /process_recording "
    b"/mcp/messages /profiling/clear /run-history/connect /file= /proxy=http://{canary}/x /login"
).split()


@dataclass(frozen=True)
class Hostile:
    """A request: what it tries, what is sent, and whether the sender hangs up in the middle."""

    name: str
    sent: bytes
    cut: bool = False


def requests() -> list[Hostile]:
    """All of them."""
    sockets = (Hostile(f"socket: {name}", sent, cut=True) for name, sent in hostile_sockets())
    return [*_paths(), *_routes(), *_senders(), *_framing(), *_calls(), *_forms(), *_queries(), *_bytes(), *sockets]


def _get(target: bytes, headers: bytes = b"", host: bytes = b"{host}", method: bytes = b"GET") -> bytes:
    return b"%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%s\r\n" % (method, target, host, headers)


def post(target: bytes, body: bytes, kind: bytes = b"application/json", headers: bytes = b"") -> bytes:
    """A whole request with a body."""
    length = b"Content-Type: %s\r\nContent-Length: %d\r\n" % (kind, len(body))
    return _get(target, length + headers, method=b"POST") + body


def form(field: bytes, content: bytes, name: bytes = b"x.bin") -> bytes:
    """A form of the boundary b with one file."""
    head = b'--b\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n\r\n' % (field, name)
    return head + content + b"\r\n--b--\r\n"


def _paths() -> Iterator[Hostile]:
    for prefix, path in product(PREFIXES, TRAVERSALS):
        yield Hostile(f"path {prefix + path!r}", _get(prefix + path))
    for prefix, address in product(FETCHERS, ADDRESSES):
        yield Hostile(f"address {prefix + address!r}", _get(prefix + address))
    for address in ADDRESSES[:4]:
        yield Hostile(f"HEAD {address!r}", _get(b"/gradio_api/file=" + address, method=b"HEAD"))
        yield Hostile(f"absolute form {address!r}", _get(address))


def _routes() -> Iterator[Hostile]:
    for route in UNNEEDED:
        yield Hostile(f"route {route!r}", _get(b"/gradio_api" + route))
    for route in OUTSIDE.split():
        yield Hostile(f"route {route!r}", _get(route))
    for route in UNNEEDED_POSTS:
        body = b'{"data": ["http://{canary}/x"], "session_hash": "x", "fn_index": 0, "url": "http://{canary}/x"}'
        yield Hostile(f"post {route!r}", post(b"/gradio_api" + route, body))
    for method in (b"PUT", b"DELETE", b"PATCH", b"TRACE", b"OPTIONS", b"PROPFIND", b"PRI", b"get", b"X" * 500):
        for target in (b"/", UPLOAD, b"/classify"):
            yield Hostile(f"{method[:9]!r} {target!r}", _get(target, method=method))
    yield Hostile("CONNECT", _get(b"{canary}", method=b"CONNECT"))
    yield Hostile("OPTIONS *", _get(b"*", method=b"OPTIONS"))
    socket = b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eHh4eHh4eHh4eHh4eHh4eA==\r\n"
    yield Hostile("a web socket", _get(JOIN, socket).replace(b"Connection: close", b"Connection: Upgrade"), cut=True)
    yield Hostile("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")


def _senders() -> Iterator[Hostile]:
    for host in (
        b"evil.example", b"127.0.0.1.nip.io", b"localhost.evil.example", b"{host}@evil.example",
        b"evil.example#{host}", b"",
        b"[::1", b"0x7f000001", b"127.0.0.1:99999999", b"a" * 5000, b"{host}\r\nHost: evil.example", b"\xff",
        b"{canary}, x",
    ):  # fmt: skip
        for target in (b"/", b"/config", b"/models"):
            yield Hostile(f"host {host[:30]!r} {target!r}", _get(target, host=host))
    for origin in (
        b"http://evil.example",
        b"null",
        b"https://{host}.evil",
        b"file://",
        b"http://localhost:1",
        b"\xff",
        b"x",
    ):
        for target, field in UPLOADS:
            kind = b"multipart/form-data; boundary=b"
            sent = post(target, form(field, GOOD), kind, b"Origin: %s\r\n" % origin)
            yield Hostile(f"origin {origin!r} {target!r}", sent)
    for header in (
        b"X-Forwarded-Host: {canary}", b"X-Gradio-Server: http://{canary}", b"X-Forwarded-Proto: javascript",
        b"Forwarded: host={canary}", b"X-Original-URL: /gradio_api/file={secret}", b"Sec-Fetch-Site: cross-site",
        b"Range: bytes=0-99999999999", b"Range: bytes=" + b"0-," * 2000, b"If-None-Match: " + b"x" * 9000,
        b"Accept-Encoding: " + b"gzip;q=1," * 999, b"Cookie: " + b"a=b;" * 5000, b"Authorization: Bearer x",
        b"X-Gradio-User: admin", b"Content-Type: \x00", b"Expect: 200-ok", b"X: " + b"y" * 70_000,
        b"X: y\r\n" * 5000 + b"Y: z",
    ):  # fmt: skip
        for target in (b"/", b"/config"):
            yield Hostile(f"header {header[:40]!r} {target!r}", _get(target, header + b"\r\n"))


def _framing() -> Iterator[Hostile]:
    for target, field in (*UPLOADS, (JOIN, b"")):
        head = b"POST %s HTTP/1.1\r\nHost: {host}\r\nContent-Type: multipart/form-data; boundary=b\r\n" % target
        body = form(field, b"x")
        chunked = b"Transfer-Encoding: chunked\r\n"
        smuggled = b"GET /gradio_api/file={secret} HTTP/1.1\r\nHost: {host}\r\n\r\n"
        for headers, sent in (
            (b"Content-Length: -1\r\n", body), (b"Content-Length: +9\r\n", body), (b"Content-Length: 0x9\r\n", body),
            (b"Content-Length: 99999999999999999999999\r\n", body), (b"Content-Length: 1e3\r\n", body),
            (b"Content-Length: 3\r\nContent-Length: 4\r\n", body), (b"Content-Length: 1, 2\r\n", body),
            (b"Content-Length: 4\r\n" + chunked, b"0\r\n\r\n" + smuggled), (b"Content-Length : 4\r\n", body),
            (b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), (b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"),
            (b"Transfer-Encoding:\x0bchunked\r\n", b"0\r\n\r\n"), (chunked + chunked, b"0\r\n\r\n"),
            (chunked, b"ffffffffffffffff\r\nx"), (chunked, b"-5\r\nhello\r\n"), (chunked,
            b"1;" + b"x" * 70_000 + b"\r\nx\r\n"),
            (chunked, b"0\r\n" + b"X: y\r\n" * 9000 + b"\r\n"), (chunked, b"1\r\nx\r\n" * 3000),
            (b"Content-Length: 5\r\nExpect: 100-continue\r\n", b"x"), (b"Content-Length: 2\r\n\r\n", smuggled),
        ):  # fmt: skip
            yield Hostile(
                f"framing {headers[:40]!r} {sent[:12]!r} {target!r}", head + headers + b"\r\n" + sent, cut=True
            )
    for sent in (
        b"", b"\r\n\r\n\r\n", b"GET / HTTP/1.1", b"GET /\r\n\r\n", b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\nHost: {host}\n\n", b"GET / HTTP/1.1\r\n Host: {host}\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/1.1\r\nHost: {host}\r\nX\x00Y: z\r\n\r\n", b"GET /\xff\xfe HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"GET /\t HTTP/1.1\r\nHost: {host}\r\n\r\n", b"\x00" * 70_000, b"A" * 100_000,
        b"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n" * 50, b"GET / HTTP/1.0\r\n\r\n",
    ):  # fmt: skip
        yield Hostile(f"framing {sent[:30]!r}", sent, cut=True)


def _calls() -> Iterator[Hostile]:
    file = {"path": "{secret}", "url": "http://{canary}/x", "meta": {"_type": "gradio.FileData"}}
    rest = [models.DEFAULT, "onnx", 0, 0]
    values: list[object] = [
        "{secret}", "http://{canary}/x", file, {**file, "path": "http://{canary}/x"}, {**file, "is_stream": True},
        {**file, "path": "0" * 32 + "/../../x"}, {**file, "path": "0" * 32}, {**file, "path": ""}, {**file,
        "path": ["x"]},
        {**file, "path": "0" * 32 + "/x\x00"}, {"path": {"path": "{secret}"}}, [file] * 9, {"__type__": "update"},
        1e308, True,
    ]  # fmt: skip
    for value in values:
        for target in (JOIN, CALL):
            call = {"data": [value, *rest], "fn_index": 6, "session_hash": "s"}
            yield Hostile(f"value {str(value)[:50]} {target!r}", post(target, json.dumps(call).encode()))
    bodies = {
        "a depth of 8,000": b'{"data": ' + b"[" * 8000 + b"]" * 8000 + b"}",
        "a depth of 100,000": b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "objects within objects": b'{"data": [' + b'{"a":' * 2500 + b"1" + b"}" * 2500 + b"]}",
        "NaN": b'{"data": [null, NaN, Infinity, -Infinity, 1e999], "fn_index": 3}',
        "a number of 10,000 digits": b'{"data": [' + b"9" * 10_000 + b"], \"fn_index\": 1}",
        "5 MB": b'{"data": ["' + b"x" * 5_000_000 + b'"]}',
        "many keys": b"{" + b'"a":1,' * 2000 + b'"data":[]}',
        "half a surrogate": b'{"data": ["\\ud800"], "fn_index": 0, "session_hash": "s"}',
        "no UTF-8": b'{"data": ["\xff\xfe"], "fn_index": 0}',
        "nothing": b"", "null": b"null", "a list": b"[]", "text": b"data", "a cut": b'{"data": [',
        "gzip": gzip.compress(b"{}"),
        "a function below 0": b'{"data": [], "fn_index": -1, "session_hash": "s"}',
        "a function of 2^70": b'{"data": [], "fn_index": 1180591620717411303424, "session_hash": "s"}',
        "a function that is text": b'{"data": [], "fn_index": "0; import os", "session_hash": "s"}',
        "a session that is a path": b'{"data": ["x"], "fn_index": 0, "session_hash": "../../x"}',
        "a session of 100 kB": b'{"data": ["x"], "fn_index": 0, "session_hash": "' + b"x" * 100_000 + b'"}',
        "a session that is a list": b'{"data": ["x"], "fn_index": 0, "session_hash": [1]}',
        "a batch": b'{"data": [["x"]], "fn_index": 0, "session_hash": "s", "batched": true}',
        "an event of another": b'{"data": ["x"], "fn_index": 0, "session_hash": "s", "event_id": "x", "event_data": 1}',
        "a trigger": b'{"data": ["x"], "fn_index": 0, "session_hash": "s", "trigger_id": 999999}',
        "a token": b'{"data": ["x"], "fn_index": 0, "session_hash": "s", "oauth_token": "x"}',
        "no such model": b'{"data": ["/etc/passwd"], "fn_index": 0, "session_hash": "s"}',
    }  # fmt: skip
    for name, body in bodies.items():
        for target in (JOIN, CALL):
            yield Hostile(f"call: {name} {target!r}", post(target, body))
    for kind in (b"text/plain", b"multipart/form-data; boundary=b", b"application/x-www-form-urlencoded", b""):
        yield Hostile(f"call as {kind!r}", post(JOIN, b'{"data": ["x"], "fn_index": 0, "session_hash": "s"}', kind))


def _forms() -> Iterator[Hostile]:
    kind = b"multipart/form-data; boundary=b"
    for target, field in UPLOADS:
        part = b'--b\r\nContent-Disposition: form-data; name="%s"; filename="x"\r\n\r\n' % field
        text = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n--b--\r\n'
        for name in (
            b"../../../../tmp/pwned.bin", b"/etc/pwned", b"C:\\pwned", b"{secret}", b"a\x00b", b"a\x1b[2J\x07.bin",
            b"\xff\xfe",
            b"\xe2\x80\xaegnp.bin", b"%0d%0aSet-Cookie: x", b"..", b"x" * 300, b"\xf0\x9f\x98\x80" * 99,
            b"<img src=x>", b"-rf",
        ):  # fmt: skip
            yield Hostile(f"file name {name[:20]!r} {target!r}", post(target, form(field, GOOD, name), kind))
        bodies = {
            "nothing": b"", "no boundary": b"x", "only the end": b"--b--\r\n", "a cut": part + b"x",
            "a field without a file name": text % (field, b"x"), "a field of 3 MB": text % (b"y", b"x" * 3_000_000),
            "a file of another field": form(b"other", GOOD), "two files": part + b"1\r\n" + part + b"2\r\n--b--\r\n",
            "2,000 parts": b'--b\r\nContent-Disposition: form-data; name="y"\r\n\r\nx\r\n' * 2000 + b"--b--\r\n",
            "10,000 headers": b"--b\r\n" + b"X: y\r\n" * 10_000 + b"\r\n--b--\r\n",
            "a header of 1 MB": b"--b\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n--b--\r\n",
            "half boundaries": part + b"\r\n--" * 100_000, "a preamble of 1 MB": b"x" * 1_000_000 + form(field, GOOD),
            "a file too large": form(field, bytes(3 << 20)), "a form in a form": form(field, form(field, b"x")),
            "a name of 20 kB": form(field, b"x", b"x" * 20_000), "bare line feeds": form(field,
            b"x").replace(b"\r\n", b"\n"),
        }  # fmt: skip
        for name, body in bodies.items():
            yield Hostile(f"form: {name} {target!r}", post(target, body, kind))
        for other in (
            b"multipart/form-data",
            b"multipart/mixed; boundary=b",
            b"multipart/form-data; boundary=" + b"b" * 9000,
        ):
            yield Hostile(f"form as {other[:40]!r} {target!r}", post(target, form(field, GOOD), other))
        packed = post(target, gzip.compress(bytes(1 << 24)), kind, b"Content-Encoding: gzip\r\n")
        yield Hostile(f"form: packed {target!r}", packed)


def _queries() -> Iterator[Hostile]:
    for query in (
        b"?" + b"a=b&" * 5000, b"?session_hash=" + b"x" * 900, b"?__theme=../../x", b"?deep_link=../../../etc/passwd",
        b"?page=../x", b"?view=api&token=" + b"x" * 500, b"?%00", b"?deep_link={secret}", b"?upload_id=x&upload_id=y",
        b"?serialize=False&all_endpoints=True", b"?token=x&token=y",
    ):  # fmt: skip
        for target in (b"/", b"/config", b"/gradio_api/info", b"/healthz"):
            yield Hostile(f"query {query[:30]!r} {target!r}", _get(target + query))


def _bytes() -> Iterator[Hostile]:
    kind = b"application/octet-stream"
    for query in (
        b"name=../../../../tmp/pwned.bin", b"name={secret}", b"name=%00%1b[2J", b"file={secret}", b"model={secret}",
        b"model=http://{canary}/x", b"windows=true&window_ms=0.001", b"windows=true&window_ms=1&stride_ms=1e-300",
        b"windows=true&window_ms=inf", b"window_ms=1&window_ms=2", b"&".join(b"a%d=b" % n for n in range(100)),
        b"name=" + b"x" * 900, b"%ff%fe=%ff", b"windows=true&window_ms=100&compare=true",
    ):  # fmt: skip
        yield Hostile(f"bytes {query[:30]!r}", post(b"/classify?" + query, GOOD, kind))
        yield Hostile(f"bytes to the page {query[:30]!r}", post(UPLOAD + b"?" + query, GOOD, kind))
    yield Hostile("bytes that break off", post(b"/classify?windows=true&window_ms=1", GOOD, kind)[:-1000], cut=True)
    yield Hostile("bytes and no reader", post(b"/classify?windows=true&window_ms=1", GOOD, kind), cut=True)
