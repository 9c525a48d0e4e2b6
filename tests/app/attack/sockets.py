"""What a stranger may send to a WebSocket: none of it may tell anything, or stop the others."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
UPGRADE = b"GET /stream HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
HELLO = b'{"sensor": "34x34", "window_ms": 100}'
TEXT, BYTES, CONTINUED, CLOSE, PING = 1, 2, 0, 8, 9


def many(apart: int) -> bytes:
    """65,535 events, so many microseconds apart."""
    return b"".join(struct.pack("<qHHBxxx", apart * number, number % 34, number % 34, 1) for number in range(65_535))


def frame(kind: int, content: bytes, *, last: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    """A frame of RFC 6455."""
    size = len(content)
    head = bytes([last << 7 | reserved << 4 | kind])
    bit = masked << 7
    if size < 126:
        head += bytes([bit | size])
    elif size < 1 << 16:
        head += bytes([bit | 126]) + struct.pack(">H", size)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", size)
    return head + (bytes(4) if masked else b"") + content  # a mask of zeros changes nothing


def hostile_sockets() -> Iterator[tuple[str, bytes]]:
    """Names and bytes."""
    begun = UPGRADE + KEY + b"\r\n" + frame(TEXT, HELLO)
    yield "no key", UPGRADE + b"\r\n"
    yield "an old version", UPGRADE + KEY.replace(b"13", b"8") + b"\r\n"
    yield "a protocol of its own", UPGRADE + KEY + b"Sec-WebSocket-Protocol: ../../x\r\n\r\n"
    packed = b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n" + frame(TEXT, b"x", reserved=4)
    yield "packed frames", UPGRADE + KEY + packed
    yield "another host", (UPGRADE + KEY).replace(b"{host}", b"evil.example") + b"\r\n"
    yield "a page elsewhere", UPGRADE + KEY + b"Origin: https://evil.example\r\n\r\n"
    yield "another address", (UPGRADE + KEY).replace(b"/stream", b"/classify") + b"\r\n"
    yield "a body", UPGRADE + KEY + b"Content-Length: 5\r\n\r\nhello"
    yield "frames without a mask", UPGRADE + KEY + b"\r\n" + frame(TEXT, HELLO, masked=False)
    yield "a frame that claims 2^63 bytes", begun + bytes([0x82, 0xFF]) + b"\x7f" + b"\xff" * 7
    yield "a message too large", begun + frame(BYTES, bytes((1 << 20) + 16))
    parts = frame(BYTES, bytes(1 << 20), last=False) + frame(CONTINUED, bytes(1 << 20))
    yield "a message too large in parts", begun + parts
    yield "a continuation of nothing", begun + frame(CONTINUED, b"x")
    yield "a ping of 200 bytes", begun + frame(PING, bytes(200))
    yield "a close that is cut", begun + frame(CLOSE, b"\x03")
    yield "a text that is none", begun + frame(TEXT, b"\xff\xfe")
    yield "bytes of no events", begun + frame(BYTES, os.urandom(16_000))
    yield "a path as the model", UPGRADE + KEY + b"\r\n" + frame(TEXT, b'{"model": "{secret}"}')
    yield "numbers beyond all numbers", UPGRADE + KEY + b"\r\n" + frame(TEXT, b'{"window_ms": 1e999}')
    tiny, overlapping = b'{"sensor": "34x34", "window_ms": 0.001}', b'{"window_ms": 1000, "stride_ms": 1}'
    yield "windows of a microsecond", UPGRADE + KEY + b"\r\n" + frame(TEXT, tiny) + frame(BYTES, many(1))
    busy = frame(TEXT, overlapping) + frame(BYTES, many(500)) + frame(CLOSE, b"\x03\xe8")
    yield "32,000 windows for one who leaves", UPGRADE + KEY + b"\r\n" + busy
    yield "a thousand lists", UPGRADE + KEY + b"\r\n" + frame(TEXT, b"[" * 100_000)
