"""`train --init FILE --from PROJECT`: training that starts from weights of another project."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from neuromoco.checkpoint import load_tensors, read_header
from neuromoco.config import EncoderConfig
from neuromoco.encoders import build_encoder
from neuromoco.support.files import read_json
from tests.helpers.cli import SMALL, error_line, run

FEW = ("--set=finetune.batch_size=8", "--set=pretrain.batch_size=8", "--set=pretrain.moco.queue_size=12", "--epochs=1")


def as_spikingjelly(name: str) -> str:
    """The name in spikingjelly's SEW-ResNet of a tensor of our smallest one, whose stages have a block each."""
    for own, other in (("stem.0.", "conv1."), ("stem.1.", "bn1.")):
        name = name.replace(own, other) if name.startswith(own) else name
    return f"layer{int(name[7]) + 1}.0{name[8:]}" if name.startswith("stages.") else name


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file of another project, whose first convolution has three channels, with a head."""
    torch.manual_seed(3)
    body = build_encoder(EncoderConfig(options={"width": 4})).body
    stored: dict[str, Tensor] = {f"module.{as_spikingjelly(name)}": t for name, t in body.state_dict().items()}
    stored["module.conv1.weight"] = torch.ones(4, 3, 3, 3)
    stored["module.fc.weight"] = torch.ones(10, 64)
    torch.save({"model": stored, "epoch": 3}, tmp_path / "w.pth")
    return tmp_path / "w.pth"


@pytest.mark.parametrize("stage", ["finetune", "pretrain"])
def test_training_starts_from_them(stage: str, weights: Path, trained: Path, tmp_path: Path) -> None:
    words = ("--init", weights, "--from", "spikingjelly", "--stage", stage, "--recipe", "tiny", "--data")
    still = f"--set={stage}.optimizer.lr=1e-9"
    result = run("train", *words, trained / "data", "--out", tmp_path / "run", *FEW, *SMALL, still)
    assert result.exit_code == 0, result.stderr
    line = f"{weights}: 53 tensors by their names; not used: fc.weight; left as they begin: stem.0.weight ([4, 3, 3, 3]"
    assert line in (result.stdout + result.stderr).replace("\n", " ")
    assert len(read_json(tmp_path / "run/split.json")["files_sha256"]) == 64
    assert read_header(tmp_path / "run").encoder.options == {"width": 4}
    torch.manual_seed(3)
    wanted = build_encoder(EncoderConfig(options={"width": 4})).body.state_dict()
    found = load_tensors(tmp_path / "run")
    prefix = "encoder.body." if stage == "finetune" else "body."
    for name in (name for name in wanted if name.endswith("weight") and name != "stem.0.weight"):
        assert torch.allclose(found[prefix + name], wanted[name], atol=1e-6), name


def test_mistakes_are_one_line(weights: Path, trained: Path, tmp_path: Path) -> None:
    data = ("--data", trained / "data", "--recipe", "tiny", "--out", tmp_path / "run")
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "other.pth")
    for words, line in (
        (
            ("--from", "spikingjelly", "--stage", "pretrain"),
            "--from spikingjelly without weights; give them with --init",
        ),
        (("--init", weights, "--from", "spikingjelly", "--stage", "supervised"), "--init with stage supervised"),
        (("--init", tmp_path / "no.pth", "--from", "spikformer", "--stage", "finetune"), "no.pth: does not exist"),
        (
            ("--init", tmp_path / "other.pth", "--from", "spikingjelly", "--stage", "finetune"),
            "other.pth: 0 of the encoder's 54 tensors are there by spikingjelly's names; the first that is not: stem.0",
        ),
        (("--init", weights, "--stage", "finetune"), "w.pth: is no safetensors file"),
    ):
        assert line in error_line(run("train", *words, *data))
        assert not (tmp_path / "run").exists()
