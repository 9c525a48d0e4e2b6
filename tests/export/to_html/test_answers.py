"""The page's answers, in node, compared with the integer twin in numpy and the package's verdict and camera."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuromoco import Recording, models, read_recording
from neuromoco.config import FrameConfig
from neuromoco.events import write_npz
from neuromoco.export.to_html.export import page_data
from neuromoco.export.to_html.page import SOURCE
from neuromoco.frames import recording_frames
from neuromoco.runtime.header import ExportHeader
from neuromoco.runtime.loihi.blocks import LoihiGraph
from neuromoco.runtime.loihi.folder import TwinNetwork
from neuromoco.runtime.loihi.twin import run
from neuromoco.runtime.prediction import Prediction
from neuromoco.runtime.spiking.network import pack_network
from neuromoco.simulate import Saccades, SensorConfig, record
from neuromoco.simulate.camera import threshold_crossings

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def twin() -> TwinNetwork:
    pytest.importorskip("h5py")
    return TwinNetwork(models.model_path(suffix=".loihi"))


def in_node(script: str, given: dict[str, Any]) -> Any:
    command = ["node", HERE / script, SOURCE]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def answers(graph: LoihiGraph, header: ExportHeader, files: Sequence[Path], windows: bool = False) -> Any:
    network = pack_network(graph, header.frames, header.seen.sensor).content
    data = page_data(header, network, float(graph.readout.scale))
    return in_node("answer.mjs", {"data": data, "files": list(map(str, files)), "windows": windows})


def expected(twin: TwinNetwork, header: ExportHeader, recording: Recording, windows: bool) -> Prediction:
    frames = recording_frames(recording, header.frames)
    logits = (run(twin.graph, frames[:, None]).logits[:, 0] / twin.graph.readout.scale).astype(np.float32)
    sensor = recording.height, recording.width
    fit = header.fit.judge(frames, recording.duration, sensor, window=windows) if header.fit else None
    return Prediction.from_logits(logits, header.class_names, fit=fit, calibration=header.calibration)


def check(found: dict[str, Any], wanted: Prediction) -> None:
    here = wanted.to_json()
    assert found["label"] == here["label"]
    assert found["logits_per_step"] == here["logits_per_step"]
    assert found["decision_step"] == here["decision_step"]
    assert found["probabilities"] == pytest.approx(here["probabilities"], rel=1e-9)
    np.testing.assert_allclose(np.sort(found["evidence"])[:, ::-1], np.sort(wanted.probabilities_per_step())[:, ::-1])
    assert found["fit"]["fits"] == here["fit"]["fits"]
    assert found["fit"]["score"] == pytest.approx(here["fit"]["score"], rel=1e-4)
    assert found["fit"]["reasons"] == here["fit"]["reasons"]


def wide_recording(seed: int, width: int, height: int, duration: int = 301_000, count: int = 6000) -> Recording:
    """Events around a point that moves, some of them at the same time."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(1000, duration, count))
    x = np.clip(rng.normal(width * (0.3 + 0.4 * t / duration), width / 9), 0, width - 1).astype(int)
    y = np.clip(rng.normal(height / 2, height / 7, count), 0, height - 1).astype(int)
    return Recording.from_columns(t, x, y, rng.integers(0, 2, count), width=width, height=height)


def test_the_bundled_recordings_are_answered_as_by_the_twin(twin: TwinNetwork) -> None:
    files = models.example_paths()
    found = answers(twin.graph, twin.header, files)
    for file, answer in zip(files, found, strict=True):
        check(answer, expected(twin, twin.header, read_recording(file), windows=False))
    assert all(answer["fit"]["fits"] for answer in found)
    assert len({answer["label"] for answer in found}) > 5


@pytest.mark.parametrize(
    ("changes", "windows"),
    [
        ({"slice_by": "time"}, False),
        ({"slice_by": "count", "crop": (5, 9, 20, 11)}, True),
        ({"slice_by": "time", "steps": 3, "crop": (0, 1, 34, 33)}, False),
        ({"slice_by": "time", "steps": 7}, True),
    ],
)
def test_any_frames_and_sensors(twin: TwinNetwork, tmp_path: Path, changes: dict[str, Any], windows: bool) -> None:
    header = twin.header.model_copy(update={"frames": FrameConfig(**changes)})
    recordings = [read_recording(models.example_paths()[7]), read_recording(models.example_paths()[2], stop=90_000)]
    sizes = ((346, 260), (60, 40), (50, 36), (36, 34))
    recordings += [wide_recording(number, *size, 100_000 * (number + 1)) for number, size in enumerate(sizes)]
    files = [tmp_path / f"{number}.npz" for number in range(len(recordings))]
    for file, recording in zip(files, recordings, strict=True):
        write_npz(file, recording)
    reasons = set()
    for answer, recording in zip(answers(twin.graph, header, files, windows), recordings, strict=True):
        if not recording_frames(recording, header.frames).any():
            assert "holds no events in the part" in answer["error"]
            continue
        wanted = expected(twin, header, recording, windows)
        check(answer, wanted)
        assert wanted.fit is not None
        reasons |= set(wanted.fit.reasons)
    assert len(reasons) > 2


def test_parts_that_a_sensor_lacks_or_that_are_empty_are_refused(twin: TwinNetwork, tmp_path: Path) -> None:
    header = twin.header.model_copy(update={"frames": FrameConfig(crop=(40, 0, 20, 34))})
    write_npz(tmp_path / "empty.npz", replace(read_recording(models.example_paths()[0]), width=60))
    found = answers(twin.graph, header, [models.example_paths()[0], tmp_path / "empty.npz"])
    assert "uses the part 40,0,20,34 of a sensor, which one of 34 x 34 pixels does not have" in found[0]["error"]
    assert "holds no events in the part 40,0,20,34" in found[1]["error"]


def test_sums_out_of_range_are_an_error(twin: TwinNetwork) -> None:
    *blocks, readout = twin.graph.blocks
    narrow = LoihiGraph((*blocks, replace(readout, neuron=replace(readout.neuron, v_threshold=1))))
    with pytest.raises(AssertionError, match="logits beyond the network's range"):
        answers(narrow, twin.header, models.example_paths())


QUIET = SensorConfig(mismatch=0.0, noise_hz=0.0)


def picture(seed: int, width: int, height: int) -> np.ndarray:
    """Smooth grey values."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = sum(np.sin((x * a + y * b) / 5 + c) for a, b, c in rng.uniform(-1, 1, (6, 3)))
    shares: np.ndarray = (waves - waves.min()) / np.ptp(waves)
    return shares


def columns_of(found: dict[str, list[int]]) -> np.ndarray:
    """Events [E, 4] in an order that does not depend on ties."""
    table = np.array([found[name] for name in "txyp"]).T
    return table[np.lexsort(table.T[::-1])]


@pytest.mark.parametrize(("width", "height"), [(34, 34), (20, 31)])
def test_the_camera_is_the_simulated_camera(width: int, height: int) -> None:
    image = picture(1, width, height)
    ask = {"picture": image.ravel().tolist(), "width": width, "height": height, "window": 10**6, "frames": []}
    found = in_node("camera.mjs", {**ask, "sensor": asdict(QUIET), "motion": asdict(Saccades())})["saccades"]
    wanted = record(image, sensor=QUIET, width=width, height=height)
    assert len(wanted) > 2500
    assert abs(len(found["t"]) - len(wanted)) <= 2  # logarithms may differ in the last bit
    if len(found["t"]) == len(wanted):
        ours, theirs = columns_of(found), columns_of({name: getattr(wanted, name) for name in "txyp"})
        assert np.mean(np.any(ours != theirs, axis=1)) < 0.002


def test_live_events_are_those_of_the_last_window() -> None:
    times = [0, 33_000, 66_000, 100_000, 133_000, 5_000_000, 5_033_000]
    frames = [picture(number, 20, 20) for number in range(len(times))]
    ask = {"picture": [0.0] * 400, "width": 20, "height": 20, "window": 80_000, "motion": asdict(Saccades())}
    sensor = replace(QUIET, refractory_us=0)
    given = [[frame.ravel().tolist(), time] for frame, time in zip(frames, times, strict=True)]
    live = in_node("camera.mjs", {**ask, "frames": given, "sensor": asdict(sensor)})["live"]
    levels = np.log(np.stack(frames[:5]) + sensor.eps)
    wanted = threshold_crossings(levels, np.array(times[:5]), sensor.threshold_on, sensor.threshold_off)
    inside = wanted.t > 133_000 - 80_000
    theirs = {
        "t": wanted.t[inside],
        "x": wanted.pixel[inside] % 20,
        "y": wanted.pixel[inside] // 20,
        "p": wanted.p[inside],
    }
    np.testing.assert_array_equal(columns_of(live[4]), columns_of(theirs))
    assert live[0]["t"] == live[5]["t"] == []  # a break of seconds is no motion
    assert live[6]["t"]


def test_noise_and_mismatch_are_those_of_the_settings() -> None:
    sensor, flat = replace(SensorConfig(), noise_hz=5.0, noise_on_share=0.8), [0.5] * 1156
    ask = {"picture": flat, "width": 34, "height": 34, "window": 10**9, "motion": asdict(Saccades())}
    frames = [[flat, 33_000 * number] for number in range(60)]
    live = in_node("camera.mjs", {**ask, "frames": frames, "sensor": asdict(sensor)})["live"][-1]
    mean = 5.0 * 1156 * 59 * 0.033
    assert abs(len(live["t"]) - mean) < 5 * mean**0.5
    assert np.mean(live["p"]) == pytest.approx(0.8, abs=0.02)
    assert np.all(np.diff(live["t"]) >= 0)
    shown = {**ask, "picture": picture(3, 34, 34).ravel().tolist(), "frames": []}
    first, again = (in_node("camera.mjs", {**shown, "sensor": asdict(SensorConfig())})["saccades"] for _ in range(2))
    quiet = in_node("camera.mjs", {**shown, "sensor": asdict(QUIET)})["saccades"]
    assert first == again != quiet
    assert len(first["t"]) == pytest.approx(len(quiet["t"]), rel=0.1)
