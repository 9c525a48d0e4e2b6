"""kill -9 at any moment, go on, and the weights and metrics are those of a run that nothing stopped."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neuromoco import ConfigError
from neuromoco.config import dump_config
from neuromoco.train import resume, train
from neuromoco.train.run_folder import RunFolder
from neuromoco.train.state import States
from tests.kills.__main__ import may_mount
from tests.kills.campaign import assert_same, settings

Folders = Callable[[int, int], Path]


@pytest.fixture(autouse=True)
def _a_state_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """However short the epoch is."""
    monkeypatch.setattr("neuromoco.train.loop.SHORT_EPOCH_S", 0.0)


def test_killed_at_random_moments_and_on_full_disks_it_ends_in_the_same_weights() -> None:
    """Beginning, filling the cache, training, writing a state, weights or metrics: whatever it was doing.

    `make kills` does it a hundred times, also with sweeps and several stages.
    """
    full = 2 if may_mount() else 0
    command = [
        sys.executable,
        "-m",
        "tests.kills",
        "--kills",
        "4",
        "--full",
        str(full),
        "--kinds",
        "pretrain,supervised",
    ]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["kills"], found["full_disks"]) == (4, full)


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
