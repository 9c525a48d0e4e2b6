"""Two processes under torchrun on the CPU compute what one computes, agree, and end together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.distributed_worker import everything
from tests.helpers.shared import build_once

ROOT = Path(__file__).parents[2]
KINDS = ("still", "shuffled", "sync", "labels")


def run_both(folder: Path) -> None:
    """Trains in this process, then in two under torchrun, of which the second fails; writes what each found."""
    torch.save(everything(folder / "one"), folder / "one.pt")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, "-m", "tests.helpers.distributed_worker", str(folder)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "the second process fails, while the first waits for it" in done.stderr, done.stderr
    assert done.returncode != 0
    assert not (folder / "not-reached").exists()
    (folder / "stderr.txt").write_text(done.stderr)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_once(tmp_path_factory, "distributed", run_both)


@pytest.fixture(scope="module")
def one(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "one.pt")


@pytest.fixture(scope="module")
def two(folder: Path) -> list[dict[str, Any]]:
    """What each of two processes found, and what both said."""
    said = (folder / "stderr.txt").read_text()
    return [torch.load(folder / f"process-{rank}.pt") | {"said": said} for rank in range(2)]


@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_those_of_one_process(kind: str, one: dict[str, Any], two: Any) -> None:
    """`still` has batch norm in evaluation; the others train with statistics that do not depend on processes."""
    assert len(one[kind]["history"]) == 2
    assert two[0][kind]["history"] == pytest.approx(one[kind]["history"], abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_both_processes_hold_the_same_state(kind: str, one: dict[str, Any], two: Any) -> None:
    """Weights, running statistics, and where there is one, the momentum encoder, the queue and its pointer."""
    first, second = two[0][kind]["state"], two[1][kind]["state"]
    assert first.keys() == second.keys() == one[kind]["state"].keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
        assert torch.allclose(value, one[kind]["state"][name], atol=1e-4), name


def test_plain_statistics_do_depend_on_the_processes(one: dict[str, Any], two: Any) -> None:
    """So the comparisons above can fail."""
    assert abs(two[0]["plain"]["history"][0] - one["plain"]["history"][0]) > 1e-4


def test_two_processes_go_on_exactly(two: Any) -> None:
    for found in two:
        assert found["resumed"]["history"] == found["shuffled"]["history"]
        assert all(torch.equal(v, found["shuffled"]["state"][k]) for k, v in found["resumed"]["state"].items())


def test_a_mistake_of_one_process_reaches_both(two: Any) -> None:
    assert [found["mistake"] for found in two] == ["the second process has no data"] * 2


def test_a_mistake_of_both_is_said_once(two: Any) -> None:
    assert [found["exit"] for found in two] == [2, 2]
    (line,) = [line for line in two[0]["said"].splitlines() if line.startswith("neuromoco: ")]
    assert "/nothing: does not exist" in line
