"""The page in Chromium, as a visitor meets it. Set NEUROMOCO_SCREENSHOTS to write docs/pictures/page-*.png anew."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from neuromoco import read_recording
from tests.helpers.page_server import EXAMPLE, Server, bad_files, long_recording, numbers

pytest.importorskip("gradio")
pytestmark = pytest.mark.browser


@pytest.fixture
def server(page_server: Server) -> Server:
    return page_server


def browser_path() -> str | None:
    from shutil import which

    return which("chromium") or which("chromium-browser") or which("google-chrome")


@pytest.fixture
def open_page(server: Server) -> Iterator[Callable[..., Any]]:
    """Opens the page in Chromium: (width, colour scheme) -> playwright page. It may ask the server and nobody else."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if (path := browser_path()) is None:
        pytest.skip("no Chromium")
    elsewhere: list[str] = []
    wrong: list[str] = []
    with sync_api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=path, args=flags)

        def visit(width: int, scheme: str) -> Any:
            context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
            page = context.new_page()
            page.on("request", lambda request: request.url.startswith((server.url, "data:", "blob:")) or
                    elsewhere.append(request.url))  # fmt: skip
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
            page.goto(server.url)
            page.wait_for_selector("#nm-drop input[type=file]", state="attached")
            return page

        yield visit
        browser.close()
    assert elsewhere == []
    assert wrong == []


def drop(page: Any, file: Path) -> None:
    page.set_input_files("#nm-drop input[type=file]", file)


def test_a_visit(open_page: Callable[..., Any], server: Server, tmp_path: Path) -> None:
    files = bad_files(tmp_path)
    page = open_page(1600, "light")
    drop(page, EXAMPLE)
    page.wait_for_selector(".nm-label")
    assert page.inner_text(".nm-label").startswith("3")
    page.wait_for_function("document.querySelector('.nm-player output').textContent")
    before = page.evaluate("document.querySelector('.nm-player canvas').toDataURL()")
    slider = page.get_by_label("Time", exact=True)
    slider.fill("30")
    assert page.inner_text(".nm-player output").startswith("191.")
    assert page.evaluate("document.querySelector('.nm-player canvas').toDataURL()") != before
    slider.press("ArrowRight")
    assert slider.input_value() == "31"
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("document.querySelector('.nm-player input').value !== '31'")
    page.get_by_role("button", name="Pause").click()
    page.get_by_label("Loihi fixed point").check()
    page.wait_for_function("document.querySelector('.nm-command').textContent.includes('loihi-sim')")
    with page.expect_download() as download:
        page.get_by_text("Download as JSON").click()
    answer = json.loads(Path(download.value.path()).read_text())
    assert numbers(answer) == numbers(server.classify(EXAMPLE, backend="loihi-sim"))
    said = {"picture.png": "PNG picture", "empty.bin": "empty", "cut.bin": "cannot be read", "large.bin": "too large"}
    for name, words in said.items():
        drop(page, files[name])
        page.wait_for_selector(f".nm-error h2:has-text('{words}')")
    drop(page, EXAMPLE)
    page.wait_for_selector(".nm-label")
    page.get_by_role("tab", name="Models").click()
    page.wait_for_selector("text=Layers on Loihi")
    assert server.left() == []


def test_windows_of_a_long_recording(open_page: Callable[..., Any], server: Server, tmp_path: Path) -> None:
    page = open_page(1600, "light")
    drop(page, long_recording(tmp_path / "long.npz"))
    page.wait_for_selector(".nm-label")
    page.get_by_label("Window, ms").fill("400")
    page.get_by_label("Number of the window").fill("3")
    page.get_by_role("button", name="Show this window").click()
    page.wait_for_selector("text=window 3 of 8")
    page.wait_for_function("document.querySelector('.nm-player output').textContent.startsWith('1')")
    assert [file.name for file in server.left()] == ["long.npz"]
    server.clear()


def test_a_file_that_does_not_say_how_it_is_read(open_page: Callable[..., Any], server: Server, tmp_path: Path) -> None:
    recording, walk = read_recording(EXAMPLE), tmp_path / "walk.csv"
    rows = zip(recording.p, recording.y, recording.x, recording.t / 1e3, strict=True)
    walk.write_text("".join(f"{p} {y} {x} {t:.3f}\n" for p, y, x, t in rows))
    page = open_page(400, "light")
    drop(page, walk)
    page.wait_for_selector(".nm-error:has-text('Set Columns in the section Reading')")
    page.get_by_role("button", name="Reading").click()
    page.get_by_role("textbox", name="Columns").fill("pyxt")
    page.get_by_role("textbox", name="Sensor Sensor").fill("34x34")
    page.get_by_label("Time unit").first.click()
    page.get_by_role("option", name="ms").click()
    page.wait_for_function("[...document.querySelectorAll('input')].some(field => field.value === 'ms')")
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    drop(page, walk)
    page.wait_for_selector(".nm-label")
    assert page.inner_text(".nm-label").startswith("3")
    assert "--columns=pyxt --time-unit=ms" in page.inner_text(".nm-command")
    assert server.left() == []


@pytest.mark.parametrize(
    ("name", "width", "scheme"), [("light", 1600, "light"), ("dark", 1600, "dark"), ("narrow", 400, "light")]
)
def test_it_fits_and_follows_the_system(open_page: Callable[..., Any], name: str, width: int, scheme: str) -> None:
    page = open_page(width, scheme)
    page.locator("#nm-examples label", has_text="0").click()
    page.wait_for_selector(".nm-label")
    page.wait_for_function("document.querySelector('.nm-player output').textContent")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    ground = page.evaluate("getComputedStyle(document.querySelector('.nm-card')).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    if os.environ.get("NEUROMOCO_SCREENSHOTS"):
        time.sleep(1.0)  # until nothing moves
        place = Path(__file__).parents[3] / "docs" / "pictures" / f"page-{name}.png"
        page.screenshot(path=place, full_page=name != "narrow")
