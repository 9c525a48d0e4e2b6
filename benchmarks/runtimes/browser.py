"""onnxruntime-web on WebGPU in the system's Chromium, headless: python browser.py PACKAGES FOLDER, as `runners`.

Without a graphics card, Chromium's SwiftShader computes WebGPU on the CPU.
"""

from __future__ import annotations

import functools
import http.server
import json
import sys
import threading
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

GPU = ["--no-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"]
PAGE = """async () => {
  const ort = await import("/packages/onnxruntime-web/dist/ort.webgpu.bundle.min.mjs");
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = "/packages/onnxruntime-web/dist/";
  const { answers } = await import("/here/answers.mjs");
  const found = await answers(ort, "webgpu", async (name) => (await fetch(`/files/${name}`)).arrayBuffer());
  return { found, version: ort.env.versions.web };
}"""


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves three folders, silently."""

    folders: dict[str, Path]

    def translate_path(self, path: str) -> str:
        """A file of one of the folders."""
        _, folder, rest = path.split("/", 2)
        return str(self.folders[folder] / rest)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def main(folder: Path, packages: Path) -> dict[str, str]:
    """Runs all recordings; what is printed."""
    Handler.folders = {"files": folder, "packages": packages / "node_modules", "here": Path(__file__).parent}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path="/usr/bin/chromium", args=[*GPU, "--use-vulkan=swiftshader"])
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/files/inputs.json")
        answer = page.evaluate(PAGE)
        number = browser.version
        browser.close()
    np.array(answer["found"], np.float32).tofile(folder / "logits.bin")
    return {"version": f"onnxruntime-web {answer['version']}, Chromium {number} (SwiftShader)"}


if __name__ == "__main__":
    try:
        told = main(Path(sys.argv[2]), Path(sys.argv[1]))
    except Exception as error:  # of the browser or the page
        told = {"problem": " ".join(str(error).split())}
    print(json.dumps(told))
