"""The page and the server as they are started by their commands, and files to drop on them."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuromoco import Recording, models, read_recording
from neuromoco.events import write_npz

EXAMPLE = models.example_paths()[3]
MAX_MB = 64 if os.environ.get("NEUROMOCO_SCREENSHOTS") else 1  # pictures show what users see


@dataclass
class Server:
    """The page or the server in a process of its own.

    Attributes:
        url: where it answers; ends with a slash.
        folder: where it makes its temporary folder.
        process: it.
    """

    url: str
    folder: Path
    process: subprocess.Popen[str]

    def left(self) -> list[Path]:
        """Files that uploads left."""
        return [path for path in self.folder.glob("neuromoco-*/**/*") if path.is_file()]

    def clear(self) -> None:
        """Deletes them, as the page does after ten minutes."""
        for path in self.left():
            path.unlink()
            path.parent.rmdir()

    def said(self) -> str:
        """What it printed on standard error."""
        return (self.folder / "stderr").read_text(errors="replace")

    def classify(self, file: Path, *arguments: Any, **options: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # within gradio_client
            from gradio_client import Client, handle_file

            client = Client(self.url, verbose=False)
            try:
                return client.predict(handle_file(str(file)), *arguments, api_name="/classify", **options)
            finally:
                client.close()


@contextmanager
def running(folder: Path, command: str = "app", *words: str) -> Iterator[Server]:
    """A command itself, in a process of its own: gradio leaves sockets and loops open when it ends."""
    line = [sys.executable, "-m", "neuromoco.app", command, "--port", "0", "--max-mb", str(MAX_MB), *words]
    with (folder / "stderr").open("w") as complaints:
        process = subprocess.Popen(
            line, env=os.environ | {"TMPDIR": str(folder)}, stdout=subprocess.PIPE, stderr=complaints, text=True
        )
    assert process.stdout is not None
    with process.stdout, contextlib.ExitStack() as stack:
        stack.callback(process.kill)  # if a test fails
        found = re.search(r"http://[^/ ]+", process.stdout.readline())
        assert found, (folder / "stderr").read_text()
        yield Server(f"{found[0]}/", folder, process)
        process.terminate()
        assert process.wait(20) == 0
    assert list(folder.glob("neuromoco-*")) == []


def bad_files(folder: Path) -> dict[str, Path]:
    """Writes four files that are refused, by name."""
    whole = EXAMPLE.read_bytes()
    contents = {
        "picture.png": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "empty.bin": b"",
        "cut.bin": whole[:-3],
        "large.bin": bytes((MAX_MB << 20) + 1),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


def long_recording(path: Path) -> Path:
    """An example, eight times, 400 ms apart."""
    one = read_recording(EXAMPLE)
    t = np.concatenate([one.t + 400_000 * number for number in range(8)])
    x, y, p = (np.tile(column, 8) for column in (one.x, one.y, one.p))
    write_npz(path, Recording.from_columns(t, x, y, p, width=34, height=34))
    return path


def numbers(answer: Any) -> Any:
    return {key: answer[key] for key in ("label", "probabilities", "logits_per_step", "decision_step")}
