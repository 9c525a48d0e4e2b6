"""Asks a server of neuromoco: python client.py http://127.0.0.1:8000 walk.bin (needs httpx and websockets)."""

import json
import sys
from pathlib import Path

import httpx
import numpy as np
from websockets.sync.client import connect

RECORD = np.dtype([("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1"), ("zero", "u1", 3)])


def classify(url: str, file: Path) -> dict:
    """The answer for a whole file; an error is a line and a code."""
    answer = httpx.post(f"{url}/classify", files={"file": file.open("rb")}, data={"backend": "onnx"})
    if answer.is_error:
        raise SystemExit("{error} ({code})".format(**answer.json()))
    return answer.json()


def windows(url: str, file: Path, window_ms: float):
    """The answers for all windows, as they come."""
    asked = {"name": file.name, "windows": True, "window_ms": window_ms}
    kind = {"content-type": "application/octet-stream"}
    with httpx.stream("POST", f"{url}/classify", params=asked, content=file.read_bytes(), headers=kind) as answer:
        for line in answer.iter_lines():
            yield json.loads(line)


def stream(url: str, chunks, sensor: str, window_ms: float):
    """The answers for windows of events that a program sends: chunks are arrays of `RECORD`."""
    with connect(f"ws{url.removeprefix('http')}/stream") as socket:
        socket.send(json.dumps({"sensor": sensor, "window_ms": window_ms}))
        for chunk in chunks:
            socket.send(chunk.tobytes())
        socket.send(json.dumps({"end": True}))
        for message in socket:
            yield json.loads(message)


if __name__ == "__main__":
    url, file = sys.argv[1], Path(sys.argv[2])
    print(classify(url, file)["label"])
    for line in windows(url, file, 100):
        print(line.get("window_us"), line.get("label"))
    events = np.zeros(5000, RECORD)  # a dot that moves to the right, 60 us from one event to the next
    number = np.arange(len(events))
    events["t"], events["x"], events["y"], events["p"] = 60 * number, number // 160, 17, number % 2
    for message in stream(url, np.array_split(events, 10), "34x34", 100):
        print(message.get("window_us"), message.get("label"))
