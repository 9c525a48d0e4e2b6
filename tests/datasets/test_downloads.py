"""Downloads of published sets, from a server of made-up archives on this machine, with tonic and with a stand-in."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import socket
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from neuromoco import NeuromocoError
from neuromoco.app.cli.main import app
from neuromoco.datasets import downloads, list_data
from neuromoco.datasets.fixed_splits import Counts
from neuromoco.datasets.named import SETS
from neuromoco.installation import pip_install
from neuromoco.support.console import say_once
from tests.helpers import tonic_stand_in

TRIALS = ("user01_led", "user02_lab")
CLASSES = ("cat", "dog")


class Server:
    """Serves `files` under their names; those in `cut` break off half way, those in `mute` never begin."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: set[str] = set()
        self.mute: set[str] = set()
        self.asked: list[str] = []
        self.over = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.strip("/")
                outer.asked.append(name)
                if name in outer.mute:
                    outer.over.wait()
                if name not in outer.files:
                    self.send_error(404)
                    return
                content = outer.files[name]
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if name in outer.cut else content)

            def log_message(self, format: str, *words: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.over.set()
    server.http.shutdown()
    thread.join()
    server.http.server_close()


def zipped(files: dict[str, bytes]) -> bytes:
    with io.BytesIO() as out:
        with zipfile.ZipFile(out, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return out.getvalue()


def tarred(names: list[str]) -> bytes:
    with io.BytesIO() as out:
        with tarfile.open(fileobj=out, mode="w:gz") as archive:
            for name in names:
                archive.addfile(tarfile.TarInfo(name))
        return out.getvalue()


def two_each(pattern: str, inside: tuple[str, ...]) -> dict[str, bytes]:
    return {pattern.format(name, number): b"" for name in inside for number in (1, 2)}


# What tonic's classes download, and what is in it.
ARCHIVES: dict[str, dict[str, bytes]] = {
    "n-mnist": {
        "train_": zipped(two_each("Train/{}/0000{}.bin", ("0", "1"))),
        "test_": zipped(two_each("Test/{}/0000{}.bin", ("0", "1"))),
    },
    "n-caltech101": {"": zipped(two_each("Caltech101/{}/image_000{}.bin", CLASSES))},
    "cifar10-dvs": {
        "": zipped({f"{c}.zip": zipped(two_each("{0}/cifar10_{0}_{1}.aedat4", (c,))) for c in CLASSES}),
    },
    "dvs128-gesture": {
        "train_": tarred([f"ibmGestureTrain/{TRIALS[0]}/{label}.npy" for label in range(2)]),
        "test_": tarred([f"ibmGestureTest/{TRIALS[1]}/{label}.npy" for label in range(1)]),
    },
}
ARCHIVES["n-caltech101-ceil"] = ARCHIVES["n-caltech101"]


@pytest.fixture(params=["stand-in", "tonic"])
def sets(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, server: Server, data_root: Path
) -> dict[str, dict[str, Any]]:
    """Tonic's classes with small archives and the addresses of the server; names of a set's archives there."""
    if request.param == "stand-in":
        tonic_stand_in.install(monkeypatch)
    datasets = pytest.importorskip("tonic").datasets
    monkeypatch.setattr("neuromoco.datasets.class_sets.N_MNIST", Counts(4, 4))
    monkeypatch.setattr("neuromoco.datasets.class_sets.fixed_split", lambda name: dict.fromkeys(CLASSES, Counts(1, 1)))
    monkeypatch.setattr("neuromoco.datasets.gesture.TONICS", Counts(2, 1))
    names: dict[str, dict[str, Any]] = {}
    for name, archives in ARCHIVES.items():
        of = getattr(datasets, SETS[name].tonic)
        for prefix, content in archives.items():
            file = getattr(of, f"{prefix}filename")
            server.files[file] = content
            monkeypatch.setattr(of, f"{prefix}url", f"{server.address}/{file}")
            monkeypatch.setattr(of, f"{prefix or 'file_'}md5", hashlib.md5(content).hexdigest())
            names.setdefault(name, {})[prefix] = file
    return names


def fetch(name: str, *options: str) -> Result:
    result = CliRunner().invoke(app, ["download", name, *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def failure(name: str) -> tuple[int, str]:
    result = fetch(name)
    lines = [line for line in result.stderr.splitlines() if line.startswith("neuromoco: ")]
    assert (len(lines), result.stdout) == (1, ""), result.output
    return result.exit_code, lines[0]


def left(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_set_is_where_data_looks_for_it(sets: dict[str, Any], server: Server, data_root: Path, name: str) -> None:
    with pytest.raises(NeuromocoError, match=f"neuromoco download {name} fetches it"):
        list_data(name, "train")
    say_once.cache_clear()
    result = fetch(name)
    folder = data_root / SETS[name].folder
    assert (result.exit_code, result.stdout) == (0, f"{name}: is now in {folder}; neuromoco train --data {name}\n")
    assert f"downloading {server.address}/{next(iter(sets[name].values()))}" in result.stderr
    assert ("tonic's copy" in result.stderr) is (name in ("cifar10-dvs", "dvs128-gesture"))
    wanted = {"n-mnist": (4, 4), "dvs128-gesture": (2, 1)}.get(name, (2, 2))
    assert (len(list_data(name, "train")), len(list_data(name, "test"))) == wanted
    assert [path.name for path in data_root.iterdir()] == [folder.name]
    assert not list(folder.glob("*.zip"))
    server.asked.clear()
    again = fetch(name)
    assert (again.exit_code, again.stdout) == (0, f"{name}: is already in {folder}; neuromoco train --data {name}\n")
    assert server.asked == []


def test_quiet_is_quiet(sets: dict[str, Any], data_root: Path) -> None:
    assert fetch("n-mnist", "--quiet").stderr == ""


def test_what_goes_wrong_is_one_line_and_what_was_fetched_is_kept(
    sets: dict[str, Any], server: Server, data_root: Path
) -> None:
    train, test = sets["n-mnist"].values()
    good = server.files[test]

    def wrong() -> str:
        code, line = failure("n-mnist")
        assert code == 1
        assert line.startswith(f"neuromoco: n-mnist: {server.address}/{test}: ")
        assert (
            "get Train.zip and Test.zip from https://www.garrickorchard.com/datasets/n-mnist and unpack into " in line
        )
        assert not (data_root / "n-mnist").exists()
        return line

    del server.files[test]
    assert "HTTP Error 404: Not Found; try again later, or get" in wrong()
    server.files[test], server.cut = good, {test}
    assert f"ended after {len(good) // 2:,} of {len(good):,} bytes" in wrong()
    server.files[test], server.cut = good[:-1] + b"x", set()
    assert f"returned {len(good):,} bytes whose MD5 is not {hashlib.md5(good).hexdigest()}" in wrong()
    assert left(data_root) == [".n-mnist.download/.lock", f".n-mnist.download/{train}"]
    server.files[test] = good
    server.asked.clear()
    assert fetch("n-mnist").exit_code == 0
    assert set(server.asked) == {test}


def test_a_server_that_says_nothing_is_given_up(
    sets: dict[str, Any], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT_S", 0.2)
    (file,) = sets["cifar10-dvs"].values()
    server.mute = {file}
    code, line = failure("cifar10-dvs")
    assert code == 1
    assert f"{server.address}/{file}: timed out; try again later, or get airplane.zip" in line
    assert socket.getdefaulttimeout() is None


def test_no_network_names_the_address(sets: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from tonic import datasets

    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}/x.zip"
    monkeypatch.setattr(datasets.NCALTECH101, "url", nobody)
    code, line = failure("n-caltech101")
    assert code == 1
    assert f"{nobody}: [Errno {errno.ECONNREFUSED}] Connection refused; try again later, or get Caltech101.zip" in line


@pytest.mark.parametrize(
    ("stop", "code", "line"),
    [
        (KeyboardInterrupt(), 130, ""),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
            2,
            "the disk is full; free some space and run it again, or set NEUROMOCO_DATA",
        ),
    ],
)
def test_an_interrupted_extraction_leaves_no_set(
    sets: dict[str, Any],
    server: Server,
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: BaseException,
    code: int,
    line: str,
) -> None:
    def halfway(self: zipfile.ZipFile, path: str) -> None:
        self.extract(self.namelist()[0], path)
        assert "Train/0/00001.bin" in left(Path(path))
        raise stop

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "extractall", halfway)
        result = fetch("n-mnist")
    assert result.exit_code == code
    assert line in result.stderr
    assert left(data_root) == sorted(f".n-mnist.download/{file}" for file in (".lock", *sets["n-mnist"].values()))
    server.asked.clear()
    assert fetch("n-mnist").exit_code == 0
    assert server.asked == []


def test_archives_of_something_else_are_no_set(
    sets: dict[str, Any], data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neuromoco.datasets.class_sets.N_MNIST", Counts(5, 5))
    code, line = failure("n-mnist")
    assert code == 1
    assert "/Train holds 4 recordings instead of 5; get Train.zip" in line
    assert not (data_root / "n-mnist").exists()


def test_the_disk_must_have_room(
    sets: dict[str, Any], server: Server, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(len(server.files[file]) for file in sets["n-mnist"].values())
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=2 * size - 1))
    code, line = failure("n-mnist")
    assert code == 2
    assert (
        f"{data_root}: the archives and their content take at least 0.0 GB, 0.0 GB are free; free some space, or"
        in line
    )
    assert len(server.asked) == 2  # how long they are
    packed = {"Train/0/1.bin": bytes(10)}
    archive = data_root / "a.zip"
    archive.write_bytes(zipped(packed))
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=9))
    with pytest.raises(NeuromocoError, match=r"the content of a.zip takes 0.0 GB"):
        downloads._unpack(archive, data_root / "x")


def test_a_folder_in_its_place_is_left_alone(sets: dict[str, Any], server: Server, data_root: Path) -> None:
    (data_root / "n-mnist").mkdir()
    assert fetch("n-mnist").exit_code == 0  # an empty folder holds nothing
    (data_root / "n-mnist" / "Train" / "0" / "00001.bin").unlink()
    server.asked.clear()
    code, line = failure("n-mnist")
    assert code == 2
    assert f"/Train holds 3 recordings instead of 4; move {data_root / 'n-mnist'} away and download it again" in line
    assert server.asked == []


def test_names_that_cannot_be_downloaded(data_root: Path) -> None:
    assert failure("digits") == (2, "neuromoco: digits: needs no download; --data digits records them on first use")
    code, line = failure("nmnist")
    assert (code, line) == (2, f"neuromoco: nmnist: is not a data set to download; give one of {', '.join(SETS)}")


def test_without_tonic_the_extra_is_named(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuromoco.support.extras.find_spec", lambda name: None)
    assert failure("n-mnist") == (
        5,
        "neuromoco: neuromoco download n-mnist needs packages that are not installed: " + pip_install("datasets"),
    )
    assert left(data_root) == []


@pytest.mark.parametrize("name", SETS)
def test_tonic_has_what_is_asked_of_it(name: str) -> None:
    pytest.importorskip("tonic")
    for archive in downloads._archives(name):
        assert archive.url.startswith("https://")
        assert archive.filename.endswith((".zip", ".tar.gz"))
        assert len(bytes.fromhex(archive.md5)) == 16
