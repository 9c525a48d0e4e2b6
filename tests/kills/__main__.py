"""Kills training and fills its disk at random moments: `python -m tests.kills --kills 100 --full 30`."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# A namespace in which this process may mount small disks, also without being root.
UNSHARE = ["unshare", "--map-root-user", "--mount"]
INSIDE = "NEUROMOCO_MAY_MOUNT"


def may_mount() -> bool:
    """Whether this system lets a user mount disks in a namespace of their own."""
    return bool(shutil.which("unshare")) and subprocess.run([*UNSHARE, "true"], check=False).returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--full", type=int, default=30, help="number of full disks")
    parser.add_argument("--kinds", help="of training, with commas; by default all")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    options = parser.parse_args()
    if options.full and INSIDE not in os.environ:
        if not may_mount():
            sys.exit("full disks need unshare (util-linux) and the right to use it: give --full 0")
        command = [*UNSHARE, sys.executable, "-m", "tests.kills", *sys.argv[1:]]
        sys.exit(subprocess.run(command, check=False, env=os.environ | {INSIDE: "1"}).returncode)
    from tests.kills.campaign import KINDS, campaign

    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="neuromoco-kills-") as folder:
        kinds = options.kinds.split(",") if options.kinds else KINDS
        with campaign(Path(folder), options.seed, kinds) as runs:
            done = {"kills": options.kills, "of_runs": runs.kill(options.kills)}
            done |= {"full_disks": options.full, "of_runs_on_them": runs.fill(options.full)}
    print(json.dumps({"seed": options.seed, **done, "seconds": round(time.monotonic() - begun)}))


if __name__ == "__main__":
    main()
