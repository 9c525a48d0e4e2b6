"""Ctrl-C and SIGTERM lose no step, and two processes never train in one folder."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neuromoco import ConfigError
from neuromoco.app.cli.main import app
from neuromoco.support.ending import EndRequest, Terminated
from neuromoco.train import resume, train
from neuromoco.train.pretrain import PretrainTask
from neuromoco.train.run_folder import RunFolder
from tests.kills.campaign import assert_same, settings

Folders = Callable[[int, int], Path]


def _ask_after(monkeypatch: pytest.MonkeyPatch, step: int, *signals: int) -> None:
    """Sends signals to this process within the step of this number, from 1; once."""
    steps, after = 0, PretrainTask.after_step

    def asked(self: PretrainTask, done: float) -> None:
        nonlocal steps
        steps += 1
        if steps == step:
            for number in signals:
                signal.raise_signal(number)
        after(self, done)

    monkeypatch.setattr(PretrainTask, "after_step", asked)


def test_a_run_that_is_asked_to_end_writes_the_step_that_it_reached(
    class_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after the last step, when all that is missing is the summary."""
    config = settings(class_folders(2, 6), "pretrain")
    before = signal.getsignal(signal.SIGTERM)
    steps = train(config, tmp_path / "whole", "cpu")["last"]["epoch"] * (12 // config.pretrain.batch_size)
    for step, number, error in (
        (2, signal.SIGTERM, Terminated),
        (1, signal.SIGINT, KeyboardInterrupt),
        (steps, signal.SIGTERM, Terminated),
    ):
        run = tmp_path / f"run-{step}"
        with monkeypatch.context() as patch:
            _ask_after(patch, step, number)
            with pytest.raises(error) as found:
                train(config, run, "cpu")
        assert type(found.value) is error
        assert RunFolder(run).list_states()[0].name == f"step-{step:09d}"
        assert not RunFolder(run).is_complete
        assert signal.getsignal(signal.SIGTERM) is before
        resume(run, "cpu")
        assert_same(run, tmp_path / "whole")


def test_a_second_request_ends_at_once(class_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _ask_after(monkeypatch, 2, signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(settings(class_folders(2, 6), "pretrain"), tmp_path / "run", "cpu")
    assert "step-000000002" not in [state.name for state in RunFolder(tmp_path / "run").list_states()]


def test_what_is_ignored_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with EndRequest() as request:
            signal.raise_signal(signal.SIGINT)
        assert request.signal == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_one_process_at_a_time_trains_in_a_folder(class_folders: Folders, tmp_path: Path) -> None:
    config, run = settings(class_folders(2, 6), "pretrain"), tmp_path / "run"
    with RunFolder(run).kept_alone():
        with pytest.raises(ConfigError, match="another process is training in it; wait until it ends, or give another"):
            train(config, run, "cpu")
        assert [path.name for path in run.iterdir()] == [".lock"]
    train(config, run, "cpu")
    (run / "metrics.json").unlink()
    with RunFolder(run).kept_alone(), pytest.raises(ConfigError, match="another process is training in it"):
        resume(run, "cpu")
    assert resume(run, "cpu")["last"]["epoch"] == config.pretrain.epochs


def test_sigterm_ends_the_command_with_its_own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("neuromoco.train.train", started)
    before = signal.getsignal(signal.SIGTERM)
    try:
        answer = CliRunner().invoke(app, ["train", "--recipe", "tiny", "--out", str(tmp_path / "run")])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert answer.exit_code == 143
    assert f"interrupted; to resume: neuromoco train --resume {tmp_path / 'run'}" in answer.stderr
