"""Settings: complete, frozen, through YAML and back, and refused by name."""

from __future__ import annotations

import os
import time
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from neuromoco import ConfigError
from neuromoco.config import RunConfig, dump_config, load_config, parse_changes, parse_settings, with_values
from neuromoco.recipes import DEFAULT, list_recipes, load_recipe


@pytest.mark.parametrize("name", list_recipes())
def test_recipes_are_complete_and_survive_yaml(name: str, tmp_path: Path) -> None:
    config = load_recipe(name)
    written = tmp_path / "config.yaml"
    written.write_text(dump_config(config))
    assert load_config(written) == load_recipe(str(written)) == config
    recipe = yaml.safe_load((Path(load_recipe.__code__.co_filename).parent / f"{name}.yaml").read_text())

    def missing(full: dict, given: dict, where: str = "") -> list[str]:
        lost = [where + key for key in full if key not in given and key not in ("init", "options")]
        for key, value in full.items():
            if isinstance(value, dict) and isinstance(given.get(key), dict):
                lost += missing(value, given[key], f"{where}{key}.")
        return lost

    assert missing(config.model_dump(), recipe) == []  # a recipe leaves nothing to defaults


SOURCES = (
    "the paper",
    "same group's public code (TETMoCo)",
    "NDA's authors",
    "SEW-ResNet-18 as published",
    "Spikformer-2-256 as published",
    "the method read literally",
    "not known; our choice",
)
PAPER_SCALE = [
    f"{data}-{network}"
    for data in ("cifar10-dvs", "dvs128-gesture", "n-caltech101")
    for network in ("sew", "spikformer")
]


@pytest.mark.parametrize("name", PAPER_SCALE)
def test_recipes_at_paper_scale_say_where_each_value_comes_from(name: str) -> None:
    text = (Path(load_recipe.__code__.co_filename).parent / f"{name}.yaml").read_text()
    lines = [
        line for line in text.splitlines() if not line.startswith("#") and not line.rstrip().endswith((":", "&labels"))
    ]
    assert len(lines) > 60
    for line in lines:
        assert line.partition(" # ")[2].startswith(SOURCES), line
    config = load_recipe(name)
    assert config.data == name.rpartition("-")[0]
    assert config.pretrain.moco.queue_size * 2 <= {"d": 1176, "c": 9000, "n": 7795}[name[0]]


def test_the_default_recipe_exists() -> None:
    assert DEFAULT in list_recipes()


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        RunConfig().seed = 3


def test_changes_are_typed() -> None:
    config = with_values(
        RunConfig(),
        parse_changes(["pretrain.optimizer.lr=3e-4", "supervised.views={policy: nda}", "data='5'", "seed=7"]),
    )
    assert config.pretrain.optimizer.lr == 3e-4
    assert config.supervised.views is not None
    assert config.supervised.views.policy == "nda"
    assert config.data == "5"
    assert config.seed == 7
    assert config.finetune.views is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("seed", "give a name and a value"),
        ("seed=x", "seed: should be a whole number, given 'x'"),
        ("pretrain.moco.queue=5", "pretrain.moco.queue: no such name; known names: embed_dim, hidden_dim, head"),
        ("supervised.views.policy=spin", "'nda', 'nda-mn', 'group' or 'affine', given 'spin'"),
        ("frames.steps=0", "greater than 0, given 0"),
        ("encoder.neuron.tau=1", "greater than 1, given 1"),
        ("encoder.neuron.v_threshold=1e39", "less than or equal to 1000000, given 1"),
        ("seed={", "is not YAML"),
    ],
)
def test_mistakes_say_what_is_allowed(change: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        with_values(RunConfig(), parse_changes([change]))
    assert "\n" not in str(caught.value)


def test_files_that_are_no_settings(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("- 1\n- 2\n")
    (tmp_path / "b.yaml").write_text("a: [1\n")
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\x00")
    for name in "abc":
        with pytest.raises(ConfigError, match=rf"{name}.yaml: ") as caught:
            load_config(tmp_path / f"{name}.yaml")
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe(str(tmp_path / "none.yaml"))
    with pytest.raises(ConfigError, match="no recipe named 'big'; known are cifar10-dvs-sew, cifar10-dvs-spik"):
        load_recipe("big")
    with pytest.raises(ConfigError, match="settings are names with values"):
        parse_settings(RunConfig, [1], "x")


def laughs(line: str) -> str:
    """Ten lines of aliases, each of ten of the one before: 10^9 values."""
    names = "abcdefghij"
    lines = [f"{name}: &{name} " + line.format(",".join([f"*{before}"] * 10)) for before, name in pairwise(names)]
    return "a: &a {x: 1}\n" + "\n".join(lines)


HOSTILE = [
    (laughs("[{}]"), "its aliases stand for"),
    (laughs("{{<<: [{}]}}"), "its aliases stand for"),
    ("a: &a [*a]", "an alias within what it names"),
    ("a: " + "[" * 30_000, "nested more than 40 deep"),
    ("\n".join(" " * i + "a:" for i in range(300)), "nested more than 40 deep"),
    ("seed: 1\nseed: 2", "seed is there twice"),
    ("pretrain: {epochs: 1, epochs: 2}", "epochs is there twice"),
    ("seed: " + "9" * 5000, "digits"),
    ("seed: 0x" + "f" * 6000, "given a number of thousands of digits"),
    ("seed: " + ":".join(["59"] * 3000), "given a number of thousands of digits"),
    ("seed: 1e400", "given '1e400'"),
    ("pretrain: {epochs: 99999999999999999999}", "pretrain.epochs: should be less than 2147483648"),
    ("pretrain: {moco: {embed_dim: 1000000000}}", "embed_dim: should be less than or equal to 16384"),
    ("frames: {steps: 100000, height: 100000}", "at most 16,777,216 numbers"),
    ("seed: !!bool x", "not what its tag says"),
    ("seed: !!timestamp x", "not what its tag says"),
    ("seed: !!int ''", "not what its tag says"),
    ("seed: !!python/object/apply:os.system [x]", "could not determine a constructor"),
    ("? [a]\n: b", "unhashable key"),
    ("1: 2", "1: should be a name of text"),
    ("a: " + "x" * 70_000, "at most 65,536"),
    ("a: [" + "a," * 30_000 + "]", "no such name"),
    ("data: \x00", "special characters are not allowed"),
    ('data: "\\ud800"', "half a character"),
    ('"\\e(31m": 1', "?(31m: no such name"),
]


@pytest.mark.parametrize(("text", "words"), HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_settings_are_one_line_at_once(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    begun = time.process_time()
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "a.yaml")
    with pytest.raises(ConfigError) as changed:
        with_values(RunConfig(), parse_changes([f"frames={text}"]))
    assert time.process_time() - begun < 4.0
    assert words in str(caught.value)
    for error in (caught, changed):
        assert str(error.value).isprintable()
        assert len(str(error.value)) < 800


def test_a_name_of_a_thousand_parts_and_a_pipe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such name"):
        with_values(RunConfig(), parse_changes([f"encoder.options{'.a' * 5000}=1"]))
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ConfigError, match="is no regular file"):
        load_config(tmp_path / "pipe.yaml")


def test_aliases_and_merges_of_moderate_size_stay_allowed(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "finetune: &labels {epochs: 3}\nsupervised: {<<: *labels, epochs: 4, batch_size: 2}"
    )
    config = load_config(tmp_path / "a.yaml")
    assert (config.finetune.epochs, config.supervised.epochs, config.supervised.batch_size) == (3, 4, 2)
