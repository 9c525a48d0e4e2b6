"""Training by stage: settings in, a finished run folder out."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from accelerate import Accelerator
from accelerate.utils import set_seed

from neuromoco.checkpoint import FINE_TUNED, PROBE, load_into, load_tensors
from neuromoco.config import RunConfig, with_values
from neuromoco.datasets import Listing, Reader, Recordings, Split, list_data, read_recordings
from neuromoco.datasets.keys import files_digest
from neuromoco.datasets.splits import describe_split
from neuromoco.encoders import build_encoder
from neuromoco.encoders.blocks import recompute_blocks
from neuromoco.errors import ConfigError, NeuromocoError
from neuromoco.support.console import console, escape
from neuromoco.support.files import read_json, write_json
from neuromoco.train.classify import Answers, ClassifyTask
from neuromoco.train.compare import WORDS, announcement, choose, compared_folds, compared_settings, comparison_line
from neuromoco.train.folds import FoldTask, split_in_folds, train_in_folds
from neuromoco.train.linear_probe import fit_probe
from neuromoco.train.loop import DivergedError, fit
from neuromoco.train.pretrain import PretrainTask
from neuromoco.train.processes import build_accelerator, divide_batch, main_process_first
from neuromoco.train.rival_task import RivalTask
from neuromoco.train.run_folder import RunFolder, keeping_alone
from neuromoco.train.run_split import labelled_split, split_line, split_of, write_or_check_split
from neuromoco.train.start import load_foreign_init, resolve_init
from neuromoco.train.task import Task
from neuromoco.train.trackers import check_trackers


def train(config: RunConfig, out: Path | str, device: str = "auto", read: Reader = read_recordings) -> dict[str, Any]:
    """Trains an encoder or a classifier and writes everything about the run to a folder.

    The folder receives `config.yaml` (the settings), `environment.json` (versions and machine), `split.json` (training
    and validation recordings), `left_out.json` (files that could not be read, if these are skipped), `metrics.jsonl`
    (one line per epoch), `curves.png`, `metrics.json` (last and chosen epoch), `weights/last.safetensors`,
    `weights/best.safetensors` if there is a validation set, and `state/`, from which `resume` continues after an
    interruption. If training cannot start, no folder is left behind.

    Args:
        config: complete settings, for example of `neuromoco.recipes.load_recipe`. `config.stage` is "pretrain" (without
            labels), "finetune" (needs `config.init`, from which "pretrain" and "all" may start, too), "supervised"
            (from scratch), or "all": pretrain, then finetune, and, unless `config.compare` is false, from scratch and
            a linear probe, of which the best is kept.
        out: the run folder, new or empty. Stage "all" writes its runs to `out/pretrain`, `out/finetune`,
            `out/supervised` and `out/probe`.
        device: "auto" (CUDA if there is one), "cpu" or "cuda".
        read: returns the recordings and their frames; the default reads from disk and caches the frames.

    Returns:
        The content of `metrics.json`: "last" and "best" (None without validation), each the metrics of an epoch by
        name. Rates of metrics are 0 to 1, "seconds" are of the epoch. Of stage "all", those of the classifier that is
        kept; "kept" is its folder, and "comparison", if it was compared, has the accuracies of all.

    Raises:
        ConfigError: settings, data or folder cannot be used, or the loss became infinite or NaN.
        EventFileError: a recording cannot be read.
        CheckpointError: `config.init` cannot be used.
        MissingExtraError: the data set "digits" needs scikit-learn.

    Examples:
        >>> import neuromoco
        >>> from neuromoco.config import with_values
        >>> changes = {"stage": "pretrain", "data": "models/examples", "pretrain.epochs": 2, "pretrain.batch_size": 8}
        >>> config = with_values(neuromoco.load_recipe("tiny"), changes)
        >>> summary = neuromoco.train(config, "runs/digits", device="cpu")
        >>> summary["last"]["epoch"]
        2
    """
    run = RunFolder(out)
    accelerator = build_accelerator(device, config.seed, config.compute)

    def check() -> RunConfig:
        run.check_free()
        check_trackers(config.watch.trackers)
        return resolve_init(config)

    config = main_process_first(accelerator, check)
    with keeping_alone(run, accelerator, run.check_free):
        try:
            _begin(run, config, accelerator)
            if config.stage == "all":  # fails before the pre-training rather than after it
                main_process_first(accelerator, lambda: _check_labels(config, accelerator))
            return _run_stages(run, config, accelerator, read)
        except NeuromocoError:
            # Without an epoch, or a state within one, there is nothing to resume.
            begun = any(any(run.path.rglob(name)) for name in ("metrics.jsonl", "step-*"))
            if accelerator.is_main_process and not begun:
                shutil.rmtree(run.path, ignore_errors=True)
            raise


def resume(out: Path | str, device: str = "auto", read: Reader = read_recordings) -> dict[str, Any]:
    """Continues an interrupted run with the settings in its folder.

    The run ends with the same weights and metrics as without the interruption, on the same machine and with the same
    number of processes.

    Args:
        out: the run folder that `train` has started. It is completed as `train` describes.
        device: "auto" (CUDA if there is one), "cpu" or "cuda".
        read: returns the recordings and their frames; the default reads from disk and caches the frames.

    Returns:
        The content of `metrics.json`, as `train` returns it.

    Raises:
        ConfigError: the folder holds no run or a complete one, the recordings have changed, or another number of
            processes started it.
        EventFileError: a recording cannot be read.
        CheckpointError: the checkpoint to start from cannot be used.

    Examples:
        >>> from neuromoco.train import resume
        >>> summary = resume("runs/digits")  # doctest: +SKIP
        >>> summary["last"]["epoch"]  # doctest: +SKIP
        100
    """
    run, config = RunFolder.open(out)
    accelerator = build_accelerator(device, config.seed, config.compute)

    def check() -> None:
        if run.is_complete:
            raise ConfigError(f"{out}: is complete; its weights are in {run.last.parent}")

    with keeping_alone(run, accelerator, check):
        _begin(run, config, accelerator)
        return _run_stages(run, config, accelerator, read)


def _begin(run: RunFolder, config: RunConfig, accelerator: Accelerator) -> None:
    if accelerator.is_main_process:
        run.remove_partial_files()
        run.begin(config, accelerator.device.type)


def _run_stages(run: RunFolder, config: RunConfig, accelerator: Accelerator, read: Reader) -> dict[str, Any]:
    if config.stage != "all":
        return _run_stage(run, config, accelerator, read)
    pretrained = RunFolder(run.path / "pretrain")
    if not pretrained.is_complete:
        _run_stage(pretrained, config.model_copy(update={"stage": "pretrain"}), accelerator, read)
    begin = {"stage": "finetune", "init": str(pretrained.last), "init_from": None}
    tuning = resolve_init(config.model_copy(update=begin))
    if config.compare:
        summary = _compare(run, tuning, pretrained, accelerator, read)
    else:
        summary = _run_stage(RunFolder(run.path / FINE_TUNED), tuning, accelerator, read)
    if accelerator.is_main_process:
        write_json(run.summary, summary)
    return summary


def _compare(
    run: RunFolder, config: RunConfig, pretrained: RunFolder, accelerator: Accelerator, read: Reader
) -> dict[str, Any]:
    """Trains the candidates, each in a folder of its own; returns the summary of the best, with the comparison."""
    summaries: dict[str, dict[str, Any]] = {}
    answers: dict[str, Answers] = {}
    for name, settings in compared_settings(config).items():
        folder = RunFolder(run.path / name)
        task = _begin_with_labels(folder, settings, accelerator, read)
        if name == FINE_TUNED:
            rate = pretrained.history()[-1]["samples_per_s"]
            console.print(announcement(task, config.supervised, rate), soft_wrap=True)
        splits = compared_folds(task)
        try:
            if name == PROBE:
                summaries[name] = fit_probe(task, splits, folder)
            else:
                task = _folded(task, splits, folder, accelerator, read)
                summaries[name] = _fit(task, folder, accelerator)
        except DivergedError as error:
            if name == FINE_TUNED:
                raise
            console.print(f"{WORDS[name]} is left out of the comparison: {escape(str(error))}", soft_wrap=True)
            continue
        held_out = task.held_out_answers(folder)
        if held_out is None:  # nothing to compare on
            return summaries[name] | {"kept": name}
        answers[name] = held_out
    found = choose(answers, "folds" if splits else "validation").to_json()
    console.print(comparison_line(found), soft_wrap=True)
    return summaries[found["kept"]] | {"kept": found["kept"], "comparison": found}


def _run_stage(run: RunFolder, config: RunConfig, accelerator: Accelerator, read: Reader) -> dict[str, Any]:
    if config.stage == "pretrain":
        return _fit(_begun_task(run, config, accelerator, read), run, accelerator)
    task = _begin_with_labels(run, config, accelerator, read)
    if task.settings.calibration_folds and not task.split.validation:
        splits = split_in_folds(task)
        if not splits:
            console.print("not calibrated: too few labelled recordings, or groups, to train in folds", soft_wrap=True)
        task = _folded(task, splits, run, accelerator, read)
    return _fit(task, run, accelerator)


def _begin_with_labels(run: RunFolder, config: RunConfig, accelerator: Accelerator, read: Reader) -> ClassifyTask:
    return cast(ClassifyTask, _begun_task(run, resolve_init(config), accelerator, read))


def _begun_task(run: RunFolder, config: RunConfig, accelerator: Accelerator, read: Reader) -> Task:
    if accelerator.is_main_process:
        run.begin(config, accelerator.device.type)
    return _seeded_task(run, config, accelerator, read)


def _seeded_task(run: RunFolder, config: RunConfig, accelerator: Accelerator, read: Reader) -> Task:
    set_seed(config.seed)
    return main_process_first(accelerator, lambda: _build_task(run, config, accelerator, read))


def _fit(task: Task, run: RunFolder, accelerator: Accelerator) -> dict[str, Any]:
    """Trains the task of a run, unless that is done; returns its summary."""
    if run.is_complete:
        return read_json(run.summary)
    size = sum(parameter.numel() for parameter in task.model.parameters() if parameter.requires_grad)
    what = f"[bold]{task.config.stage}[/] {task.config.encoder.name}, {size / 1e3:.0f} k trainable parameters"
    console.print(f"{what}, in {escape(str(run.path))}", soft_wrap=True)
    return fit(task, run, accelerator, task.config.compute)


def _folded(
    task: ClassifyTask, splits: Sequence[Split], run: RunFolder, accelerator: Accelerator, read: Reader
) -> ClassifyTask:
    """The task, with the answers of networks that were trained without the recordings that they answer for."""
    if not splits:
        return task
    config = task.config.model_copy(update={"watch": task.config.watch.model_copy(update={"trackers": ()})})
    recordings = Recordings(task.listing, task.store, config.frames, sliced=task.sliced)

    def build(split: Split) -> ClassifyTask:
        return FoldTask(config, build_encoder(config.encoder), recordings, split, accelerator)

    folded = train_in_folds(task, splits, build, run, accelerator)
    task = cast(ClassifyTask, _seeded_task(run, task.config, accelerator, read))  # as without folds
    task.folded = folded
    return task


def _build_task(run: RunFolder, config: RunConfig, accelerator: Accelerator, read: Reader) -> Task:
    if not run.is_begun:
        raise ConfigError(f"{run.path}: not visible on this machine; --out must be on a disk that all machines share")
    encoder = build_encoder(config.encoder)
    if config.compute.recompute_blocks:
        recompute_blocks(encoder)
    pretraining = config.stage == "pretrain"
    if pretraining and config.init_from:
        load_foreign_init(encoder, config)
    elif pretraining and config.init:
        load_into(encoder, load_tensors(config.init), config.init)
    recordings = read(config.data, config.frames, "train", not pretraining, config.recordings)
    views = getattr(config, config.stage).views
    if views and views.slices > 1:
        steps = config.frames.steps * views.slices
        finer = with_values(config, {"frames": {**recordings.frames.model_dump(), "steps": steps}}).frames
        sliced = read(config.data, finer, "train", not pretraining, config.recordings).store
        recordings = recordings._replace(sliced=sliced)
    config, listing = config.model_copy(update={"frames": recordings.frames}), recordings.listing
    if accelerator.is_main_process and recordings.left_out:
        write_json(run.left_out, {problem.file: problem.reason for problem in recordings.left_out})
    split = split_of(run, listing, config)
    if pretraining:
        kind = PretrainTask if config.pretrain.method == "moco" else RivalTask
        task: Task = kind(config, encoder, recordings, split, accelerator)
    else:
        _check_classes(listing)
        task = ClassifyTask(config, encoder, recordings, split, accelerator)
        console.print(split_line(split))
    content = describe_split(listing, split, config.seed, recordings.store.keys)
    content["files_sha256"] = files_digest(listing)
    write_or_check_split(run, content, accelerator)
    return task


def _check_labels(config: RunConfig, accelerator: Accelerator) -> None:
    """Raises what would stop the stages with labels."""
    listing = list_data(config.labelled_data, "train", recordings=config.recordings)
    _check_classes(listing)
    labelled_split(listing, config, config.finetune)
    stages = ("finetune", "supervised") if config.compare else ("finetune",)
    for stage in stages:
        settings = getattr(config, stage)
        divide_batch(stage, settings.batch_size, settings.accumulate, accelerator.num_processes)
    if config.compare:
        compared_settings(config)


def _check_classes(listing: Listing) -> None:
    if len(listing.class_names) < 2:
        raise ConfigError(f"{listing.root}: holds one class, {listing.class_names[0]}; a classifier needs two or more")
