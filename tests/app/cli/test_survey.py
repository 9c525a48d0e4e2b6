"""The command survey, and training without a recipe."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from tests.helpers.cli import SMALL, error_line, run

Folders = Callable[[int, int], Path]


def test_a_survey_says_what_there_is_and_what_is_damaged(class_folders: Folders) -> None:
    folder = class_folders(2, 4)
    (folder / "class1" / "002.bin").write_bytes(b"")
    words = run("survey", folder)
    assert words.exit_code == 0
    for part in ("8 recordings of 2 classes", "sensor: 34 x 34", "damaged: 1", "002.bin: is empty", "copies: none"):
        assert part in words.stdout
    assert "supervised.views = " in words.stdout
    answer = json.loads(run("survey", folder, "--json").stdout)
    assert answer["recordings"] == 8
    assert answer["classes"]["class0"]["events"] == {"least": 600.0, "median": 600.0, "most": 600.0}
    assert len(answer["damaged"]) == 1
    assert {row["name"] for row in answer["advice"]["settings"]} >= {"frames.steps", "supervised.epochs"}


class Sources(HTMLParser):
    """What a page loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag in ("script", "iframe", "link", "object")
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]


def test_the_page_is_one_file_and_shows_names_as_text(class_folders: Folders, tmp_path: Path) -> None:
    folder = class_folders(2, 3)
    (folder / "class1").rename(folder / "<b>&class")
    page = tmp_path / "survey.html"
    assert run("survey", folder, "--out", page).exit_code == 0
    text = page.read_text()
    found = Sources(text)
    assert len(found.sources) == 6
    assert all(source.startswith("data:image/png;base64,") for source in found.sources)
    assert found.scripts == 0
    assert "<b>" not in text
    assert "&lt;b&gt;&amp;class" in text


def test_the_recipe_that_is_written_is_what_train_uses_without_one(class_folders: Folders, tmp_path: Path) -> None:
    folder, recipe = class_folders(2, 8), tmp_path / "mine.yaml"
    words = ("--stage", "supervised", "--labels-per-class", 5)
    assert run("survey", folder, *words, "--recipe-out", recipe).exit_code == 0
    used = run("train", "--data", folder, *words, "--print-config")
    assert yaml.safe_load(used.stdout) == yaml.safe_load(recipe.read_text())
    said = used.stderr.strip().splitlines()
    assert len(said) == 1
    assert re.search(r"no --recipe given: .* rests on all 16 recordings of 2 classes", said[0])
    assert run("train", "--data", folder, "--recipe", "tiny", "--print-config").stderr == ""


def test_options_win_over_advice(class_folders: Folders) -> None:
    folder = class_folders(2, 8)
    words = ["--data", folder, "--epochs", 7, "--encoder", "chain_tiny", "--set", "frames.steps=3", "--print-config"]
    config = yaml.safe_load(run("train", *words).stdout)
    assert config["supervised"]["epochs"] == 7
    assert config["supervised"]["optimizer"]["warmup_epochs"] == 1
    assert config["encoder"]["name"] == "chain_tiny"
    assert config["frames"]["steps"] == 3


def test_unlabelled_recordings_are_pre_trained_on() -> None:
    assert yaml.safe_load(run("train", "--data", "models/examples", "--print-config").stdout)["stage"] == "pretrain"


def test_the_digits_and_sets_that_are_not_there_keep_the_default_recipe(data_root: Path) -> None:
    for data in ("digits", "n-mnist"):
        config = yaml.safe_load(run("train", "--data", data, "--print-config").stdout)
        assert config["supervised"]["views"]["policy"] == "group"
    assert "no folder" in error_line(run("train", "--data", "n-mnist"))


def test_minutes_need_advice(class_folders: Folders) -> None:
    assert "--minutes is for advised settings" in error_line(run("train", "--recipe", "tiny", "--minutes", 3))


def test_training_on_a_folder_alone(class_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trained = run("train", "--data", class_folders(2, 6), "--epochs", 2, *SMALL)
    assert trained.exit_code == 0
    assert "weights: runs/supervised" in trained.stdout


def test_the_command_that_uses_the_advice_reads_the_set_as_the_survey_did(tmp_path: Path) -> None:
    rows = [f"{number % 2} {number % 9} {number % 11} {number}.5" for number in range(900)]  # p y x t, in milliseconds
    for label in "ab":
        (tmp_path / f"set/{label}").mkdir(parents=True)
        for number in range(4):
            (tmp_path / f"set/{label}/{number}.csv").write_text("\n".join(rows[number:]))
    (tmp_path / "set/a/cut.csv").write_text("1 2 3 4\n" * 20 + "1 2\n" + "1 2 3 4\n" * 20)
    words = ("--columns=pyxt", "--time-unit=ms", "--sensor=12x12", "--crop=1,1,9,8", "--labels-per-class=3")
    said = run("survey", tmp_path / "set", *words).stdout.splitlines()[-1]
    for end in (
        said,
        run("survey", tmp_path / "set", *words, "--recipe-out", tmp_path / "x.yaml").stdout.splitlines()[-1],
    ):
        command = shlex.split(end.partition("to use the advice: neuromoco ")[2])
        assert command[-1] == "--skip-damaged"
        printed = yaml.safe_load(run(*command, "--print-config").stdout)
        assert printed["frames"]["crop"] == [1, 1, 9, 8]
        assert printed["supervised"]["labels_per_class"] == 3
        assert (printed["recordings"]["columns"], printed["recordings"]["time_unit"]) == ("pyxt", "ms")
        assert printed["recordings"]["skip_damaged"] is True
