"""The commands export, predict, models, bench and info on exported files, as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neuromoco import models
from neuromoco.checkpoint import read_header, save_checkpoint
from neuromoco.encoders import build_encoder
from neuromoco.export.check import parity
from neuromoco.export.to_onnx import export as onnx_export
from neuromoco.runtime.onnx_file import OnnxNetwork
from tests.helpers.cli import error_line, run

SOURCE = models.model_path(suffix=".safetensors")
EXAMPLES = models.example_paths()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_export_writes_a_file_and_its_report(tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    result = run("export", SOURCE, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert names(tmp_path) == ["m.onnx", "m.report.json"]
    report = json.loads((tmp_path / "m.report.json").read_text())
    assert f"{report['nodes']} operators of opset 18" in result.stdout
    assert "compared with torch on 10 recordings and 4 of noise" in result.stdout
    assert report["bytes"] == out.stat().st_size
    assert report["parity"]["largest_error"] < 1e-4
    assert report["parity"]["problem"] is None
    assert OnnxNetwork(out).header.source_sha256 == report["source_sha256"]
    again = run("export", SOURCE, "--out", out, "--json", "--quiet")
    assert json.loads(again.stdout)["parity"] == report["parity"]


def test_every_target_answers_the_examples(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(SOURCE.read_bytes())
    for words in (["--target", "onnx-step"], ["--input", "events"], []):
        assert run("export", tmp_path / "m.safetensors", *words).exit_code == 0
    exported = [name for name in names(tmp_path) if name.endswith(".onnx")]
    assert exported == ["m-events.onnx", "m-step.onnx", "m.onnx"]
    for name in exported:
        result = run("predict", "--model", tmp_path / name, "--json", *EXAMPLES)
        assert [json.loads(line)["label"] for line in result.stdout.splitlines()] == [p.stem for p in EXAMPLES]
    stopped = run("predict", "--model", tmp_path / "m-step.onnx", "--stop-at", 0.5, "--json", EXAMPLES[3])
    assert len(json.loads(stopped.stdout)["logits_per_step"]) < 4


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["export", "nothing.safetensors"], 4, "nothing.safetensors: does not exist"),
        (["export", EXAMPLES[0]], 4, "is no safetensors file"),
        (["export", models.model_path()], 4, "is no safetensors file"),
        (
            ["export", SOURCE, "--out", "x.onnx", "--target", "onnx-step", "--input", "events"],
            2,
            "--target onnx-step; omit it",
        ),
        (["export", SOURCE, "--out", "x.onnx", "--quantize", "int8"], 2, "give them with --data FOLDER"),
        (["export", SOURCE, "--out", SOURCE], 2, "is the checkpoint itself; --out names a new .onnx file"),
        (["export", SOURCE, "--out", "."], 2, ".: is a folder; --out names a new .onnx file"),
        (["export", SOURCE, "--out", "x.onnx", "--data", "nowhere"], 3, "nowhere: does not exist"),
        (["predict", EXAMPLES[0], "--stop-at", "0.9"], 2, "neuromoco export --target onnx-step"),
        (["predict", EXAMPLES[0], "--model", EXAMPLES[0]], 4, "is no ONNX file"),
        (["evaluate", models.model_path(), "--data", "nowhere"], 2, "nowhere: does not exist"),
        (["bench", "nothing.bin"], 3, "nothing.bin: does not exist"),
        (["info", "nothing.onnx"], 4, "nothing.onnx: does not exist"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    words: list[object], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*words)
    assert message in error_line(result)
    assert result.exit_code == code
    assert names(tmp_path) == []


def test_an_encoder_without_classes_is_not_exported(tmp_path: Path) -> None:
    header = read_header(SOURCE).model_copy(update={"kind": "encoder", "class_names": ()})
    save_checkpoint(tmp_path / "e.safetensors", build_encoder(header.encoder), header)
    result = run("export", tmp_path / "e.safetensors")
    assert result.exit_code == 4
    assert "fine-tune it first" in error_line(result)
    assert names(tmp_path) == ["e.safetensors"]


def test_a_failed_comparison_leaves_the_file_before_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.onnx").write_text("older")
    monkeypatch.setattr(parity, "TOLERANCE", -1.0)
    result = run("export", SOURCE, "--out", tmp_path / "m.onnx")
    assert result.exit_code == 7
    assert "not written: logits differ by" in error_line(result)
    assert (tmp_path / "m.onnx").read_text() == "older"
    assert json.loads((tmp_path / "m.report.json").read_text())["parity"]["problem"]
    assert names(tmp_path) == ["m.onnx", "m.report.json"]


def test_an_interrupted_export_leaves_nothing_half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(onnx_export, "measure_parity", interrupt)
    assert run("export", SOURCE, "--out", tmp_path / "m.onnx").exit_code == 130
    assert names(tmp_path) == []


def test_check_finds_nothing_to_refuse_in_our_encoders(tmp_path: Path) -> None:
    result = run("export", SOURCE, "--check")
    assert result.exit_code == 0
    assert "every layer can be exported" in result.stdout
    assert json.loads(run("export", SOURCE, "--check", "--json").stdout) == []


def test_check_names_every_refused_layer_and_exits_with_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    from neuromoco.graph import rules

    known = {kind: rule for kind, rule in rules.LAYERS.items() if "MaxPool2d" not in kind.__name__}
    monkeypatch.setattr(rules, "LAYERS", known)
    result = run("export", SOURCE, "--check")
    assert result.exit_code == 6
    assert "stem.3: spikingjelly MaxPool2d: known are" in error_line(result)


def test_predict_without_a_model_says_which_it_takes() -> None:
    result = run("predict", *EXAMPLES)
    assert models.DEFAULT in result.stderr
    assert [line.split(": ")[1][0] for line in result.stdout.splitlines()] == [path.stem for path in EXAMPLES]


def test_predict_takes_folders_and_several_processes(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/3.bin").write_bytes(EXAMPLES[3].read_bytes())
    (tmp_path / "deep/.hidden").write_bytes(b"")
    (tmp_path / "bad.bin").write_bytes(b"")
    for jobs in (1, 2):
        result = run("predict", "--jobs", jobs, tmp_path, EXAMPLES[5])
        assert result.exit_code == 3
        assert [line.split(": ")[1][0] for line in result.stdout.splitlines()] == ["3", "5"]
        assert error_line(result) == f"neuromoco: {tmp_path}/bad.bin: is empty (0 bytes)"


def test_models_lists_what_comes_along() -> None:
    (row, *_) = json.loads(run("models", "--json").stdout)
    assert row["name"] == models.DEFAULT
    assert Path(row["file"]).is_file()
    assert "sew_resnet_tiny-digits: classifier, sew_resnet_tiny, 4 steps of 34 x 34" in run("models").stdout


def test_info_of_an_exported_file() -> None:
    facts = json.loads(run("info", "--json", models.model_path()).stdout)
    assert (facts["target"], facts["input"], facts["precision"]) == ("onnx", "frames", "float32")
    assert facts["class_names"] == [str(digit) for digit in range(10)]
    assert facts["trained_on"]["sensor"] == [34, 34]


def test_bench_measures_every_stage() -> None:
    result = json.loads(run("bench", "--runs", 2, "--json", EXAMPLES[0]).stdout)
    assert result["milliseconds"].keys() == {"read", "frames", "network", "fit", "in all"}
    for figures in result["milliseconds"].values():
        assert 0 < figures["median"] <= figures["p95"]
    assert "network" in run("bench", "--runs", 1, EXAMPLES[0]).stdout


def test_evaluate_takes_exported_files(tmp_path: Path) -> None:
    for path in EXAMPLES[:3]:
        (tmp_path / "data" / path.stem).mkdir(parents=True)
        (tmp_path / "data" / path.stem / "a.bin").write_bytes(path.read_bytes())
    by_onnx, by_torch = (
        json.loads(run("evaluate", model, "--data", tmp_path / "data", "--json").stdout)
        for model in (models.model_path(), SOURCE)
    )
    for key in ("calibration_error", "calibration_error_without_temperature"):
        onnx, torch = by_onnx.pop(key), by_torch.pop(key)
        assert onnx.pop("interval_95") == pytest.approx(torch.pop("interval_95"), abs=1e-5)
        assert onnx == pytest.approx(torch, abs=1e-5)
    assert by_onnx == by_torch
    assert by_onnx["accuracy"] == 1.0
