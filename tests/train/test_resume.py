"""kill -9 at any moment, go on, and the weights and metrics are those of a run that nothing stopped."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from neuromoco import ConfigError
from neuromoco.checkpoint import load_tensors
from neuromoco.config import RunConfig, dump_config
from neuromoco.train import resume, train
from neuromoco.train.run_folder import RunFolder
from neuromoco.train.state import States
from tests.helpers.small_runs import small_settings

Folders = Callable[[int, int], Path]
KILLS = 20
TIMES = ("seconds", "samples_per_s")


@pytest.fixture(autouse=True)
def _a_state_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """However short the epoch is."""
    monkeypatch.setattr("neuromoco.train.loop.SHORT_EPOCH_S", 0.0)


def settings(data: Path, stage: str, **values: Any) -> RunConfig:
    # A state after every step.
    own = {"supervised.mixup": 0.5, "supervised.views": {}, "compute.save_minutes": 0.0}
    return small_settings(data, stage, 4, own | values)


def outcome(run: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    folder = RunFolder(run)
    lines = [{name: v for name, v in line.items() if name not in TIMES} for line in folder.history()]
    return load_tensors(folder.last), lines


def assert_same(run: Path, whole: Path) -> None:
    (weights, lines), (expected, expected_lines) = outcome(run), outcome(whole)
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)
    assert lines == expected_lines
    assert not [p for p in run.rglob("*") if p.name.endswith(".part")]


@pytest.fixture
def lives() -> Iterator[Callable[[Path, Path, float], tuple[int, float]]]:
    """Trains, or resumes, for some seconds: (run folder, settings, seconds) -> code, seconds."""
    worker = subprocess.Popen(
        [sys.executable, str(Path(__file__).parents[1] / "helpers/resume_worker.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert worker.stdin is not None
    assert worker.stdout is not None

    def live(run: Path, config: Path, seconds: float) -> tuple[int, float]:
        worker.stdin.write(f"{run}\t{config}\t{seconds}\n")
        code, lived = worker.stdout.readline().split()
        return int(code), float(lived)

    yield live
    worker.stdin.close()
    worker.stdout.close()
    worker.kill()
    worker.wait()


def test_killed_at_random_moments_it_ends_in_the_same_weights(
    class_folders: Folders, tmp_path: Path, lives: Callable[[Path, Path, float], tuple[int, float]]
) -> None:
    """Beginning, training, writing a state, weights or metrics: whatever it was doing."""
    data = class_folders(2, 6)
    whole, files, lasted = {}, {}, {}
    for stage in ("pretrain", "supervised"):
        files[stage], whole[stage] = tmp_path / f"{stage}.yaml", tmp_path / f"{stage}-whole"
        files[stage].write_text(dump_config(settings(data, stage)))
        code, lasted[stage] = lives(whole[stage], files[stage], 60)
        assert code == 0
    rng, kills, runs = random.Random(), 0, 0
    while kills < KILLS:
        stage = ("pretrain", "supervised")[runs % 2]
        run = tmp_path / f"run-{runs}"
        code = -9
        while code == -9:
            moment = rng.uniform(0.0, lasted[stage]) if kills < KILLS else 60.0
            code, _ = lives(run, files[stage], moment)
            kills += code == -9
        assert code == 0
        assert_same(run, whole[stage])
        runs += 1


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
