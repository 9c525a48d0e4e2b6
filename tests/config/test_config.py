"""Settings: complete, frozen, through YAML and back, and refused by name."""

from __future__ import annotations

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
        ("pretrain.moco.queue=5", "pretrain.moco.queue: no such name; known names: embed_dim, hidden_dim, queue_size"),
        ("supervised.views.policy=spin", "'nda', 'nda-mn', 'group' or 'affine', given 'spin'"),
        ("frames.steps=0", "greater than 0, given 0"),
        ("encoder.neuron.tau=1", "greater than 1, given 1"),
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
