"""Timelines as a user meets them: printed, as JSON, as a table of labels that trains and is scored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neuromoco import models
from neuromoco.datasets.label_table import LabelledPart, read_label_table, write_label_table
from neuromoco.errors import ConfigError
from neuromoco.support import files
from tests.app.cli.test_json_schema import kinds, schema_of
from tests.helpers.cli import SMALL, error_line, run
from tests.helpers.sequences import in_sequence


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Recordings of several digits."""
    (tmp_path / "long").mkdir()
    in_sequence(tmp_path / "long" / "a.npz", "3737", 250_000, start_us=1_000_000)
    in_sequence(tmp_path / "long" / "b.npz", "773", 250_000)
    return tmp_path / "long"


def test_a_timeline_is_printed(folder: Path) -> None:
    lines = run("predict", "--timeline", folder / "a.npz").stdout.splitlines()
    assert "a.npz: 1.97 s; window " in lines[0]
    rows = [line.split() for line in lines[2:] if line.split()]
    assert [row[4] for row in rows if row[4] in "37"] == list("3737")
    assert ["pause"] in [row[4:] for row in rows]


def test_json_has_the_segments_and_is_as_stated(folder: Path) -> None:
    schema = schema_of("predict")
    words = ["predict", "--window", "300ms", "--stride", "60ms", "--json", folder, folder / "none.npz"]
    *answers, wrong = [json.loads(line) for line in run(*words).stdout.splitlines()]
    assert [kinds(schema, answer) for answer in answers] == [["timeline"], ["timeline"]]
    assert kinds(schema, wrong) == ["file_error"]
    assert [answer["rule"]["stride_us"] for answer in answers] == [60_000] * 2
    labels = [[segment["label"] for segment in answer["segments"] if segment["label"]] for answer in answers]
    assert labels == [list("3737"), list("773")]
    several = [json.loads(line) for line in run(*words, "--jobs", 2).stdout.splitlines()]
    assert several == [*answers, wrong]


def test_a_timeline_is_training_data_and_is_scored(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    told = run("predict", folder, "--labels-out", table)
    assert f"wrote 7 segments to {table}, for --data {folder}" in told.stderr
    parts = read_label_table(table)
    assert [(part.file, part.class_name) for part in parts] == [
        *(("a.npz", c) for c in "3737"),
        *(("b.npz", c) for c in "773"),
    ]
    assert 990_000 < min(part.span[0] for part in parts if part.span and part.file == "a.npz") < 1_020_000
    words = [
        "train",
        "--recipe",
        "tiny",
        "--data",
        folder,
        "--labels",
        table,
        "--out",
        tmp_path / "run",
        "--epochs",
        1,
        *SMALL,
    ]
    trained = run(*words)
    assert trained.exit_code == 0, trained.stderr
    facts = json.loads(run("info", tmp_path / "run", "--json").stdout)
    assert (facts["class_names"], facts["trained_on"]["count"]) == (["3", "7"], 7)

    scores = json.loads(run("evaluate", table, "--data", folder, "--labels", table, "--json").stdout)
    assert kinds(schema_of("evaluate"), scores) == ["timeline_scores"]
    assert (scores["frame_accuracy"], scores["edit_score"]) == (1.0, 1.0)
    text = table.read_text().replace(",3\n", ",7\n", 1)
    (tmp_path / "corrected.csv").write_text(text)
    printed = run("evaluate", table, "--data", folder, "--labels", tmp_path / "corrected.csv").stdout
    assert "7 segments answered, 7 labelled, in 2 recordings" in printed
    assert "segment F1 at overlap 0.5  │ 0.857" in printed


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["predict", "a.npz", "--stride", "1s"], 2, "a stride of 1000 ms with windows of"),
        (["predict", "a.npz", "--pause", "long"], 2, "a duration of 'long'; give a number and us, ms or s"),
        (["predict", "a.npz", "--timeline", "--stop-at", "0.9"], 2, "--stop-at or --abstain with a timeline"),
        (["predict", "-", "--labels-out", "new.csv"], 2, "--labels-out with a pipe"),
        (["predict", "a.npz", "--least", "1", "--labels-out", "new.csv"], 2, "new.csv: is not written: no segment has"),
        (["evaluate", "new.csv", "--data", ".", "--labels", "new.csv"], 2, "new.csv"),
        (
            ["evaluate", "new.csv", "--data", ".", "--labels", "new.csv", "--report", "r.html"],
            2,
            "--report with new.csv",
        ),
        (
            ["evaluate", "new.csv", "--data", ".", "--labels", "new.csv", "--abstain", "0.1", "--device", "cpu"],
            2,
            "--abstain and --device with new.csv",
        ),
        (
            ["evaluate", "new.csv", "--data", ".", "--crop", "activity", "--backend", "torch"],
            2,
            "--crop and --backend with new.csv",
        ),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    folder: Path, words: list[str], code: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    result = run(*words)
    assert message in error_line(result)
    assert result.exit_code == code
    assert sorted(path.name for path in folder.iterdir()) == ["a.npz", "b.npz"]


def test_an_interrupted_table_leaves_the_old_one(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("old")

    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "sync", interrupted)
    assert run("predict", folder, "--labels-out", table).exit_code == 130
    assert table.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.csv", "long"]


@pytest.mark.parametrize("name", ["a\nb.npz", " a.npz", "a\udcff.npz"])
def test_names_that_cannot_stand_in_a_table_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot stand in a table of labels"):
        write_label_table(tmp_path / "t.csv", [LabelledPart(name, (0, 1), "x", None, "")])
    assert list(tmp_path.iterdir()) == []


def test_names_of_classes_survive_a_table(tmp_path: Path) -> None:
    parts = [LabelledPart("a b/c.npz", (5, 10), 'wave, "left"', None, "")]
    write_label_table(tmp_path / "t.csv", parts)
    (part,) = read_label_table(tmp_path / "t.csv")
    assert (part.file, part.span, part.class_name) == ("a b/c.npz", (5, 10), 'wave, "left"')


def test_every_backend_makes_the_same_timeline(folder: Path) -> None:
    def segments(suffix: str) -> list[tuple[int, int, str]]:
        words = ["predict", "--timeline", "--json", folder / "b.npz", "--model", models.model_path(suffix=suffix)]
        answer = json.loads(run(*words).stdout)
        return [(one["begin_us"], one["end_us"], one["label"]) for one in answer["segments"]]

    assert segments(".onnx") == segments(".loihi") == segments(".safetensors")
