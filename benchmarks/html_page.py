"""The HTML page in Chromium: its answers compared with the integer twin, and how long everything takes.

    python -m benchmarks.html_page --data N-MNIST/Train

Recordings are chosen evenly among all in the folder. Each is given to the page as a visitor gives it, and its logits
compared with those of the twin in numpy, number by number. Times: from opening the page until it takes files; from a
file to its answer on the page; frames of Chromium's own webcam answered in a second, each picture moved in saccades.
"""

from __future__ import annotations

import argparse
import base64
import json
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neuromoco import models, read_recording
from neuromoco.export.to_html.export import page_data
from neuromoco.export.to_html.page import build_page
from neuromoco.frames import batch_frames
from neuromoco.runtime.loihi.folder import TwinNetwork
from neuromoco.runtime.loihi.twin import run
from neuromoco.runtime.spiking.network import pack_network
from neuromoco.support.files import files_in
from neuromoco.support.sampling import evenly_spaced

FLAGS = ("--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream=fps=60", "--use-fake-ui-for-media-stream")
READY = "() => document.documentElement.dataset.ready && performance.now()"
ANSWERED = "name => document.querySelector('#view .file')?.textContent === name"
# From the moment at which the page has the file until its answer is drawn.
TIMED = """file => new Promise((done) => {
    const data = new DataTransfer(), begin = performance.now();
    data.items.add(new File([Uint8Array.from(atob(file.content), (c) => c.charCodeAt(0))], file.name));
    const answered = new MutationObserver(() => done(performance.now() - begin));
    answered.observe(document.getElementById("view"), { childList: true });
    document.body.dispatchEvent(new DragEvent("drop", { bubbles: true, dataTransfer: data }));
})"""
OPENED, WEBCAM_S = 10, 5


def write_page(twin: TwinNetwork, folder: Path) -> Path:
    """The page of an integer network."""
    network = pack_network(twin.graph, twin.header.frames, twin.header.seen.sensor).content
    file = folder / "page.html"
    page = build_page("page", page_data(twin.header, network, float(twin.graph.readout.scale)))
    file.write_text(page, encoding="utf-8")
    return file


def measure(page: Any, files: Sequence[Path], twin: TwinNetwork) -> dict[str, Any]:
    """Answers of an open page compared with the twin's; milliseconds from file to answer."""
    wrong, times, computing = [], [], []
    for file in files:
        frames = batch_frames([read_recording(file)], twin.header.frames)
        logits = (run(twin.graph, frames).logits[:, 0] / twin.graph.readout.scale).astype(np.float32)
        content = base64.b64encode(file.read_bytes()).decode()
        times.append(page.evaluate(TIMED, {"name": file.name, "content": content}))
        page.wait_for_function(ANSWERED, arg=file.name)
        answer = json.loads(page.text_content("#json"))
        computing.append(sum(answer["milliseconds"].values()))
        same = answer["logits_per_step"] == np.round(logits.astype(float), 6).tolist()
        if not same or answer["label"] != twin.header.class_names[logits.sum(0).argmax()]:
            wrong.append(file.name)
    return {"files": len(files), "differ": wrong, "ms": times, "computing_ms": computing}


def webcam_frames(page: Any) -> list[int]:
    """Frames answered in each of some seconds, each picture moved in saccades."""
    page.locator("input[value=picture]").check()
    page.get_by_role("button", name="Start the webcam").click()
    page.wait_for_selector("#rate")
    counts = []
    for _ in range(WEBCAM_S):
        page.wait_for_timeout(1000)
        counts.append(int(page.evaluate("() => document.getElementById('rate').dataset.frames")))
    return counts[1:]


def spread(values: Sequence[float]) -> str:
    """Median and largest of some milliseconds."""
    return f"median {statistics.median(values):.1f} ms, largest {max(values):.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder of recordings like those of the network")
    parser.add_argument("--recordings", type=int, default=100)
    parser.add_argument("--model", type=Path, default=models.model_path(suffix=".loihi"), help="a Loihi export")
    given = parser.parse_args()
    files, twin = evenly_spaced(files_in([given.data]), given.recordings), TwinNetwork(given.model)
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        file, ready = write_page(twin, Path(folder)), []
        for _ in range(OPENED):
            page = browser.new_page()
            page.goto(file.as_uri())
            ready.append(page.wait_for_function(READY).json_value())
            page.close()
        page = browser.new_page()
        page.goto(file.as_uri())
        page.wait_for_function(READY)
        found = measure(page, files, twin)
        frames = webcam_frames(page)
        print(f"Chromium {browser.version}; page of {file.stat().st_size:,} bytes")
        browser.close()
    print(f"ready: {spread(ready)} ({OPENED} times opened)")
    same = found["files"] - len(found["differ"])
    print(f"{same} of {found['files']} recordings answered as by the twin, logit by logit")
    print(f"from file to answer: first {found['ms'][0]:.1f} ms, {spread(found['ms'])}")
    print(f"of which computed: {spread(found['computing_ms'])}")
    print(f"webcam frames answered in a second: {min(frames)} to {max(frames)}")
    if found["differ"]:
        raise SystemExit(f"differ: {', '.join(found['differ'])}")


if __name__ == "__main__":
    main()
