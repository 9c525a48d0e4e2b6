"""What `datasets.downloads` uses of tonic, for where it is not installed: the same names, and what they do."""

from __future__ import annotations

import hashlib
import sys
import tarfile
import urllib.request
import zipfile
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

USER_AGENT = "stand-in"


def check_integrity(fpath: str, md5: str | None = None) -> bool:
    file = Path(fpath)
    return file.is_file() and (md5 is None or hashlib.md5(file.read_bytes()).hexdigest() == md5)


def download_url(url: str, root: str, filename: str, md5: str) -> None:
    print("Downloading")
    file = Path(root) / filename
    with file.open("wb") as out, urllib.request.urlopen(url) as response:
        while some := response.read(1024):
            out.write(some)
    if not check_integrity(str(file), md5):
        raise RuntimeError("File not found or corrupted.")


def extract_archive(from_path: str, to_path: str) -> None:
    if from_path.endswith(".zip"):
        with zipfile.ZipFile(from_path) as inside:
            inside.extractall(to_path)
    else:
        with tarfile.open(from_path) as tar:
            tar.extractall(to_path, filter="data")


class NMNIST:
    train_url = test_url = train_md5 = test_md5 = ""
    train_filename, test_filename = "train.zip", "test.zip"


class DVSGesture:
    train_url = test_url = train_md5 = test_md5 = ""
    train_filename, test_filename = "ibmGestureTrain.tar.gz", "ibmGestureTest.tar.gz"


class NCALTECH101:
    url = file_md5 = ""
    filename = "N-Caltech101-archive.zip"


class CIFAR10DVS:
    url = file_md5 = ""
    filename = "CIFAR10DVS.zip"


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets `import tonic` find this."""
    modules = {name: ModuleType(name) for name in ("tonic", "tonic.datasets", "tonic.download_utils")}
    modules["tonic"].__spec__ = ModuleSpec("tonic", None)
    for of in (NMNIST, DVSGesture, NCALTECH101, CIFAR10DVS):
        setattr(modules["tonic.datasets"], of.__name__, type(of.__name__, (of,), {}))
    for part in (check_integrity, download_url, extract_archive):
        setattr(modules["tonic.download_utils"], part.__name__, part)
    modules["tonic.download_utils"].USER_AGENT = USER_AGENT  # type: ignore[attr-defined]
    modules["tonic"].datasets = modules["tonic.datasets"]  # type: ignore[attr-defined]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
