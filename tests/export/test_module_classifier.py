"""With recordings and class names, a torch module becomes a classifier of recordings, in every target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

import neuromoco
from neuromoco import StreamClassifier, load_classifier
from neuromoco.errors import ConfigError
from neuromoco.events import write_atis
from neuromoco.frames import batch_frames
from tests.conftest import make_recording
from tests.helpers.cli import error_line, run

NAMES = ("ant", "bee", "cow")
RECORDINGS = [make_recording(seed, label=seed) for seed in range(4)]
EXAMPLE = torch.poisson(torch.full((3, 2, 2, 34, 34), 0.2), generator=torch.Generator().manual_seed(0))
FILE = """
import torch
from tests.export.test_module_classifier import network as build
"""


def network() -> nn.Module:
    """A module of [T, N, 2, H, W]."""
    torch.manual_seed(0)
    fires = lambda: neuron.LIFNode(step_mode="m", v_threshold=0.3)  # noqa: E731
    pool = layer.AvgPool2d(2, step_mode="m")
    first = (layer.Conv2d(2, 8, 3, 2, step_mode="m"), fires(), pool)
    return nn.Sequential(*first, layer.Flatten(2), nn.Linear(8 * 8 * 8, 3)).eval()


class Mean(nn.Module):
    """The same, [N, T, ...] to the mean over time."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.transpose(0, 1)).mean(0)


def logits_of(module: nn.Module) -> Any:
    with torch.no_grad():
        found = module(torch.from_numpy(batch_frames(RECORDINGS, load_frames()))).numpy()
    functional.reset_net(module)
    return found


def load_frames() -> Any:
    from neuromoco.config import FrameConfig

    return FrameConfig(steps=3, height=34, width=34)


@pytest.mark.parametrize("target", ["onnx", "onnx-step", "loihi"])
def test_files_of_a_module_classify_recordings(target: Any, tmp_path: Path) -> None:
    module = network()
    out = tmp_path / ("m.loihi" if target == "loihi" else "m.onnx")
    neuromoco.export(module, EXAMPLE, out, target=target, recordings=RECORDINGS, class_names=NAMES)
    classifier = load_classifier(out)
    seen = classifier.header.seen
    assert (classifier.header.class_names, seen.count, seen.sensor) == (NAMES, 4, (34, 34))
    wanted = logits_of(module).mean(0)
    answers = classifier.predict(RECORDINGS)
    assert [answer.label for answer in answers] == [NAMES[i] for i in wanted.argmax(1)]
    if target == "onnx-step":
        (answer, *_) = StreamClassifier(out).feed(RECORDINGS[0])
        assert set(answer.probabilities) == set(NAMES)
    if target != "loihi":
        found = np.array([[answer.probabilities[name] for name in NAMES] for answer in answers])
        assert found == pytest.approx(torch.softmax(torch.from_numpy(wanted), 1).numpy(), abs=1e-4)


def test_a_module_of_the_mean_over_time_classifies_recordings(tmp_path: Path) -> None:
    neuromoco.export(
        Mean(), EXAMPLE.transpose(0, 1), tmp_path / "m.onnx", layout="NT", recordings=RECORDINGS, class_names=NAMES
    )
    wanted = logits_of(network()).mean(0).argmax(1)
    labels = [answer.label for answer in load_classifier(tmp_path / "m.onnx").predict(RECORDINGS)]
    assert labels == [NAMES[i] for i in wanted]


def test_the_command_line_takes_class_names_and_recordings(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(FILE)
    for number, recording in enumerate(RECORDINGS * 2):
        write_atis(tmp_path / f"{number}.bin", recording)
    words = (f"{tmp_path / 'net.py'}:build", "--example", "3,2,2,34,34", "--classes", "ant, bee, cow")
    result = run("export", *words, "--data", tmp_path, "--out", tmp_path / "m.onnx", "--input", "events")
    assert result.exit_code == 0, result.stderr
    assert load_classifier(tmp_path / "m.onnx").header.input == "events"
    for more, line in (
        (("--input", "events"), "--input of a module; omit it, or give --data and --classes, too"),
        (("--target", "loihi"), "target 'loihi' of a module; choose onnx or nir, or give --data and --classes"),
        (("--data", tmp_path, "--check"), "--check with --data; omit --data"),
    ):
        assert line in error_line(run("export", *words, "--out", tmp_path / "n.onnx", *more))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "class names None; with recordings, name every class, in order"),
        ({"class_names": ("ant", 1, "cow")}, "class names .* name every class"),
        ({"class_names": ("ant", "bee")}, r"2 class names for results \(3, 2, 3\); name every"),
        ({"class_names": NAMES, "quantize": "int8"}, "--quantize int8 is calibrated on your recordings"),
        ({"class_names": NAMES, "layout": "CN"}, "layout 'CN'"),
    ],
)
def test_what_does_not_go_together_is_one_line(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        neuromoco.export(network(), EXAMPLE, tmp_path / "m.onnx", recordings=RECORDINGS, **options)
    assert list(tmp_path.iterdir()) == []


def test_other_channels_are_no_events(tmp_path: Path) -> None:
    example = torch.rand(3, 2, 3, 8, 8)
    with pytest.raises(ConfigError, match=r"an example of \(3, 2, 3, 8, 8\); with recordings, a module takes frames"):
        neuromoco.export(network(), example, tmp_path / "m.onnx", recordings=RECORDINGS, class_names=NAMES)
