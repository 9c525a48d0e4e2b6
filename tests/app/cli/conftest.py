"""A model that the command line trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neuromoco.events import write_atis
from tests.conftest import make_recording
from tests.helpers.cli import SMALL, run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder, made by the command line, of three classes."""
    folder = tmp_path_factory.mktemp("cli")
    for label in range(3):
        for number in range(10):
            (folder / f"data/c{label}").mkdir(parents=True, exist_ok=True)
            write_atis(folder / f"data/c{label}/{number}.bin", make_recording(label * 100 + number, label=label))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neuromoco.datasets.splits.FEWEST_TO_CHOOSE", 1)
        patch.setenv("NEUROMOCO_CACHE", str(folder / "cache"))
        result = run("train", "--data", folder / "data", "--out", folder / "run", "--epochs", 25, "--json", *SMALL)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["weights"] == str(folder / "run/weights/best.safetensors")
    return folder
