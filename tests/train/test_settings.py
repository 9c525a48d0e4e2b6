"""What a run can be told about computing: precision, passes, mixup, schedules; and what is refused, in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuromoco import ConfigError
from neuromoco.checkpoint import load_tensors
from neuromoco.classifier import Classifier
from neuromoco.config import EncoderConfig, OptimizerConfig, RunConfig, dump_config, parse_changes, with_values
from neuromoco.encoders import build_encoder, list_encoders
from neuromoco.snn.neurons import LIFNode
from neuromoco.train import train
from neuromoco.train.classify import ClassifyTask
from neuromoco.train.pretrain import PretrainTask
from neuromoco.train.run_folder import RunFolder
from neuromoco.train.task import build_optimizer
from tests.helpers.networks import alive, event_frames
from tests.helpers.small_runs import small_settings

Folders = Callable[[int, int], Path]


def settings(data: Path, stage: str, **values: Any) -> RunConfig:
    plain = {f"{part}.optimizer": {"name": "sgd", "lr": 0.02} for part in ("pretrain", "supervised")}
    return small_settings(data, stage, 8, plain | values)


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in RunFolder(run).history()]


@pytest.mark.parametrize("name", list_encoders())
def test_in_16_bits_spikes_are_spikes_and_membranes_float32(name: str) -> None:
    torch.manual_seed(0)
    frames = event_frames(3, 4, 24)
    encoder = alive(build_encoder(EncoderConfig(name=name)), frames).train()
    seen, kinds = [], set()
    for module in encoder.modules():
        if isinstance(module, LIFNode):
            module.register_forward_hook(lambda _, given, spikes: seen.append((given[0], spikes)))
    with torch.autocast("cpu", torch.bfloat16):
        features = encoder(frames)
    features.float().square().sum().backward()
    for given, spikes in seen:
        kinds.add(given.dtype)
        assert bool(((spikes == 0) | (spikes == 1)).all())
    assert torch.bfloat16 in kinds  # so 16 bits reached the neurons
    assert all(m.v.dtype == torch.float32 for m in encoder.modules() if isinstance(m, LIFNode))
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in encoder.parameters() if p.grad is not None)


@pytest.mark.parametrize("stage", ["pretrain", "supervised"])
def test_bf16_trains_much_as_float32_does(class_folders: Folders, tmp_path: Path, stage: str) -> None:
    data = class_folders(2, 8)
    for precision in ("off", "bf16"):
        train(settings(data, stage, compute__precision=precision), tmp_path / precision, "cpu")
    assert losses(tmp_path / "bf16") != losses(tmp_path / "off")
    assert losses(tmp_path / "bf16") == pytest.approx(losses(tmp_path / "off"), rel=0.1)
    weights = load_tensors(RunFolder(tmp_path / "bf16").last)
    assert all(value.dtype in (torch.float32, torch.int64) for value in weights.values())


def test_off_is_off_in_yaml_too() -> None:
    assert with_values(RunConfig(), parse_changes(["compute.precision=off"])).compute.precision == "off"


@pytest.mark.parametrize("stage", ["pretrain", "supervised"])
def test_a_batch_in_passes_is_the_batch(
    class_folders: Folders, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without batch statistics; 20 recordings are two batches and a half."""
    for task in (PretrainTask, ClassifyTask):

        def still(self: Any, model: nn.Module, *rest: Any, whole: Any = task.losses) -> dict[str, Tensor]:
            return whole(self, model.eval(), *rest)

        monkeypatch.setattr(task, "losses", still)
    data, ends = class_folders(2, 10), {}
    for accumulate in (1, 2, 4):
        run = tmp_path / str(accumulate)
        changes = {f"{stage}__accumulate": accumulate, "pretrain__moco__batch_norm": "plain"}
        train(settings(data, stage, **changes, supervised__validation=0.0), run, "cpu")
        ends[accumulate] = (losses(run), load_tensors(RunFolder(run).last))
    for accumulate in (2, 4):
        assert ends[accumulate][0] == pytest.approx(ends[1][0], abs=1e-5)
        for name, value in ends[1][1].items():
            assert torch.allclose(ends[accumulate][1][name], value, atol=1e-5), name


def test_blocks_computed_again_change_nothing(class_folders: Folders, tmp_path: Path) -> None:
    data = class_folders(2, 8)
    for again in (True, False):
        train(settings(data, "pretrain", compute__recompute_blocks=again), tmp_path / str(again), "cpu")
    first, second = (load_tensors(RunFolder(tmp_path / name).last) for name in ("True", "False"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_mixup_mixes_recordings_and_losses_until_it_is_switched_off(
    class_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[int, Tensor, Tensor, float]] = []
    whole, forward = ClassifyTask.losses, Classifier.forward
    entered: list[Tensor] = []

    def watched(self: ClassifyTask, model: nn.Module, batch: tuple[Tensor, ...], number: int) -> dict[str, Tensor]:
        found = whole(self, model, batch, number)
        given.append((self.data.epoch, batch[0], entered[-1], self._mixed_share(number)))
        return found

    def watched_forward(self: Classifier, frames: Tensor) -> Tensor:
        entered.append(frames)
        return forward(self, frames)

    monkeypatch.setattr(ClassifyTask, "losses", watched)
    monkeypatch.setattr(Classifier, "forward", watched_forward)
    config = settings(
        class_folders(2, 8),
        "supervised",
        supervised__epochs=3,
        supervised__mixup=1.0,
        supervised__mixup_epochs=2,
        supervised__validation=0.0,
    )
    train(config, tmp_path / "run", "cpu")
    assert {epoch for epoch, *_ in given} == {1, 2, 3}
    shares = set()
    for epoch, frames, seen, share in given:
        assert (share == 1.0) == (epoch == 3)
        assert 0.5 <= share <= 1.0
        assert torch.allclose(seen, share * frames + (1 - share) * torch.roll(frames, 1, 1), atol=1e-6)
        shares.add(share)
    assert len(shares) == 5  # two passes in each of two epochs, each with its own


def test_what_does_not_divide_is_refused_in_one_line(class_folders: Folders, tmp_path: Path) -> None:
    data = class_folders(2, 8)
    for config, words in (
        (
            settings(data, "pretrain", pretrain__accumulate=3),
            "a batch of 8 recordings cannot be divided among 3 passes",
        ),
        (
            settings(data, "pretrain", pretrain__moco__batch_norm_groups=3),
            "among 3 groups of batch norm; give a multiple of 3: --set pretrain.batch_size=9",
        ),
        (settings(data, "supervised", supervised__accumulate=5), "--set supervised.batch_size=10"),
        (settings(data, "all", finetune__batch_size=8, finetune__accumulate=3), "--set finetune.batch_size=9"),
        (settings(data, "pretrain", compute__precision="fp16"), "fp16 needs CUDA; on the CPU give bf16 or off"),
    ):
        with pytest.raises(ConfigError, match=words) as caught:
            train(config, tmp_path / "run", "cpu")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "run").exists()


def test_one_class_and_no_step_an_epoch_are_refused_before_anything_trains(
    class_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("training began")

    monkeypatch.setattr(PretrainTask, "losses", never)
    monkeypatch.setattr(ClassifyTask, "losses", never)
    data = class_folders(1, 9)
    for stage, size, words in (
        ("all", 8, "holds one class, class0; a classifier needs two or more"),
        ("supervised", 8, "holds one class, class0"),
        ("pretrain", 10, "9 recordings are fewer than a batch of 10"),
    ):
        config = small_settings(data, stage, size, {})
        with pytest.raises(ConfigError, match=words) as caught:
            train(config, tmp_path / "run", "cpu")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["finetune.sync_batch_norm", "compute.recompute_blocks"])
def test_rounded_weights_refuse_what_would_go_around_them(name: str) -> None:
    with pytest.raises(ConfigError, match=f"quantize with .*{name.rpartition('.')[2]}"):
        with_values(RunConfig(), {"stage": "finetune", "finetune.quantize": "loihi", name: True})


def test_a_loss_that_is_no_number_stops_the_run_and_leaves_the_last_good_state(
    class_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = PretrainTask.losses

    def breaks(self: PretrainTask, model: nn.Module, batch: tuple[Tensor, ...], number: int) -> dict[str, Tensor]:
        found = whole(self, model, batch, number)
        return found | {"loss": found["loss"] * (float("nan") if number >= 3 else 1.0)}

    monkeypatch.setattr(PretrainTask, "losses", breaks)
    config = settings(class_folders(2, 12), "pretrain", compute__save_minutes=0.0)  # 3 steps an epoch
    with pytest.raises(ConfigError, match="the loss became nan in epoch 2: lower the optimizer's lr"):
        train(config, tmp_path / "run", "cpu")
    state = RunFolder(tmp_path / "run").list_states()[0]
    assert state.name == "step-000000003"


@pytest.mark.parametrize(("decay", "gain"), [("weights", 1.0), ("all", 0.95)])
def test_gains_and_biases_decay_only_where_everything_does(decay: str, gain: float) -> None:
    """Without a gradient, AdamW multiplies what decays by 1 - lr * weight_decay."""
    layers = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    for parameter in layers.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    config = OptimizerConfig(lr=0.1, weight_decay=0.5, decay=decay)  # type: ignore[arg-type]
    build_optimizer([{"params": list(layers.parameters()), "peak": 0.1}], config).step()
    values = {name: float(value.detach().mean()) for name, value in layers.named_parameters()}
    expected = {"0.weight": 0.95, "0.bias": gain, "1.weight": gain, "1.bias": gain}
    assert values == pytest.approx(expected)


def test_a_run_from_before_decay_was_a_setting_resumes_with_what_it_meant(tmp_path: Path) -> None:
    lines = dump_config(RunConfig()).splitlines(keepends=True)
    (tmp_path / "config.yaml").write_text("".join(line for line in lines if "decay: weights" not in line))
    _, config = RunFolder.open(tmp_path)
    assert {config.pretrain.optimizer.decay, config.finetune.optimizer.decay} == {"all"}
    (tmp_path / "config.yaml").write_text("".join(lines))
    assert RunFolder.open(tmp_path)[1] == RunConfig()
