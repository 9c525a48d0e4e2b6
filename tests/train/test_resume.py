"""kill -9 at any moment, go on, and the weights and metrics are those of a run that nothing stopped."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from neuromoco import ConfigError
from neuromoco.config import dump_config
from neuromoco.datasets import Split, list_data
from neuromoco.datasets.splits import budget_split
from neuromoco.errors import CheckpointError, DiskError
from neuromoco.events import write_atis
from neuromoco.snn import native
from neuromoco.train import resume, train
from neuromoco.train.classify import ClassifyTask
from neuromoco.train.run_folder import RunFolder
from neuromoco.train.run_split import labelled_split
from neuromoco.train.state import States
from tests.conftest import make_recording
from tests.kills.__main__ import may_mount
from tests.kills.campaign import assert_same, settings

Folders = Callable[[int, int], Path]


@pytest.fixture(autouse=True)
def _a_state_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """However short the epoch is."""
    monkeypatch.setattr("neuromoco.train.loop.SHORT_EPOCH_S", 0.0)


@pytest.mark.slow
def test_killed_at_random_moments_and_on_full_disks_it_ends_in_the_same_weights() -> None:
    """Beginning, filling the cache, training, writing a state, weights or metrics: whatever it was doing.

    `make kills` does it a hundred times, also with sweeps and several stages.
    """
    full = 1 if may_mount() else 0
    command = [
        sys.executable,
        "-m",
        "tests.kills",
        "--kills",
        "2",
        "--full",
        str(full),
        "--kinds",
        "pretrain",
    ]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["kills"], found["full_disks"]) == (2, full)


def test_a_run_killed_before_it_had_settings_is_begun_anew(class_folders: Folders, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / ".config.yaml.123.part").write_text("stage: pre")
    with pytest.raises(ConfigError, match="holds no run"):
        resume(run, "cpu")
    train(settings(class_folders(2, 6), "pretrain"), run, "cpu")
    assert not (run / ".config.yaml.123.part").exists()


def test_a_run_killed_after_its_settings_were_written_goes_on(class_folders: Folders, tmp_path: Path) -> None:
    config = settings(class_folders(2, 6), "pretrain")
    train(config, tmp_path / "whole", "cpu")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text(dump_config(config))
    resume(tmp_path / "run", "cpu")
    assert_same(tmp_path / "run", tmp_path / "whole")
    assert json.loads((tmp_path / "run/environment.json").read_text())["versions"]


@pytest.mark.parametrize("stage", ["pretrain", "supervised"])
def test_passes_of_a_batch_are_not_lost(
    class_folders: Folders, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted within an epoch in which a batch is two passes."""
    config = settings(class_folders(2, 7), stage, **{f"{stage}__accumulate": 2})
    train(config, tmp_path / "whole", "cpu")
    write = States.write

    def stop(self: States, progress: Any, step: int) -> None:
        write(self, progress, step)
        if progress.epoch == 2 and progress.steps == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(States, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "run", "cpu")
    resume(tmp_path / "run", "cpu")
    assert_same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize(("minutes", "steps"), [(0.0, [1, 2, 3, 4, 5, 6]), (60.0, [3, 6])])
def test_states_are_written_within_an_epoch_as_often_as_asked(
    class_folders: Folders, tmp_path: Path, minutes: float, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    monkeypatch.setattr(States, "write", lambda self, progress, step: written.append(step))
    train(settings(class_folders(2, 6), "pretrain", compute__save_minutes=minutes), tmp_path / "run", "cpu")
    assert written == steps


def test_another_number_of_processes_is_refused(class_folders: Folders, tmp_path: Path) -> None:
    train(settings(class_folders(2, 6), "pretrain"), tmp_path / "run", "cpu")
    run = RunFolder(tmp_path / "run")
    run.summary.unlink()
    state = run.list_states()[0]
    (state / "sums.json").unlink()
    everyone = json.loads((state / "progress.json").read_text())
    (state / "progress.json").write_text(json.dumps(everyone * 2))
    with pytest.raises(ConfigError, match=r"was started with 2 process\(es\), resumed with 1; resume with 2"):
        resume(run.path, "cpu")


def stop_after(monkeypatch: pytest.MonkeyPatch, states: int) -> None:
    """Training is interrupted after so many states."""
    write, left = States.write, [states]

    def stop(self: States, progress: Any, step: int) -> None:
        write(self, progress, step)
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(States, "write", stop)


@pytest.fixture
def cut(class_folders: Folders, tmp_path: Path) -> Path:
    """A whole run, and one that was interrupted after five states of six."""
    config = settings(class_folders(2, 6), "pretrain")
    train(config, tmp_path / "whole", "cpu")
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "run", "cpu")
    return tmp_path / "run"


def damage(file: Path, how: str) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if how == "missing":
        file.unlink()
    else:
        file.write_bytes(content if how == "flipped" else content[: len(content) // 2])


@pytest.mark.parametrize("how", ["cut", "flipped", "missing"])
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.bin", "random_states_0.pkl", "progress.json"])
def test_from_a_damaged_state_it_goes_back_to_the_one_before(
    cut: Path, name: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    states = RunFolder(cut).list_states()
    assert [state.name for state in states] == ["step-000000005", "step-000000004"]
    damage(states[0] / name, how)
    resume(cut, "cpu")
    assert_same(cut, cut.parent / "whole")
    said = capsys.readouterr().err
    assert f"step-000000005: is damaged ({name}" in said
    assert "trying the state before it" in said


def test_without_an_undamaged_state_it_says_so_and_keeps_them(cut: Path) -> None:
    for state in RunFolder(cut).list_states():
        damage(state / "model.safetensors", "cut")
    with pytest.raises(CheckpointError, match=r"step-000000005: is damaged, and no state before it is whole; delete"):
        resume(cut, "cpu")
    assert len(RunFolder(cut).list_states()) == 2
    shutil.rmtree(RunFolder(cut).states)
    resume(cut, "cpu")
    assert_same(cut, cut.parent / "whole")


def test_a_state_of_an_older_version_that_cannot_be_loaded_is_one_line(cut: Path) -> None:
    state = RunFolder(cut).list_states()[0]
    (state / "sums.json").unlink()
    damage(state / "optimizer.bin", "cut")
    with pytest.raises(CheckpointError, match=r"step-000000005: cannot be loaded \(\w+\); delete it to resume"):
        resume(cut, "cpu")
    damage(RunFolder(cut).metrics, "cut")
    shutil.rmtree(state)
    with pytest.raises(ConfigError, match=r"metrics.jsonl: is damaged; restore it, or start a new run"):
        resume(cut, "cpu")


def test_a_full_disk_keeps_the_states_before(
    class_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(class_folders(2, 6), "pretrain")
    train(config, tmp_path / "whole", "cpu")
    save, calls = Accelerator.save_state, []

    def full(self: Accelerator, folder: str) -> None:
        save(self, folder)
        calls.append(folder)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Accelerator, "save_state", full)
        with pytest.raises(DiskError, match="step-000000003: the disk is full; free some space and run it again"):
            train(config, tmp_path / "run", "cpu")
    entries = sorted(entry.name for entry in RunFolder(tmp_path / "run").states.iterdir())
    assert entries == ["step-000000001", "step-000000002"]
    resume(tmp_path / "run", "cpu")
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_changed_content_is_refused_as_changed_names_are(cut: Path) -> None:
    file = cut.parent / "data/class1/003.bin"
    before = file.read_bytes()
    write_atis(file, make_recording(99))
    with pytest.raises(ConfigError, match=r"data: the content of recordings has changed since .*run was started"):
        resume(cut, "cpu")
    file.rename(file.with_name("other.bin"))
    with pytest.raises(ConfigError, match="data: holds other recordings than when"):
        resume(cut, "cpu")
    file.with_name("other.bin").unlink()
    file.write_bytes(before)
    resume(cut, "cpu")
    assert_same(cut, cut.parent / "whole")


def test_another_environment_is_said_once_and_written_down(
    cut: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = cut / "environment.json"
    begun = json.loads(file.read_text())
    assert begun["kernels"] == native.identity()
    assert (begun["device"], begun["torch_threads"]) == ("cpu", torch.get_num_threads())
    versions = begun["versions"] | {"torch": "1.0"}
    file.write_text(json.dumps(begun | {"versions": versions, "torch_threads": 64, "processor": "Zilog Z80"}))
    monkeypatch.setattr(native, "library", lambda: None)
    resume(cut, "cpu")
    said = capsys.readouterr().err.replace("\n", " ")
    for words in (
        f"another version of torch: 1.0 before, {begun['versions']['torch']} now",
        f"another number of threads: 64 before, {torch.get_num_threads()} now; the result may differ",
        "another processor: Zilog Z80 before",
        f"another compiled kernels: {begun['kernels']} before, none now",
    ):
        assert said.count(words) == 1, words
    written = json.loads(file.read_text())
    assert written["torch_threads"] == 64
    assert [resumed["kernels"] for resumed in written["resumed"]] == [None]


def test_the_same_environment_is_not_written_again(cut: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (cut / "environment.json").read_bytes()
    resume(cut, "cpu")
    assert (cut / "environment.json").read_bytes() == before
    assert "resumed with another" not in capsys.readouterr().err


def test_a_run_goes_on_with_the_split_that_it_began_with_whatever_the_rule_is_now(
    class_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neuromoco.datasets.splits.FEWEST_TO_CHOOSE", 4)
    config = settings(class_folders(2, 8), "supervised", supervised__validation=0.3)
    used: list[Split] = []
    begin = ClassifyTask.__init__

    def watched(self: ClassifyTask, *given: Any) -> None:
        used.append(next(one for one in given if isinstance(one, Split)))
        begin(self, *given)

    def other_rule(*given: Any) -> Split:
        found = budget_split(*given)
        return Split(*(tuple(sorted(15 - row for row in part)) for part in (found.train, found.validation)))

    monkeypatch.setattr(ClassifyTask, "__init__", watched)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neuromoco.train.run_split.budget_split", other_rule)
        stop_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "run", "cpu")
    written = (tmp_path / "run/split.json").read_text()
    resume(tmp_path / "run", "cpu")
    begun, resumed = used
    assert begun == resumed
    assert begun.validation
    assert begun != labelled_split(list_data(config.data, "train"), config, config.supervised)
    assert (tmp_path / "run/split.json").read_text() == written
