"""The options for reading a file, as fields of a form: those of the command line, with the same checks."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from neuromoco import read_recording
from neuromoco.app.cli.recordings import READING
from neuromoco.app.worker.reading import FIELDS, Reading, choices, fields_in, reading_of, with_names
from neuromoco.errors import ConfigError
from neuromoco.events import ReadOptions
from tests.helpers.cli import run
from tests.helpers.page_server import EXAMPLE, Server

httpx = pytest.importorskip("httpx")
HOSTILE = ("../../etc/passwd", "http://127.0.0.1:9/x", "--out=/tmp/x", "a\n\x1b[2Jb", "x" * 201, "<b>$(id)", "9" * 150)


@pytest.fixture(scope="module")
def client(http_server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=http_server.url, timeout=60) as client:
        yield client


def ask(client: httpx.Client, content: bytes, name: str = "walk.csv", **fields: str) -> httpx.Response:
    return client.post("classify", files={"file": (name, content)}, data=fields)


def shuffled_csv() -> bytes:
    """A recording in an order of columns that no header names, in milliseconds."""
    recording = read_recording(EXAMPLE)
    columns = [recording.p, recording.y, recording.x, recording.t / 1e3]
    return "".join(f"{p} {y} {x} {t:.3f}\n" for p, y, x, t in zip(*columns, strict=True)).encode()


def test_a_file_is_read_as_said_and_the_command_gives_the_same(client: httpx.Client, tmp_path: Path) -> None:
    content = shuffled_csv()
    refused = ask(client, content)
    assert refused.status_code == 400
    assert "--" not in refused.json()["error"]  # fields are named, not options
    answer = ask(client, content, columns="pyxt", time_unit="ms", sensor="34x34").json()
    plain = ask(client, EXAMPLE.read_bytes(), EXAMPLE.name).json()
    assert (answer["label"], answer["probabilities"]) == (plain["label"], plain["probabilities"])
    (tmp_path / "walk.csv").write_bytes(content)
    words = shlex.split(answer["command"].replace("walk.csv", str(tmp_path / "walk.csv")))
    assert {"--columns=pyxt", "--time-unit=ms", "--sensor=34x34"} <= set(words)
    printed = json.loads(run(*words[1:]).stdout)
    assert printed["logits_per_step"] == answer["logits_per_step"]


def test_a_part_of_the_sensor_is_what_the_network_sees(client: httpx.Client) -> None:
    whole, part = (ask(client, EXAMPLE.read_bytes(), **more).json() for more in ({}, {"crop": "5,5,20,20"}))
    assert part["logits_per_step"] != whole["logits_per_step"]
    assert "--crop=5,5,20,20" in part["command"]
    assert ask(client, EXAMPLE.read_bytes(), crop="activity").status_code == 200
    beyond = ask(client, EXAMPLE.read_bytes(), crop="30,30,10,10")
    assert beyond.json()["error"] == "walk.csv: a crop of 30,30,10,10 does not fit its sensor of 34 x 34 pixels"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sensor": "big"}, "a sensor of 'big'; give width and height, for example 640x480"),
        ({"columns": "txy"}, "name each of t, x, y and p once"),
        ({"time_unit": "min"}, "should be 's', 'ms', 'us' or 'ns'"),
        ({"flip": "z"}, "should be 'x', 'y' or 'xy'"),
        ({"salvage": "perhaps"}, "should be true or false"),
        ({"crop": "1,2,3"}, "a crop of '1,2,3'; give left, top, width and height"),
        ({"format": "jpg"}, "no format named 'jpg'; known are aedat4"),
        ({"select": "left"}, "walk.csv: select with the format ATIS .bin, which takes sensor, salvage"),
        ({"sensors": "34x34"}, "no field named sensors; there are file, model, backend, window_ms"),
    ],
)
def test_what_is_not_allowed_is_one_line_that_names_the_field(
    client: httpx.Client, fields: dict[str, str], message: str
) -> None:
    answer = ask(client, EXAMPLE.read_bytes(), **fields)
    assert answer.status_code == 400
    assert message in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_hostile_words_are_answered_in_one_line_and_tell_nothing(client: httpx.Client, http_server: Server) -> None:
    content = shuffled_csv()[:20_000].rpartition(b"\n")[0]
    for name in FIELDS:
        for word in HOSTILE:
            answer = ask(client, content, **{name: word})
            assert answer.status_code == 400, (name, word)
            assert str(http_server.folder) not in answer.text
            assert answer.json()["error"].isprintable()
    assert http_server.said() == ""
    assert http_server.left() == []


def test_the_fields_are_those_of_the_command_line_and_documented(client: httpx.Client) -> None:
    assert list(FIELDS) == [*READING, "crop"]
    form = client.get("openapi.json").json()["paths"]["/classify"]["post"]["requestBody"]["content"]
    properties = form["multipart/form-data"]["schema"]["properties"]
    for name, words in FIELDS.items():
        assert properties[name]["description"].startswith(words)
        assert properties[name].get("enum", []) == list(choices(name))
        assert f"<code>{name}</code>" in client.get("docs").text


def test_words_become_options_and_come_back() -> None:
    given = {"sensor": "640x480", "columns": "t=When", "salvage": "true", "flip": "x", "crop": "1,2,3,4", "select": ""}
    reading = reading_of(given)
    options = ReadOptions(sensor=(640, 480), columns="t=When", flip="x", salvage=True)
    assert reading == Reading(options, (1, 2, 3, 4))
    assert reading_of(reading.fields()) == reading
    assert reading.options_in_words() == [
        "--sensor=640x480",
        "--columns=t=When",
        "--flip=x",
        "--salvage",
        "--crop=1,2,3,4",
    ]
    assert reading_of({}).options_in_words() == []
    with pytest.raises(ConfigError, match="select: give at most 200 printable characters"):
        reading_of({"select": "a\x1bb"})


def test_messages_name_fields() -> None:
    names = {name: name.title() for name in FIELDS}
    message = "give --columns txyp or --time-unit ms; --select with one of a, b; --salvage reads the rest"
    assert with_names(message, names, "=") == (
        "give Columns=txyp or Time_Unit=ms; Select with one of a, b; Salvage reads the rest"
    )
    assert fields_in(message) == ["columns", "time_unit", "select", "salvage"]
    assert with_names("--any-length, --selected", names, "=") == "--any-length, --selected"
