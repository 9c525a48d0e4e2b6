"""SimCLR, BYOL and VICReg: their losses and gradients, what follows a step, and runs like any other."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightly.loss import VICRegLoss
from safetensors.torch import load_file
from torch import nn

from neuromoco.config import EncoderConfig, PretrainConfig, RivalConfig, RunConfig, dump_config
from neuromoco.datasets import hold_out, list_recordings, read_recordings
from neuromoco.encoders import Encoder, build_encoder
from neuromoco.errors import ConfigError, MissingExtraError
from neuromoco.evaluation.accuracy import predict_labels
from neuromoco.runtime.checkpoint_file import TrainedClassifier
from neuromoco.support import extras
from neuromoco.train import resume, train
from neuromoco.train.dry_run import dry_run
from neuromoco.train.failure_signs import new_warnings
from neuromoco.train.rival_task import RivalTask
from neuromoco.train.rivals import BYOL, RIVALS, Rival, build_rival, embed, pair_metrics
from tests.helpers.small_runs import small_settings
from tests.kills.campaign import assert_same

NAMES = tuple(RIVALS)
STEPS, BATCH, DIM = 3, 6, 4


class Means(nn.Module):
    """The smallest body: the mean of each polarity, [T, N, 2]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((3, 4))


def small(name: Any, **settings: Any) -> Rival:
    torch.manual_seed(0)
    config = RivalConfig(embed_dim=DIM, hidden_dim=8, **settings)
    return build_rival(name, Encoder(Means(), 2, 1), config)


def views() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.poisson(torch.full((STEPS, BATCH, 2, 8, 8), 0.7), generator=generator) for _ in range(2))


def gradient(model: Rival, loss: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    loss.backward()
    learning = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in learning)
    return torch.cat([p.grad.flatten() for p in learning if p.grad is not None])


def test_embeddings_are_averaged_over_time() -> None:
    model, (first, _) = small("vicreg").eval(), views()
    encoder, head = model.online
    steps = torch.stack([head(encoder(first)[t]) for t in range(STEPS)])
    assert torch.allclose(embed(model.online, first), steps.mean(0), atol=1e-6)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_simclr_is_the_cross_entropy_among_all_views(temperature: float) -> None:
    model, (first, second) = small("simclr", temperature=temperature), views()
    loss = model(first, second)
    z = F.normalize(torch.cat([loss.first, loss.second]), dim=1)
    logits = (z @ z.T / temperature).fill_diagonal_(-math.inf)
    expected = F.cross_entropy(logits, torch.arange(2 * BATCH).roll(BATCH))
    assert loss.total.item() == pytest.approx(expected.item(), abs=1e-5)
    mine = gradient(model, model(first, second).total)
    assert torch.allclose(gradient(model, expected), mine, rtol=1e-3, atol=1e-4)
    assert mine.abs().max() > 1e-3


def test_simclr_of_equal_embeddings_is_chance() -> None:
    same = torch.ones(BATCH, DIM)
    assert small("simclr").compare(same, same).item() == pytest.approx(math.log(2 * BATCH - 1), abs=1e-5)


def test_vicreg_weighs_its_three_terms() -> None:
    generator = torch.Generator().manual_seed(2)
    z_1, z_2 = torch.randn(2, BATCH, DIM, generator=generator).unbind()

    def variance(z: torch.Tensor) -> torch.Tensor:
        return F.relu(1.0 - (z.var(0) + 1e-4).sqrt()).mean()

    def covariance(z: torch.Tensor) -> torch.Tensor:
        matrix = torch.cov(z.T)
        return (matrix**2).fill_diagonal_(0.0).sum() / DIM

    weights = {"invariance": 3.0, "variance": 5.0, "covariance": 0.5}
    expected = 3.0 * F.mse_loss(z_1, z_2) + 2.5 * (variance(z_1) + variance(z_2))
    expected += 0.5 * (covariance(z_1) + covariance(z_2))
    assert small("vicreg", **weights).compare(z_1, z_2).item() == pytest.approx(expected.item(), rel=1e-5)
    published = small("vicreg").compare(z_1, z_2)
    assert published.item() == pytest.approx(VICRegLoss()(z_1, z_2).item(), rel=1e-6)


def test_byol_predicts_the_target_in_both_directions() -> None:
    model, (first, second) = small("byol"), views()
    assert isinstance(model, BYOL)
    total = model(first, second).total
    z_1, z_2 = embed(model.online, first), embed(model.online, second)
    with torch.no_grad():
        t_1, t_2 = embed(model.target, first), embed(model.target, second)
    ahead = F.normalize(model.predictor(z_1), dim=1) * F.normalize(t_2, dim=1)
    back = F.normalize(model.predictor(z_2), dim=1) * F.normalize(t_1, dim=1)
    expected = -(ahead.sum(1).mean() + back.sum(1).mean()) / 2
    assert total.item() == pytest.approx(expected.item(), abs=1e-6)
    assert torch.allclose(gradient(model, model(first, second).total), gradient(model, expected), rtol=1e-3, atol=1e-4)
    assert all(p.grad is None for p in model.target.parameters())


def test_the_target_follows_and_stands_still_at_the_end() -> None:
    model = small("byol", momentum=0.9)
    assert isinstance(model, BYOL)
    theta, online = next(model.target.parameters()), next(model.online.parameters())
    with torch.no_grad():
        online.add_(1.0)
    before = theta.clone()
    model.after_step(1.0)
    assert torch.equal(theta, before)
    model.after_step(0.0)
    assert torch.allclose(theta, before.lerp(online, 0.1))


@pytest.mark.parametrize("name", NAMES)
def test_two_passes_of_a_spiking_encoder_do_not_disturb_each_other(name: Any) -> None:
    """The second pass resets the neurons; the gradient is that of two networks that share their weights."""
    torch.manual_seed(0)
    model = build_rival(
        name, build_encoder(EncoderConfig(options={"width": 4})), RivalConfig(embed_dim=8, hidden_dim=8)
    )
    for module in model.modules():  # running statistics would change with every pass
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 0.0
    first, second = (view.repeat(1, 1, 1, 2, 2) for view in views())
    z_1, z_2 = embed(model.online, first), embed(model.online, second)
    g_1, g_2 = torch.randn_like(z_1), torch.randn_like(z_2)
    together = torch.autograd.grad((z_1 * g_1).sum() + (z_2 * g_2).sum(), list(model.online.parameters()))
    alone = [
        torch.autograd.grad((embed(model.online, view) * g).sum(), list(model.online.parameters()))
        for view, g in ((first, g_1), (second, g_2))
    ]
    for both, one, other in zip(together, *alone, strict=True):
        assert torch.allclose(both, one + other, atol=1e-4)


def test_metrics_of_a_pair() -> None:
    model = small("simclr")
    z = torch.eye(DIM)
    apart = pair_metrics(model(*views())._replace(first=z, second=z))
    assert {name: round(value.item(), 6) for name, value in apart.items()} == {
        "accuracy": 1.0,
        "positive_similarity": 1.0,
        "negative_similarity": 0.0,
        "feature_std": round(math.sqrt(3) / 2, 6),
    }
    assert pair_metrics(model(*views())._replace(first=z, second=torch.ones(DIM, DIM)))["feature_std"] == 0.0


def settings(data: Path, name: str) -> RunConfig:
    values: dict[str, Any] = {
        "pretrain__method": name,
        "pretrain__rival": {"embed_dim": 8, "hidden_dim": 8},
        "watch__knn_every": 1,
    }
    return small_settings(data, "pretrain", 4, values)


@pytest.mark.parametrize("name", NAMES)
def test_a_pass_has_recordings_to_compare(name: str, class_folders: Any, tmp_path: Path) -> None:
    config = settings(class_folders(2, 8), name)
    alone = config.pretrain.model_copy(update={"batch_size": 4, "accumulate": 4})
    with pytest.raises(ConfigError, match=r"4 parts has one in each: --set pretrain.batch_size=8"):
        train(config.model_copy(update={"pretrain": alone}), tmp_path / "run", "cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["simclr", "byol"])  # vicreg has no state that simclr has not
def test_a_stopped_run_ends_in_the_same_weights(
    name: str, class_folders: Callable[[int, int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neuromoco.train.loop.SHORT_EPOCH_S", 0.0)
    config = settings(class_folders(2, 8), name)
    summary = train(config, tmp_path / "whole", "cpu")
    assert {"accuracy", "feature_std", "knn_accuracy"} <= summary["last"].keys()
    after_step, left = RivalTask.after_step, [5]

    def stopping(task: RivalTask, done: float) -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        after_step(task, done)

    with monkeypatch.context() as patch:
        patch.setattr(RivalTask, "after_step", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "run", "cpu")
    resume(tmp_path / "run", "cpu")
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_the_averaged_target_is_part_of_the_state(class_folders: Callable[[int, int], Path], tmp_path: Path) -> None:
    train(settings(class_folders(2, 8), "byol"), tmp_path / "run", "cpu")
    (state,) = [*(tmp_path / "run/state").glob("step-*")][:1]
    names = load_file(state / "model.safetensors")
    assert any(name.startswith("target.") for name in names)
    assert any(name.startswith("predictor.") for name in names)


def test_it_needs_lightly(
    class_folders: Callable[[int, int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(extras.PACKAGES, "league", ("not_lightly",))
    with pytest.raises(MissingExtraError, match=r"pretrain.method byol needs .* pip install .*\[league\]"):
        train(settings(class_folders(2, 8), "byol"), tmp_path / "run", "cpu")
    assert not (tmp_path / "run").exists()


def test_settings_of_the_method_are_written_as_before() -> None:
    assert "method" not in dump_config(RunConfig())
    assert "rival" not in dump_config(RunConfig())
    other = RunConfig(pretrain=PretrainConfig(method="byol", rival=RivalConfig(momentum=0.9)))
    assert RunConfig.model_validate(json.loads(other.model_dump_json())) == other


def test_only_collapse_is_warned_of() -> None:
    config = RunConfig(stage="pretrain", pretrain=PretrainConfig(method="simclr"))
    good = {"feature_std": 0.5, "accuracy": 1.0, "grad_norm": 1.0}
    assert new_warnings(config, 10, [good] * 6) == {}
    assert list(new_warnings(config, 10, [{**good, "feature_std": 0.001}] * 6)) == ["collapse"]


@pytest.mark.parametrize("name", NAMES)
def test_the_dry_run_counts_its_heads(name: Any, class_folders: Callable[[int, int], Path]) -> None:
    config = settings(class_folders(2, 8), name)
    stage = dry_run(config)["stages"]["pretrain"]
    rival = build_rival(name, build_encoder(config.encoder), config.pretrain.rival)
    assert stage["parameters"]["learned"] == sum(p.numel() for p in rival.parameters() if p.requires_grad)
    assert "queue" not in stage["memory_bytes"]


def test_the_held_out_fold_is_watched_without_a_change_of_the_weights(
    class_folders: Callable[[int, int], Path], tmp_path: Path
) -> None:
    values = {"held_out": {"folds": 2, "fold": 1}, "supervised__epochs": 5}
    config = small_settings(class_folders(2, 8), "supervised", 4, values)
    train(config, tmp_path / "blind", "cpu")
    watch = config.watch.model_copy(update={"held_out_every": 2})
    train(config.model_copy(update={"watch": watch}), tmp_path / "watched", "cpu")
    blind, watched = (load_file(tmp_path / f"{run}/weights/last.safetensors") for run in ("blind", "watched"))
    assert all(torch.equal(blind[name], watched[name]) for name in blind)
    lines = [json.loads(line) for line in (tmp_path / "watched/metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if "held_out_accuracy" in line] == [2, 4, 5]
    test = hold_out(list_recordings(Path(config.labelled_data), labelled=True), 2, 1).validation
    store = read_recordings(config.data, config.frames, "train", True).store
    network = TrainedClassifier(tmp_path / "watched/weights/last.safetensors", "cpu")
    predicted = predict_labels(network.network, store.frames, test, network.device)
    assert lines[-1]["held_out_accuracy"] == (predicted.numpy() == np.array([0] * 4 + [1] * 4)).mean()
