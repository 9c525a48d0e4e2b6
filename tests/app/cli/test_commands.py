"""The command line as a user meets it: results, one-line errors, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from neuromoco import models
from neuromoco.installation import pip_install
from neuromoco.train.run_folder import RunFolder
from tests.helpers.cli import SMALL, error_line, run

Folders = Callable[[int, int], Path]


def test_predict_answers_files_and_names_those_it_cannot_read(trained: Path, tmp_path: Path) -> None:
    model = trained / "run/weights/best.safetensors"
    good = [trained / f"data/c{label}/3.bin" for label in range(3)]
    whole = good[0].read_bytes()
    bad = {
        "cut.bin": (whole[: len(whole) // 2 + 1], "cut or damaged"),
        "empty.bin": (b"", "is empty (0 bytes)"),
        "picture.bin": (b"\x89PNG\r\n\x1a\n" + bytes(50), "is a PNG picture"),
    }
    for name, (content, _) in bad.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder").mkdir()
    empty = tmp_path / "folder"
    result = run("predict", "--model", model, good[0], *(tmp_path / name for name in bad), empty, "nothing", *good[1:])
    assert result.exit_code == 3
    answers = dict(line.split(": ", 1) for line in result.stdout.splitlines())
    assert answers.keys() == {str(file) for file in good}
    assert [answers[str(file)].split()[0] for file in good] == ["c0", "c1", "c2"]
    complaints = result.stderr.splitlines()
    assert len(complaints) == 5
    for line, (name, (_, words)) in zip(complaints, bad.items(), strict=False):
        assert line.startswith(f"neuromoco: {tmp_path / name}: ")
        assert words in line
    assert complaints[3] == f"neuromoco: {empty}: is an empty folder"
    assert complaints[4] == "neuromoco: nothing: does not exist"


@pytest.mark.parametrize("suffix", models.SUFFIXES.values())
def test_predict_says_that_a_file_is_a_model(suffix: str, tmp_path: Path) -> None:
    model = models.model_path(suffix=suffix)
    result = run("predict", model, "--quiet")
    assert result.exit_code == 3
    told = result.stderr.splitlines()
    assert len(told) == (3 if model.is_dir() else 1)
    assert all(
        f"{model.name}" in line and line.endswith(f": is a model: give it with --model {model}") for line in told
    )
    (tmp_path / "cut.bin").write_bytes(b"")
    (tmp_path / "manifest.json").write_text("{}")  # of a set of recordings
    assert "is a model" not in run("predict", tmp_path, tmp_path / f"none{suffix}").stderr


def test_predict_says_why_a_recording_does_not_fit(trained: Path, tmp_path: Path) -> None:
    model, file = trained / "run/weights/best.safetensors", trained / "data/c0/3.bin"
    half = tmp_path / "half.bin"
    half.write_bytes(file.read_bytes()[: 5 * 300])
    assert "unlike" not in run("predict", "--model", model, file).stdout
    answer = run("predict", "--model", model, half)
    assert answer.exit_code == 0
    assert "unlike the training recordings" in answer.stdout
    assert "cut short?" in answer.stdout
    fit = json.loads(run("predict", "--model", model, half, "--json").stdout)["fit"]
    assert not fit["fits"]
    assert fit["score"] > 1.0
    assert json.loads(run("predict", "--model", model, half, "--any-length", "--json").stdout)["fit"] == fit
    assert json.loads(run("predict", "--model", model, file, "--json").stdout)["fit"] | {"score": 0} == {
        "fits": True, "verdict": "fits", "score": 0, "reasons": [],
    }  # fmt: skip


def test_predict_json_has_the_evidence(trained: Path) -> None:
    model, file = trained / "run/weights/best.safetensors", trained / "data/c1/0.bin"
    result = run("predict", "--model", model, "--json", file, "nothing")
    first, second = (json.loads(line) for line in result.stdout.splitlines())
    assert first["file"] == str(file)
    assert next(iter(first["probabilities"])) == first["label"]
    assert sum(first["probabilities"].values()) == pytest.approx(1.0)
    assert len(first["logits_per_step"]) == 2
    assert second == {
        "schema": "neuromoco/predict/1",
        "file": "nothing",
        "error": "nothing: does not exist",
        "exit_code": 3,
    }


def test_evaluate(trained: Path) -> None:
    model = trained / "run/weights/best.safetensors"
    figures = json.loads(run("evaluate", model, "--data", trained / "data", "--json").stdout)
    assert figures["recordings"] == 30
    assert figures["accuracy"] == sum(figures["confusion"][i][i] for i in range(3)) / 30
    assert figures["accuracy"] > 0.8
    of_the_run = run("evaluate", trained / "run", "--data", trained / "data")
    assert of_the_run.stdout == run("evaluate", model, "--data", trained / "data").stdout
    assert "accuracy" in of_the_run.stdout
    (trained / "data/c0").rename(trained / "data/x")
    try:
        assert "class x is unknown to the model; it knows c0, c1, c2" in error_line(
            run("evaluate", model, "--data", trained / "data")
        )
    finally:
        (trained / "data/x").rename(trained / "data/c0")


def test_info_of_a_recording_and_a_checkpoint(trained: Path) -> None:
    result = run("info", "--json", trained / "data/c0/0.bin", trained / "run/weights/last.safetensors")
    recording, checkpoint = (json.loads(line) for line in result.stdout.splitlines())
    assert (recording["format"], recording["events"], recording["sensor"]) == ("ATIS .bin", 600, "34 x 34")
    assert (checkpoint["kind"], checkpoint["encoder"]) == ("classifier", "sew_resnet_tiny")
    assert checkpoint["class_names"] == ["c0", "c1", "c2"]
    assert checkpoint["epoch"] == 25
    assert "34 x 34" in run("info", trained / "data/c0/0.bin").stdout
    assert "does not exist" in error_line(run("info", "nothing"))


def test_encoders_lists_the_registry() -> None:
    rows = {row["name"]: row for row in json.loads(run("encoders", "--json").stdout)}
    assert {"sew_resnet18", "sew_resnet_tiny", "spikformer_2_256", "spikformer_tiny"} <= rows.keys()
    assert rows["sew_resnet18"]["options"] == {"stem": "conv-pool", "connect": "ADD", "width": 64}
    assert "spikformer_2_256" in run("encoders").stdout


def test_settings_come_from_recipe_options_and_set_in_that_order() -> None:
    shown = run(
        "train", "--print-config", "--encoder", "spikformer_tiny", "--epochs", 7, "--set", "supervised.epochs=9"
    )
    assert "name: spikformer_tiny" in shown.stdout
    assert "epochs: 9" in shown.stdout
    assert "epochs: 7" not in shown.stdout
    assert "labels_per_class: 3" in run("train", "--print-config", "--labels-per-class", 3).stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["train", "--data", "nowhere"],
            2,
            "nowhere: does not exist; --data takes a folder of recordings, or one of digits, n-mnist, ",
        ),
        (["train", "--encoder", "vgg"], 2, "no encoder named 'vgg'; known are chain_tiny, sew_resnet18"),
        (["train", "--recipe", "large"], 2, "no recipe named 'large'; known are cifar10-dvs-sew, "),
        (["train", "--epochs", "0"], 2, "supervised.epochs: should be greater than 0, given 0"),
        (["train", "--stage", "pretrain", "--labels-per-class", "5"], 2, "which uses no labels"),
        (["train", "--freeze"], 2, "only finetune has a pre-trained encoder to freeze"),
        (["train", "--stage", "all", "--epochs", "5"], 2, "which one?"),
        (["train", "--stage", "finetune"], 2, "needs a pre-trained encoder: --init"),
        (["train", "--stage", "finetune", "--init", "nothing"], 4, "nothing: does not exist"),
        (
            ["train", "--set", "encoder.options.width=0"],
            2,
            "option width=0; it is a whole number above 0, for example 16",
        ),
        (["train", "--set", "encoder.options.stem=7"], 2, "option stem=7; it is a name, for example conv-pool"),
        (["train", "--seed", "4294967296"], 2, "seed: should be less than 4294967296"),
        (["train", "--stage", "finetune", "--encoder", "spikformer_tiny"], 2, "the network is that of --init"),
        (["train", "--set", "data=2024-13-45"], 2, "the value is not YAML"),
        (["train", "--resume", "nowhere"], 2, "holds no run"),
        (["train", "--resume", "nowhere", "--seed", "1"], 2, "--resume takes its settings from the run folder"),
        (["predict", "x.bin", "--model", "nothing"], 4, "nothing: does not exist"),
        (["evaluate", "nothing", "--data", "digits"], 4, "nothing: does not exist"),
    ],
)
def test_mistakes_are_one_line_with_their_exit_code(
    words: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*words)
    assert message in error_line(result)
    assert result.exit_code == code
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "runs"])


def test_options_without_a_command_show_the_help() -> None:
    result = run("--debug")
    assert result.exit_code == 0
    assert "predict" in result.stdout


def test_usage_mistakes_are_code_2() -> None:
    assert run("predict").exit_code == 2
    assert run("train", "--stage", "guess").exit_code == 2
    assert run("trian").exit_code == 2


def test_a_missing_extra_names_the_command_to_type(trained: Path) -> None:
    # A path without site-packages of torch stands for a base install.
    code = (
        "import sys, importlib.util as u; real = u.find_spec; "
        "u.find_spec = lambda n, *a: None if n == 'torch' else real(n, *a); "
        "from neuromoco.app.cli.main import main; sys.argv = ['neuromoco', 'encoders']; main()"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 5
    assert answer.stderr.strip().endswith(f": {pip_install('train')}")


def test_an_interrupted_run_says_how_to_go_on_and_does(class_folders: Folders, tmp_path: Path) -> None:
    data, out = class_folders(2, 10), tmp_path / "run"
    command = [sys.executable, "-m", "neuromoco.app", "train", "--data", str(data), "--out", str(out), *SMALL]
    process = subprocess.Popen([*command, "--epochs", "400"], stderr=subprocess.PIPE, text=True, env={**os.environ})
    deadline = time.monotonic() + 120
    while len(RunFolder(out).history()) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"interrupted; to resume: neuromoco train --resume {out}" in errors
    assert "Traceback" not in errors
    done = len(RunFolder(out).history())
    assert 2 <= done < 400
    report = tmp_path / "report.html"
    measured = run("evaluate", out, "--data", data, "--json", "--report", report)
    epoch = json.loads(measured.stdout)["unfinished"]["epoch"]
    assert 1 <= epoch <= done + 1
    assert f"{out}: is not complete; its weights after epoch {epoch} are measured" in measured.stderr
    assert f"not complete: weights after epoch {epoch}" in report.read_text()
    config = (out / "config.yaml").read_text()
    (out / "config.yaml").write_text(config.replace("epochs: 400", f"epochs: {done + 2}"))
    result = run("train", "--resume", out)
    assert result.exit_code == 0, result.stderr
    assert [line["epoch"] for line in RunFolder(out).history()] == list(range(1, done + 3))
    measured = run("evaluate", out, "--data", data, "--json")
    assert "unfinished" not in json.loads(measured.stdout)
    assert "not complete" not in measured.stderr


def test_a_folder_that_is_taken_is_refused_before_the_recordings_are_looked_at(
    class_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def survey(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("neuromoco.app.cli.survey.survey_set", survey)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/notes.txt").touch()
    line = error_line(run("train", "--data", class_folders(2, 4), "--out", tmp_path / "run"))
    assert "already exists; resume it: neuromoco train --resume" in line
