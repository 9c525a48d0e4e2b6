"""The league: equal conditions, a choice on one fold alone, tables that leave it out, and going on where it stopped."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from benchmarks.league import cnn, plan, run, table
from benchmarks.league.__main__ import main
from benchmarks.league.clothes import clothes_folder
from benchmarks.league.sets import enter
from benchmarks.league.settings import COST, LeagueConfig
from benchmarks.league.work import LeagueWorker
from neuromoco.config import EncoderConfig, load_settings
from neuromoco.datasets import hold_out, list_recordings
from neuromoco.encoders import build_encoder, registry
from neuromoco.errors import ConfigError
from neuromoco.events import read_recording

Folders = Callable[[int, int], Path]
FILES = Path(__file__).parents[2] / "benchmarks/league"
TINY: dict[str, Any] = {
    "folds": 2,
    "seeds": 1,
    "choice": {"labels": [1]},
    "rounds": [[1]],
    "measures": 2,
    "sets": {
        "tiny": {
            "title": "tiny set",
            "pretraining_epochs": 4,
            "set": {
                "frames": {"steps": 2, "height": 12, "width": 12},
                "encoder.options": {"width": 4},
                "pretrain.batch_size": 4,
                "pretrain.moco": {"embed_dim": 8, "hidden_dim": 8, "queue_size": 4, "batch_norm": "plain"},
                "pretrain.rival": {"embed_dim": 8, "hidden_dim": 8},
                "finetune.epochs": 2,
                "supervised.epochs": 4,
            },
        },
        "missing": {"title": "set that is not there", "pretraining_epochs": 1},
    },
    "methods": {
        "scratch": {"kind": "supervised", "title": "from scratch", "trials": [{}, {"supervised.epochs": "x0.5"}]},
        "cnn": {"kind": "cnn", "title": "CNN", "trials": [{}, {"supervised.optimizer.lr": "x0.1"}]},
        "logistic": {"kind": "logistic", "title": "logistic regression", "trials": [{"C": 0.1}, {"C": 1}]},
        "neighbours": {"kind": "neighbours", "title": "neighbours", "trials": [{"k": 1}, {"k": 3}]},
        "mix": {"kind": "pretrain", "title": "mix", "trials": [{}, {"finetune.encoder_lr_scale": 0.1}]},
        "byol": {
            "kind": "pretrain",
            "title": "BYOL",
            "set": {"pretrain.method": "byol"},
            "trials": [{}, {"pretrain.rival.momentum": 0.9}],
        },
    },
}


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The network without spikes is known here alone; one thread, so that sums are rounded alike."""
    monkeypatch.setattr(registry, "_BUILDERS", dict(registry._BUILDERS))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny(**changes: Any) -> LeagueConfig:
    return LeagueConfig.model_validate(TINY | changes)


@pytest.mark.slow
def test_a_league_of_seconds(class_folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY, sort_keys=False))
    words = [str(tmp_path / "tiny.yaml"), "--data", f"tiny={class_folders(2, 8)}", "--out", str(tmp_path / "league")]
    ran: list[str] = []
    whole = LeagueWorker.run

    def stopping(worker: LeagueWorker, unit: Any) -> Any:
        if len(ran) == 15:
            ran.append("stop")
            raise KeyboardInterrupt
        ran.append(unit.name)
        return whole(worker, unit)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LeagueWorker, "run", stopping)
        assert main(words) == 130
    assert "to go on: python -m benchmarks.league" in capsys.readouterr().err
    part = json.loads((tmp_path / "league/results.json").read_text())
    assert len(part["units"]) == 15
    assert "So far" in (tmp_path / "league/table.md").read_text()
    assert main(words) == 0
    results = json.loads((tmp_path / "league/results.json").read_text())
    units = {unit["unit"]: unit for unit in results["units"]}
    assert units | {unit["unit"]: unit for unit in part["units"]} == units  # what was done is not done again
    assert all("problem" not in unit for unit in units.values())
    choosing = [unit for unit in units.values() if unit["seed"] % 2 == 0]
    assert {unit["fold"] for unit in choosing} == {0}
    assert {unit["fold"] for unit in units.values() if unit["seed"] % 2} == {1}
    assert all(unit["highest"] >= unit["accuracy"] for unit in units.values() if "highest" in unit)
    # mix shares a pre-training among trials; byol's epochs cost as much.
    before = [unit for unit in choosing if unit["measure"] == "pretrain"]
    assert [(unit["method"], unit["epochs"]) for unit in before] == [("mix", 4), ("byol", 2), ("byol", 2)]
    text = (tmp_path / "league/table.md").read_text()
    assert "So far" not in text
    assert "Left out: no recordings were named: --data missing=FOLDER" in text
    for title in ("from scratch", "CNN", "neighbours", "mix, fine-tuned", "mix, kNN", "BYOL, linear probe"):
        assert f"\n| {title} |" in text
    with Image.open(tmp_path / "league/accuracy.png") as picture:
        assert picture.size[0] > 400
    assert main([words[0], "--out", words[-1], "--table"]) == 0
    assert capsys.readouterr().out.endswith(text)
    # Another league's file neither fails on these results nor replaces them.
    others = {"scratch": TINY["methods"]["scratch"] | {"trials": [{}]}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY | {"methods": others}, sort_keys=False))
    written = (tmp_path / "league/results.json").read_bytes()
    assert main([words[0], "--out", words[-1], "--table"]) == 2
    assert "holds a league with another method" in capsys.readouterr().err
    assert (tmp_path / "league/results.json").read_bytes() == written


def test_every_recording_of_the_test_fold_is_new_to_training(class_folders: Folders, tmp_path: Path) -> None:
    data = class_folders(2, 8)
    contest = enter("tiny", tiny(), str(data))
    entries = [e for e in plan.table_units(tiny(), contest, {}, 3, [1]) if e.method in ("scratch", "mix")]
    worker = LeagueWorker(tmp_path, None, "cpu")
    listing = list_recordings(data, labelled=True)
    held = {listing.names[row] for row in hold_out(listing, 2, 1).validation}
    for entry in entries:
        worker.run(entry)
        if entry.kind in ("pretrain", "finetune", "supervised"):
            split = json.loads((tmp_path / f"units/{entry.name}/split.json").read_text())
            assert not held & set(split["train"])
            assert split["validation"] == []


def test_all_choose_by_the_same_budget() -> None:
    with pytest.raises(ValueError, match="equally many trials"):
        tiny(methods=TINY["methods"] | {"cnn": {"kind": "cnn", "title": "CNN"}})
    longer = {"kind": "pretrain", "title": "mix", "trials": [{}, {"pretrain.epochs": 9}]}
    with pytest.raises(ValueError, match=r"pretrain\.epochs is the same for all"):
        tiny(methods=TINY["methods"] | {"mix": longer})
    with pytest.raises(ValueError, match="one is scratch"):
        tiny(methods={"mix": TINY["methods"]["mix"]})
    assert [plan.equal_epochs(150, name) for name in COST] == [150, 100, 100, 75]


@pytest.mark.parametrize("name", ["full", "small"])
def test_the_files_are_fair(name: str) -> None:
    league = load_settings(LeagueConfig, FILES / f"{name}.yaml")
    assert all(seed % league.folds for seed in league.table_seeds)
    if name == "full":
        assert league.table_seeds == (1, 2, 3, 4, 6)
        assert league.labels == (1, 2, 5, 10, "all")
        assert len(league.methods["mix"].trials) == 4


def fact(method: str, trial: int, seed: int, accuracy: float | None, labels: str = "1", **more: Any) -> dict[str, Any]:
    measure = "finetune" if method in ("mix", "byol") else "supervised"
    facts = {"unit": f"{method}{trial}{seed}{labels}", "set": "tiny", "method": method, "trial": trial}
    known = {} if accuracy is None else {"accuracy": accuracy}
    return facts | {"measure": measure, "labels": labels, "seed": seed, "fold": seed % 2} | known | more


def test_the_choice_sees_the_first_fold_alone_and_waits_for_all_trials() -> None:
    league = tiny(choice={"labels": [1, "all"], "draws": 1})
    units = [
        fact("scratch", 0, 0, 0.5),
        fact("scratch", 0, 0, 0.7, "all"),
        fact("scratch", 1, 0, 0.6),
        fact("scratch", 1, 0, 0.61, "all"),
        fact("scratch", 1, 1, 1.0),  # of the table
        fact("mix", 0, 0, 0.9),
        fact("mix", 1, 0, None, problem="diverged"),
        fact("mix", 1, 0, None, "all", problem="diverged"),
    ]
    scores = plan.choose(league, units, "tiny")
    assert scores["scratch"] == pytest.approx([0.6, 0.605])
    assert scores["mix"] == [None, 0.0]
    assert plan.best_trials(scores) == {"scratch": 1}
    again = plan.choose(league, [*units, fact("mix", 0, 0, 0.9, "all")], "tiny")
    assert plan.best_trials(again) == {"scratch": 1, "mix": 0}
    assert plan.best_trials({"cnn": [0.5, 0.5]}) == {"cnn": 0}


def test_means_leave_the_first_fold_out_and_pair_seeds() -> None:
    units = [fact("scratch", 1, seed, value) for seed, value in ((0, 0.1), (1, 0.5), (3, 0.7))]
    units += [fact("scratch", 0, 1, 0.9)]  # a trial that was not chosen
    units += [fact("mix", 0, seed, value, highest=value + 0.05) for seed, value in ((1, 0.8), (3, 0.7), (5, 0.6))]
    league = tiny()
    results = {
        "league": league.model_dump(mode="json"),
        "sets": {"tiny": {"recordings": 16, "classes": 2, "frames": "2 x 12 x 12"}},
        "choices": {"tiny": {"scores": {"scratch": [0.1, 0.2]}, "chosen": {"scratch": 1}}},
        "units": units,
    }
    rows = table.rows_of(results, "tiny")
    assert rows == {
        ("scratch", "supervised"): {"1": {1: 0.5, 3: 0.7}},
        ("mix", "finetune"): {"1": {1: 0.8, 3: 0.7, 5: 0.6}},
    }
    assert table.statistics([0.5, 0.7]) == {"mean": 0.6, "error": pytest.approx(0.1), "n": 2}
    found = table.paired(rows["mix", "finetune"]["1"], rows["scratch", "supervised"]["1"])
    assert found == {"mean": pytest.approx(0.15), "error": pytest.approx(0.15), "n": 2, "above": 1}
    assert table.paired({1: 0.5}, {3: 0.5}) is None
    text = table.markdown(results)
    assert "| from scratch | 60.0 ± 10.0 (2) |" in text
    assert "| mix, fine-tuned | +15.0 ± 15.0 (2), 1 of 2 |" in text
    assert "| mix, fine-tuned | +5.0 ± 0.0 (3) |" in text
    assert "- from scratch: as advised: 10.0; **supervised.epochs x0.5: 20.0**" in text


def test_a_changed_league_or_set_is_refused(class_folders: Folders, tmp_path: Path) -> None:
    contest = enter("tiny", tiny(), str(class_folders(2, 8)))
    run.begin(tmp_path / "out", tiny(), [contest])
    run.begin(tmp_path / "out", tiny(seeds=3, rounds=[[1], ["all"]]), [contest])
    with pytest.raises(ConfigError, match=r"another measures \(2 before, 5 now\)"):
        run.begin(tmp_path / "out", tiny(measures=5), [contest])
    methods = {name: dict(method) for name, method in TINY["methods"].items()}
    methods["mix"]["trials"] = [{}, {"pretrain.optimizer.lr": "x0.5"}]
    run.begin(tmp_path / "out", tiny(methods=methods), [contest])  # it has not begun
    (tmp_path / "out/units/tiny/mix").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"another method mix\.trials"):
        run.begin(tmp_path / "out", tiny(), [contest])
    other = contest.__class__(**(contest.__dict__ | {"sha256": "0"}))
    with pytest.raises(ConfigError, match=r"another set tiny\.sha256"):
        run.begin(tmp_path / "out", tiny(methods=methods), [other])
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="something other than a league"):
        run.begin(tmp_path, tiny(), [contest])


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--data", "nothing"], "--data nothing; give SET=FOLDER, and a set of tiny, missing"),
        (["--only", "other"], "--only other; the league has tiny, missing"),
        (["--jobs", "0"], "--jobs 0; give 1 or more"),
        (["--table"], "holds no results of a league yet"),
        ([], "no set takes part"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY, sort_keys=False))
    assert main([str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert problem in error
    assert error.count("\n") == 1


def test_a_factor_needs_a_number(class_folders: Folders) -> None:
    league = tiny(methods={"scratch": {"kind": "supervised", "title": "s", "trials": [{"supervised.views": "x2"}]}})
    contest = enter("tiny", league, str(class_folders(2, 8)))
    with pytest.raises(ConfigError, match=r"supervised\.views: x2; x and a factor multiply a number"):
        plan.table_units(league, contest, {}, 1, [1])


def test_the_network_without_spikes_sees_all_steps_and_is_as_large() -> None:
    cnn.register()
    cnn.register()
    torch.manual_seed(0)
    network = build_encoder(EncoderConfig(name=cnn.NAME, options={"steps": 8})).eval()
    frames = torch.rand(8, 3, 2, 17, 17)
    features = network(frames)
    assert features.shape == (1, 3, network.feature_dim)
    assert not torch.allclose(features, network(frames.flip(0)))
    sizes = [
        sum(p.numel() for p in build_encoder(EncoderConfig(name=n)).parameters()) for n in (cnn.NAME, "sew_resnet_tiny")
    ]
    assert math.isclose(*sizes, rel_tol=0.2)


def test_clothes_are_pictures_in_front_of_the_camera(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (6, 28, 28), np.uint8)
    for name, values in (("images-idx3", images), ("labels-idx1", np.array([0, 1] * 3, np.uint8))):
        head = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
        (tmp_path / f"train-{name}-ubyte").write_bytes(head + values.tobytes())
    folder = clothes_folder(tmp_path, each=2)
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.bin")) == [
        "0/00000.bin",
        "0/00002.bin",
        "1/00001.bin",
        "1/00003.bin",
    ]
    assert len(read_recording(folder / "0/00002.bin")) > 100
    assert clothes_folder(tmp_path, each=2) == folder
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x0d\1")
    with pytest.raises(ConfigError, match="is no file of bytes in the IDX format"):
        clothes_folder(tmp_path, each=2)
    with pytest.raises(ConfigError, match="has no train-images-idx3-ubyte"):
        clothes_folder(tmp_path / "nowhere")
