"""Sweeps: each unit once, whatever interrupts it, however many processes; folds that no stage sees."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from neuromoco import ConfigError
from neuromoco.config import RunConfig, with_values
from neuromoco.datasets import hold_out, list_recordings
from neuromoco.errors import DiskError
from neuromoco.events import write_atis
from neuromoco.sweep import Plan, SweepConfig, list_sweeps, load_sweep
from neuromoco.sweep.plan import make_plan
from neuromoco.sweep.run import run_sweep
from neuromoco.sweep.unit import Worker
from neuromoco.sweep.workers import gpu_of
from neuromoco.train import train
from tests.conftest import make_recording
from tests.helpers.cli import error_line, run

Folders = Callable[[int, int], Path]
SMALL = {
    "frames": {"steps": 2, "height": 16, "width": 16},
    "encoder.options": {"width": 4},
    "watch.samples": 0,
    "pretrain.epochs": 2,
    "pretrain.batch_size": 4,
    "pretrain.moco.queue_size": 4,
    "pretrain.optimizer.warmup_epochs": 0,
    "finetune.epochs": 2,
    "supervised.epochs": 2,
}


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    """The number of threads decides how sums are rounded; with two jobs each has one here."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def asked(data: Path, **values: Any) -> dict[str, Any]:
    return {
        "recipe": "tiny",
        "data": str(data),
        "folds": 2,
        "seeds": 2,
        "set": SMALL,
        "settings": {"mix": None, "mbc": {"pretrain.moco.beta": 0.0}, "slow": {"finetune.optimizer.lr": 1e-5}},
        "measures": ["finetune", "supervised", "knn", "linear"],
        "labels_per_class": {1: {"finetune.epochs": 3}, "all": None},
    } | values


def dumped(tree: dict[str, Any]) -> str:
    return yaml.safe_dump(tree, sort_keys=False)


def plan(data: Path, **values: Any) -> Plan:
    return make_plan("small", SweepConfig.model_validate(asked(data, **values)), "small.yaml")


def test_what_settings_share_is_one_unit(class_folders: Folders) -> None:
    units = {unit.name: unit for unit in plan(class_folders(2, 8)).units}
    kinds = [unit.kind for unit in units.values()]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "pretrain": 4,  # two settings of pre-training, two seeds
        "finetune": 12,
        "supervised": 4,
        "knn": 8,
        "linear": 8,
    }
    assert units["supervised/mix/labels-1/seed-1"].settings == ("mix", "mbc", "slow")
    assert units["finetune/slow/labels-all/seed-0"].needs == "pretrain/mix/seed-0"
    few, every = (units[f"finetune/mix/labels-{n}/seed-1"].config for n in (1, "all"))
    assert (few.finetune.labels_per_class, few.finetune.epochs, few.finetune.validation) == (1, 3, 0.0)
    assert (every.finetune.labels_per_class, every.finetune.epochs) == (None, 2)
    assert (few.held_out.fold, few.seed, few.stage) == (1, 1, "finetune")  # type: ignore[union-attr]
    order = list(units)
    assert all(unit.needs is None or order.index(unit.needs) < order.index(name) for name, unit in units.items())


def test_folds_are_whole_classes_shares_and_do_not_overlap(class_folders: Folders) -> None:
    listing = list_recordings(class_folders(3, 7), labelled=True)
    folds = [hold_out(listing, 3, fold) for fold in range(3)]
    assert sorted(i for fold in folds for i in fold.validation) == list(range(21))
    for fold in folds:
        assert set(fold.train) | set(fold.validation) == set(range(21))
        assert not set(fold.train) & set(fold.validation)
        assert [sum(listing.labels[i] == label for i in fold.validation) for label in range(3)] in ([3] * 3, [2] * 3)
    with pytest.raises(ConfigError, match="class class0 has 7 recordings for 8 folds"):
        hold_out(listing, 8, 0)


def test_no_stage_sees_the_fold_that_is_held_out(class_folders: Folders, tmp_path: Path) -> None:
    data = class_folders(2, 8)
    config = with_values(
        RunConfig(), SMALL | {"data": str(data), "stage": "all", "held_out": {"folds": 4, "fold": 1}, "seed": 3}
    )
    config = with_values(config, {"pretrain.share": 0.5, "encoder.name": "sew_resnet_tiny"})
    train(config, tmp_path / "run", "cpu")
    listing = list_recordings(data, labelled=True)
    kept = {listing.names[i] for i in hold_out(listing, 4, 1).train}
    before, after = (json.loads((tmp_path / f"run/{s}/split.json").read_text()) for s in ("pretrain", "finetune"))
    assert set(before["train"]) < kept
    assert len(before["train"]) == 6
    assert set(after["train"]) | set(after["validation"]) == kept


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings, and a sweep on them that nothing interrupted, by the command line."""
    folder = tmp_path_factory.mktemp("sweep")
    for label in range(2):
        for number in range(8):
            (folder / f"data/c{label}").mkdir(parents=True, exist_ok=True)
            write_atis(folder / f"data/c{label}/{number}.bin", make_recording(label * 100 + number, label=label))
    (folder / "small.yaml").write_text(dumped(asked(folder / "data", labels_per_class=[1])))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEUROMOCO_CACHE", str(folder / "cache"))
        result = run("sweep", folder / "small.yaml", "--out", folder / "whole", "--json")
    torch.set_num_threads(threads)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == json.loads((folder / "whole/results.json").read_text())
    return folder


def test_results_hold_every_unit_and_what_follows_from_them(whole: Path) -> None:
    results = json.loads((whole / "whole/results.json").read_text())
    units = results["units"]
    assert len(units) == 20
    assert results["failed"] == []
    assert all(unit["recordings"] == 8 for unit in units if unit["measure"] != "pretrain")

    def accuracies(measure: str, setting: str, labels: object) -> list[float]:
        chosen = (u for u in units if (u["measure"], u["labels"]) == (measure, labels) and setting in u["settings"])
        return [unit["accuracy"] for unit in chosen]

    rows = {(row["setting"], row["measure"]): row["labels"] for row in results["rows"]}
    assert list(rows)[:4] == [("mix", "finetune"), ("mbc", "finetune"), ("slow", "finetune"), ("-", "supervised")]
    tuned, scratch = accuracies("finetune", "mbc", 1), accuracies("supervised", "mbc", 1)
    assert rows["mbc", "finetune"]["1"] == {
        "mean": pytest.approx(statistics.mean(tuned)),
        "sd": pytest.approx(statistics.stdev(tuned)),
        "n": 2,
    }
    difference = next(r for r in results["differences"] if (r["setting"], r["measure"]) == ("mbc", "finetune"))
    paired = [a - b for a, b in zip(tuned, scratch, strict=True)]
    assert difference["labels"]["1"]["mean"] == pytest.approx(statistics.mean(paired))
    assert difference["labels"]["1"]["sd"] == pytest.approx(statistics.stdev(paired))
    assert difference["labels"]["1"]["above"] == sum(value > 0 for value in paired)
    table = (whole / "whole/table.md").read_text()
    mean, spread = 100 * statistics.mean(tuned), 100 * statistics.stdev(tuned)
    assert f"| mbc, fine-tuned | {mean:.1f} ± {spread:.1f} (2) |" in table
    assert "| from scratch |" in table
    assert (whole / "whole/accuracy.png").read_bytes().startswith(b"\x89PNG")


def test_two_jobs_find_what_one_does(whole: Path) -> None:
    result = run("sweep", whole / "small.yaml", "--out", whole / "two", "--jobs", 2)
    assert result.exit_code == 0, result.stderr
    assert "mbc, fine-tuned" in result.stdout
    assert (whole / "two/results.json").read_bytes() == (whole / "whole/results.json").read_bytes()


def test_an_interrupted_sweep_goes_on_and_does_nothing_twice(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    original = Worker._run

    def counting(self: Worker, unit: Any, folder: Path) -> dict[str, Any]:
        if len(made) == 6:
            made.append("")
            raise KeyboardInterrupt
        result = original(self, unit, folder)
        made.append(unit.name)
        return result

    monkeypatch.setattr(Worker, "_run", counting)
    words = ("sweep", whole / "small.yaml", "--out", whole / "cut")
    stopped = run(*words)
    assert stopped.exit_code == 130
    assert f"interrupted; to resume: neuromoco sweep {whole / 'small.yaml'} --out {whole / 'cut'}" in stopped.stderr
    assert not (whole / "cut/results.json").exists()
    assert run(*words).exit_code == 0
    assert len(made) == len(set(made)) == 13  # 12 runs and the interruption
    assert (whole / "cut/results.json").read_bytes() == (whole / "whole/results.json").read_bytes()
    assert run(*words).exit_code == 0
    assert len(made) == 13


def test_a_changed_file_is_refused(whole: Path, tmp_path: Path) -> None:
    changed = tmp_path / "small.yaml"
    changed.write_text(dumped(asked(whole / "data", labels_per_class=[1], set=SMALL | {"finetune.epochs": 4})))
    line = error_line(run("sweep", changed, "--out", whole / "whole"))
    assert "holds a sweep with another sweep.set.finetune.epochs (2 before, 4 now)" in line
    (tmp_path / "full/x").mkdir(parents=True)
    line = error_line(run("sweep", whole / "small.yaml", "--out", tmp_path / "full"))
    assert "holds something other than a sweep" in line


def test_changed_content_of_recordings_is_refused(class_folders: Folders, tmp_path: Path) -> None:
    few = plan(class_folders(2, 4), seeds=1, measures=["supervised"], labels_per_class=1, settings={"mix": {}})
    run_sweep(few, tmp_path / "out", device="cpu")
    run_sweep(few, tmp_path / "out", device="cpu")
    write_atis(tmp_path / "data/class0/001.bin", make_recording(77))
    with pytest.raises(ConfigError, match="out: the content of recordings has changed since this sweep was started"):
        run_sweep(few, tmp_path / "out", device="cpu")


def test_a_full_disk_ends_a_sweep_at_once(
    class_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def full(self: Worker, unit: Any, folder: Path) -> dict[str, Any]:
        tried.append(unit.name)
        raise DiskError(f"{folder}: the disk is full")

    monkeypatch.setattr(Worker, "_run", full)
    with pytest.raises(DiskError):
        run_sweep(plan(class_folders(2, 4)), tmp_path / "out", device="cpu")
    assert len(tried) == 1


def test_a_unit_that_fails_stops_only_what_needs_it(class_folders: Folders, tmp_path: Path) -> None:
    settings = {"good": {}, "wild": {"pretrain.optimizer": {"name": "sgd", "lr": 1e30}}}
    few = plan(class_folders(2, 4), settings=settings, seeds=1, measures=["finetune", "supervised"], labels_per_class=1)
    results = run_sweep(few, tmp_path / "out", device="cpu")
    assert [failed["unit"] for failed in results["failed"]] == ["pretrain/wild/seed-0"]
    assert "loss became" in results["failed"][0]["problem"]
    assert [(row["setting"], row["measure"]) for row in results["rows"]] == [("good", "finetune"), ("-", "supervised")]


def test_a_test_folder_is_measured_on(class_folders: Folders, tmp_path: Path) -> None:
    data = class_folders(2, 8)
    (tmp_path / "test").mkdir()
    (data / "class1").rename(tmp_path / "test/class1")
    (tmp_path / "test/class1/000.bin").rename(data / "class0/100.bin")
    (data / "class1").mkdir()
    for number in range(1, 4):
        (tmp_path / f"test/class1/{number:03d}.bin").rename(data / f"class1/{number:03d}.bin")
    values = {"folds": None, "test": str(tmp_path / "test"), "seeds": [4], "measures": ["supervised", "knn"]}
    values |= {"settings": {"mix": {}}, "labels_per_class": [2]}
    results = run_sweep(plan(data, **values), tmp_path / "out", device="cpu")
    measured = [unit for unit in results["units"] if unit["measure"] != "pretrain"]
    assert [(unit["recordings"], unit["seed"], unit["fold"]) for unit in measured] == [(4, 4, None)] * 2
    (tmp_path / "test/class1").rename(tmp_path / "test/other")
    problem = run_sweep(plan(data, **values), tmp_path / "out2", device="cpu")["failed"][0]["problem"]
    assert "class other is unknown to the model; it knows class0, class1" in problem


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"setings": {}}, "setings: no such name; known names: recipe, data, recordings, test, folds"),
        ({"settings": {"a": {"pretrain.moco.queue": 5}}}, "settings: a: pretrain.moco.queue: no such name"),
        ({"settings": {"a/b": {}}}, "the name 'a/b'"),
        ({"settings": {"a": {"seed": 5}}}, "settings: a: seed is decided by the sweep: data, test, folds, seeds"),
        ({"settings": {"a": {"finetune.validation": 0.5}}}, "finetune.validation is decided by"),
        ({"set": {"pretrain.epochs": 0}}, "set: pretrain.epochs: should be greater than 0, given 0"),
        (
            {"labels_per_class": {5: {"pretrain.epochs": 3}}},
            "labels_per_class: 5: pretrain.epochs; numbers of labels",
        ),
        ({"labels_per_class": [0]}, "labels_per_class.0: should be greater than 0 or 'all', given 0"),
        ({"labels_per_class": "x"}, "labels_per_class.x: should be a whole number or 'all', given 'x'"),
        ({"seeds": 0}, "seeds: should be greater than or equal to 1 or a list, given 0"),
        ({"seeds": "x"}, "seeds: should be a whole number or a list, given 'x'"),
        ({"measures": "knn"}, "measures: should be a list, given 'knn'"),
        ({"settings": []}, "settings: should be names with values, given []"),
        ({"measures": ["guess"]}, "'finetune', 'supervised', 'knn' or 'linear', given 'guess'"),
        ({"folds": None}, "has no test part; set folds: 5, or test: FOLDER"),
        ({"test": "x"}, "test and folds exclude each other"),
        ({"fold": 2}, "fold: 2 of folds: 2"),
        ({"seeds": [1, 1]}, "each once"),
        ({"recipe": "large"}, "no recipe named 'large'"),
    ],
)
def test_mistakes_are_one_line(values: dict[str, Any], words: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(dumped(asked(tmp_path, **values)))
    result = run("sweep", file, "--dry-run")
    assert words in error_line(result)
    assert result.exit_code == 2


def test_other_mistakes_are_one_line(class_folders: Folders, tmp_path: Path) -> None:
    assert "no sweep named 'nothing'; known are" in error_line(run("sweep", "nothing"))
    assert "nothing.yaml: cannot be read" in error_line(run("sweep", "nothing.yaml"))
    file = tmp_path / "small.yaml"
    file.write_text(dumped(asked(class_folders(2, 8))))
    assert "--jobs 0; give 1 or more" in error_line(run("sweep", file, "--jobs", 0))
    file.write_text(dumped(asked(Path("nowhere"))))
    assert "nowhere: does not exist" in error_line(run("sweep", file, "--out", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", list_sweeps())
def test_sweeps_that_come_along_are_whole(name: str) -> None:
    found = load_sweep(name)
    assert len(found.sweep.all_seeds) >= 5
    result = run("sweep", name, "--dry-run", "--json")
    counts = json.loads(result.stdout)["counts"]
    assert sum(counts.values()) >= 25
    assert found.sweep.measures == ("supervised",) or counts["pretrain"] >= 10


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    from neuromoco import ConfigError
    from neuromoco.support.files import read_json

    for content in ("{", "[]", "\xff"):
        (tmp_path / "sweep.json").write_text(content, encoding="latin-1")
        with pytest.raises(ConfigError, match=r"sweep\.json: is damaged"):
            read_json(tmp_path / "sweep.json")


@pytest.mark.parametrize("labels", ["[[1]]", "[{a: 1}]", "!!set {1}"])
def test_numbers_of_labels_that_are_none_are_one_line(labels: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"labels_per_class: {labels}")
    assert "labels_per_class" in error_line(run("sweep", tmp_path / "a.yaml"))


@pytest.mark.parametrize(
    ("count", "visible", "wanted"),
    [
        (0, None, [None] * 3),
        (1, None, [None] * 3),
        (2, None, ["0", "1", "0"]),
        (2, "3, 5", ["3", "5", "3"]),
        (1, "3", [None] * 3),
    ],
)
def test_jobs_take_the_gpus_in_turn(count: int, visible: str | None, wanted: list[str | None]) -> None:
    assert [gpu_of(process, count, visible) for process in range(3)] == wanted
