"""What the numbers of a run depend on besides its settings and recordings: machine, versions, threads, kernels."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from neuromoco.snn import native
from neuromoco.support.console import say_once
from neuromoco.support.untrusted import one_line

PACKAGES = ("neuromoco", "torch", "spikingjelly", "accelerate", "numpy")
# Entries of the environment that change the numbers of a run -> what they are called.
DECISIVE = {
    "versions": "version",
    "git_revision": "revision of neuromoco",
    "device": "device",
    "cuda": "GPU",
    "processor": "processor",
    "processes": "number of processes",
    "torch_threads": "number of threads",
    "kernels": "compiled kernels",
}


@cache
def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect the result."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def environment(device: str) -> dict[str, Any]:
    """The machine, versions and command of a run on a device, "cpu" or "cuda"."""
    import torch

    return {
        "versions": package_versions(),
        "git_revision": _git_revision(),
        "command": sys.argv,
        "platform": platform.platform(),
        "processor": native.processor_name(),
        "cpus": os.cpu_count(),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "torch_threads": torch.get_num_threads(),
        "device": device,
        "kernels": native.identity() if device == "cpu" else None,
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def report_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Prints what differs between two environments and changes the numbers of a run; returns whether anything does.

    What an older version of neuromoco did not write down is not compared.
    """
    changes = []
    for entry, name in DECISIVE.items():
        if entry == "versions":
            known = before.get(entry)
            packages = known.items() if isinstance(known, Mapping) else ()
            changes += [(f"{name} of {p}", old, now[entry].get(p)) for p, old in packages if old != now[entry].get(p)]
        elif entry in before and before[entry] != now[entry]:
            changes.append((name, before[entry], now[entry]))
    for name, old, new in changes:
        say_once(
            f"resumed with another {name}: {_in_words(old)} before, {_in_words(new)} now; the result may differ from "
            "that of an uninterrupted run"
        )
    return bool(changes)


def _in_words(value: Any) -> str:
    return "none" if value is None else one_line(str(value)[:60])


@cache
def _git_revision() -> str | None:
    """The commit of the checkout that the package runs from, or None."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout.strip() or None
    except (OSError, subprocess.TimeoutExpired):
        return None
