"""What the page and its JSON say of a recording that does not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from neuromoco import models
from neuromoco.app.page.views import result_view
from neuromoco.app.worker.analysis import Analyser, AnalysisRequest, offered_models
from neuromoco.events import read_recording, write_npz


def test_the_label_of_what_does_not_fit_is_grey_and_says_why(tmp_path: Path) -> None:
    digit = models.example_paths()[3]
    recording = read_recording(digit)
    fast = tmp_path / "fast.npz"
    write_npz(fast, replace(recording, t=recording.t // 10))
    analyser, (model, *_) = Analyser(), offered_models()
    for file, fits in ((digit, True), (fast, False)):
        request = AnalysisRequest(file, file.name, model, compare=True, pictures=True)
        analysis = analyser.analyse(request)
        page, answer = result_view(request, analysis), analysis.to_json()
        assert answer["fit"]["fits"] is fits
        assert {one.fit for one in analysis.predictions.values()} == {analysis.predictions["onnx"].fit}
        assert ("nm-unlike" in page) is not fits
        assert ("This recording is unlike the training recordings" in page) is not fits
        assert ('class="nm-note nm-agree"' in page) is fits
        assert all(reason in page for reason in answer["fit"]["reasons"])
    assert answer["fit"]["reasons"][0].startswith("lasts 30")
