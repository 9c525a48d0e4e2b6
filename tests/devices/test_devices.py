"""No stage mixes devices or reads a value within a step, as a pretended accelerator shows; planted mistakes show up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.devices.__main__ import ENCODERS

ROOT = Path(__file__).parents[2]
# lightly's losses of SimCLR and VICReg choose entries by a mask of truths, for which a GPU waits once a step.
WAITS = ("simclr", "vicreg")


def test_every_stage_of_each_kind_of_encoder_stays_on_its_device_and_waits_for_it_once_a_step() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.devices"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    right, planted = (json.loads(done.stdout.splitlines()[-1])[name] for name in ("right", "planted"))
    stages = ("pretrain", "supervised", "evaluation")
    assert {f"{stage} {name}" for stage in stages for name in ENCODERS} <= {*right}
    assert {name: problem for name, problem in right.items() if problem and name not in WAITS} == {}
    assert {right[name] for name in WAITS} == {"DynamicOutputShapeException: aten.nonzero.default"}
    assert len(planted) == 5
    assert "DataDependentOutputException" in planted.pop("value_read")
    assert all("DeviceMismatch" in problem for problem in planted.values()), planted
