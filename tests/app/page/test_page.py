"""The page without a browser: the same answers as everywhere else, errors for people, nothing left behind."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from neuromoco import models, read_recording
from neuromoco.app.cli.main import app
from neuromoco.app.page.handlers import PageHandlers, PageInputs, forget
from neuromoco.app.page.model_view import model_view
from neuromoco.app.page.views import error_view, explain, result_view, sprite_sheet, timeline_card
from neuromoco.app.worker.analysis import AnalysisRequest, offered_models
from neuromoco.app.worker.reading import FIELDS
from neuromoco.app.worker.sandbox import Sandbox
from neuromoco.errors import NeuromocoError
from neuromoco.runtime.load import load_classifier
from neuromoco.runtime.timeline import Segment, Timeline, TimelineRule
from tests.helpers.page_server import EXAMPLE, Server, bad_files, long_recording, numbers
from tests.helpers.sequences import in_sequence

pytest.importorskip("gradio")
httpx = pytest.importorskip("httpx")
HOSTILE = "<img src=x onerror=alert(1)>.bin"


@pytest.fixture(scope="module")
def handlers() -> Iterator[PageHandlers]:
    known = offered_models()
    sandbox = Sandbox(1, AnalysisRequest(EXAMPLE, EXAMPLE.name, known[0]))
    yield PageHandlers(sandbox, known)
    sandbox.close()


@pytest.fixture
def server(page_server: Server) -> Server:
    return page_server


@pytest.mark.parametrize("backend", ["onnx", "loihi-sim"])
def test_page_command_line_and_python_give_the_same_numbers(server: Server, backend: str) -> None:
    file = models.model_path() if backend == "onnx" else models.model_path(suffix=".loihi")
    for path in models.example_paths()[:4]:
        page = server.classify(path, backend=backend)
        result = CliRunner().invoke(app, ["predict", str(path), "--backend", backend, "--json"])
        python = load_classifier(file).predict([read_recording(path)])[0].to_json()
        assert numbers(page) == numbers(json.loads(result.stdout)) == numbers(python)
        assert page["backend"] == backend
    assert server.left() == []


def test_a_window_is_answered_as_by_its_command(server: Server, tmp_path: Path) -> None:
    path = long_recording(tmp_path / "long.npz")
    page = server.classify(path, window_ms=400, window=2)
    lines = CliRunner().invoke(app, ["predict", str(path), "--any-length", "--window", "400ms", "--json"]).stdout
    assert numbers(page) == numbers(json.loads(lines.splitlines()[2]))
    assert page["windows"] == 8
    assert page["command"] == "neuromoco predict long.npz --any-length --backend onnx --window 400000us --json"
    assert server.left() == []


def test_a_level_of_errors_is_kept_as_by_the_command(server: Server, handlers: PageHandlers) -> None:
    page = server.classify(EXAMPLE, models.DEFAULT, "onnx", 0, 0, *[""] * len(FIELDS), "0.05")
    command = ["predict", str(EXAMPLE), "--any-length", "--abstain", "0.05", "--json"]
    answer = json.loads(CliRunner().invoke(app, command).stdout)
    assert page["possible_classes"] == answer["possible_classes"] == ["3"]
    assert "--abstain 0.05" in page["command"]
    assert server.classify(EXAMPLE)["possible_classes"] is None
    assert server.left() == []
    html, state = handlers.show(EXAMPLE, PageInputs(models.DEFAULT, "onnx", abstain=0.05), upload=False)
    assert "--abstain 0.05" in html
    assert state is not None
    html, state = handlers.switch_backend(state, "loihi-sim")
    assert "--abstain 0.05" in html
    for level, words in ((1.5, "give a share between 0 and 1"), (0.001, "need 2302 recordings or more")):
        html, _ = handlers.update(state, PageInputs(models.DEFAULT, "onnx", abstain=level))
        assert words in html
    assert state is not None
    sure = state.analysis.predictions["loihi-sim"]
    unsure = replace(sure, unsure=True, possible_classes=("3", "<8>"))
    html = result_view(state.request, replace(state.analysis, predictions={"loihi-sim": unsure}))
    assert re.search(r'nm-unsure">unsure <span>3 [0-9.]+%; possible: 3, &lt;8&gt;</span>', html)


def test_refused_files_are_named_in_one_line_and_leave_nothing(server: Server, tmp_path: Path) -> None:
    files = bad_files(tmp_path)
    from gradio_client.exceptions import AppError

    with pytest.raises(ValueError, match="exceeds the maximum file size"):  # the client asks before it sends
        server.classify(files["large.bin"])
    content = files.pop("large.bin").read_bytes()
    assert httpx.post(f"{server.url}gradio_api/upload", files={"files": ("large.bin", content)}).status_code == 413
    for name, path in files.items():
        with pytest.raises(AppError) as raised:
            server.classify(path)
        assert str(raised.value).startswith(f"{name}: ")
        assert "\n" not in str(raised.value)
    assert server.left() == []


def test_only_uploads_and_known_models_are_opened(server: Server, tmp_path: Path) -> None:
    from gradio_client.exceptions import AppError

    for model, backend in (("../models", "onnx"), (str(models.model_path()), "onnx"), (models.DEFAULT, "pickle")):
        with pytest.raises(AppError, match=r"there are|it has"):
            server.classify(EXAMPLE, model=model, backend=backend)
    for place in (str(EXAMPLE), "/etc/passwd", "http://127.0.0.1:9/x.bin"):
        data = {"data": [{"path": place, "meta": {"_type": "gradio.FileData"}}, models.DEFAULT, "onnx", 0, 0]}
        call = httpx.post(f"{server.url}gradio_api/call/classify", json=data)
        assert (call.status_code, "not the place of an upload" in call.text) == (400, True)
        assert "root:" not in call.text
    assert server.left() == []


def test_uploads_of_one_content_do_not_share_a_place(server: Server) -> None:
    places = [
        httpx.post(f"{server.url}gradio_api/upload", files={"files": ("same.bin", b"12345")}).json()[0]
        for _ in range(2)
    ]
    assert places[0] != places[1]
    for place in places:
        name = "/".join(place.split("/")[-2:])
        (held,) = server.folder.glob(f"neuromoco-page-*/uploads/{name}")
        assert str(held) != place  # a visitor learns nothing of this machine's folders
        held.unlink()


def test_the_page_asks_nobody_else(server: Server) -> None:
    config = httpx.get(f"{server.url}config").json()
    assert config["analytics_enabled"] is False
    public = [call["api_name"] for call in config["dependencies"] if call.get("api_visibility", "public") == "public"]
    assert public == ["classify"]


def test_a_short_upload_is_deleted_and_a_long_one_is_kept_for_windows(handlers: PageHandlers, tmp_path: Path) -> None:
    place = tmp_path / "upload"
    place.mkdir()
    short = place / "short.bin"
    short.write_bytes(EXAMPLE.read_bytes())
    html, shown = handlers.show(short, PageInputs(models.DEFAULT, "onnx"), upload=True)
    assert ">3 <" in html
    assert not place.exists()
    html, after = handlers.switch_backend(shown, "loihi-sim")
    assert "--backend loihi-sim" in html
    assert after.analysis.backend == "loihi-sim"
    place.mkdir()
    long = long_recording(place / "long.npz")
    _, shown = handlers.show(long, PageInputs(models.DEFAULT, "onnx"), upload=True)
    html, shown = handlers.update(shown, PageInputs(models.DEFAULT, "onnx", 400, 1))
    assert "400 to 800 ms, window 1 of 8" in html
    html, shown = handlers.update(shown, PageInputs(models.DEFAULT, "onnx", 400, 99))
    assert "This window has no events." in html
    assert long.exists()
    forget(shown)
    assert not place.exists()


@pytest.mark.parametrize(
    ("message", "title"),
    [
        ("a: is a PNG picture; neuromoco reads AEDAT4, RAW", "This is a PNG picture."),
        ("a: is empty (0 bytes)", "This file is empty (0 bytes)."),
        (
            "a: is no event recording that neuromoco knows; it reads X",
            "This is not an event recording that neuromoco knows.",
        ),
        ("a: 7 bytes are not whole", "This recording cannot be read."),
        ("a: no line names the columns", "This recording cannot be read."),
        ("no model named b", "This did not work."),
    ],
)
def test_errors_are_put_in_words(message: str, title: str) -> None:
    assert explain("a", message)[0] == title


def test_nothing_of_a_file_becomes_markup(handlers: PageHandlers) -> None:
    request = AnalysisRequest(EXAMPLE, HOSTILE, handlers.models[models.DEFAULT], compare=True, pictures=True)
    analysis = handlers._sandbox.analyse(request)
    (prediction,) = [analysis.predictions["onnx"]]
    renamed = replace(prediction, label=HOSTILE, probabilities={HOSTILE: 1.0, **prediction.probabilities})
    analysis.predictions["onnx"] = renamed
    analysis.facts["format"] = HOSTILE
    for html in (result_view(request, analysis), error_view(HOSTILE, f"{HOSTILE}: is {HOSTILE}; neuromoco reads")):
        assert "<img src=x" not in html
        assert escape(HOSTILE) in html


def test_charts_say_what_the_answer_says(handlers: PageHandlers) -> None:
    model = handlers.models[models.DEFAULT]
    request = AnalysisRequest(EXAMPLE, EXAMPLE.name, model, compare=True, pictures=True)
    analysis = handlers._sandbox.analyse(request)
    prediction = analysis.predictions["onnx"]
    names, values = list(prediction.probabilities), prediction.probabilities_per_step()
    assert dict(zip(names, values[-1].tolist(), strict=True)) == prediction.probabilities
    np.testing.assert_allclose(values.sum(1), 1.0)
    html = result_view(request, analysis)
    assert f"{analysis.facts['events']:,}" in html


def test_a_long_recording_has_a_strip_of_what_shows_when(handlers: PageHandlers, tmp_path: Path) -> None:
    in_sequence(tmp_path / "long.npz", "373", 250_000)
    html, state = handlers.show(tmp_path / "long.npz", PageInputs(models.DEFAULT, "onnx"), upload=False)
    assert state is not None
    assert state.analysis.timeline is not None
    assert "What shows when" in html
    assert html.count('class="nm-known"') == 3
    first, *others = state.analysis.timeline.segments
    hostile = replace(state.analysis.timeline, segments=(replace(first, label=HOSTILE), *others))
    html = result_view(state.request, replace(state.analysis, timeline=hostile))
    assert "<img src=x" not in html
    assert html.count(escape(HOSTILE)) == 2  # in what the pointer shows, and in the list; the name has no room
    html, state = handlers.show(EXAMPLE, PageInputs(models.DEFAULT, "onnx"), upload=False)
    assert "What shows when" not in html


def test_every_part_of_a_timeline_is_listed_or_the_card_says_how_many_are_not() -> None:
    rule = TimelineRule(window_us=10, stride_us=10, pause_us=10, shortest_us=5)

    def timeline(parts: int) -> Timeline:
        ends = np.cumsum(np.arange(parts) % 2 * 5 + 10)
        segments = [Segment(int(end) - 10, int(end), str(number), 0.9) for number, end in enumerate(ends)]
        return Timeline(
            0, int(ends[-1]), rule, (*segments[:-1], Segment(int(ends[-1]), int(ends[-1]) + 90, None, why="unsure"))
        )

    few = timeline_card(timeline(1_000))
    assert few.count("<rect") == few.count("<tr>") == 1_000
    assert "longest" not in few
    many = timeline_card(timeline(1_500))
    assert many.count("<rect") == many.count("<tr>") == 1_000
    assert "Only the 1,000 longest of 1,500 parts are shown" in many
    assert "unknown, unsure" in many  # the last part, and the longest


def test_a_short_part_of_a_long_timeline_can_be_seen() -> None:
    hour = 3_600_000_000
    parts = (Segment(0, 1_000_000, "wave", 0.9), Segment(1_000_000, hour, None, why="pause"))
    html = timeline_card(Timeline(0, hour, TimelineRule(10, 10, 10, 5), parts))
    width = re.search(r'class="nm-known nm-thin"[^>]* width="([\d.]+)"', html)
    assert width
    assert float(width[1]) > 0.5


def test_the_sprite_sheet_holds_every_frame() -> None:
    import base64
    import io

    from PIL import Image

    frames = np.zeros((10, 2, 3, 4), np.uint16)
    frames[9, 1, 2, 3] = frames[0, 0, 1, 0] = 5
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(sprite_sheet(frames)))))
    assert sheet.shape == (6, 32, 3)
    assert {tuple(at) for at in np.argwhere(sheet)} == {(5, 7, 0), (1, 0, 1)}  # red ON, green OFF


def test_the_tab_of_models_shows_card_and_reports() -> None:
    html = model_view(offered_models()[0])
    for text in ("ONNX export", "Layers on Loihi", "Spikes that differ", models.DEFAULT, "<details>"):
        assert html.count(text) == 1 or text == models.DEFAULT
    assert models.DEFAULT in html


def test_a_given_model_comes_first_and_offers_what_it_is(handlers: PageHandlers) -> None:
    known = offered_models(models.model_path(suffix=".loihi"))
    assert PageHandlers(handlers._sandbox, known[:1]).backends(known[0].name) == ["loihi-sim"]
    with pytest.raises(NeuromocoError, match="no file"):
        handlers.classify(None, PageInputs(models.DEFAULT, "onnx"))


def test_a_model_that_is_none_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "walk.onnx").write_bytes(b"no model")
    result = CliRunner().invoke(app, ["app", "--model", str(tmp_path / "walk.onnx")])
    assert result.exit_code == 4
    assert len([line for line in result.stderr.splitlines() if line.startswith("neuromoco: ")]) == 1


def test_a_refusal_names_the_field_to_fill_in_and_the_file_is_read_as_said(
    handlers: PageHandlers, tmp_path: Path
) -> None:
    recording = read_recording(EXAMPLE)
    rows = zip(recording.p, recording.y, recording.x, recording.t / 1e3, strict=True)
    walk = tmp_path / "walk.csv"
    walk.write_text("".join(f"{p} {y} {x} {t:.3f}\n" for p, y, x, t in rows))
    html, _ = handlers.show(walk, PageInputs(models.DEFAULT, "onnx"), upload=False)
    assert "Set Columns" in html
    assert "--" not in html
    words = {**dict.fromkeys(FIELDS, ""), "columns": "pyxt", "time_unit": "ms", "sensor": "34x34"}
    said = tuple(words.values())
    html, shown = handlers.show(walk, PageInputs(models.DEFAULT, "onnx", reading=said), upload=False)
    assert ">3 <" in html
    assert "--columns=pyxt" in html
    html, after = handlers.switch_backend(shown, "loihi-sim")
    assert after.request.reading == shown.request.reading
    html, _ = handlers.show(EXAMPLE, PageInputs(models.DEFAULT, "onnx", reading=said), upload=False)
    assert "Leave Columns empty" in html
    assert str(EXAMPLE.parent) not in html


@pytest.mark.parametrize(
    ("message", "more"),
    [
        ("a: no line names the columns", "No line names the columns"),
        ("a: holds no events", "The file holds no events"),
        ("a: the file is cut", "The file is cut"),
    ],
)
def test_explanations_are_sentences(message: str, more: str) -> None:
    assert explain("a", message)[1] == more
