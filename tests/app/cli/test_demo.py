"""The demo: one pre-training, and on each draw of labels both classifiers, measured once."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from neuromoco.checkpoint import load_tensors, read_header
from neuromoco.config import dump_config, with_values
from neuromoco.recipes import load_recipe
from tests.helpers.cli import error_line, run

SMALL = {
    "frames": {"steps": 2, "height": 12, "width": 12},
    "encoder.options": {"width": 4, "pool": 1},
    "pretrain.epochs": 2,
    "pretrain.batch_size": 8,
    "pretrain.moco.queue_size": 8,
    "finetune.epochs": 2,
    "supervised.epochs": 2,
}


def test_both_learn_from_the_same_labels_and_are_measured_over_draws(
    class_folders: Callable[[int, int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text(dump_config(with_values(load_recipe("demo"), SMALL | {"data": str(class_folders(2, 10))})))
    monkeypatch.setattr("neuromoco.app.cli.demo.RECIPE", str(recipe))
    monkeypatch.setattr("neuromoco.app.cli.demo.DRAWS", 2)
    out = tmp_path / "demo"
    answer = run("demo", "--seed", 3, "--out", out, "--json")
    assert answer.exit_code == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert found == json.loads((out / "results.json").read_text())
    tuned, alone = (found["results"][name] for name in ("pre-trained", "from scratch"))
    for one in (tuned, alone):
        assert len(one["accuracies"]) == found["draws"] == 2
        assert one["accuracy"] == pytest.approx(statistics.mean(one["accuracies"]))
    gains = [a - b for a, b in zip(tuned["accuracies"], alone["accuracies"], strict=True)]
    assert found["difference"]["accuracy"] == pytest.approx(statistics.mean(gains))
    assert found["difference"]["standard_error"] == pytest.approx(abs(gains[0] - gains[1]) / 2)
    splits = [
        [json.loads((out / f"{stage}-{draw}/split.json").read_text()) for stage in ("finetune", "supervised")]
        for draw in (1, 2)
    ]
    for of_a_draw in splits:
        assert of_a_draw[0] == of_a_draw[1]
        assert len(of_a_draw[0]["train"]) == 2  # a label per class
    assert splits[0][0]["train"] != splits[1][0]["train"]
    encoder = read_header(out / "pretrain/weights/last.safetensors")
    assert (encoder.stage, encoder.seed) == ("pretrain", 3)
    before = load_tensors(out / "pretrain/weights/last.safetensors")
    for draw in (1, 2):
        after = load_tensors(out / f"finetune-{draw}/weights/last.safetensors")
        scratch = load_tensors(out / f"supervised-{draw}/weights/last.safetensors")
        moved = [
            sum(float((weights[f"encoder.{name}"] - value).abs().sum()) for name, value in before.items())
            for weights in (after, scratch)
        ]
        assert 0 < moved[0] < moved[1] / 2
    assert found["prediction"]["truth"] in ("class0", "class1")
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert f"{out}: exists already; give another --out" in error_line(run("demo", "--out", out))
