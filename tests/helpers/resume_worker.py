"""Trains in children of a process that has imported everything, and kills them: used by `test_resume`.

Reads lines `FOLDER<tab>CONFIG<tab>SECONDS`, goes on with the run in the folder or begins one, kills it with
SIGKILL after so many seconds, and answers with its exit code, -9 if it was killed, and the seconds it lived.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import torch

from neuromoco.config import load_config
from neuromoco.support.console import console
from neuromoco.train import resume, train
from neuromoco.train.run_folder import RunFolder


def child(folder: Path, config: str) -> None:
    code = 1
    try:
        run = RunFolder(folder)
        if run.is_begun and not run.is_complete:
            resume(folder, "cpu")
        elif not run.is_begun:
            train(load_config(config), folder, "cpu")
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def main() -> None:
    torch.set_num_threads(1)
    console.quiet = True
    gc.freeze()  # children need not look through what was imported
    for line in sys.stdin:
        folder, config, seconds = line.rstrip("\n").split("\t")
        begun = time.monotonic()
        pid = os.fork()
        if not pid:
            child(Path(folder), config)
        status = (0, 0)
        while status[0] == 0 and time.monotonic() - begun < float(seconds):
            time.sleep(0.001)
            status = os.waitpid(pid, os.WNOHANG)
        if status[0] == 0:
            os.kill(pid, signal.SIGKILL)
            status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status[1]), time.monotonic() - begun, flush=True)


if __name__ == "__main__":
    main()
