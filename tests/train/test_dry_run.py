"""What `train --dry-run` says: of every recipe with no data there, and against what a run then takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch._subclasses.fake_tensor import FakeTensorMode

from neuromoco.config import EncoderConfig, with_values
from neuromoco.datasets import list_data, read_recordings
from neuromoco.datasets.sizes import training_sizes
from neuromoco.encoders import Encoder, build_encoder, list_encoders
from neuromoco.encoders.blocks import recompute_blocks
from neuromoco.recipes import list_recipes, load_recipe
from neuromoco.snn import native
from neuromoco.train import train
from neuromoco.train.classify import ClassifyTask
from neuromoco.train.dry_run import dry_run, living_bytes, saved_tensor_bytes
from neuromoco.train.run_split import labelled_split
from tests.conftest import make_recording
from tests.helpers.cli import error_line, run

Folders = Callable[[int, int], Path]
SIZES = {"cifar10-dvs": 9000, "dvs128-gesture": 1176, "n-caltech101": 7795, "n-mnist": 60000, "digits": 1438}


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_says_what_it_takes_with_no_data_there(
    name: str, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data_root)
    monkeypatch.setenv("NEUROMOCO_CACHE", str(data_root / "cache"))
    config = load_recipe(name)
    result = run("train", "--recipe", name, "--dry-run", "--json")
    if config.data not in SIZES:  # a folder, which has to be made first
        assert f"{config.data}: does not exist" in error_line(result)
        return
    found = json.loads(result.stdout)
    assert found["recordings"] == SIZES[config.data]
    with FakeTensorMode():  # only its size counts
        encoder = build_encoder(config.encoder)
    for stage, facts in found["stages"].items():
        assert facts["parameters"]["encoder"] == sum(p.numel() for p in encoder.parameters())
        assert facts["steps"] == facts["epochs"] * facts["steps_an_epoch"]
        memory = facts["memory_bytes"]
        kept = memory["weights_and_optimizer"] + memory.get("queue", 0)
        assert memory["total"] == kept + max(memory["activations"] + memory["frames"], memory["evaluation"])
        assert memory["evaluation"] > 0
        assert memory["activations"] == facts["activation_bytes_a_recording"] * facts["recordings_a_pass"] > 0
        if stage == "pretrain":
            assert facts["steps_an_epoch"] == SIZES[config.data] // config.pretrain.batch_size
    assert list(data_root.iterdir()) == []


def test_a_person_reads_the_same(data_root: Path) -> None:
    shown = run("train", "--recipe", "cifar10-dvs-sew", "--dry-run").stdout
    assert "9,000 recordings to train on, 10 classes" in shown
    assert "200 epochs of 140 steps, 28,000 in total" in shown
    assert "a queue of 4,096 keys, 46% of the recordings" in shown
    assert "--dry-run" not in error_line(run("train", "--dry-run", "--data", data_root / "none"))
    assert "give it alone" in error_line(run("train", "--dry-run", "--resume", data_root))


def really_kept(encoder: Encoder, frames: torch.Tensor) -> int:
    """Bytes of all that autograd keeps, weights and frames left out."""
    known = {t.untyped_storage().data_ptr() for t in (*encoder.parameters(), frames)}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in known:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        features = encoder(frames)
    assert features.requires_grad
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("name", sorted(set(list_encoders()) - {"sew_resnet18", "spikformer_2_256"}))
@pytest.mark.parametrize("again", [False, True])
def test_what_is_counted_without_values_is_kept_with_them(
    name: str, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "library", lambda: None)  # the compiled pass of CPUs keeps less
    config = EncoderConfig(name=name)
    with FakeTensorMode():
        encoder = build_encoder(config)
        counted = saved_tensor_bytes(encoder.train(), torch.zeros(2, 1, 2, 24, 24), half=False)
    encoder = build_encoder(config).train()
    if again:
        recompute_blocks(encoder)
    inside = 0 if again else sum(counted.inside)
    expected = inside + counted.outside + (counted.inputs if again else 0)
    assert expected == really_kept(encoder, torch.zeros(2, 1, 2, 24, 24)) > 0


def test_recomputing_and_16_bits_take_less() -> None:
    def activations(**compute: object) -> int:
        config = with_values(load_recipe("tiny"), {f"compute.{name}": value for name, value in compute.items()})
        found: int = dry_run(config)["stages"]["supervised"]["memory_bytes"]["activations"]
        return found

    full = activations()
    assert activations(precision="bf16") < full
    assert activations(recompute_blocks=True) < full


def test_a_folder_is_counted_as_a_run_then_uses_it(class_folders: Folders, tmp_path: Path) -> None:
    small = {"frames": {"steps": 2, "height": 16, "width": 16}, "encoder.options": {"width": 4}, "stage": "all"}
    small |= {"watch.samples": 0}
    small |= {"pretrain.epochs": 2, "pretrain.batch_size": 4, "finetune.epochs": 2, "finetune.batch_size": 4}
    small["supervised.epochs"] = 1
    config = with_values(load_recipe("tiny"), small | {"data": str(class_folders(2, 9)), "pretrain.share": 0.5})
    plan = dry_run(config)
    assert plan["comparison"] == {"networks": 8, "folds": 3}
    found = plan["stages"]
    train(config, tmp_path / "run", "cpu")
    for stage in ("pretrain", "finetune", "supervised"):
        split = json.loads((tmp_path / f"run/{stage}/split.json").read_text())
        assert found[stage]["recordings"] == len(split["train"])
        state = max((tmp_path / f"run/{stage}/state").glob("step-*"))
        assert found[stage]["steps"] == int(state.name.removeprefix("step-"))


def test_a_pool_is_counted_as_training_then_takes_it(class_folders: Folders) -> None:
    small = {"frames": {"steps": 2, "height": 12, "width": 12}, "encoder.options": {"width": 4}, "stage": "supervised"}
    small |= {"supervised.batch_size": 6, "supervised.accumulate": 2, "supervised.labels_per_class": 3}
    small |= {"data": str(class_folders(2, 9)), "held_out": {"folds": 3, "fold": 0}}
    without = with_values(load_recipe("tiny"), small)
    config = with_values(without, {"supervised.pool": {"share": 3}})
    recordings = read_recordings(str(config.data), config.frames, "train", labelled=True)
    split = labelled_split(recordings.listing, config, config.supervised)
    task = ClassifyTask(config, build_encoder(config.encoder), recordings, split, Accelerator(cpu=True))
    assert task._pool
    assert task._taught
    counted, alone = (dry_run(one)["stages"]["supervised"] for one in (config, without))
    assert counted["pool"] == {"recordings": len(task._pool.data.indices), "recordings_a_pass": task._pool.size}
    assert "pool" not in alone
    taken: list[torch.Tensor] = []
    task._taught.register_forward_pre_hook(lambda _, given: taken.append(given[0]))
    task.losses(task._taught, tuple(next(iter(task.loader))), 0)
    passes = counted["recordings_a_pass"] + counted["pool"]["recordings_a_pass"]
    assert [frames.shape[1] for frames in taken] == [passes]
    memory = counted["memory_bytes"]
    assert memory["activations"] == passes * counted["activation_bytes_a_recording"]
    teacher = sum(4 * parameter.numel() for parameter in task._taught.teacher.parameters())
    assert memory["weights_and_optimizer"] - alone["memory_bytes"]["weights_and_optimizer"] == teacher
    assert memory["frames"] > alone["memory_bytes"]["frames"]


def test_the_size_of_the_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROMOCO_CACHE", str(tmp_path))
    one = make_recording(0)
    monkeypatch.setattr("neuromoco.datasets.digits.record", lambda *_, **__: one)  # only their number counts
    listing = list_data("digits", "train")
    sizes, classes = training_sizes("digits")
    assert (sum(sizes), len(sizes), classes) == (len(listing), len(listing.class_names), True)


def test_evaluation_needs_what_lives_at_a_time() -> None:
    """At least one layer's input and output, and less than all that a training pass keeps."""
    with FakeTensorMode():
        encoder = build_encoder(load_recipe("dvs128-gesture-spikformer").encoder)
        frames = torch.zeros(4, 1, 2, 64, 64)
        sizes: list[int] = []
        for module in encoder.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.register_forward_hook(lambda _, given, result: sizes.append(given[0].nbytes + result.nbytes))
        kept = saved_tensor_bytes(encoder.train(), frames, half=False)
        with torch.no_grad():
            living = living_bytes(encoder.eval(), frames)
    assert max(sizes) <= living < kept.outside + sum(kept.inside)
