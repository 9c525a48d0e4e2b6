"""--crop in every command: recordings within a larger sensor are used as if there were nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from neuromoco import Recording, read_recording
from neuromoco.checkpoint import read_header
from neuromoco.config import load_config
from neuromoco.events import write_npz
from neuromoco.runtime.load import load_classifier
from neuromoco.support.console import say_once
from neuromoco.sweep import load_sweep
from tests.conftest import make_recording
from tests.helpers.cli import SMALL, error_line, run

CROP = "40,50,34,34"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`small`: 2 classes of 34 x 34; `large`: the same within 128 x 128, with noise; `run`: trained on `small`."""
    folder = tmp_path_factory.mktemp("crops")
    rng = np.random.default_rng(0)
    for label in range(2):
        for number in range(4):
            one = make_recording(10 * label + number, 900, label)
            x, y = one.x.astype(int) + 40, one.y.astype(int) + 50
            place = rng.integers(0, 128, (2, 40))
            beside = place[:, (place[0] < 38) | (place[1] < 48)]
            t = np.concatenate([one.t, rng.integers(1, 300_000, beside.shape[1])])
            columns = (np.concatenate([part, more]) for part, more in ((x, beside[0]), (y, beside[1])))
            p = np.concatenate([one.p, np.zeros(beside.shape[1], np.uint8)])
            large = Recording.from_columns(t, *columns, p, width=128, height=128)
            for name, recording in (("small", one), ("large", large)):
                (folder / f"{name}/c{label}").mkdir(parents=True, exist_ok=True)
                write_npz(folder / f"{name}/c{label}/{number}.npz", recording)
    options = ["--data", folder / "small", "--recipe=tiny", "--stage=supervised", "--epochs=2", *SMALL]
    assert run("train", *options, "--out", folder / "run").exit_code == 0
    return folder


def test_a_part_is_answered_as_the_recording_of_its_size(folder: Path) -> None:
    events = folder / "events.onnx"
    if not events.exists():
        assert run("export", folder / "run", "--input=events", "--out", events).exit_code == 0
    for model in (folder / "run", events):
        small, whole, part = (
            json.loads(run("predict", folder / f"{kind}/c1/0.npz", "--model", model, "--json", *more).stdout)
            for kind, more in (("small", []), ("large", []), ("large", ["--crop", CROP]))
        )
        assert part["logits_per_step"] == small["logits_per_step"] != whole["logits_per_step"]
    windows = ["--window=100ms", "--json", "--model", events]
    small, part = (
        [json.loads(line)["logits_per_step"] for line in run("predict", *words, *windows).stdout.splitlines()]
        for words in ([folder / "small/c1/0.npz"], [folder / "large/c1/0.npz", "--crop", CROP])
    )
    assert part == small


def test_activity_is_settled_once_for_all_files(folder: Path) -> None:
    files = [folder / "large/c0", folder / "large/c1"]
    said = run("predict", *files, "--model", folder / "run", "--crop=activity", "--json")
    assert f"--crop {CROP} of 128 x 128" in said.stderr
    each = run("predict", *files, "--model", folder / "run", "--crop", CROP, "--json").stdout
    assert [json.loads(line)["label"] for line in said.stdout.splitlines()] == [
        json.loads(line)["label"] for line in each.splitlines()
    ]


def test_measures_and_features_are_those_of_the_part(folder: Path) -> None:
    crop = ["--crop", CROP]
    for words in (["evaluate", folder / "run"], ["probe", folder / "run", "--seed=1"]):
        small, part = (
            json.loads(run(*words, "--data", folder / kind, "--json", *more).stdout)
            for kind, more in (("small", []), ("large", crop))
        )
        assert small["confusion"] == part["confusion"]
    report = folder / "report.html"
    assert run("evaluate", folder / "run", "--data", folder / "large", *crop, "--report", report).exit_code == 0
    values = []
    for kind, more in (("small", []), ("large", crop)):
        out = folder / f"{kind}.npz"
        words = [folder / kind, "--out", out, "--map=pca"]
        assert run("embed", folder / "run", *words, *more).exit_code == 0
        values.append(np.load(out)["features"])
    np.testing.assert_array_equal(*values)


def test_an_export_is_compared_on_the_part(folder: Path) -> None:
    say_once.cache_clear()  # other tests of this process have cropped the same folder
    words = ["--data", folder / "large", "--crop=activity", "--out", folder / "all.onnx", "--json"]
    exported = run("export", folder / "run", *words)
    assert json.loads(exported.stdout)["compared"]["recordings"] == 8
    assert f"--crop {CROP} of 128 x 128" in exported.stderr


def test_convert_writes_the_part(folder: Path) -> None:
    out = folder / "part.npz"
    assert run("convert", folder / "large/c1/0.npz", out, "--crop", CROP).exit_code == 0
    part, small = read_recording(out), read_recording(folder / "small/c1/0.npz")
    assert (part.width, part.height) == (34, 34)
    for name in "txyp":
        np.testing.assert_array_equal(getattr(part, name), getattr(small, name))
    assert run("convert", folder / "large/c1/0.npz", out, "--crop=activity").exit_code == 0
    part = read_recording(out)
    assert 25 < part.width <= 34
    assert 25 < part.height <= 34


def test_a_survey_advises_for_the_part_and_training_without_a_recipe_uses_it(folder: Path) -> None:
    small, whole, part = (
        json.loads(run("survey", folder / kind, "--json", *more).stdout)
        for kind, more in (("small", []), ("large", []), ("large", ["--crop=activity"]))
    )
    assert part["all"] == small["all"] != whole["all"]
    assert part["sensors"] == small["sensors"]
    advised = {row["name"]: row["value"] for row in part["advice"]["settings"]}
    assert advised.pop("frames.crop") == f"({CROP.replace(',', ', ')})"
    assert advised == {row["name"]: row["value"] for row in small["advice"]["settings"]}
    assert run("survey", folder / "large", "--crop=activity", "--recipe-out", folder / "mine.yaml").exit_code == 0
    assert load_config(folder / "mine.yaml").frames.crop == (40, 50, 34, 34)
    printed = run("train", "--data", folder / "large", "--crop", CROP, "--print-config").stdout
    (folder / "printed.yaml").write_text(printed)
    assert load_config(folder / "printed.yaml").frames == load_config(folder / "mine.yaml").frames


def test_all_runs_of_a_sweep_use_the_part(folder: Path) -> None:
    sweep = folder / "sweep.yaml"
    sweep.write_text(
        "recipe: tiny\nseeds: 1\nmeasures: [supervised]\nset:\n  supervised.epochs: 1\n  supervised.batch_size: 4\n"
        "  supervised.views: null\n  frames: {steps: 2, height: 16, width: 16}\n  encoder.options: {width: 4}\n"
    )
    sweep.write_text(sweep.read_text() + f"test: {folder / 'large'}\n")
    done = run("sweep", sweep, "--data", folder / "large", "--crop=activity", "--out", folder / "swept", "--json")
    assert done.exit_code == 0, done.stderr
    (run_folder,) = (folder / "swept/units/supervised").glob("**/weights")
    assert read_header(run_folder.parent / "weights/last.safetensors").frames.crop == (40, 50, 34, 34)
    assert load_sweep(str(sweep), str(folder / "large"), None, (1, 2, 3, 4)).base.frames.crop == (1, 2, 3, 4)


def test_crops_that_are_none_and_that_do_not_fit_are_one_line(folder: Path) -> None:
    large = folder / "large/c1/0.npz"
    for words in (
        ["predict", large, "--model", folder / "run"], ["evaluate", folder / "run", "--data", folder / "large"],
        ["probe", folder / "run", "--data", folder / "large"], ["convert", large, folder / "x.npz"],
        ["embed", folder / "run", large, "--out", folder / "x.npz"], ["survey", folder / "large"],
        ["export", folder / "run", "--data", folder / "large", "--out", folder / "x.onnx"],
        ["sweep", "momentum"], ["train", "--data", folder / "large"],
    ):  # fmt: skip
        refused = run(*words, "--crop", "1,2,0,4")
        assert refused.exit_code == 2
        assert "a crop of '1,2,0,4'; give left, top, width and height in pixels" in error_line(refused)
        if words[0] not in ("sweep", "evaluate", "probe", "survey", "train"):
            refused = run(*words, "--crop", "100,100,34,34")
            assert refused.exit_code == 3
            assert "a crop of 100,100,34,34 does not fit its sensor of 128 x 128 pixels" in error_line(refused)
    empty = run("predict", large, "--model", folder / "run", "--crop", "0,0,1,1")
    assert "holds no events in the crop 0,0,1,1" in error_line(empty)


def test_a_file_that_crops_events_itself_says_so(folder: Path) -> None:
    out, data = folder / "cropped", ["--data", folder / "large", "--crop", CROP]
    options = ["--recipe=tiny", "--stage=supervised", "--epochs=1", "--set=frames.steps=2", *SMALL[1:]]
    assert run("train", *data, *options, "--out", out).exit_code == 0
    events = folder / "cropped.onnx"
    assert run("export", out, "--input=events", "--out", events).exit_code == 0
    large, small = folder / "large/c1/0.npz", folder / "small/c1/0.npz"
    expected = load_classifier(out).predict([read_recording(large)])[0].logits_per_step
    own = json.loads(run("predict", small, "--model", out, "--crop=0,0,34,34", "--json").stdout)
    np.testing.assert_allclose(own["logits_per_step"], expected, atol=1e-5)  # the given part counts, not the network's
    refused = run("predict", large, "--model", events, "--crop", CROP)
    assert (refused.exit_code, "uses 40,50,34,34 of a sensor itself" in error_line(refused)) == (2, True)


def test_a_group_of_settings_leaves_the_crop(folder: Path) -> None:
    words = ["train", "--data", folder / "large", "--crop", CROP, "--print-config", "--set"]
    shown = run(*words, "frames={steps: 3, height: 16, width: 16}").stdout
    assert "crop: [40, 50, 34, 34]" in " ".join(shown.split()) or "- 40 - 50 - 34 - 34" in " ".join(shown.split())
    assert "steps: 3" in shown
    given = run(*words, "frames={steps: 3, height: 16, width: 16, crop: '1,2,34,34'}").stdout
    assert "- 1 - 2 - 34 - 34" in " ".join(given.split()) or "crop: [1, 2, 34, 34]" in " ".join(given.split())


def test_8_bit_ranges_are_those_of_the_part(folder: Path) -> None:
    files = [folder / f"int8-{name}.onnx" for name in ("small", "part", "whole")]
    options = (["--data", folder / "small"], ["--data", folder / "large", "--crop", CROP], ["--data", folder / "large"])
    for file, words in zip(files, options, strict=True):
        exported = run("export", folder / "run", "--quantize=int8", *words, "--out", file)
        assert exported.exit_code == 0, exported.stderr
    small, part, whole = (file.read_bytes() for file in files)
    assert small == part != whole
