"""`train --init`, `probe` and `embed` with an encoder that ships: by its name, and on other frames than its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from typer.testing import Result

from neuromoco import models
from neuromoco.checkpoint import load_tensors, read_header, replace_header
from neuromoco.config import load_config
from tests.helpers.cli import SMALL, error_line, run

NAME = "small-encoder"


@pytest.fixture(scope="module")
def encoder(trained: Path) -> Path:
    """A checkpoint pre-trained on 2 steps of 16 x 16 by count."""
    words = ("--stage", "pretrain", "--data", trained / "data", "--out", trained / "pre-init", "--epochs", 1, "--quiet")
    options = ("--set=pretrain.batch_size=8", "--set=pretrain.moco.queue_size=12", *SMALL)
    result = run("train", *words, *options)
    assert result.exit_code == 0, result.stderr
    return trained / "pre-init/weights/last.safetensors"


@pytest.fixture
def ships(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an encoder that ships, beside the models that do."""
    folder = tmp_path / "models"
    folder.mkdir()
    shutil.copyfile(encoder, folder / f"{NAME}.safetensors")
    shutil.copyfile(models.model_path(), folder / models.model_path().name)
    shutil.copyfile(models.model_path(suffix=".safetensors"), folder / f"{models.DEFAULT}.safetensors")
    monkeypatch.setattr("neuromoco.hub.names.files", lambda _: folder)
    monkeypatch.setattr("neuromoco.models.FOLDER", folder)
    return NAME


def trained_from(name: str, data: Path, out: Path, *words: object) -> Result:
    few = ("--set=finetune.batch_size=8", "--set=pretrain.batch_size=8", "--set=pretrain.moco.queue_size=12", "--quiet")
    result = run("train", "--init", name, "--data", data, "--out", out, *few, *words)
    assert result.exit_code == 0, result.stderr
    return result


def test_models_lists_classifiers_and_encoders(ships: str) -> None:
    rows = {row["name"]: row for row in json.loads(run("models", "--json").stdout)}
    assert {name: row["kind"] for name, row in rows.items()} == {models.DEFAULT: "classifier", NAME: "encoder"}
    shown = run("models").stdout
    assert f"for neuromoco train --init {NAME} --data FOLDER" in shown
    assert "classes 0, 1, 2, 3, 4, 5, 6, 7, 8, 9" in shown


def test_class_folders_are_learned_from_it(ships: str, trained: Path, encoder: Path, tmp_path: Path) -> None:
    trained_from(ships, trained / "data", tmp_path / "run", "--epochs", 1, "--set=finetune.optimizer.lr=1e-9")
    config = load_config(tmp_path / "run/config.yaml")
    assert (config.stage, config.init) == ("finetune", NAME)
    header, own = read_header(tmp_path / "run"), read_header(encoder)
    assert (header.encoder, header.frames, header.class_names) == (own.encoder, own.frames, ("c0", "c1", "c2"))
    before, after = load_tensors(encoder), load_tensors(tmp_path / "run")
    for name in (name for name in before if name.endswith("weight")):
        assert torch.allclose(before[name], after[f"encoder.{name}"], atol=1e-6)


def test_a_flat_folder_is_pre_trained_on(ships: str, trained: Path, encoder: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in (trained / "data").glob("*/*.bin"):
        shutil.copyfile(file, flat / f"{file.parent.name}-{file.name}")
    trained_from(ships, flat, tmp_path / "run", "--epochs", 1, "--set=pretrain.optimizer.lr=1e-9")
    header = read_header(tmp_path / "run")
    assert (header.kind, header.stage, header.frames) == ("encoder", "pretrain", read_header(encoder).frames)
    before, after = load_tensors(encoder), load_tensors(tmp_path / "run")
    for name in (name for name in before if name.endswith("weight")):
        assert torch.allclose(before[name], after[name], atol=1e-6)


@pytest.mark.slow
def test_all_stages_start_from_it(ships: str, trained: Path, tmp_path: Path) -> None:
    one = [f"--set={stage}.epochs=1" for stage in ("pretrain", "finetune", "supervised")]
    trained_from(ships, trained / "data", tmp_path / "run", "--stage", "all", *one)
    configs = {
        name: load_config(tmp_path / "run" / name / "config.yaml") for name in ("pretrain", "finetune", "supervised")
    }
    assert configs["pretrain"].init == NAME
    assert configs["finetune"].init == str(tmp_path / "run/pretrain/weights/last.safetensors")
    assert configs["supervised"].init is None
    assert len({config.encoder.model_dump_json() for config in configs.values()}) == 1


@pytest.mark.parametrize("stage", ["finetune", "pretrain"])
def test_other_sizes_steps_and_slices(ships: str, trained: Path, tmp_path: Path, stage: str) -> None:
    other = ("--set=frames.steps=3", "--set=frames.height=20", "--set=frames.width=12", "--set=frames.slice_by=time")
    trained_from(ships, trained / "data", tmp_path / "run", "--stage", stage, "--epochs", 1, *other)
    frames = read_header(tmp_path / "run").frames
    assert (frames.steps, frames.height, frames.width, frames.slice_by) == (3, 20, 12, "time")
    assert load_config(tmp_path / "run/config.yaml").own_frames
    trained_from(ships, trained / "data", tmp_path / "part", "--stage", stage, "--epochs", 1, "--set=frames.steps=3")
    frames = read_header(tmp_path / "part").frames
    assert (frames.steps, frames.height, frames.width, frames.slice_by) == (3, 16, 16, "count")  # else its own


def test_it_says_what_frames_would_be_advised(ships: str, trained: Path, tmp_path: Path) -> None:
    result = run("train", "--init", ships, "--data", trained / "data", "--print-config")
    assert f"frames are those of {NAME}; for these recordings alone, others are advised: --set frames.steps=8" in (
        " ".join(result.stderr.split())
    )


def test_probe_and_embed(ships: str, trained: Path, tmp_path: Path) -> None:
    data = trained / "data"
    facts = json.loads(run("probe", ships, "--data", data, "--json", "--quiet").stdout)
    more = json.loads(run("probe", ships, "--data", data, "--json", "--quiet", "--set", "frames.steps=4").stdout)
    assert facts["encoder_sha256"] == more["encoder_sha256"]
    words = ("embed", ships, data, "--out", tmp_path / "f.npz", "--features", "steps", "--map", "pca", "--quiet")
    assert run(*words, "--set=frames.steps=3", "--set=frames.height=24").exit_code == 0
    assert np.load(tmp_path / "f.npz")["features"].shape[:2] == (30, 3)


def test_mistakes(ships: str, trained: Path, tmp_path: Path) -> None:
    data = trained / "data"
    begun = ("train", "--init", ships, "--data", data, "--out", tmp_path / "run")
    for words, code, message in (
        (
            ("train", "--init", "small-encodr", "--data", data),
            4,
            f"small-encodr: does not exist (names that ship: {models.DEFAULT}, {NAME}; of the Hub: hf://owner/name)",
        ),
        ((*begun, "--stage", "supervised"), 2, "--init with stage supervised, which trains from scratch"),
        ((*begun, "--encoder", "spikformer_tiny"), 2, "encoder.name with --init; the network is that of --init"),
        ((*begun, "--set=frames.height=6"), 2, f"{NAME}: frames of 6 x 16 pixels; its encoder takes 8 or more a side"),
        ((*begun, "--set=frames.hight=20"), 2, "frames.hight: no such name"),
        (("train", "--init", models.DEFAULT, "--data", data), 4, "is a trained classifier; --init takes a pre-trained"),
        (("probe", ships, "--data", data, "--set", "seed=1"), 2, "seed: only frames can be changed here"),
        (("probe", ships, "--data", data, "--set", "frames.width=4"), 2, "its encoder takes 8 or more a side"),
        (("embed", "small-encodr", data, "--out", tmp_path / "f.npz"), 4, "names that ship"),
    ):
        result = run(*words)
        assert message in error_line(result)
        assert result.exit_code == code
    assert not (tmp_path / "run").exists()


def test_an_export_of_a_name_lies_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from neuromoco.export.targets import default_place

    monkeypatch.chdir(tmp_path)
    assert default_place(Path(models.DEFAULT), "onnx", {}) == Path(f"{models.DEFAULT}.onnx")
    assert default_place(Path("hf://me/digits"), "onnx", {}) == Path("digits.onnx")


def test_the_frames_of_earlier_runs_still_win(encoder: Path, trained: Path, tmp_path: Path) -> None:
    """A recipe's frames are not those of --init, unless they are said on the command line."""
    copy = tmp_path / "own.safetensors"
    shutil.copyfile(encoder, copy)
    header = read_header(copy)
    replace_header(copy, header.model_copy(update={"frames": header.frames.model_copy(update={"steps": 5})}))
    words = ("--recipe", "tiny", "--stage", "finetune", "--epochs", 1)
    trained_from(str(copy), trained / "data", tmp_path / "run", *words)
    assert read_header(tmp_path / "run").frames.steps == 5


def test_what_ships_is_not_written_to(ships: str, trained: Path) -> None:
    file = trained / "data"
    before = read_header(models.DEFAULT)
    result = run("reference", models.DEFAULT, "--data", file)
    assert result.exit_code == 4
    assert "is shared, and is not written to; copy" in error_line(result)
    assert read_header(models.DEFAULT) == before


def test_an_encoder_that_ships_learns_as_one_from_scratch(ships: str, trained: Path) -> None:
    words = ("train", "--data", trained / "data", "--print-config", "--init")
    config = yaml.safe_load(run(*words, ships).stdout)["finetune"]
    assert (config["encoder_lr_scale"], config["optimizer"]["weight_decay"]) == (1.0, 0.5)
    own = yaml.safe_load(run(*words, trained / "pre-init").stdout)["finetune"]
    assert (own["encoder_lr_scale"], own["optimizer"]["weight_decay"]) == (0.3, 0.05)


def test_names_of_another_project_are_not_those_of_what_ships(ships: str, trained: Path) -> None:
    result = run("train", "--data", trained / "data", "--init", ships, "--from", "spikingjelly", "--out", "x")
    assert "is this package's own; leave --from out" in error_line(result)
