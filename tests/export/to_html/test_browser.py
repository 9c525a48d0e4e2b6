"""The page in Chromium, from a disk. Set NEUROMOCO_SCREENSHOTS to write docs/pictures/html.png anew."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import zoom

from neuromoco import models, read_recording
from neuromoco.export.to_html.page import build_page
from neuromoco.frames import batch_frames
from neuromoco.runtime.loihi.folder import TwinNetwork
from neuromoco.runtime.loihi.twin import run

pytestmark = pytest.mark.browser
EXAMPLE = models.example_paths()[3]
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),  # a webcam that shows a moving figure
)


@pytest.fixture(scope="module")
def launch() -> Iterator[Callable[..., Any]]:
    """Launches Chromium with more flags than its usual ones."""
    sync_api = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium")
    with sync_api.sync_playwright() as playwright:
        yield lambda *flags: playwright.chromium.launch(executable_path=path, args=[*FLAGS, *flags])


@pytest.fixture(scope="module")
def browser(launch: Callable[..., Any]) -> Iterator[Any]:
    chromium = launch()
    yield chromium
    chromium.close()


@pytest.fixture
def open_page(browser: Any, page_file: Path) -> Iterator[Callable[..., Any]]:
    """Opens the page: (width, colour scheme) -> playwright page. It may ask for nothing but itself."""
    asked: list[str] = []
    wrong: list[str] = []
    contexts = []

    def visit(width: int = 1600, scheme: str = "light", **options: Any) -> Any:
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
        page.goto(page_file.as_uri())
        page.wait_for_selector("html[data-ready]", state="attached")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert set(asked) <= {page_file.as_uri(), "data:,"}
    assert wrong == []


def drop(page: Any, file: Path | dict[str, Any]) -> None:
    page.set_input_files("#file", file)


def answered(page: Any, name: str) -> dict[str, Any]:
    """The answer to a file, once it is shown."""
    page.wait_for_function("name => document.querySelector('#view .file')?.textContent === name", arg=name)
    answer: dict[str, Any] = json.loads(page.text_content("#json"))
    assert page.inner_text(".label").split()[0] == answer["label"]
    return answer


def test_files_are_answered_as_by_the_integer_twin(open_page: Callable[..., Any]) -> None:
    twin, page = TwinNetwork(models.model_path(suffix=".loihi")), open_page()
    for file in models.example_paths():
        frames = batch_frames([read_recording(file)], twin.header.frames)
        logits = (run(twin.graph, frames).logits[:, 0] / twin.graph.readout.scale).astype(np.float32)
        drop(page, file)
        answer = answered(page, file.name)
        assert answer["logits_per_step"] == np.round(logits.astype(float), 6).tolist()
        assert answer["label"] == twin.header.class_names[logits.sum(0).argmax()] == file.stem
        assert answer["fit"]["fits"]
        assert page.inner_text("#said").startswith(f"{file.name}: {file.stem}, ")


def test_wrong_files_are_refused_in_one_line(open_page: Callable[..., Any]) -> None:
    page, content = open_page(), EXAMPLE.read_bytes()
    files = {
        "picture.png": (b"\x89PNG" + bytes(50), "is a PNG picture; this page reads ATIS .bin"),
        "empty.bin": (b"", "is empty (0 bytes)"),
        "cut.bin": (content[:-2], "are not a whole number of 5-byte ATIS events: the file is cut or damaged"),
        "<b>walk</b>.aedat4": (b"#!AER-DAT4.0\r\n" + bytes(50), "is a recording of AEDAT 4; this page reads"),
    }
    for name, (held, words) in files.items():
        drop(page, {"name": name, "mimeType": "application/octet-stream", "buffer": held})
        page.wait_for_function(
            "name => document.querySelector('[role=alert] p')?.textContent.startsWith(name)", arg=f"{name}: "
        )
        said = page.inner_text("[role=alert] p")
        assert words in said
        assert "\n" not in said
    drop(page, EXAMPLE)
    assert answered(page, EXAMPLE.name)["label"] == "3"


@pytest.mark.parametrize(
    ("attempt", "directive"),
    [
        ("fetch('https://a.org').catch(() => {})", "connect-src"),
        ("new Image().src = 'https://a.org/a.png'", "img-src"),
        ("add('script', { text: 'alert(1)' })", "script-src-elem"),
        ("add('iframe', { src: 'https://a.org' })", "frame-src"),
        ("add('form', { action: 'https://a.org' }).submit()", "form-action"),
    ],
)
def test_its_policy_forbids_every_request(browser: Any, page_file: Path, attempt: str, directive: str) -> None:
    page = browser.new_page()
    page.goto(page_file.as_uri())
    forbidden = f"""() => new Promise((done) => {{
        addEventListener("securitypolicyviolation", (event) => done(event.effectiveDirective));
        const add = (tag, facts) => document.body.appendChild(Object.assign(document.createElement(tag), facts));
        {attempt};
    }})"""
    assert page.evaluate(forbidden) == directive
    page.close()


def test_a_file_is_dropped_anywhere(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.evaluate(
        """bytes => {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([new Uint8Array(bytes)], "3.bin"));
            const events = ["dragover", "drop"].map((kind) => new DragEvent(kind, { bubbles: true, dataTransfer }));
            for (const event of events) document.body.dispatchEvent(event);
        }""",
        list(EXAMPLE.read_bytes()),
    )
    assert answered(page, "3.bin")["label"] == "3"


def test_it_is_used_by_the_keyboard_and_plays(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.get_by_role("button", name="7", exact=True).focus()
    page.keyboard.press("Enter")
    assert answered(page, "7.bin")["label"] == "7"
    slider, picture = page.get_by_label("Time", exact=True), "document.querySelector('#view canvas').toDataURL()"
    whole = page.evaluate(picture)
    slider.focus()
    for _ in range(30):
        page.keyboard.press("ArrowLeft")
    assert page.inner_text("#view output").startswith("0.0 to 15")
    assert page.evaluate("document.querySelectorAll('.evidence tr:first-child .later').length") == 2
    assert page.evaluate(picture) != whole
    page.keyboard.press("Tab")
    page.keyboard.press("Space")  # no longer all events so far
    assert page.inner_text("#view output").startswith("14")
    page.get_by_role("button", name="Play").press("Enter")
    page.wait_for_function("() => document.querySelector('#view input[type=range]').value > 32")
    page.get_by_role("button", name="Pause").press("Enter")
    page.evaluate("() => document.activeElement.blur()")
    reached = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("() => (({ id, textContent, type }) => id || textContent || type)(document.activeElement)")
        )
    assert {"file", "0", "9", "camera", "invert", "range", "Numbers, as JSON"} <= reached


def test_the_webcam_is_answered_live(open_page: Callable[..., Any]) -> None:
    page = open_page(permissions=["camera"])
    page.get_by_role("button", name="Start the webcam").click()
    page.wait_for_function("() => Number(document.getElementById('rate')?.dataset.frames) >= 5")
    assert page.inner_text("#view .file") == "webcam"
    assert page.inner_text("#view .warn").startswith("This recording is unlike the training recordings")
    assert page.evaluate("document.querySelectorAll('#view canvas').length") == 2
    before = page.evaluate("document.querySelectorAll('#view canvas')[0].toDataURL()")
    page.get_by_label("The strokes are lighter").check()
    page.wait_for_function("was => document.querySelectorAll('#view canvas')[0].toDataURL() !== was", arg=before)
    page.get_by_label("the scene before the camera").check()
    page.wait_for_selector("#view :text('The camera sees')")
    page.get_by_role("button", name="Stop the webcam").click()
    frozen = page.inner_text("#rate")
    page.wait_for_timeout(300)
    assert page.inner_text("#rate") == frozen
    page.get_by_role("button", name="3", exact=True).click()
    assert answered(page, "3.bin")["label"] == "3"


def test_a_digit_on_paper_is_answered(launch: Callable[..., Any], page_file: Path, tmp_path: Path) -> None:
    """A handwritten digit, grey on a grey wall with noise, as a webcam of 320 x 240 pixels sees it."""
    digit = pytest.importorskip("sklearn.datasets").load_digits().images[-1] / 16  # an 8
    ink = zoom(digit, (18, 21), order=3, mode="grid-constant", grid_mode=True).clip(0, 1)
    picture = 190 + np.random.default_rng(0).normal(0, 3, (240, 320))
    picture[(240 - ink.shape[0]) // 2 :, (320 - ink.shape[1]) // 2 :][: ink.shape[0], : ink.shape[1]] -= 120 * ink
    luma, chroma = np.clip(picture, 16, 235).astype(np.uint8).tobytes(), bytes([128]) * (160 * 120 * 2)
    file = tmp_path / "digit.y4m"
    file.write_bytes(b"YUV4MPEG2 W320 H240 F30:1 Ip A1:1 C420mpeg2\n" + 20 * (b"FRAME\n" + luma + chroma))
    chromium = launch(f"--use-file-for-fake-video-capture={file}")
    page = chromium.new_page()
    page.goto(page_file.as_uri())
    page.get_by_role("button", name="Start the webcam").click()
    page.wait_for_function("() => document.querySelector('#view .label')?.textContent.startsWith('8 ')")
    assert "This recording fits" in page.inner_text("#view")
    chromium.close()


def test_without_a_webcam_it_says_so(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotAllowedError')); }"
    )
    page.get_by_role("button", name="Start the webcam").click()
    page.wait_for_selector("[role=alert]:has-text('webcam: the webcam was not allowed')")


@pytest.mark.parametrize(
    ("name", "width", "scheme"),
    [("light", 1600, "light"), ("dark", 1600, "dark"), ("middle", 1000, "light"), ("narrow", 400, "dark")],
)
def test_it_fits_and_follows_the_system(open_page: Callable[..., Any], name: str, width: int, scheme: str) -> None:
    page = open_page(width, scheme)
    page.get_by_role("button", name="3", exact=True).click()
    answered(page, "3.bin")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    wide = "() => [...document.querySelectorAll('td, p')].filter((one) => one.scrollWidth > one.clientWidth + 1).length"
    assert page.evaluate(wide) == 1  # the text for screen readers, which has one pixel
    ground = page.evaluate("getComputedStyle(document.querySelector('.card')).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    if os.environ.get("NEUROMOCO_SCREENSHOTS") and name == "light":
        page.screenshot(path=Path(__file__).parents[3] / "docs" / "pictures" / "html.png", full_page=True)


def test_long_names_fit_a_telephone(open_page: Callable[..., Any], page_file: Path, tmp_path: Path) -> None:
    page = open_page(400)
    data = json.loads(page.text_content("#data"))
    names = [f"class_{number}_with_a_name_that_goes_on_and_on_<b>" for number in range(10)]
    file = tmp_path / "long.html"
    file.write_text(
        build_page("runs_of_the_whole_team_fine_tuned_best", data | {"class_names": names, "source": names[0]})
    )
    other = page.context.new_page()
    other.goto(file.as_uri())
    other.get_by_role("button", name="3", exact=True).click()
    other.wait_for_selector(".label")
    assert other.inner_text(".label").startswith(names[3])
    assert other.evaluate("document.documentElement.scrollWidth") == 400


def contrast(first: str, second: str) -> float:
    """The ratio of two colours' luminances (WCAG 2)."""

    def luminance(colour: str) -> float:
        channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted([luminance(first), luminance(second)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read(open_page: Callable[..., Any], scheme: str) -> None:
    page = open_page(scheme=scheme)
    names = ("paper", "ground", "ink", "quiet", "accent", "on-accent", "bad")
    colours = {n: page.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('--{n}')") for n in names}
    pairs = [(text, under) for under in ("paper", "ground") for text in ("ink", "quiet", "accent", "bad")]
    for text, under in [*pairs, ("on-accent", "accent")]:
        assert contrast(colours[text], colours[under]) >= 4.5, (text, under)
