"""The commands on event files, as a user meets them: info, convert, simulate, predict in windows."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neuromoco import models, read_recording
from neuromoco.events import write_npz
from neuromoco.events.writers import WRITERS
from tests.conftest import make_recording
from tests.helpers.cli import error_line, run

EXAMPLES = models.example_paths()
PNG = b"\x89PNG\r\n\x1a\n"


def same(a: Path, b: Path) -> bool:
    first, second = read_recording(a), read_recording(b)
    columns = all(np.array_equal(getattr(first, name), getattr(second, name)) for name in "txyp")
    return columns and (first.width, first.height) == (second.width, second.height)


def test_info_says_what_is_odd_and_draws(tmp_path: Path) -> None:
    result = run("info", EXAMPLES[3], "--plot", tmp_path / "a.png", "--json")
    facts = json.loads(result.stdout)
    assert facts["events"] == len(read_recording(EXAMPLES[3]))
    assert facts["unsorted"] == facts["outside_sensor"] == 0
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)
    assert "largest step back" in run("info", EXAMPLES[3]).stdout


@pytest.mark.parametrize("format", WRITERS)
def test_convert_keeps_every_event(format: str, tmp_path: Path) -> None:
    target = tmp_path / "a.out"
    result = run("convert", EXAMPLES[5], target, "--to", format)
    assert result.exit_code == 0, result.stderr
    assert "events of ATIS .bin" in result.stdout
    given = ["--sensor", "34x34"] if format == "csv" else []
    back = tmp_path / "back.npz"
    assert run("convert", target, back, *given).exit_code == 0
    assert same(back, EXAMPLES[5])


def test_simulate_keeps_class_folders(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("cat/1.png", "dog/1.png", "dog/2.pgm"):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((np.indices((20, 20)).sum(0) * 6).astype(np.uint8)).save(path)
    for motion in ("saccades", "loop"):
        out = tmp_path / motion
        result = run("simulate", tmp_path / "pictures", "--out", out, "--motion", motion, "--sensor", "24x20", "-q")
        assert result.exit_code == 0, result.stderr
        assert sorted(str(path.relative_to(out)) for path in out.rglob("*.npz")) == [
            "cat/1.npz",
            "dog/1.npz",
            "dog/2.npz",
        ]
        recording = read_recording(out / "dog/2.npz")
        assert (recording.width, recording.height) == (24, 20)
        assert len(recording) > 100


def test_predict_answers_window_by_window(tmp_path: Path) -> None:
    recording = read_recording(EXAMPLES[7])
    later = type(recording).from_columns(
        np.concatenate([recording.t, recording.t + 2_000_000]),
        *(np.tile(getattr(recording, name), 2) for name in "xyp"),
        width=34,
        height=34,
    )
    write_npz(tmp_path / "long.npz", later)
    words = ["predict", tmp_path / "long.npz", "--window", "400ms", "--json"]
    answers = [json.loads(line) for line in run(*words).stdout.splitlines()]
    assert [answer["window_us"][0] for answer in answers] == [0, 400_000, 800_000, 1_200_000, 1_600_000, 2_000_000]
    assert [answer["label"] for answer in answers] == ["7", None, None, None, None, "7"]
    several = [json.loads(line) for line in run(*words, "--jobs", 2).stdout.splitlines()]
    assert [answer["label"] for answer in several] == [answer["label"] for answer in answers]
    assert "400 to 800 ms: no events" in run("predict", tmp_path / "long.npz", "--window", "0.4s").stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["info", EXAMPLES[0], "--sensor", "34"],
            2,
            "--sensor 34: give width and height, for example --sensor 640x480",
        ),
        (["info", EXAMPLES[0], "--columns", "txy"], 2, "--columns txy: name each of t, x, y and p once"),
        (["info", EXAMPLES[0], "--format", "doc"], 2, "no format named 'doc'; known are"),
        (["info", EXAMPLES[0], EXAMPLES[1], "--plot", "a.png"], 2, "--plot a.png with 2 files; give one"),
        (["convert", EXAMPLES[0], "a.xyz"], 2, "a.xyz: its name says no format; give --to with one of npz"),
        (["convert", EXAMPLES[0], "a.npz", "--to", "doc"], 2, "--to doc: written are npz"),
        (["convert", EXAMPLES[0], EXAMPLES[0]], 2, "is the recording itself; name another file"),
        (["convert", "nothing.bin", "a.npz"], 3, "nothing.bin: does not exist"),
        (["simulate", EXAMPLES[0], "--out", "x"], 2, "0.bin: is not a picture; give PNG, JPEG, PGM"),
        (["simulate", "nothing.png", "--out", "x"], 2, "nothing.png: cannot be opened as a picture"),
        (["predict", EXAMPLES[0], "--window", "soon"], 2, "a duration of 'soon'; give a number and us, ms or s"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    words: list[object], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*words)
    assert message in error_line(result)
    assert result.exit_code == code
    assert list(tmp_path.iterdir()) == []


def test_events_that_a_format_cannot_hold_are_not_written(tmp_path: Path) -> None:
    recording = make_recording(0)
    late = type(recording).from_columns(recording.t + (1 << 40), recording.x, recording.y, recording.p)
    write_npz(tmp_path / "late.npz", late)
    result = run("convert", tmp_path / "late.npz", tmp_path / "late.bin")
    assert result.exit_code == 3
    assert "ATIS .bin holds times from 0 to 8388607 us" in error_line(result)
    assert [path.name for path in tmp_path.iterdir()] == ["late.npz"]


def test_a_folder_is_called_one(tmp_path: Path) -> None:
    assert error_line(run("info", tmp_path)) == f"neuromoco: {tmp_path}: is an empty folder"
    (tmp_path / "a.raw").touch()
    for command in (("info",), ("convert", tmp_path / "b.npz")):
        words = (command[0], tmp_path, *command[1:])
        assert error_line(run(*words)) == f"neuromoco: {tmp_path}: is a folder; give the files in it, such as a.raw"


def test_times_before_0_are_shifted(tmp_path: Path) -> None:
    columns = {"x": np.arange(3), "y": np.arange(3), "p": np.ones(3, int)}
    np.savez(tmp_path / "a.npz", t=np.array([-1_100_000_000, -1_099_999_990, -1_000_000_000]), **columns)
    for format in ("aedat4", "evt3"):
        message = error_line(run("convert", tmp_path / "a.npz", tmp_path / "b", "--to", format))
        assert message.endswith("neuromoco convert --start 0 shifts them")
        assert not (tmp_path / "b").exists()
        for start in (0, 5000):
            assert run("convert", tmp_path / "a.npz", tmp_path / "b", "--to", format, "--start", start).exit_code == 0
            assert read_recording(tmp_path / "b").t.tolist() == [start, start + 10, start + 100_000_000]
        (tmp_path / "b").unlink()
    assert run("convert", tmp_path / "a.npz", tmp_path / "c.npz", "--start", -7).exit_code == 0
    assert read_recording(tmp_path / "c.npz").t.tolist() == [-7, 3, 99_999_993]


NEUROMOCO = (sys.executable, "-c", "from neuromoco.app.cli.main import main; main()")


@pytest.mark.parametrize("name", ["-", "/dev/stdin", "/dev/fd/0"])
def test_a_pipe_is_read_like_the_file(tmp_path: Path, name: str) -> None:
    recording = make_recording(2, events=500)
    write_npz(tmp_path / "a.npz", recording)
    content = (tmp_path / "a.npz").read_bytes()

    def piped(*words: object, input: bytes = content) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*NEUROMOCO, *map(str, words)], input=input, capture_output=True, check=False)

    facts = json.loads(piped("info", name, "--json", "--plot", tmp_path / "a.png").stdout)
    assert facts == {**json.loads(run("info", tmp_path / "a.npz", "--json").stdout), "file": name}
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)
    if name != "-":
        return
    assert piped("convert", name, tmp_path / "b.npz").returncode == 0
    assert same(tmp_path / "b.npz", tmp_path / "a.npz")
    answer = piped("predict", name, "--any-length", "--jobs", 2)
    expected = run("predict", tmp_path / "a.npz", "--any-length").stdout
    assert answer.stdout.decode().split(": ", 1)[1] == expected.split(": ", 1)[1]
    assert piped("info", name, input=b"").stderr.decode() == f"neuromoco: {name}: is empty (0 bytes)\n"


@pytest.mark.parametrize("received", [signal.SIGTERM, signal.SIGHUP])
def test_a_conversion_that_is_told_to_end_leaves_nothing(tmp_path: Path, received: signal.Signals) -> None:
    write_npz(tmp_path / "a.npz", make_recording(2, events=500))
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # ignored where the tests run under nohup
        "from neuromoco.events import writers\n"
        "from neuromoco.support.files import writing\n"
        "def write(path, recording):\n"
        "    with writing(path) as part:\n"
        "        part.write_bytes(b'begun')\n"
        f"        os.kill(os.getpid(), {received.value})\n"
        "        signal.pause()\n"
        "writers.WRITERS['npz'] = write\n"
        "from neuromoco.app.cli.main import main\n"
        "main()\n"
    )
    words = ["convert", str(tmp_path / "a.npz"), str(tmp_path / "b.npz")]
    assert subprocess.run([sys.executable, "-c", code, *words], check=False).returncode == 128 + received
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
