"""What stands between visitors and Gradio: routes, uploads, sessions, and the check of the parts it rests on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from neuromoco import models
from neuromoco.app.page.sessions import MOST_SESSIONS, Sessions
from neuromoco.app.page.uploads import Uploads
from neuromoco.app.worker.reading import FIELDS, choices
from tests.helpers.page_server import EXAMPLE, Server, running

pytest.importorskip("gradio")
httpx = pytest.importorskip("httpx")
API = "gradio_api"
CLIENT = httpx.Client(timeout=30)


def upload(server: Server, name: str = "3.bin") -> str:
    answer = CLIENT.post(f"{server.url}{API}/upload", files={"files": (name, EXAMPLE.read_bytes())})
    return str(answer.json()[0])


def join(server: Server, number: int, data: list[Any], session: str) -> Any:
    body = {"data": data, "fn_index": number, "session_hash": session}
    return CLIENT.post(f"{server.url}{API}/queue/join", json=body)


def number_of(server: Server, kinds: list[str]) -> int:
    """The number of the first function that has inputs of these kinds."""
    config = CLIENT.get(f"{server.url}config").json()
    kind = {one["id"]: one["type"] for one in config["components"]}
    return next(one["id"] for one in config["dependencies"] if [kind[i] for i in one["inputs"]] == kinds)


READING = ["dropdown" if choices(name) else "textbox" for name in FIELDS]
UPLOADED = ["file", "dropdown", "radio", "state", "number", *READING]
UNSAID = [None, *[""] * len(FIELDS)]  # no level of errors, and nothing about reading


def test_a_place_tells_nothing_and_is_answered_under_the_visitors_name(page_server: Server) -> None:
    place = upload(page_server, "../../a b\x1b.bin")
    assert re.fullmatch(r"[0-9a-f]{32}/a b\.bin", place)
    number = number_of(page_server, UPLOADED)
    session = "s1"
    assert (
        join(page_server, number, [{"path": place}, models.DEFAULT, "onnx", None, *UNSAID], session).status_code == 200
    )
    text = CLIENT.get(f"{page_server.url}{API}/queue/data?session_hash={session}").text
    assert "neuromoco predict 'a b.bin'" in text.replace("&#x27;", "'").replace("\\u0027", "'")
    assert str(page_server.folder) not in text
    assert page_server.left() == []


def test_visitors_values_are_told_in_words_and_print_nothing(page_server: Server) -> None:
    number = number_of(page_server, UPLOADED)
    place = upload(page_server)
    for model, backend in (("/etc/passwd", "onnx"), (models.DEFAULT, "pickle"), (None, None)):
        join(page_server, number, [{"path": place}, model, backend, None, *UNSAID], "s2")
        text = CLIENT.get(f"{page_server.url}{API}/queue/data?session_hash=s2").text
        assert '"success":true' in text
        place = upload(page_server)
    folder = place.split("/")[0]
    for path in (folder, f"{folder}/", f"{folder}/.", f"{folder}/..", f"{folder}/../x", f"./{place}", f"{place}/"):
        assert (
            join(page_server, number, [{"path": path}, models.DEFAULT, "onnx", None, *UNSAID], "s3").status_code == 400
        )
    join(page_server, number, [{"path": place}, models.DEFAULT, "onnx", None, *UNSAID], "s3")
    CLIENT.get(f"{page_server.url}{API}/queue/data?session_hash=s3", timeout=30)
    other = number_of(page_server, ["state", "radio"])
    assert join(page_server, other, [{"anything": 1}, "pickle"], "s3").status_code == 200  # what is kept counts alone
    assert page_server.said() == ""
    assert page_server.left() == []


def test_invented_sessions_end_and_leave_others_alone(page_server: Server) -> None:
    number = number_of(page_server, ["dropdown"])
    for one in range(MOST_SESSIONS + 20):
        join(page_server, number, [models.DEFAULT], f"invented{one}")
    answer = page_server.classify(EXAMPLE)
    assert answer["label"] == "3"
    gone = CLIENT.get(f"{page_server.url}{API}/queue/data?session_hash=invented0")
    assert gone.status_code == 404
    assert page_server.said() == ""


def test_the_token_and_the_path_of_a_proxy(tmp_path: Path) -> None:
    token = "a-token-of-this-test"
    with running(tmp_path, "app", "--token", token, "--root-path", "/events", "--host", "0.0.0.0") as server:
        assert "other machines can reach this program, with the token" in server.said()
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(url).status_code == 401
        assert httpx.post(f"{url}{API}/upload", files={"files": b"x"}).status_code == 401
        with httpx.Client() as browser:
            welcome = browser.get(f"{url}events/?token={token}")
            assert 'content="0; url=?"' in welcome.text
            page = browser.get(f"{url}events/")
            assert page.status_code == 200
            root = re.search(r'"root":"([^"]*)"', page.text)
            assert root is not None
            assert root[1].endswith("/events")
            script = re.search(r'src="\./(assets/index-[^"]*\.js)"', page.text)
            assert script is not None
            assert browser.get(f"{url}events/{script[1]}").status_code == 200
        bearer = {"authorization": f"Bearer {token}"}
        assert httpx.get(f"{url}config", headers=bearer).status_code == 200
        assert httpx.get(f"{url}config", headers={**bearer, "host": "evil.example"}).status_code == 400


def test_uploads_are_deleted_in_time_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuromoco.app.page.uploads.MOST_FILES", 8)
    uploads = Uploads(tmp_path / "uploads", most_bytes=30)
    uploads.folder.mkdir()

    def keep(name: str, content: bytes) -> str:
        (tmp_path / "received").write_bytes(content)
        return uploads.keep(tmp_path / "received", name)

    first, second = keep("a", bytes(10)), keep("b", bytes(10))
    for place, age in ((first, 700), (second, 20)):
        kept = uploads.find(place)
        assert kept is not None
        os.utime(kept, (time.time() - age,) * 2)
    uploads.tidy()
    assert [uploads.find(first), uploads.find(second)] == [None, uploads.folder / second]
    third = keep("c", bytes(15))
    fourth = keep("d", bytes(15))
    assert [uploads.find(place) is None for place in (second, third, fourth)] == [True, False, False]
    for _ in range(12):
        keep("e", b"")
    assert len(list(uploads.folder.glob("*/*"))) == 8
    uploads.tidy(seconds=-1)
    assert list(uploads.folder.iterdir()) == []


def test_uploads_that_are_deleted_by_others_meanwhile_disturb_nobody(tmp_path: Path) -> None:
    """Four visitors at once, with room for one file: each deletes what the others have just written."""
    (tmp_path / "uploads").mkdir()
    uploads = Uploads(tmp_path / "uploads", most_bytes=30)

    def visit(visitor: int) -> None:
        for number in range(100):
            file = tmp_path / f"{visitor}-{number}"
            file.write_bytes(bytes(30))
            uploads.keep(file, "walk.bin")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(visit, range(4)))
    uploads.tidy(0.0)
    assert list(uploads.folder.iterdir()) == []


def test_sessions_that_are_read_stay() -> None:
    forgotten: list[str] = []

    async def forget(session: str) -> None:
        forgotten.append(session)

    async def visit() -> None:
        sessions = Sessions(forget)
        await sessions.touch("mine")
        with sessions.read("mine"):
            for number in range(MOST_SESSIONS + 10):
                assert await sessions.touch(f"invented{number}")
        assert "mine" not in forgotten
        assert len(forgotten) == 11
        with contextlib.ExitStack() as stack:
            for session in [*sessions._called]:
                stack.enter_context(sessions.read(session))
            assert not await sessions.touch("one too many")
        forgotten.clear()
        with sessions.read("mine"), patch("neuromoco.app.page.sessions.UNREAD_SECONDS", -1):
            await sessions.drop_old()
            assert len(forgotten) == 0  # all of them were read once
            await sessions.touch("deaf")
            await sessions.drop_old()
            assert forgotten[1:] == ["deaf"]  # after the one that made room

    asyncio.run(visit())


def test_a_gradio_that_differs_is_refused_in_one_line() -> None:
    words = [sys.executable, "-m", "tests.helpers.other_gradio"]  # gradio leaves loops open, which pytest would report
    answer = subprocess.run(words, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    told = json.loads(answer.stdout.splitlines()[-1])
    assert told.pop("as it is") == ""
    assert len(told) == 8
    for part, message in told.items():
        assert re.fullmatch(rf"gradio [0-9.]+: {part} is not as the page needs it; pip install .*", message)


HOSTILE = ("../../etc/passwd", "http://127.0.0.1:9/x", "<img src=x>", "--out=/tmp/x", "\x1b[2J", "9" * 150)


def test_hostile_words_for_reading_are_told_as_text_and_open_nothing(page_server: Server) -> None:
    number = number_of(page_server, UPLOADED)
    for place, _ in enumerate(FIELDS):
        for word in HOSTILE:
            words = [word if other == place else "" for other in range(len(FIELDS))]
            file = {"path": upload(page_server)}
            assert (
                join(page_server, number, [file, models.DEFAULT, "onnx", None, None, *words], "s4").status_code == 200
            )
            text = CLIENT.get(f"{page_server.url}{API}/queue/data?session_hash=s4", timeout=30).text
            assert '"success":true' in text
            assert "nm-error" in text
            assert "<img src" not in text
            assert str(page_server.folder) not in text
    for value in ("x" * 201, 5, True, {"path": "/etc/passwd"}, ["x"]):
        data = [None, models.DEFAULT, "onnx", None, None, value, *UNSAID[2:]]
        assert join(page_server, number, data, "s4").status_code == 400
    assert page_server.said() == ""
    assert page_server.left() == []


def test_programs_may_leave_out_what_came_later(page_server: Server) -> None:
    short = [None, models.DEFAULT, "onnx", 0, 0]
    call = f"{page_server.url}{API}/call/classify"
    words = [""] * len(FIELDS)
    for data, status in (
        (short, 200),
        ([*short, *words], 200),
        ([*short, *words, "0.05"], 200),
        (short[:4], 400),
        ([*short, *words, "", ""], 400),
    ):
        assert CLIENT.post(call, json={"data": data}).status_code == status
