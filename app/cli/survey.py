"""The command that surveys a set of recordings and advises settings."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from neuromoco.app.cli.arguments import crop_in
from neuromoco.app.cli.command_group import AsJson, Quiet, app, out, print_json
from neuromoco.app.cli.events import CropWord
from neuromoco.app.cli.recordings import READING, SAMPLES, takes_recordings, words_of
from neuromoco.app.cli.survey_page import survey_page
from neuromoco.app.cli.survey_words import class_table, finding_lines, survey_facts
from neuromoco.checkpoint import CheckpointHeader, read_header
from neuromoco.config import FrameConfig, RecordingsConfig, RunConfig, frames_with, parse_changes, with_values
from neuromoco.config.frames import Crop
from neuromoco.datasets import Listing, list_data
from neuromoco.datasets.named import DIGITS, SETS, set_folder
from neuromoco.datasets.set_survey import survey_set
from neuromoco.datasets.settle import settle
from neuromoco.errors import ConfigError
from neuromoco.hub.names import is_shared
from neuromoco.recipes import DEFAULT, load_recipe
from neuromoco.recipes.advice import ENCODER, MINUTES, RATES, Advice, Stage, advise
from neuromoco.support.console import console, escape
from neuromoco.support.files import write_text

PICTURES = 4  # of each class, on the page
MOST_READ = 600  # recordings that advice for training rests on

Minutes = Annotated[
    float | None, typer.Option(min=0.1, help="Time that training may take on two CPU cores, for the epochs; 15.")
]


@app.command()
@takes_recordings(READING | SAMPLES)
def survey(
    data: Annotated[str, typer.Argument(help="A folder of recordings, or a data set, whose training part is used.")],
    against: Annotated[
        list[str] | None,
        typer.Option(help="Recordings kept for testing (of a data set its test part): copies of them are listed."),
    ] = None,
    most: Annotated[int | None, typer.Option(min=1, help="Read this many recordings at most; by default all.")] = None,
    crop: CropWord = None,
    stage: Annotated[
        Literal["pretrain", "supervised", "all"] | None, typer.Option(help="The training to advise settings for.")
    ] = None,
    labels_per_class: Annotated[int | None, typer.Option(min=1, help="Labels of each class that are used.")] = None,
    minutes: Minutes = None,
    page: Annotated[
        Path | None, typer.Option("--out", help="Write all of it, with pictures, to this .html file.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option("--recipe-out", help="Write the advice to this recipe file.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    *,
    recordings: RecordingsConfig,
) -> None:
    """Say what a set of recordings holds and lacks, and advise settings to train on it.

    Example: neuromoco survey recordings/ --out survey.html --recipe-out mine.yaml
    """
    tests = [list_data(other, "test", labelled=False, recordings=recordings) for other in against or []]
    listing = _settled(data, recordings, crop_in(crop))
    found = survey_set(data, listing, most=most, pictures=PICTURES if page else 0, against=tests)
    advice = advise(found, stage=stage, labels_per_class=labels_per_class, minutes=minutes or MINUTES)
    advice = _read_so(advice, recordings, listing.crop)
    if page is not None:
        write_text(page, survey_page(found, advice))
    if recipe is not None:
        write_text(recipe, advice.recipe())
    if as_json:
        print_json(survey_facts(found) | {"advice": _advice_facts(advice)})
        return
    out.print("\n".join(finding_lines(found)), markup=False)
    out.print(class_table(found))
    out.print(f"advice for about {advice.minutes:g} minutes on two CPU cores. {advice.rests_on}", markup=False)
    out.print("\n".join(f"  {name} = {value}: {reason}" for name, value, reason in advice.rows()), markup=False)
    for file in filter(None, (page, recipe)):
        out.print(f"wrote {escape(str(file))}")
    given = {"stage": stage, "labels-per-class": labels_per_class, "minutes": minutes, "crop": crop}
    words = [f"--{name}={value}" for name, value in given.items() if value is not None]
    again = ["--recipe", str(recipe)] if recipe else ["--data", data, *words_of(recordings), *words]
    if found.problems and not recordings.skip_damaged:
        again.append("--skip-damaged")
    out.print(f"to use the advice: {shlex.join(['neuromoco', 'train', *again])}", markup=False, soft_wrap=True)


def _advice_facts(advice: Advice) -> dict[str, Any]:
    rows = [{"name": name, "value": value, "reason": reason} for name, value, reason in advice.rows()]
    return {"rests_on": advice.rests_on, "minutes": advice.minutes, "settings": rows}


def starting_point(
    recipe: str | None,
    words: Mapping[str, Any],
    changes: Sequence[str],
    labels_per_class: int | None,
    epochs: int | None,
    minutes: float | None,
    plan: bool,
) -> RunConfig:
    """The settings that the command line changes: those of a recipe, or else those advised for the recordings.

    Args:
        recipe: its name, or None.
        words: settings by name, None where nothing is said.
        changes: `a.b=value`; they take precedence.
        labels_per_class: labels that are used of each class, or None.
        epochs: of the stage, or None.
        minutes: that training may take, or None.
        plan: nothing is trained, so that the recordings of a named set need not be there.

    Raises:
        ConfigError: recordings that cannot be surveyed, or minutes for settings that are not advised.
    """
    chosen = {name: value for name, value in words.items() if value is not None} | parse_changes(changes)
    begun = bool(chosen.get("init"))
    init = read_header(chosen["init"]) if begun and not chosen.get("init_from") else None
    data = chosen.get("data", DIGITS)
    sets = [data] if isinstance(data, str) else list(data)
    absent = plan and any(one in SETS and not set_folder(one).is_dir() for one in sets)
    if recipe is not None or sets == [DIGITS] or absent:
        if minutes is not None:
            raise ConfigError("--minutes is for advised settings: give --data without --recipe; or set --epochs")
        tuning = {"stage": "finetune"} if begun and recipe is None and "stage" not in chosen else {}
        return with_values(load_recipe(recipe or DEFAULT), tuning)
    given = {name: value for name, value in chosen.items() if name.startswith("recordings.")}
    recordings = with_values(RunConfig(), given).recordings
    crop = crop_in(chosen.get("frames.crop"))
    found = [survey_set(one, _settled(one, recordings, crop), most=MOST_READ) for one in sets]
    largest = max(found, key=lambda one: one.recordings)
    usual: Stage | None = ("finetune" if largest.class_names else "pretrain") if begun else None
    stage: Stage | None = chosen.get("stage") or usual
    section = "finetune" if stage == "all" else stage or "supervised"
    advice = advise(
        largest,
        stage=stage,
        labels_per_class=labels_per_class or chosen.get(f"{section}.labels_per_class"),
        epochs=epochs or chosen.get(f"{section}.epochs"),
        minutes=minutes or MINUTES,
        encoder=init.encoder.name if init else chosen.get("encoder.name", ENCODER),
        compare=chosen.get("compare", True),
        frames=_frames_from(init, chosen) if init else None,
    )
    frames = advice.config.frames
    console.print(
        f"no --recipe given: advised settings, {frames.steps} steps of {frames.height} x {frames.width} pixels, "
        f"{_training(advice)}about {advice.minutes:g} minutes on two CPU cores. {advice.rests_on} "
        f"Reasons: neuromoco survey {sets[0]}",
        soft_wrap=True,
        markup=False,
    )
    if init is None:
        return advice.config
    own = advise(largest, stage=stage).config.frames
    if _size(own) != _size(frames):
        names = ("steps", "height", "width")
        words_for = " ".join(f"--set frames.{name}={getattr(own, name)}" for name in names)
        console.print(
            f"frames are those of {chosen['init']}; for these recordings alone, others are advised: {words_for}",
            soft_wrap=True,
            markup=False,
        )
    # An encoder of other recordings has to learn as much as one from scratch (docs/encoders.md).
    _, decay, _ = RATES["supervised"]
    foreign = {"finetune.encoder_lr_scale": 1.0, "finetune.optimizer.weight_decay": decay}
    config = with_values(advice.config, foreign if is_shared(chosen["init"]) else {})
    return config.model_copy(update={"encoder": init.encoder})


def _frames_from(init: CheckpointHeader, chosen: Mapping[str, Any]) -> FrameConfig:
    """The frames of the checkpoint to start from, with the changes of the command line."""
    changes = {name: value for name, value in chosen.items() if name.partition(".")[0] == "frames"}
    return frames_with(init.frames, changes)


def _size(frames: FrameConfig) -> tuple[int, int, int]:
    return frames.steps, frames.height, frames.width


def _settled(data: str, recordings: RecordingsConfig, crop: Crop) -> Listing:
    """The recordings of a set as training reads them."""
    listing = list_data(data, "train", labelled=False, recordings=recordings)
    return settle(listing.of_part(crop), FrameConfig())[0]


def _read_so(advice: Advice, recordings: RecordingsConfig, crop: Crop) -> Advice:
    """Advice for recordings that are read as they were, of a part of the sensor."""
    config = advice.config.model_copy(update={"recordings": recordings})
    if crop is None:
        return replace(advice, config=config)
    config = with_values(config, {"frames.crop": crop})
    reasons = {"frames.crop": "given: all else is advised for it", **advice.reasons}
    return replace(advice, config=config, reasons=reasons)


def _training(advice: Advice) -> str:
    sections = [name for name in ("pretrain", "finetune", "supervised") if f"{name}.epochs" in advice.reasons]
    return "".join(f"{advice.value(f'{name}.epochs')} epochs of {name}, " for name in sections)
