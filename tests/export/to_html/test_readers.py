"""The page's readers, in node, compared with the package's own on the same files."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuromoco import EventFileError, read_recording
from neuromoco.events import ReadOptions
from neuromoco.export.to_html.page import SOURCE
from tests.export.to_html.event_files import EventFile
from tests.export.to_html.event_files import event_files as written_files

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
SCRIPT = Path(__file__).with_name("read.mjs")
SALVAGED = "; --salvage reads what comes before"
OWN_WORDS = (
    "--",
    "neuromoco",
    "npy file is cut",
    "npz file is cut",
    "first line is",
    "2^63",
)  # that the page does not have
FAMILIES = {"atis": 2, "prophesee": 11, "jaer": 9, "text": 14, "arrays": 10, "odd": 6}  # files that are read, at least


def read_in_node(files: Sequence[tuple[Path, dict[str, Any]]]) -> list[dict[str, Any]]:
    given = json.dumps([[str(file), reading] for file, reading in files])
    done = subprocess.run(["node", SCRIPT, SOURCE], input=given, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def read_here(file: Path, reading: dict[str, Any]) -> dict[str, Any]:
    known = ReadOptions(**{**reading, "sensor": tuple(reading["sensor"]) if "sensor" in reading else None})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            recording = read_recording(file, options=ReadOptions(defaults=known) if reading else None)
    except EventFileError as error:
        return {"error": str(error).removeprefix(f"{file}: ").removesuffix(SALVAGED)}
    digest = hashlib.sha256()
    for column in (recording.t, recording.x, recording.y, recording.p):
        digest.update(np.ascontiguousarray(column).tobytes())
    facts = {name: getattr(recording, name) for name in ("width", "height", "source")}
    return {"count": len(recording), **facts, "notes": recording.oddities.lines(), "sha256": digest.hexdigest()}


def check(name: str, here: dict[str, Any], in_node: dict[str, Any]) -> None:
    if "error" in here:
        assert set(in_node) == {"error"}, f"{name}: {in_node}, refused here: {here['error']}"
        assert in_node["error"].isprintable()
        if not any(words in here["error"] for words in OWN_WORDS):
            assert in_node == here, name
    else:
        assert in_node == here, name


def test_they_read_and_refuse_what_the_package_does(tmp_path: Path) -> None:
    files: list[EventFile] = list(written_files())
    places = [tmp_path / file.name for file in files]
    for place, file in zip(places, files, strict=True):
        place.write_bytes(file.content)
    answers = read_in_node([(place, file.reading) for place, file in zip(places, files, strict=True)])
    counts: Counter[str] = Counter()
    for place, file, in_node in zip(places, files, answers, strict=True):
        here = read_here(place, file.reading)
        check(file.name, here, in_node)
        counts[file.name.partition("-")[0]] += "count" in here
    assert all(counts[family] >= least for family, least in FAMILIES.items()), counts


def test_formats_that_it_does_not_read_are_named(tmp_path: Path) -> None:
    kinds = {
        "#!AER-DAT4.0": "AEDAT 4",
        "#!AER-DAT3.1": "AEDAT 3.1",
        "\x89HDF\r\n\x1a\n": "HDF5",
        "#ROSBAG V2.0": "ROS 1",
    }
    for number, magic in enumerate(kinds):
        (tmp_path / str(number)).write_bytes(magic.encode("latin-1") + bytes(100))
    answers = read_in_node([(tmp_path / str(number), {}) for number in range(len(kinds))])
    for answer, kind in zip(answers, kinds.values(), strict=True):
        assert answer["error"].startswith(f"is a recording of {kind}; this page reads ATIS .bin,")
        assert "neuromoco convert FILE NEW.npz" in answer["error"]


def test_damaged_files_are_read_as_the_package_does(tmp_path: Path) -> None:
    """Bytes changed and cut off at random."""
    rng, files = np.random.default_rng(7), list(written_files())
    damaged = []
    for number in range(300):
        content, reading = bytearray(files[number % len(files)].content), files[number % len(files)].reading
        for _ in range(int(rng.integers(1, 4))):
            if content:
                content[int(rng.integers(min(len(content), 600)))] = int(rng.integers(256))
        if rng.random() < 0.3:
            del content[int(rng.integers(len(content) + 1)) :]
        place = tmp_path / str(number)
        place.write_bytes(content)
        damaged.append((place, reading))
    for (place, reading), in_node in zip(damaged, read_in_node(damaged), strict=True):
        here, name = read_here(place, reading), files[int(place.name) % len(files)].name
        said = in_node.get("error", "")
        if (
            "this page reads" in said or "2^53" in said or "285 years" in said
        ):  # times that JavaScript has no numbers for
            continue
        assert ("error" in here) == ("error" in in_node), (name, here, in_node)
        if "count" in here:
            assert here == in_node, name


def test_real_files_of_cameras(event_files: Path) -> None:
    places = [(place, {}) for place in sorted(event_files.rglob("*")) if place.is_file()]
    both = 0
    for (place, reading), in_node in zip(places, read_in_node(places), strict=True):
        if "count" in in_node:
            both += 1
            check(place.name, read_here(place, reading), in_node)
    assert both >= 8
