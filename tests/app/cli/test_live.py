"""`neuromoco live` as its user meets it: pipes, Ctrl-C, JSON, and mistakes in one line."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from neuromoco import models, read_recording
from neuromoco.app.live.bytes_in import StandardInput
from neuromoco.events import ReadOptions
from neuromoco.events.prophesee.evt_writer import write_evt3
from tests.app.live.test_decoders import spif
from tests.helpers.cli import run
from tests.helpers.sequences import in_sequence

EXAMPLE = models.example_paths()[3]
COMMAND = [sys.executable, "-m", "neuromoco.app", "live"]


def lines_of(text: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in text.splitlines()]
    assert {line["schema"] for line in lines} == {"neuromoco/live/1"}
    return lines


def test_a_recording_is_answered_as_predict_answers_its_windows(tmp_path: Path) -> None:
    file = tmp_path / "long.npz"
    in_sequence(file, "37", 150_000)
    words = ("--window", "150ms", "--stride", "150ms", "--speed", "0", "--json")
    lines = lines_of(run("live", file, *words).stdout)
    printed = [json.loads(line) for line in run("predict", file, "--window", "150ms", "--json").stdout.splitlines()]
    expected = {tuple(line["window_us"]): line for line in printed}
    answers = [line for line in lines if line.get("label") is not None]
    assert len(answers) >= 4
    for line in answers:
        same = expected[tuple(line["window_us"])]
        for name in ("label", "probabilities", "fit", "logits_per_step"):
            assert line[name] == same[name]
        assert line["dropped"] == 0
    segments = [line["segment"] for line in lines if "segment" in line]
    assert [segment["label"] for segment in segments if segment["label"]][:2] == ["3", "7"]
    recording = read_recording(file)
    assert (segments[0]["begin_us"], segments[-1]["end_us"]) == (0, recording.duration)
    assert all(one["end_us"] == after["begin_us"] for one, after in pairwise(segments))
    summary = lines[-1]["summary"]
    assert (summary["events"], summary["dropped"]) == (len(read_recording(file)), 0)
    assert summary["windows"] == len([line for line in lines if "window_us" in line])


def test_in_words_there_are_answers_segments_and_a_summary(tmp_path: Path) -> None:
    finished = run("live", EXAMPLE, "--window", "310ms", "--speed", "0")
    answer, segment, summary, *_ = finished.stdout.splitlines()
    assert answer.startswith("0.000 to 0.310 s: 3 ")
    assert segment.startswith("0.000 to 0.306 s  3, mean ")
    assert summary.startswith("4,364 events in ")
    assert "windows of 310 ms, one each 51.67 ms; Ctrl-C ends" in finished.stderr


def read_until(process: subprocess.Popen[str], wanted: str) -> list[str]:
    assert process.stdout is not None
    lines: list[str] = []
    end = time.monotonic() + 60
    while not any(wanted in line for line in lines):
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))
        assert ready, lines
        line = process.stdout.readline()
        assert line, "it ended"
        lines.append(line)
    return lines


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_pipe_is_answered_as_it_comes_and_ctrl_c_ends_with_a_summary(tmp_path: Path, ending: signal.Signals) -> None:
    write_evt3(tmp_path / "a.raw", read_recording(EXAMPLE))
    content = (tmp_path / "a.raw").read_bytes()
    words = ["-", "--window", "100ms", "--stride", "100ms", "--json"]
    process = subprocess.Popen(
        [*COMMAND, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdin is not None
    os.write(process.stdin.fileno(), content[: len(content) * 2 // 3])
    first = lines_of("".join(read_until(process, '"window_us"')))
    assert first[0]["window_us"] == [0, 100_000]  # while the pipe is open
    process.send_signal(ending)
    rest, complaints = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "no --model given" in complaints
    assert "Traceback" not in complaints
    last = lines_of(rest)[-1]["summary"]
    assert last["windows"] >= 2
    assert 2000 < last["events"] < 4364


@pytest.mark.parametrize(
    ("content", "exit_code", "message", "count"),
    [
        (b"hello\n", 3, "-: is no stream that is recognised: give --format csv, evt2", 0),
        (bytes(3000), 3, "-: is no stream that is recognised", 0),
        (b"t,x,y,p\n1,2,3,1\n5,6,7,0", 0, "", 2),
        (b"t,x,y,p\n1,2,3,1\n5,6", 0, "-: what came last is left out: holds lines that are no numbers", 1),
    ],
)
def test_the_end_of_a_pipe_is_read_or_said(
    monkeypatch: pytest.MonkeyPatch, content: bytes, exit_code: int, message: str, count: int
) -> None:
    source = StandardInput("-", None, ReadOptions(), (34, 34))
    monkeypatch.setattr(source, "blocks", lambda: iter([content]))
    monkeypatch.setattr("neuromoco.app.live.bytes_in.StandardInput", lambda *_: source)
    finished = run("live", "-", "--json", "--model", models.model_path())
    assert finished.exit_code == exit_code
    assert message in finished.stderr
    if not exit_code:
        assert lines_of(finished.stdout)[-1]["summary"]["events"] == count


def test_a_sender_of_udp_is_answered() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [f"udp://127.0.0.1:{port}", "--window", "310ms", "--stride", "310ms"]
    process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "Ctrl-C ends" not in process.stderr.readline():
        pass
    time.sleep(0.3)
    data = spif(read_recording(EXAMPLE))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for begin in range(0, len(data), 512):
            sender.sendto(data[begin : begin + 512], ("127.0.0.1", port))
    lines = read_until(process, ": 3 ")  # by the clock, for nothing follows
    assert lines[0].startswith("0.000 to 0.310 s: 3 ")
    process.send_signal(signal.SIGINT)
    assert "4,364 events in " in process.communicate(timeout=30)[0]
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("words", "exit_code", "message"),
    [
        (["none.bin"], 3, "none.bin: does not exist"),
        (["udp://nowhere"], 2, "udp://nowhere: give an address to listen on, such as udp://127.0.0.1:3333"),
        (["udp://127.0.0.1:99999"], 2, "give an address to listen on"),
        (["http://127.0.0.1:1"], 2, "give an address to listen on"),
        (["tcp://192.0.2.1:3333", "--sensor", "34x34"], 2, "tcp://192.0.2.1:3333: cannot listen there"),
        (["camera:x"], 2, "camera:x: no such kind of camera; there are dv, metavision"),
        (["-", "--follow"], 2, "--follow with -: only a file grows"),
        (["udp://127.0.0.1:0", "--format", "hdf5"], 2, "--format hdf5: a stream of bytes holds one of csv, evt2"),
        ([str(EXAMPLE), "--window", "10ms", "--stride", "20ms"], 2, "a stride of 20 ms with windows of 10 ms"),
        ([str(EXAMPLE), "--window", "soon"], 2, "a duration of 'soon'; give a number and us, ms or s"),
        *(
            ([str(EXAMPLE), "--speed", speed], 2, f"--speed {speed}: give 0.01 to 1000, or 0 for as fast as it is")
            for speed in ("inf", "nan", "1e-09", "1001", "-1")
        ),
    ],
)
def test_mistakes_are_one_line(words: list[str], exit_code: int, message: str) -> None:
    finished = run("live", *words, "--model", models.model_path())
    assert finished.exit_code == exit_code
    assert message in " ".join(finished.stderr.split()).replace("│ ", "")
    assert "Traceback" not in finished.stderr
