"""Trains in children of a process that has imported everything, and kills them: used by `campaign`.

Reads lines of JSON: a run folder, a file of settings or of a sweep, a cache folder, whether kernels are loaded anew,
and seconds. A child goes on with the run in the folder or begins one, and is killed with SIGKILL after so many seconds.
Answers with its exit code, -9 if it was killed, the seconds it lived, and the line of its error.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch

import neuromoco.sweep.unit  # noqa: F401
from neuromoco import NeuromocoError
from neuromoco.config import load_config
from neuromoco.snn import native
from neuromoco.support.console import console
from neuromoco.sweep import load_sweep
from neuromoco.sweep.run import run_sweep
from neuromoco.train import resume, train
from neuromoco.train.run_folder import RunFolder

BUG = 99  # exit code of anything but an error of the package


def go_on(folder: Path, settings: Path) -> None:
    """Begins what the settings ask for, or goes on with it."""
    if settings.name.startswith("sweep"):
        results = run_sweep(load_sweep(str(settings)), folder, device="cpu")
        if results["failed"]:
            raise NeuromocoError(f"failed: {results['failed'][0]['problem']}")
        return
    run = RunFolder(folder)
    if run.is_begun and not run.is_complete:
        resume(folder, "cpu")
    elif not run.is_begun:
        train(load_config(settings), folder, "cpu")


def child(task: dict[str, Any], errors: int) -> None:
    code, line = BUG, ""
    try:
        os.environ["NEUROMOCO_CACHE"] = task["cache"]
        if task["kernels"]:
            native.library.cache_clear()
        go_on(Path(task["folder"]), Path(task["settings"]))
        code = 0
    except NeuromocoError as error:
        code, line = error.exit_code, str(error)
    except BaseException:
        line = traceback.format_exc()
    finally:
        os.write(errors, line.encode("utf-8", "backslashreplace")[-4000:])
        os._exit(code)


def main() -> None:
    torch.set_num_threads(1)
    console.quiet = True
    native.library()
    gc.freeze()  # children need not look through what was imported
    for line in sys.stdin:
        task = json.loads(line)
        begun = time.monotonic()
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            child(task, writer)
        os.close(writer)
        status = (0, 0)
        while status[0] == 0 and time.monotonic() - begun < task["seconds"]:
            time.sleep(0.001)
            status = os.waitpid(pid, os.WNOHANG)
        if status[0] == 0:
            os.kill(pid, signal.SIGKILL)
            status = os.waitpid(pid, 0)
        with open(reader, "rb") as answer:  # noqa: PTH123 (a descriptor)
            error = answer.read().decode()
        print(json.dumps([os.waitstatus_to_exitcode(status[1]), time.monotonic() - begun, error]), flush=True)
    os._exit(0)  # some libraries complain of what is left in memory


if __name__ == "__main__":
    main()
