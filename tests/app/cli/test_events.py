"""The commands on event files, as a user meets them: info, convert, simulate, predict in windows."""

from __future__ import annotations

import json
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
