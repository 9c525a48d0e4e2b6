"""Files are classified by several processes, whatever happens to one of them."""

from __future__ import annotations

import multiprocessing
import os
import signal

from neuromoco.models import example_paths, model_path
from neuromoco.runtime.batch import Job, classify_files
from neuromoco.runtime.prediction import Prediction


def labels(processes: int, kill: bool = False) -> list[int]:
    files, found = example_paths() * 6, []
    for answer in classify_files(files, Job(model_path()), processes):
        assert answer.file == files[len(found)]
        assert isinstance(answer.result, Prediction)
        found.append(answer.result.label)
        if kill and len(found) in (1, 5):
            os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)
    assert len(found) == len(files)
    return found


def test_all_files_are_answered_when_a_process_is_killed() -> None:
    assert labels(2, kill=True) == labels(1)
    assert multiprocessing.active_children() == []
