"""8-bit synapses: what is quantised, what it costs, and that a bad result is never written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from neuromoco.datasets import list_data
from neuromoco.datasets.keys import files_digest
from neuromoco.errors import ConfigError, ParityError
from neuromoco.events import read_recording, write_atis
from neuromoco.events.recording import Recording
from neuromoco.export.check import accuracy_loss
from neuromoco.export.exporter import ExportJob
from neuromoco.export.targets import export
from neuromoco.export.to_onnx import int8
from neuromoco.export.to_onnx.int8_check import int8_summary
from neuromoco.models import example_paths, model_path
from neuromoco.runtime.checkpoint_file import TrainedClassifier
from neuromoco.runtime.load import OnnxClassifier
from neuromoco.support.files import read_json, write_json

SOURCE = model_path(suffix=".safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four variations of every bundled recording, some events left out, in class folders."""
    root = tmp_path_factory.mktemp("digits")
    for path in example_paths():
        whole = read_recording(path)
        for seed in range(4):
            kept = np.sort(np.random.default_rng(seed).permutation(len(whole))[: int(0.9 * len(whole))])
            t, x, y, p = (getattr(whole, name)[kept] for name in "txyp")
            part = Recording.from_columns(t, x, y, p, width=34, height=34)
            write_atis(root / path.stem / f"{seed}.bin", part)
    return root


@pytest.fixture(scope="module")
def exported(folder: Path) -> Path:
    """The bundled model in 8 bits."""
    out = folder.with_name("int8") / "m.onnx"
    export(SOURCE, out, quantize="int8", data=folder, recordings=[])
    return out


def test_figures_are_those_of_both_files(exported: Path, folder: Path) -> None:
    figures = json.loads(exported.with_name("m.report.json").read_text())["int8"]
    _, judged, _ = accuracy_loss.split_samples(folder, [str(i) for i in range(10)])
    recordings = [read_recording(path) for path in judged.paths]
    floats, bytes_ = (OnnxClassifier(path) for path in (model_path(), exported))
    assert bytes_.header.precision == "int8"
    wanted, found = ([p.label for p in c.predict(recordings)] for c in (floats, bytes_))
    truth = [path.parent.name for path in judged.paths]
    assert figures["recordings"] == len(recordings) == 20
    assert figures["agreement"] == np.mean(np.equal(wanted, found))
    assert figures["accuracy"] == {
        "float32": np.mean(np.equal(wanted, truth)),
        "int8": np.mean(np.equal(found, truth)),
    }
    assert figures["accuracy"]["int8"] > 0.8
    assert figures["problem"] is None
    assert all(0 <= layer["differ"] < 0.3 and layer["rate_int8"] > 0 for layer in figures["layers"])
    assert any(layer["differ"] > 0 for layer in figures["layers"])
    assert figures["bytes"]["int8"] < 0.5 * figures["bytes"]["float32"]


def test_calibration_and_judgement_share_no_recording(folder: Path) -> None:
    calibration, judged, source = accuracy_loss.split_samples(folder, [str(i) for i in range(10)])
    assert source == "unknown"
    assert not set(calibration.paths) & set(judged.paths)
    assert len(calibration.paths) + len(judged.paths) == 40
    assert [path.parent.name for path in judged.paths] == [str(label) for label in judged.labels]


def in_a_run(folder: Path, place: Path, held_out: int) -> Path:
    """The bundled model as if a run had trained it on a folder, of whose classes the first recordings are held out."""
    names = [f"{path.parent.name}/{path.name}" for path in sorted(folder.glob("*/*"))]
    validation = [name for name in names if int(Path(name).stem) < held_out]
    split = {"data": str(folder), "train": [n for n in names if n not in validation], "validation": validation}
    (place / "weights").mkdir(parents=True)
    (place / "split.json").write_text(json.dumps(split))
    return Path(shutil.copy(SOURCE, place / "weights/best.safetensors"))


def test_the_validation_part_of_its_run_judges_and_the_training_part_calibrates(folder: Path, tmp_path: Path) -> None:
    source = in_a_run(folder, tmp_path / "run", held_out=1)
    report = export(source, tmp_path / "m.onnx", quantize="int8", data=folder, recordings=[])["int8"]
    assert (report["judged_on"], report["recordings"], report["calibrated_on"]) == ("validation", 10, 30)
    assert "the validation part of its run" in int8_summary(report)
    loihi = export(source, tmp_path / "m.loihi", target="loihi", data=folder)
    assert (loihi["judged_on"], loihi["compared"]["recordings"], loihi["calibrated_on"]) == ("validation", 10, 30)
    assert "the validation part of its run" in (tmp_path / "m.loihi/report.md").read_text()


@pytest.mark.parametrize(("held_out", "elsewhere", "source"), [(0, False, "training"), (1, True, "others")])
def test_what_the_figures_come_from_is_said(
    folder: Path, tmp_path: Path, held_out: int, elsewhere: bool, source: str
) -> None:
    weights = in_a_run(folder, tmp_path / "run", held_out)
    if elsewhere:
        folder = Path(shutil.copytree(folder, tmp_path / "other"))
        (folder / "0/0.bin").rename(folder / "0/9.bin")
    report = export(weights, tmp_path / "m.onnx", quantize="int8", data=folder, recordings=[])["int8"]
    assert report["judged_on"] == source
    assert accuracy_loss.JUDGED_ON[source] in int8_summary(report)


def test_copies_under_other_names_are_no_other_recordings(folder: Path, tmp_path: Path) -> None:
    weights = in_a_run(folder, tmp_path / "run", held_out=1)
    split = read_json(tmp_path / "run/split.json")
    write_json(tmp_path / "run/split.json", split | {"files_sha256": files_digest(list_data(str(folder), "train"))})
    copy = Path(shutil.copytree(folder, tmp_path / "other"))
    for path in sorted(copy.glob("*/*.bin")):
        path.rename(path.with_name(f"renamed-{path.name}"))
    job = ExportJob(weights, TrainedClassifier(weights, "cpu"), "onnx")
    assert accuracy_loss.split_samples(copy, [str(i) for i in range(10)], job).source == "copy"
    (copy / "0/renamed-0.bin").unlink()
    assert accuracy_loss.split_samples(copy, [str(i) for i in range(10)], job).source == "others"


def test_a_run_knows_its_folder_by_any_path(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = in_a_run(folder, tmp_path / "run", held_out=1)
    monkeypatch.chdir(folder.parent)
    job = ExportJob(weights, TrainedClassifier(weights, "cpu"), "onnx")
    halves = accuracy_loss.split_samples(Path(folder.name), [str(i) for i in range(10)], job)
    assert (halves.source, len(halves.judged.parts)) == ("validation", 10)


def test_synapses_are_8_bit_and_neurons_stay_as_they_are(exported: Path) -> None:
    model, floats = onnx.load(exported), onnx.load(model_path())
    onnx.checker.check_model(model, full_check=True)
    stored = {value.name: value for value in model.graph.initializer}
    synapses = [value.name for value in floats.graph.initializer if value.name.endswith(".weight")]
    assert synapses
    for name in synapses:
        assert name not in stored
        assert stored[f"{name}_quantized"].data_type == onnx.TensorProto.INT8
    count = lambda m, kind: sum(node.op_type == kind for node in m.graph.node)  # noqa: E731
    for kind in ("HardSigmoid", "ThresholdedRelu", "Clip"):
        assert count(model, kind) == count(floats, kind) > 0


def test_spikes_are_pooled_in_float32(exported: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime pools bytes far slower; what keeps it from that changes no logit."""
    model = onnx.load(exported)
    users = {name: node for node in model.graph.node for name in node.input}
    pools = [node for node in model.graph.node if node.op_type == "MaxPool"]
    assert pools
    assert {users[node.output[0]].op_type for node in pools} == {"Ceil"}
    monkeypatch.setattr(int8, "_pool_in_float", lambda model: None)
    export(SOURCE, exported.with_name("bytes.onnx"), quantize="int8", data=folder, recordings=[])
    recordings = [read_recording(path) for path in example_paths()]
    one, other = (OnnxClassifier(exported.with_name(name)) for name in (exported.name, "bytes.onnx"))
    assert [answer.probabilities for answer in one.predict(recordings)] == [
        answer.probabilities for answer in other.predict(recordings)
    ]


def test_a_file_that_takes_events_answers_as_the_one_that_takes_frames(exported: Path, folder: Path) -> None:
    out = exported.with_name("events.onnx")
    export(SOURCE, out, quantize="int8", input="events", data=folder, recordings=[])
    recordings = [read_recording(path) for path in example_paths()]
    by_events, by_frames = (OnnxClassifier(path).network.logits(recordings) for path in (out, exported))
    assert by_events == pytest.approx(by_frames, abs=1e-5)


@pytest.mark.parametrize(("limit", "value"), [("LARGEST_LOSS", -1.0), ("LEAST_AGREEMENT", 1.1)])
def test_a_result_below_the_limits_is_not_written(
    limit: str, value: float, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accuracy_loss, limit, value)
    out = tmp_path / "m.onnx"
    with pytest.raises(ParityError, match=r"not written: int8: .* keep float32; see .*m.report.json") as error:
        export(SOURCE, out, quantize="int8", data=folder, recordings=[])
    assert error.value.exit_code == 7
    assert [path.name for path in tmp_path.iterdir()] == ["m.report.json"]


def test_recordings_are_needed_and_enough_of_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give them with --data FOLDER"):
        export(SOURCE, tmp_path / "m.onnx", quantize="int8", recordings=[])
    write_atis(tmp_path / "few/0.bin", read_recording(example_paths()[0]))
    with pytest.raises(ConfigError, match="1 recordings; 8 bits need at least 4"):
        export(SOURCE, tmp_path / "m.onnx", quantize="int8", data=tmp_path / "few", recordings=[])
    assert not (tmp_path / "m.onnx").exists()
