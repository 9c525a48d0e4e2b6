"""Features of frozen encoders and what is measured of them: closed forms, independent computations, nothing moved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from neuromoco import CheckpointError, ConfigError, NeuromocoError
from neuromoco.config import EncoderConfig, FrameConfig, NeuronConfig
from neuromoco.datasets import FrameStore, cached_frames, list_recordings
from neuromoco.encoders import Encoder, build_encoder
from neuromoco.evaluation.features import (
    effective_rank,
    evaluation_mode,
    features,
    load_encoder,
    spike_rates,
    state_sha256,
)
from neuromoco.evaluation.probe import knn_accuracy, knn_labels, linear_accuracy, linear_labels, probe
from neuromoco.snn.neurons import lif
from neuromoco.train import train
from tests.train.test_training import settings

Folders = Callable[[int, int], Path]
CPU = torch.device("cpu")


@pytest.fixture
def small() -> Encoder:
    torch.manual_seed(0)
    return build_encoder(EncoderConfig(options={"width": 4}))


@pytest.fixture
def store(class_folders: Folders) -> FrameStore:
    return cached_frames(list_recordings(class_folders(2, 5), labelled=True), FrameConfig(steps=3, height=16, width=16))


@given(st.integers(1, 6), st.floats(0.01, 100.0))
def test_the_effective_rank_of_equal_directions_is_their_number(rank: int, scale: float) -> None:
    values = np.zeros((7, 9))
    values[range(rank), range(rank)] = scale
    assert effective_rank(values) == pytest.approx(rank)
    turned = np.linalg.qr(np.random.default_rng(rank).normal(size=(9, 9)))[0]
    assert effective_rank(values @ turned) == pytest.approx(rank)


def test_the_effective_rank_of_collapsed_features_is_one() -> None:
    assert effective_rank(np.outer(np.arange(1, 9), np.arange(5))) == pytest.approx(1.0)
    assert effective_rank(np.ones((8, 5))) == pytest.approx(1.0)
    assert effective_rank(np.zeros((8, 5))) == 0.0
    two = np.diag([3.0, 1.0])  # shares 3/4 and 1/4
    assert effective_rank(two) == pytest.approx((4 / 3) ** 0.75 * 4**0.25)


def test_features_are_those_of_the_encoder_and_move_nothing(small: Encoder, store: FrameStore) -> None:
    small.train()
    small.body.stem[1].eval()  # somebody may keep a part fixed
    modes, before, random = [m.training for m in small.modules()], state_sha256(small), torch.get_rng_state()
    found = features(small, store, [4, 1, 7], CPU, per_step=True)
    assert torch.equal(torch.get_rng_state(), random)
    assert state_sha256(small) == before
    assert [m.training for m in small.modules()] == modes
    small.eval()
    for row, index in enumerate((4, 1, 7)):
        alone = small(torch.from_numpy(store.frames[index].astype(np.float32)).unsqueeze(1)).detach().numpy()[:, 0]
        np.testing.assert_allclose(found[row], alone, atol=1e-6)  # [T, D]
    np.testing.assert_allclose(features(small, store, [4, 1, 7], CPU), found.mean(1), atol=1e-6)


def test_the_hash_tells_any_change(small: Encoder) -> None:
    first = state_sha256(small)
    small.body.stem[1].running_mean[0] += 1e-6
    second = state_sha256(small)
    assert first != second
    with evaluation_mode(small):
        assert state_sha256(small) == second


def test_spike_rates_are_shares_of_neurons_and_steps() -> None:
    encoder = Encoder(nn.Sequential(lif(NeuronConfig()), nn.Flatten(2)), 8, smallest=2)
    frames = torch.zeros(4, 1, 2, 2, 2)
    frames[:, 0, 0, 0, 0] = 2.0  # h = x / tau = 1 = the threshold: this neuron of 8 spikes at every step
    with spike_rates(encoder) as rates:
        encoder(frames)
        encoder(torch.zeros_like(frames))
    assert rates == {"0": pytest.approx(1 / 16)}
    encoder(frames)
    assert rates == {"0": pytest.approx(1 / 16)}  # no longer counted


def votes(
    bank: NDArray[np.float64], labels: NDArray[np.int64], asked: NDArray[np.float64], neighbours: int
) -> NDArray[np.int64]:
    """MoCo's monitor, written out."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (asked, bank))
    similar = a @ b.T
    nearest = np.argsort(-similar, axis=1)[:, :neighbours]
    scores = np.zeros((len(asked), labels.max() + 1))
    for row, own in enumerate(nearest):
        np.add.at(scores[row], labels[own], np.exp(similar[row, own] / 0.1))
    return scores.argmax(1)


@pytest.mark.parametrize(("each", "neighbours"), [(8, 7), (40, 20)])
def test_knn_votes_as_written_out(each: int, neighbours: int) -> None:
    rng = np.random.default_rng(each)
    labels = np.repeat(np.arange(4), each)
    bank = rng.normal(size=(4, 12))[labels] + 2.0 * rng.normal(size=(4 * each, 12))
    asked = rng.normal(size=(200, 12))
    assert (knn_labels(bank, labels, asked) == votes(bank, labels, asked, neighbours)).all()
    left_out = [
        votes(np.delete(bank, i, 0), np.delete(labels, i), bank[i : i + 1], neighbours)[0] for i in range(len(bank))
    ]
    assert knn_accuracy(bank, labels) == (np.array(left_out) == labels).mean()


def test_probes_find_what_is_there_and_not_what_is_not() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    told = np.eye(3)[labels] @ rng.normal(size=(3, 16)) + 0.1 * rng.normal(size=(120, 16))
    assert knn_accuracy(told[:60], labels[:60], told[60:], labels[60:]) == 1.0
    assert linear_accuracy(told[:60], labels[:60], told[60:], labels[60:]) == 1.0
    noise = rng.normal(size=(120, 16))
    for accuracy in (knn_accuracy, linear_accuracy):
        assert accuracy(noise[:60], labels[:60], noise[60:], labels[60:]) < 0.6
    assert set(knn_labels(np.ones((120, 4)), labels)) <= {0, 1, 2}  # collapsed features are no error
    one_each = linear_labels(told[:3], labels[:3], told[60:])
    assert (one_each == labels[60:]).all()


@pytest.mark.parametrize("kind", ["knn", "linear"])
def test_a_probe_leaves_file_and_encoder_as_they_were(class_folders: Folders, tmp_path: Path, kind: str) -> None:
    data = class_folders(3, 10)
    train(settings(data, "pretrain"), tmp_path / "pre", "cpu")
    train(settings(data, "supervised", supervised__epochs=1), tmp_path / "sup", "cpu")
    listing = list_recordings(data, labelled=True)
    for file in (tmp_path / "pre/weights/last.safetensors", tmp_path / "sup/weights/last.safetensors"):
        before = file.read_bytes()
        result = probe(file, listing, kind=kind, per_step=True, device="cpu")
        assert file.read_bytes() == before
        assert result.encoder_sha256 == state_sha256(load_encoder(file, CPU)[0])
        assert (result.trained_on, result.evaluation.recordings, len(result.steps)) == (24, 6, 2)
        assert 0.0 <= result.evaluation.interval[0] <= result.evaluation.accuracy <= result.evaluation.interval[1]
        assert result.to_json() == probe(file, listing, kind=kind, per_step=True, device="cpu").to_json()
    own = probe(file, listing, listing, kind="knn", labels_per_class=4, device="cpu")
    assert (own.trained_on, own.evaluation.recordings, own.steps) == (12, 30, ())


def test_an_encoder_that_changes_while_it_is_probed_is_an_error(
    class_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = class_folders(2, 8)
    train(settings(data, "pretrain", pretrain__epochs=1), tmp_path / "pre", "cpu")
    whole = Encoder.forward

    def leaky(self: Encoder, frames: torch.Tensor) -> torch.Tensor:
        next(self.buffers()).add_(1)
        return whole(self, frames)

    monkeypatch.setattr(Encoder, "forward", leaky)
    with pytest.raises(NeuromocoError, match="the encoder changed"):
        probe(tmp_path / "pre/weights/last.safetensors", list_recordings(data, labelled=True), kind="knn")


def test_mistakes_of_a_probe(class_folders: Folders, tmp_path: Path) -> None:
    data = class_folders(2, 8)
    listing = list_recordings(data, labelled=True)
    with pytest.raises(CheckpointError, match="does not exist"):
        probe(tmp_path / "none", listing, kind="knn")
    train(settings(data, "pretrain", pretrain__epochs=1), tmp_path / "pre", "cpu")
    model = tmp_path / "pre/weights/last.safetensors"
    with pytest.raises(ConfigError, match="fraction above 0"):
        probe(model, listing, kind="knn", validation=0.0)
    (data / "class1").rename(tmp_path / "away")
    with pytest.raises(ConfigError, match="needs two or more classes"):
        probe(model, list_recordings(data, labelled=True), kind="knn")
    (tmp_path / "away").rename(data / "other")
    with pytest.raises(ConfigError, match="class other is unknown to the model; it knows class0, class1"):
        probe(model, listing, list_recordings(data, labelled=True), kind="knn")
