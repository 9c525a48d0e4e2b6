"""One recording on simulated microcontrollers; `make microcontroller` runs a hundred."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from neuromoco import models
from neuromoco.events import read_recording
from neuromoco.runtime.loihi.twin import run
from tests.export.to_c.microcontroller import CORES, MISSING, build, on_board

pytest.importorskip("h5py")


@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
def test_microcontrollers_give_the_logits_of_the_twin(tmp_path: Path) -> None:
    from neuromoco.runtime.loihi.folder import TwinNetwork

    twin = TwinNetwork(models.model_path(suffix=".loihi"))
    path = models.example_paths()[3]
    wanted = run(twin.graph, twin.frames([read_recording(path)])).logits.sum(0)
    build(tmp_path, twin)
    shutil.copyfile(path, tmp_path / "one.bin")
    for core in CORES:
        found = on_board(tmp_path, core, ["one.bin", "one.bin"])
        assert np.array_equal(found.logits, np.repeat(wanted, 2, axis=0))
        assert (found.instructions > 1e6).all()
