"""The stages by name: settings in, a finished run folder out."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import set_seed
from rich.markup import escape

from neuromoco.checkpoint import SeenRecordings, read_header
from neuromoco.config import ClassifyConfig, RunConfig
from neuromoco.datasets import (
    FrameStore,
    Listing,
    Reader,
    Split,
    describe_split,
    hold_out,
    list_data,
    read_recordings,
    split_by_class,
)
from neuromoco.encoders import Encoder, build_encoder
from neuromoco.encoders.blocks import recompute_blocks
from neuromoco.errors import CheckpointError, ConfigError, NeuromocoError
from neuromoco.support.console import console
from neuromoco.support.files import write_json
from neuromoco.train.classify import ClassifyTask
from neuromoco.train.loop import fit
from neuromoco.train.pretrain import PretrainTask
from neuromoco.train.processes import build_accelerator, divide_batch, in_turn
from neuromoco.train.run_folder import RunFolder
from neuromoco.train.task import Task
from neuromoco.train.trackers import check_trackers


def train(config: RunConfig, out: Path, device: str = "auto", read: Reader = read_recordings) -> dict[str, Any]:
    """Makes a new run. If it cannot begin, it leaves no folder behind.

    Args:
        config: the complete settings.
        out: the run folder, new or empty. With stage "all" it holds the folders of both stages.
        device: "auto", "cpu" or "cuda".
        read: where recordings come from; whoever makes many runs gives one that remembers.

    Returns:
        The figures of `metrics.json`; of the last stage where there are two.

    Raises:
        ConfigError: settings, data or folder are not usable.
        EventFileError: a recording cannot be read.
        CheckpointError: `init` cannot be used.
    """
    run = RunFolder(out)
    accelerator = build_accelerator(device, config.seed, config.compute)

    def check() -> RunConfig:
        run.check_free()
        check_trackers(config.watch.trackers)
        return settled(config)

    config = in_turn(accelerator, check)
    if accelerator.is_main_process:
        run.drop_parts()
        run.begin(config)
    try:
        if config.stage == "all":  # better now than after the pre-training
            in_turn(accelerator, lambda: _finetune_will_begin(config, accelerator))
        return _continue(run, config, accelerator, read)
    except NeuromocoError:
        if accelerator.is_main_process and not _holds_work(run.path):
            shutil.rmtree(run.path, ignore_errors=True)
        raise


def _holds_work(folder: Path) -> bool:
    """Whether there is an epoch, or a state within one, to go on from."""
    return any(any(folder.rglob(name)) for name in ("metrics.jsonl", "step-*"))


def resume(out: Path, device: str = "auto", read: Reader = read_recordings) -> dict[str, Any]:
    """Goes on with a run that was interrupted, with the settings in its folder. Raises as `train`."""
    run, config = RunFolder.open(out)
    if run.is_complete:
        raise ConfigError(f"{out}: is complete; its weights are in {run.last.parent}")
    accelerator = build_accelerator(device, config.seed, config.compute)
    accelerator.wait_for_everyone()  # before the first process may write
    if accelerator.is_main_process:
        run.drop_parts()
        run.begin(config)
    return _continue(run, config, accelerator, read)


def best_weights(out: Path) -> Path:
    """The weights of a finished run to use: `best` where validation chose one, else `last`."""
    run = RunFolder(out / "finetune" if (out / "finetune").is_dir() else out)
    return run.best if run.best.is_file() else run.last


def settled(config: RunConfig) -> RunConfig:
    """The settings with what a checkpoint to begin from decides; raises as `train`."""
    if config.stage != "finetune":
        if config.init:
            raise ConfigError(f"--init is for --stage finetune, not {config.stage}")
        return config
    if not config.init:
        raise ConfigError(
            "--stage finetune needs a pre-trained encoder: --init runs/.../weights/last.safetensors "
            "(or --stage supervised to train from scratch)"
        )
    header = read_header(config.init)
    if header.kind != "encoder" and not config.finetune.quantize:
        raise CheckpointError(
            f"{config.init}: is a trained classifier; --init takes a pre-trained encoder (a classifier with --quantize)"
        )
    # Weights fix what they were trained with: network and frames come from the checkpoint.
    return config.model_copy(update={"encoder": header.encoder, "frames": header.frames})


def _continue(run: RunFolder, config: RunConfig, accelerator: Accelerator, read: Reader) -> dict[str, Any]:
    if config.stage != "all":
        return _one_stage(run, config, accelerator, read)
    before, after = RunFolder(run.path / "pretrain"), RunFolder(run.path / "finetune")
    if not before.is_complete:
        _one_stage(before, config.model_copy(update={"stage": "pretrain"}), accelerator, read)
    tuned = settled(config.model_copy(update={"stage": "finetune", "init": str(before.last)}))
    summary = _one_stage(after, tuned, accelerator, read)
    if accelerator.is_main_process:
        write_json(run.summary, summary)
    return summary


def _one_stage(run: RunFolder, config: RunConfig, accelerator: Accelerator, read: Reader) -> dict[str, Any]:
    if accelerator.is_main_process:
        run.begin(config)
    set_seed(config.seed)
    task = in_turn(accelerator, lambda: _task(run, config, accelerator, read))
    size = sum(parameter.numel() for parameter in task.model.parameters() if parameter.requires_grad)
    what = f"[bold]{config.stage}[/] {config.encoder.name}, {size / 1e3:.0f} k parameters to learn"
    console.print(f"{what}, in {escape(str(run.path))}", soft_wrap=True)
    return fit(task, run, accelerator, config.compute)


def _task(run: RunFolder, config: RunConfig, accelerator: Accelerator, read: Reader) -> Task:
    if not run.is_begun:
        raise ConfigError(f"{run.path}: this machine does not see it; --out must be on a disk that all machines share")
    encoder = build_encoder(config.encoder)
    if config.compute.recompute_blocks:
        recompute_blocks(encoder)
    if config.stage == "pretrain":
        return _pretrain_task(run, config, encoder, accelerator, read)
    return _classify_task(run, config, encoder, accelerator, read)


def _pretrain_task(
    run: RunFolder, config: RunConfig, encoder: Encoder, accelerator: Accelerator, read: Reader
) -> PretrainTask:
    listing, store = read(config.data, config.frames, "train", labelled=False)
    split = Split(pretrain_members(listing, config), ())
    task = PretrainTask(config, encoder, store, split.train, _seen(store, split.train), accelerator, listing.labels)
    _keep_split(run, describe_split(listing, split, config.seed), accelerator)
    return task


def _classify_task(
    run: RunFolder, config: RunConfig, encoder: Encoder, accelerator: Accelerator, read: Reader
) -> ClassifyTask:
    settings = config.finetune if config.stage == "finetune" else config.supervised
    listing, store = read(config.data, config.frames, "train", labelled=True)
    split = labelled_split(listing, config, settings)
    task = ClassifyTask(config, settings, encoder, listing, split, store, _seen(store, split.train), accelerator)
    _keep_split(run, describe_split(listing, split, config.seed), accelerator)
    console.print(f"{len(split.train)} recordings to train on, {len(split.validation)} to validate on")
    return task


def _finetune_will_begin(config: RunConfig, accelerator: Accelerator) -> None:
    labelled_split(list_data(config.labelled_data, "train"), config, config.finetune)
    divide_batch("finetune", config.finetune.batch_size, config.finetune.accumulate, accelerator.num_processes)


def _keep_split(run: RunFolder, split: dict[str, Any], accelerator: Accelerator) -> None:
    """Writes a new run's split; a run that goes on must find the one that it began with."""
    before = run.split()
    if before is None:
        if accelerator.is_main_process:
            write_json(run.path / "split.json", split)
    elif before["sha256"] != split["sha256"]:
        raise ConfigError(
            f"{split['data']}: holds other recordings than when {run.path} was begun; "
            "put them back as its split.json lists them, or begin a new run"
        )


def _members(listing: Listing, config: RunConfig) -> tuple[int, ...]:
    """The recordings that a run may see."""
    held = config.held_out
    return hold_out(listing, held.folds, held.fold).train if held else tuple(range(len(listing)))


def pretrain_members(listing: Listing, config: RunConfig) -> tuple[int, ...]:
    """The recordings that a run with these settings pre-trains on."""
    members = np.random.default_rng(config.seed).permutation(_members(listing, config))
    return tuple(sorted(members[: round(config.pretrain.share * len(members))].tolist()))


def labelled_split(listing: Listing, config: RunConfig, settings: ClassifyConfig) -> Split:
    """The recordings that a run with these settings trains on with labels, and those it keeps to validate on."""
    members = _members(listing, config)
    labels = [listing.labels[i] for i in members]
    names = listing.class_names
    split = split_by_class(labels, settings.validation, settings.labels_per_class, config.seed, names)
    return Split(tuple(members[i] for i in split.train), tuple(members[i] for i in split.validation))


def _seen(store: FrameStore, indices: Sequence[int]) -> SeenRecordings:
    durations, events = store.durations[list(indices)], store.events[list(indices)]
    sensors, times = np.unique(store.sensors[list(indices)], axis=0, return_counts=True)
    height, width = sensors[times.argmax()]
    return SeenRecordings(
        count=len(durations),
        shortest_us=int(durations.min()),
        longest_us=int(durations.max()),
        fewest_events=int(events.min()),
        most_events=int(events.max()),
        sensor=(int(height), int(width)),
    )
