"""Advice follows the recordings, the labels and the time, and is a recipe that trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from neuromoco.datasets import list_recordings
from neuromoco.datasets.set_survey import Sample, SetSurvey, survey_set
from neuromoco.recipes import load_recipe
from neuromoco.recipes.advice import advise

Folders = Callable[[int, int], Path]


def a_set(
    classes: int = 10, each: int = 40, events: int = 30_000, sensor: tuple[int, int] = (128, 128), moving: float = 0.3
) -> SetSurvey:
    """A survey of recordings that are all alike."""
    names = tuple(f"class {number}" for number in range(classes))
    one = Sample("", 0, "npz", events, 500_000, 0.5, *sensor, 0, (0, 0, *sensor), (moving, moving), 0.0)
    samples = tuple(one._replace(label=label) for label in range(max(1, classes)) for _ in range(each))
    return SetSurvey("mine", names, len(samples), samples, (), (), 0, ())


def test_frames_keep_what_moves_and_the_shape_of_the_sensor() -> None:
    sizes = {
        (128, 128, 0.32): (32, 32),  # 41 pixels move: 4 by 4 are counted together
        (34, 34, 0.61): (17, 17),
        (96, 72, 0.9): (24, 32),  # not fewer than 24
        (1280, 720, 0.5): (24, 43),
        (16, 16, 1.0): (16, 16),
        (128, 128, 0.05): (64, 64),  # not more than 64
    }
    for (width, height, moving), size in sizes.items():
        frames = advise(a_set(sensor=(width, height), moving=moving)).config.frames
        assert (frames.height, frames.width) == size, (width, height, moving)
    assert advise(a_set(events=100)).config.frames.steps == 2


def test_epochs_follow_labels_and_time() -> None:
    many, few = advise(a_set()), advise(a_set(), labels_per_class=5)
    assert few.config.supervised.labels_per_class == 5
    assert few.config.supervised.epochs > 2 * many.config.supervised.epochs
    steps = few.config.supervised.epochs * -(-50 // few.config.supervised.batch_size)
    assert steps >= 240
    short = advise(a_set(each=4000), minutes=5)
    assert short.minutes <= 5.1
    assert 1 <= short.config.supervised.epochs < advise(a_set(each=4000), minutes=15).config.supervised.epochs
    assert "as many as the time allows" in short.reasons["supervised.epochs"]
    assert advise(a_set(), epochs=3).config.supervised.epochs == 3
    assert advise(a_set(), epochs=3).config.supervised.optimizer.warmup_epochs == 0


@pytest.mark.parametrize("minutes", [2.0, 15.0])
def test_both_stages_share_the_time(minutes: float) -> None:
    advice = advise(a_set(), stage="all", labels_per_class=5, minutes=minutes)
    assert advice.minutes <= minutes + 0.1
    assert advice.config.pretrain.epochs > 1
    assert advice.config.finetune.epochs > 1


def test_what_is_compared_is_advised_and_takes_its_time() -> None:
    for labels, cost in ((5, 6), (2, 4), (None, 2)):  # in folds of 3 or 2, and on validation recordings
        alone, compared = (advise(a_set(), stage="all", labels_per_class=labels, compare=on) for on in (False, True))
        both = compared.config
        assert both.supervised.epochs == both.finetune.epochs == alone.config.finetune.epochs
        assert both.supervised.labels_per_class == labels
        assert both.supervised.optimizer.weight_decay > both.finetune.optimizer.weight_decay  # each has its own
        assert both.pretrain.epochs < alone.config.pretrain.epochs
        assert f"{cost} trainings instead of one" in compared.reasons["compare"]
        assert "supervised.epochs" not in alone.reasons
    assert "compare" not in advise(a_set(), stage="all", labels_per_class=1).reasons


@pytest.mark.parametrize("count", [2, 3, 7, 40, 400, 60_000])
def test_pre_training_fits_any_number_of_recordings(count: int) -> None:
    advice = advise(replace(a_set(classes=0, each=1), recordings=count))
    pretrain = advice.config.pretrain
    assert advice.config.stage == "pretrain"
    assert 2 <= pretrain.batch_size <= count
    assert pretrain.moco.queue_size <= max(2, count // 2)


def test_no_view_mirrors() -> None:
    config = advise(a_set(), stage="all").config
    assert config.pretrain.views.flip == 0.0
    assert config.finetune.views is not None
    assert config.finetune.views.flip == 0.0


def test_a_recipe_file_holds_settings_and_reasons(class_folders: Folders, tmp_path: Path) -> None:
    found = survey_set(str(class_folders(2, 5)), list_recordings(tmp_path / "data", labelled=True))
    advice = advise(found, stage="all", labels_per_class=3)
    file = tmp_path / "mine.yaml"
    file.write_text(advice.recipe())
    assert load_recipe(str(file)) == advice.config
    lines = advice.recipe().splitlines()
    for name, _, reason in advice.rows():
        place = next(i for i, line in enumerate(lines) if line.strip() == f"# {reason}")
        assert lines[place + 1].strip().startswith(name.rpartition(".")[2] + ":")
    assert "all 10 recordings of 2 classes" in lines[1]


def test_another_encoder_has_its_own_options() -> None:
    advice = advise(a_set(), encoder="spikformer_tiny")
    assert advice.config.encoder.name == "spikformer_tiny"
    assert advice.config.encoder.options == {}
