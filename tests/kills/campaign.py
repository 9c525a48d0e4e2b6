"""Kills training at random moments, and fills its disk; it must always end as if nothing had happened, bit for bit."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from neuromoco.checkpoint import load_tensors
from neuromoco.config import RunConfig, dump_config
from neuromoco.events import write_atis
from neuromoco.train.run_folder import RunFolder
from tests.conftest import make_recording
from tests.helpers.small_runs import small_settings

KINDS = ("pretrain", "supervised", "all", "joint", "sweep")
ROOT = Path(__file__).parents[2]
KILLED = -9
TIMES = ("seconds", "samples_per_s")
LONGEST_S = 300.0
FRESH_KERNELS = 0.1  # share of the lives that load the kernels, and at first compile them
FULL_SHARE = 0.8  # of the lives on a disk that is filled; the others have room
PAGE = 4096
ROOM = 1 << 30
WATCHED = {"watch.samples": 256}
SWEEP = {
    "recipe": "tiny",
    "folds": 2,
    "seeds": 1,
    "measures": ["finetune", "supervised", "knn"],
    "labels_per_class": [1],
    "set": {
        "frames": {"steps": 2, "height": 16, "width": 16},
        "encoder.options": {"width": 4},
        "pretrain.epochs": 2,
        "pretrain.batch_size": 4,
        "pretrain.moco.queue_size": 4,
        "pretrain.optimizer.warmup_epochs": 0,
        "finetune.epochs": 2,
        "supervised.epochs": 2,
        "compute.save_minutes": 0.0,
    },
}


def settings(data: Path, stage: str, **values: Any) -> RunConfig:
    """Settings that write a state after every step."""
    own = {"supervised.mixup": 0.5, "supervised.views": {}, "compute.save_minutes": 0.0}
    return small_settings(data, stage, 4, own | values)


def write_inputs(folder: Path) -> dict[str, Path]:
    """Writes two sets of recordings, and the file of settings of each kind."""
    for name, begin in (("data", 0), ("more", 500)):
        for label in range(2):
            for number in range(6):
                place = folder / name / f"class{label}"
                place.mkdir(parents=True, exist_ok=True)
                write_atis(place / f"{number:03d}.bin", make_recording(begin + label * 1000 + number, label=label))
    data, files = folder / "data", {kind: folder / f"{kind}.yaml" for kind in KINDS}
    for kind in ("pretrain", "supervised"):
        files[kind].write_text(dump_config(settings(data, kind, **WATCHED)))
    tuning = WATCHED | {"finetune.epochs": 2, "finetune.batch_size": 4, "finetune.labels_per_class": 3}
    files["all"].write_text(dump_config(settings(data, "all", **tuning)))
    joint = settings(data, "pretrain", **WATCHED).model_copy(update={"data": (str(data), str(folder / "more"))})
    files["joint"].write_text(dump_config(joint))
    files["sweep"].write_text(yaml.safe_dump(SWEEP | {"data": str(data)}))
    return files


class Lives:
    """Trains in processes that live for so many seconds at most."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        command, pipe = [sys.executable, "-m", "tests.kills.worker"], subprocess.PIPE
        self._worker = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1, cwd=ROOT)

    def live(self, place: Path, file: Path, seconds: float = LONGEST_S) -> tuple[int, float, str]:
        """Goes on with the run in `place/run`, with the cache `place/cache`: exit code, seconds, line of the error."""
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        task = {"folder": str(place / "run"), "settings": str(file), "cache": str(place / "cache"), "seconds": seconds}
        print(json.dumps(task | {"kernels": self.rng.random() < FRESH_KERNELS}), file=self._worker.stdin)
        code, lived, line = json.loads(self._worker.stdout.readline())
        return code, lived, line

    def end(self) -> None:
        """Ends the process that everything is forked from."""
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        self._worker.stdin.close()
        self._worker.stdout.close()
        self._worker.wait()


def outcome(run: Path) -> dict[str, Any]:
    """Everything that must be the same: weights and metrics of each run in a folder, and the results of a sweep."""
    found: dict[str, Any] = {}
    for file in sorted(run.rglob("metrics.jsonl")):
        folder, name = RunFolder(file.parent), str(file.parent.relative_to(run))
        found[f"{name}: metrics"] = [{k: v for k, v in line.items() if k not in TIMES} for line in folder.history()]
        found |= {f"{name}: {tensor}": value for tensor, value in load_tensors(folder.last).items()}
    for file in sorted(run.rglob("probe/weights/last.safetensors")):
        found |= {f"{file.relative_to(run)}: {tensor}": value for tensor, value in load_tensors(file).items()}
    for file in sorted(run.rglob("result*.json")):
        found[str(file.relative_to(run))] = json.loads(file.read_text())
    return found


def assert_same(run: Path, whole: Path) -> None:
    """Raises AssertionError unless a run ended as the whole one, and left nothing half-written."""
    found, wanted = outcome(run), outcome(whole)
    assert wanted
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        same = torch.equal(found[name], value) if isinstance(value, torch.Tensor) else found[name] == value
        assert same, f"{run}: {name}"
    assert half_written(run) == []


def half_written(folder: Path) -> list[str]:
    """Files and folders that were not given their names."""
    return [str(path) for path in folder.rglob(".*") if path.name.endswith((".part", ".new", ".old"))]


@dataclass
class Campaign:
    """Inputs, and a whole run of each kind to compare with.

    Attributes:
        folder: where everything is.
        lives: runs them.
        files: kind -> file of settings.
        whole: kind -> folder of the whole run; these kinds are run.
        lasted: kind -> seconds that it took.
    """

    folder: Path
    lives: Lives
    files: dict[str, Path]
    whole: dict[str, Path]
    lasted: dict[str, float]

    def kill(self, kills: int) -> int:
        """Kills runs at random moments until so many are killed, each until it ends; returns the number of runs."""
        done = runs = 0
        while done < kills:
            kind, place = list(self.whole)[runs % len(self.whole)], self.folder / f"killed-{runs}"
            code = KILLED
            while code == KILLED:
                moment = self.lives.rng.uniform(0.0, self.lasted[kind]) if done < kills else LONGEST_S
                code, _, line = self.lives.live(place, self.files[kind], moment)
                done += code == KILLED
            assert code == 0, line
            assert_same(place / "run", self.whole[kind])
            shutil.rmtree(place)
            runs += 1
        return runs

    def fill(self, times: int) -> int:
        """Lets runs end at a full disk so many times, each until it has room and ends; returns the number of runs."""
        done = runs = 0
        while done < times:
            kind, disk = list(self.whole)[runs % len(self.whole)], self.folder / "disk"
            used = sum(file.stat().st_size + PAGE for file in self.whole[kind].parent.rglob("*"))
            with small_disk(disk) as resize:
                code = 1
                while code:
                    full = done < times and self.lives.rng.random() < FULL_SHARE
                    resize(self.lives.rng.randint(0, used) if full else ROOM)
                    code, _, line = self.lives.live(disk, self.files[kind])
                    if code:
                        assert full, f"{code}: {line}"
                        assert code in (1, 2), f"{code}: {line}"  # no signal, no traceback
                        assert "disk is full" in line or "are free" in line, line
                        assert "\n" not in line, line
                        assert half_written(disk / "run") == []
                        done += 1
                assert_same(disk / "run", self.whole[kind])
            runs += 1
        return runs


@contextmanager
def campaign(folder: Path, seed: int, kinds: Sequence[str]) -> Iterator[Campaign]:
    """Makes the inputs in a folder, and runs each kind whole."""
    lives, files = Lives(random.Random(seed)), write_inputs(folder)
    try:
        whole, lasted = {}, {}
        for kind in kinds:
            code, lasted[kind], line = lives.live(folder / f"whole-{kind}", files[kind])
            assert code == 0, line
            whole[kind] = folder / f"whole-{kind}" / "run"
        yield Campaign(folder, lives, files, whole, lasted)
    finally:
        lives.end()


@contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[int], object]]:
    """Mounts a disk in memory at a folder; yields a function that gives it so many free bytes."""
    folder.mkdir(exist_ok=True)

    def resize(free: int) -> None:
        state = os.statvfs(folder)
        taken = (state.f_blocks - state.f_bfree) * state.f_frsize
        subprocess.run(["mount", "-o", f"remount,size={max(PAGE, taken + free)}", str(folder)], check=True)

    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM},mode=700", "tmpfs", str(folder)], check=True)
    try:
        yield resize
    finally:
        subprocess.run(["umount", str(folder)], check=True)
