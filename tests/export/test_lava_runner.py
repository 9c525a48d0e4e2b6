"""Exported Loihi networks in Lava's simulator, compared with integer equations of our own: run with `make lava`."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

RUNNER = Path(__file__).parents[2] / "export" / "lava_runner"
T, N = 4, 3
NAMES = ["walk", "run", "wave", "clap", "turn"]

pytestmark = [
    pytest.mark.lava,
    pytest.mark.skipif(importlib.util.find_spec("lava") is None, reason="Lava is not installed: make lava"),
]


class Net:
    """Layers of a network file, and what they mean in integers.

    Layer numbers start behind the input and, in the extended dialect, the layer that names the dialect.
    """

    def __init__(self, sides: tuple[int, int], *, extended: bool, seed: int = 0) -> None:
        self.extended = extended
        self.rng = np.random.default_rng(seed)
        self.layers: list[dict[str, Any]] = [{"type": "input", "shape": (2, *sides)}]
        self.kinds, self.depths = ["input"], [0]
        if extended:
            self.layers.append({"type": "unpool", "dialect": np.array([b"neuromoco-extended-1"])})
            self.kinds.append("mark")
            self.depths.append(0)

    def _add(self, kind: str, inputs: list[int], layer: dict[str, Any]) -> int:
        (depth,) = {self.depths[n] for n in inputs}
        self.layers.append(layer | ({"inputs": np.array(inputs)} if self.extended else {}) | {"from": inputs})
        self.kinds.append(kind)
        self.depths.append(depth + 1)
        return len(self.layers) - 1

    def conv(self, inputs: list[int], weight: np.ndarray, vth: int, kind: str = "conv", **options: Any) -> int:
        """A convolution; weight is [O, I / groups, kh, kw]."""
        given = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1, "decay": 2048, "bias": None}
        given |= options
        neuron = {"type": "CUBA", "iDecay": 4096, "vDecay": given.pop("decay"), "vThMant": vth, "refDelay": 1}
        layer = {"type": "conv", "weight": weight, "inChannels": weight.shape[1] * given["groups"], **given}
        layer |= {"outChannels": len(weight), "kernelSize": weight.shape[2:]}
        layer["neuron"] = {"type": "GRADED"} if kind == "sums" else {**neuron, "gradedSpike": False}
        layer["shape"] = self._convolved(np.zeros(self.layers[inputs[0]]["shape"]), layer).shape
        return self._add("relay" if kind == "sums" else kind, inputs, layer)

    def relay(self, inputs: list[int], kind: str = "relay") -> int:
        """Sends what it gets a step later, spikes or (kind "sums") sums of spikes."""
        channels = self.layers[inputs[0]]["shape"][0]
        return self.conv(inputs, np.ones((channels, 1, 1, 1), int), 0, kind, groups=channels, decay=0)

    def pool(self, inputs: list[int]) -> int:
        """The largest of 3 x 3 spikes, every second row and column."""
        channels = self.layers[inputs[0]]["shape"][0]
        shape = {"stride": (2, 2), "padding": (1, 1), "groups": channels}
        return self.conv(inputs, np.ones((channels, 1, 3, 3), int), 0, decay=0, **shape)

    def attention(self, source: int, heads: int, gain: int) -> int:
        channels, *sides = self.layers[source]["shape"]
        neuron = {"type": "CUBA", "iDecay": 4096, "vDecay": 2048, "vThMant": 2 * gain - 1, "refDelay": 1}
        layer = {"type": "ssa", "shape": (channels // 3, *sides), "heads": heads, "gain": gain, "neuron": neuron}
        return self._add("ssa", [source], layer)

    def readout(self, inputs: list[int]) -> int:
        """Logits of the whole map."""
        weight, bias = self.weights(len(NAMES), *self.layers[inputs[0]]["shape"]), self.biases(len(NAMES))
        return self.conv(inputs, weight, 131071, "readout", decay=0, bias=bias)

    def weights(self, *shape: int) -> np.ndarray:
        return self.rng.integers(-127, 128, shape)

    def biases(self, channels: int) -> np.ndarray:
        return self.rng.integers(-60, 61, channels)

    def frames(self) -> np.ndarray:
        """Sparse counts, some of the largest."""  # [T, N, 2, H, W]
        shape = (T, N, *self.layers[0]["shape"])
        counts = self.rng.integers(1, 9, shape) * (self.rng.random(shape) < 0.3)
        return np.where(self.rng.random(shape) < 0.01, 255, counts).astype(np.uint8)

    @staticmethod
    def _convolved(value: np.ndarray, layer: dict[str, Any]) -> np.ndarray:
        image, kernel = torch.from_numpy(value.astype(np.float64)), torch.from_numpy(layer["weight"].astype(np.float64))
        shape = {name: tuple(layer[name]) for name in ("stride", "padding", "dilation")}
        return torch.conv2d(image[None], kernel, groups=layer["groups"], **shape)[0].numpy().astype(np.int64)

    def _drive(self, layer: dict[str, Any], values: dict[int, np.ndarray]) -> np.ndarray:
        value = sum(values[n] for n in layer["from"])
        if layer["type"] == "conv":
            return self._convolved(value, layer)
        q, k, v = value.reshape(3, layer["heads"], -1, value.shape[1] * value.shape[2])  # [heads, C / heads, tokens]
        pairs = np.einsum("hci,hcj->hij", q, k)
        return layer["gain"] * np.einsum("hij,hcj->hci", pairs, v).reshape(layer["shape"])

    def answers(self, frames: np.ndarray) -> tuple[dict[int, np.ndarray], np.ndarray]:
        """Spikes by layer [T, N, C, h, w] and logits [N, classes], all layers within one step."""
        numbers = [n for n, kind in enumerate(self.kinds) if kind not in ("input", "mark")]
        spikes = {n: np.zeros((*frames.shape[:2], *self.layers[n]["shape"]), np.int64) for n in numbers}
        logits = np.zeros((frames.shape[1], len(NAMES)), np.int64)
        for sample in range(frames.shape[1]):
            membranes = {n: np.zeros(self.layers[n]["shape"], np.int64) for n in numbers}
            for step in range(len(frames)):
                values = {0: frames[step, sample].astype(np.int64)}
                for n in numbers:
                    values[n] = spikes[n][step, sample] = self._step(n, self._drive(self.layers[n], values), membranes)
            logits[sample] = membranes[numbers[-1]].reshape(-1) // 64
        return spikes, logits

    def _step(self, number: int, drive: np.ndarray, membranes: dict[int, np.ndarray]) -> np.ndarray:
        neuron = self.layers[number]["neuron"]
        if neuron["type"] == "GRADED":
            return drive
        assert abs(drive).max() < 1 << 17
        v = membranes[number]
        bias = self.layers[number].get("bias")
        v = np.sign(v) * (abs(v) * (4096 - neuron["vDecay"]) >> 12) + 64 * drive
        v += 0 if bias is None else 64 * bias[:, None, None]
        spike = v > 64 * neuron["vThMant"]
        membranes[number] = np.where(spike, 0, v)
        return spike.astype(np.int64)

    def write(self, folder: Path, frames: np.ndarray, **arrays: np.ndarray) -> Path:
        """An export: the runner's files and this network's."""
        shutil.copytree(RUNNER, folder, ignore=shutil.ignore_patterns("__pycache__"))
        with h5py.File(folder / "network.net", "w") as file:
            for number, layer in enumerate(self.layers):
                _put(file.create_group(f"layer/{number}"), layer)
        layers = [
            {"index": n, "name": f"{kind}{n}", "kind": kind, "depth": self.depths[n]}
            for n, kind in enumerate(self.kinds)
            if kind != "mark"
        ]
        manifest = {
            "dialect": "extended" if self.extended else "stock",
            "net": "network.net",
            "steps": len(frames),
            "latency": self.depths[-1],
            "reset": {"interval": len(frames), "offset": 1},
            "input": {"shape": self.layers[0]["shape"], "message_bits": 8, "largest": 255},
            "readout": {"layer": len(self.layers) - 1, "scale": 1.0},
            "class_names": NAMES,
            "layers": layers,
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))
        np.savez(folder / "frames.npz", frames=frames, **arrays)
        return folder


def _put(group: h5py.Group, entries: dict[str, Any]) -> None:
    for name, value in entries.items():
        if isinstance(value, dict):
            _put(group.create_group(name), value)
        elif isinstance(value, str):
            group.create_dataset(name, (1,), "S10", [value.encode()])
        elif value is not None and name != "from":
            group.create_dataset(name, data=value)


def stock() -> Net:
    """A chain: stem, max pool, a convolution of groups that is strided and dilated along one axis each, readout."""
    net = Net((9, 7), extended=False)
    stem = net.conv([0], net.weights(6, 2, 3, 3) // 6, 40, padding=(1, 1), bias=net.biases(6))
    pool = net.pool([stem])
    shape = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2}
    last = net.conv([pool], net.weights(8, 3, 3, 3), 120, decay=1024, bias=net.biases(8), **shape)
    net.readout([last])
    return net


def extended() -> Net:
    """Stem, max pool, a residual block that adds, attention on its sums, a second residual, readout."""
    net = Net((10, 8), extended=True)
    stem = net.conv([0], net.weights(8, 2, 3, 3) // 6, 60, padding=(1, 1), bias=net.biases(8))
    pool = net.pool([stem])
    first = net.conv([pool], net.weights(8, 8, 3, 3), 250, padding=(1, 1), bias=net.biases(8))
    second = net.conv([first], net.weights(8, 8, 3, 3), 150, padding=(1, 1), bias=net.biases(8))
    skip = net.relay([net.relay([pool])])
    sums = net.relay([second, skip], "sums")
    qkv = net.conv([sums], net.weights(24, 8, 1, 1), 120, bias=net.biases(24))
    attention = net.attention(qkv, heads=2, gain=8)
    projection = net.conv([attention], net.weights(8, 8, 1, 1), 100, bias=net.biases(8))
    late = net.relay([net.relay([net.relay([sums], "sums")], "sums")], "sums")
    net.readout([projection, late])
    return net


def wide() -> Net:
    """More than 127 groups, pixels and columns of a kernel; two layers that take the input."""
    net = Net((3, 130), extended=True)
    stem = net.conv([0], net.weights(130, 2, 3, 3) // 6, 60, padding=(1, 1))
    other = net.conv([0], net.weights(130, 2, 1, 1), 90)
    net.readout([net.relay([stem, other], "sums")])
    return net


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs the script as a user would, where torch and this package are not installed."""
    absent = folder.parent / "absent"
    absent.mkdir(exist_ok=True)
    for name in ("torch", "neuromoco"):
        (absent / f"{name}.py").write_text(f"raise ModuleNotFoundError('No module named {name}', name='{name}')")
    command = [sys.executable, str(folder / "run_lava.py"), *options]
    environment = {"PYTHONPATH": str(absent), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder.parent, env=environment)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export that tests copy and damage."""
    net = stock()
    return net.write(tmp_path_factory.mktemp("plain") / "export", net.frames())


@pytest.mark.parametrize("build", [stock, extended, wide])
def test_every_spike_and_logit_is_that_of_the_integer_equations(build: Any, tmp_path: Path) -> None:
    net = build()
    frames = net.frames()
    spikes, logits = net.answers(frames)
    folder = net.write(tmp_path / "export", frames, logits=logits)
    done = run(folder, "--taps", "--out", str(tmp_path / "out.npz"))
    print(done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [f"{n}: {NAMES[row.argmax()]}, logits equal" for n, row in enumerate(logits)]
    with np.load(tmp_path / "out.npz") as out:
        assert out["logits"].dtype == np.int64
        np.testing.assert_array_equal(out["logits"], logits)
        inner = list(spikes)[:-1]
        assert sorted(out.files) == sorted(["logits", *(f"spikes/{n}" for n in inner)])
        differing = {n: int((out[f"spikes/{n}"] != spikes[n]).sum()) for n in inner}
    assert differing == dict.fromkeys(inner, 0)
    # Layers that never or always fire would prove nothing.
    assert all(0.02 < (spikes[n] > 0).mean() < 0.98 for n in inner)
    assert {path.name for path in tmp_path.iterdir()} == {"export", "absent", "out.npz"}


def test_lavas_own_convolution_gives_the_same(plain: Path, tmp_path: Path) -> None:
    done = run(plain, "--plain-convolution", "--out", str(tmp_path / "out.npz"))
    assert done.returncode == 0, done.stderr
    with np.load(plain / "frames.npz") as given, np.load(tmp_path / "out.npz") as out:
        np.testing.assert_array_equal(out["logits"], stock().answers(given["frames"])[1])


def test_other_logits_than_expected_are_told(plain: Path, tmp_path: Path) -> None:
    frames = np.load(plain / "frames.npz")["frames"][:, :2]
    logits = stock().answers(frames)[1]
    np.savez(tmp_path / "two.npz", frames=frames, logits=logits + np.array([[0], [2]]))
    done = run(plain, "--frames", str(tmp_path / "two.npz"))
    assert done.returncode == 1
    names = [NAMES[row.argmax()] for row in logits]
    assert done.stdout.splitlines() == [f"0: {names[0]}, logits equal", f"1: {names[1]}, logits differ by up to 2"]


def _other_dialect(folder: Path) -> None:
    extended().write(folder / "x", np.zeros((T, 1, 2, 10, 8), np.uint8))
    for name in ("network.net", "manifest.json", "frames.npz"):
        (folder / "x" / name).replace(folder / name)
    with h5py.File(folder / "network.net", "r+") as file:
        file["layer/1/dialect"][0] = b"neuromoco-extended-9"


def _stock_reader_on_extended(folder: Path) -> None:
    _other_dialect(folder)
    told = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(told | {"dialect": "stock"}))


def _unknown_layer(folder: Path) -> None:
    with h5py.File(folder / "network.net", "r+") as file:
        del file["layer/4/type"]
        file["layer/4"].create_dataset("type", (1,), "S10", [b"novel"])


DAMAGES = {
    "dialect": (_other_dialect, "neuromoco-extended-9"),
    "stock reader": (_stock_reader_on_extended, "unpool"),
    "dropped layer": (_unknown_layer, "manifest.json"),
    "no network": (lambda folder: (folder / "network.net").unlink(), "network.net"),
    "no HDF5": (lambda folder: (folder / "network.net").write_bytes(b"x"), "network.net"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "manifest.json"),
    "half a manifest": (lambda folder: (folder / "manifest.json").write_text("{}"), "lacks dialect"),
    "no frames": (lambda folder: (folder / "frames.npz").unlink(), "frames.npz"),
    "shape": (
        lambda f: np.savez(f / "frames.npz", frames=np.zeros((T, 1, 2, 7, 9), np.uint8)),
        "uint8 [4, N, 2, 9, 7]",
    ),
    "type": (lambda f: np.savez(f / "frames.npz", frames=np.zeros((T, 1, 2, 9, 7))), "float64"),
    "image": (
        lambda f: (f / "frames.npz").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50)),
        "is a PNG image; wanted is an .npz",
    ),
    "one array": (
        lambda f: np.lib.format.open_memmap(f / "frames.npz", "w+", shape=(3,)).flush(),
        "is a single array (.npy); wanted",
    ),
    "text": (lambda f: (f / "frames.npz").write_text("t x y p"), "begins with b't x y p'; wanted"),
    "empty": (lambda f: (f / "frames.npz").write_bytes(b""), "is empty; wanted"),
    "objects": (lambda f: np.savez(f / "frames.npz", frames=np.array([{}, None])), "it holds Python objects"),
    "logits": (
        lambda f: np.savez(f / "frames.npz", frames=np.zeros((T, 1, 2, 9, 7), np.uint8), logits=np.full((1, 5), "x")),
        "logits are <U1 [1, 5]",
    ),
    "list for a manifest": (lambda folder: (folder / "manifest.json").write_text("[1]"), "is [1], not an object"),
    **{
        f"{field} {value!r}": (
            lambda folder, field=field, value=value: _told(folder, field, value),
            f"manifest.json: {field} is {json.dumps(value)}, but must be ",
        )
        for field, value in (
            ("reset", 4),
            ("layers", 3),
            ("layers", [4]),
            ("layers", [{"index": 0}]),
            ("input", None),
            ("steps", True),
            ("steps", "4"),
            ("class_names", {"a": 1}),
            ("net", 1),
            ("dialect", ["stock"]),
            ("readout.layer", 1.5),
            ("input.shape", [2, 9]),
            ("reset.offset", None),
        )
    },
}


def _told(folder: Path, field: str, value: Any) -> None:
    """Changes a field of the manifest."""
    manifest = json.loads((folder / "manifest.json").read_text())
    *groups, name = field.split(".")
    place = manifest[groups[0]] if groups else manifest
    place[name] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("damage", DAMAGES)
def test_files_that_cannot_be_used_are_named_in_one_line(damage: str, plain: Path, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    shutil.copytree(plain, folder)
    change, named = DAMAGES[damage]
    change(folder)
    done = run(folder, "--out", str(tmp_path / "out.npz"))
    assert (done.returncode, done.stdout) == (3, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("run_lava: ")
    assert named in line
    assert not list(tmp_path.glob("out.npz*"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out", "."], "--out: . is a folder: give --out FILE.npz"),
        (["--out", "nowhere/out.npz"], "--out: there is no folder"),
        *((["--patience", value], "--patience must be above 0") for value in ("nan", "inf", "0", "1e12")),
    ],
)
def test_arguments_are_checked_before_the_run(options: list[str], said: str, plain: Path) -> None:
    done = run(plain, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr.splitlines()[-1]


def test_a_folder_for_frames_is_named(plain: Path, tmp_path: Path) -> None:
    done = run(plain, "--frames", str(tmp_path))
    assert (done.returncode, done.stdout) == (3, "")
    assert "is a folder; wanted is an .npz file" in done.stderr


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("simulate.py", "    layers = load(", "    1 / 0\n    layers = load(", "ZeroDivisionError: division by zero"),
        ("ending.py", "begun = False", "begun = False +", "lava_parts is not whole"),
    ],
)
def test_what_nobody_foresaw_is_one_line_and_code_4(
    file: str, old: str, new: str, said: str, plain: Path, tmp_path: Path
) -> None:
    shutil.copytree(plain, tmp_path / "export")
    path = tmp_path / "export" / "lava_parts" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    done = run(tmp_path / "export")
    assert (done.returncode, done.stdout) == (4, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("run_lava: ")
    assert said in line


def test_a_part_that_cannot_be_started_is_told(plain: Path, tmp_path: Path) -> None:
    shutil.copytree(plain, tmp_path / "export")
    path = tmp_path / "export" / "lava_parts" / "compat.py"
    good = "                super().start()\n"
    assert good in path.read_text()
    bad = "                if len(self.parts) == 3:\n                    raise BlockingIOError('no room')\n"
    path.write_text(path.read_text().replace(good, bad + good))
    done = run(tmp_path / "export")
    assert done.returncode == 4
    assert done.stderr.splitlines()[-1] == "run_lava: Lava: no room"


def test_missing_lava_is_named_with_what_to_type(plain: Path, tmp_path: Path) -> None:
    shutil.copytree(plain, tmp_path / "export")
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent" / "lava.py").write_text("raise ModuleNotFoundError('No module named lava', name='lava')")
    done = run(tmp_path / "export")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "pip install" in line


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("raise OSError('no room')", "OSError: no room"),
        ("__import__('os').kill(__import__('os').getpid(), 9)", "a part of the network died"),
        ("__import__('time').sleep(200)", "no answer for 5 s"),
    ],
)
def test_a_part_that_fails_ends_the_run(fault: str, said: str, plain: Path, tmp_path: Path) -> None:
    shutil.copytree(plain, tmp_path / "export")
    recorder = tmp_path / "export" / "lava_parts" / "processes" / "recorder.py"
    good = "        self.rows[self.time_step - 1] ="
    bad = f"        if self.time_step == 3:\n            {fault}\n{good}"
    assert good in recorder.read_text()
    recorder.write_text(recorder.read_text().replace(good, bad))
    done = run(tmp_path / "export", "--taps", "--out", str(tmp_path / "out.npz"), "--patience", "5")
    assert done.returncode == 4
    assert said in done.stderr
    assert done.stderr.splitlines()[-1].startswith("run_lava: ")
    assert not list(tmp_path.glob("out.npz*"))


class Watched:
    """A program that a test ends, and what it has made: processes, shared memory and temporary files."""

    def __init__(self, place: Path, words: list[str]) -> None:
        place.mkdir()
        (place / "tmp").mkdir()
        # Others on this machine may run Lava as well: our segments get a name of their own.
        self.prefix = f"psm_{os.getpid() % 10**5}{time.monotonic_ns() % 10**4}_"
        (place / "sitecustomize.py").write_text(
            "from multiprocessing import shared_memory\n"
            f"shared_memory._SHM_NAME_PREFIX, shared_memory._SHM_SAFE_NAME_LENGTH = '/{self.prefix}', 30\n"
        )
        self.mark = f"WATCHED={self.prefix}"
        self.temporary = place / "tmp"
        settings = {"PYTHONPATH": str(place), "PATH": "/usr/bin:/bin", "TMPDIR": str(self.temporary)}
        self.program = subprocess.Popen(
            words,
            env=settings | {"WATCHED": self.prefix},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def processes(self) -> list[int]:
        """All that run, whoever their parent is."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                settings = (folder / "environ").read_bytes().split(b"\0")
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if self.mark.encode() in settings and state != "Z":
                found.append(int(folder.name))
        return found

    def segments(self) -> int:
        return len(list(Path("/dev/shm").glob(f"{self.prefix}*")))

    def wait(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        late = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < late, (self.processes(), self.segments())
            assert self.program.poll() is None, self.program.communicate()
            time.sleep(0.01)

    def gone(self) -> bool:
        """Whether all has ended within some seconds, for what ends by the kernel's help."""
        late = time.monotonic() + 10
        while (self.processes() or self.segments()) and time.monotonic() < late:
            time.sleep(0.05)
        return not self.processes() and not self.segments()

    def close(self) -> None:
        for number in self.processes():
            os.kill(number, signal.SIGKILL)
        self.program.communicate()
        for path in Path("/dev/shm").glob(f"{self.prefix}*"):
            path.unlink(missing_ok=True)


# When a signal is sent; a part is a process beside the script, the tracker and the manager of the memory.
MOMENTS: dict[str, Callable[[Watched], bool]] = {
    "imports": lambda it: "numpy" in Path(f"/proc/{it.program.pid}/maps").read_text(),
    "tracker": lambda it: len(it.processes()) > 1,
    "memory": lambda it: it.segments() > 3,
    "first part": lambda it: len(it.processes()) > 3,
    "more parts": lambda it: len(it.processes()) > 6,
    "steps": lambda it: len(it.processes()) > 8 and not time.sleep(1.5),
}
linux = pytest.mark.skipif(sys.platform != "linux", reason="counts by /proc and /dev/shm")


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export that runs for minutes."""
    net = stock()
    frames = np.tile(net.frames(), (1, 2000, 1, 1, 1))
    return net.write(tmp_path_factory.mktemp("long") / "export", frames)


@linux
@pytest.mark.parametrize(
    ("moment", "number", "group"),
    [
        *((moment, signal.SIGINT, False) for moment in MOMENTS),
        *((moment, signal.SIGINT, True) for moment in ("memory", "first part", "steps")),  # as a terminal does
        *((moment, signal.SIGTERM, False) for moment in ("imports", "first part", "steps")),
        ("steps", signal.SIGTERM, True),
        ("steps", signal.SIGHUP, True),
    ],
)
def test_an_interrupt_leaves_nothing(moment: str, number: int, group: bool, long: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.npz"
    it = Watched(tmp_path / "it", [sys.executable, str(long / "run_lava.py"), "--taps", "--out", str(out)])
    try:
        it.wait(lambda: MOMENTS[moment](it))
        (os.killpg if group else os.kill)(it.program.pid, number)
        assert it.program.wait(15) == 130
        # At once: nobody waits for what comes later.
        assert (it.processes(), it.segments(), list(it.temporary.iterdir())) == ([], 0, [])
        assert it.program.communicate() == ("", "")
        assert not list(tmp_path.glob("out.npz*"))
    finally:
        it.close()


@linux
def test_a_killed_script_takes_its_parts_and_memory_along(long: Path, tmp_path: Path) -> None:
    it = Watched(tmp_path / "it", [sys.executable, str(long / "run_lava.py")])
    try:
        it.wait(lambda: MOMENTS["steps"](it))
        os.kill(it.program.pid, signal.SIGKILL)
        assert it.program.wait(15) == -signal.SIGKILL
        assert it.gone()
    finally:
        it.close()


@linux
@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, -signal.SIGINT),
        (signal.SIGTERM, 128 + signal.SIGTERM),
        (signal.SIGHUP, 128 + signal.SIGHUP),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)
@pytest.mark.parametrize("moment", ["first part", "steps"])
def test_an_interrupted_check_leaves_nothing(moment: str, number: int, code: int, long: Path, tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; import numpy as np; from neuromoco.export.to_loihi import verify; "
        f"folder = Path({str(long)!r}); verify._in_lava(folder, np.load(folder / 'frames.npz')['frames'])"
    )
    it = Watched(tmp_path / "it", [sys.executable, "-c", program])
    try:
        it.wait(lambda: it.segments() > 3)
        it.wait(lambda: MOMENTS[moment](it))
        os.kill(it.program.pid, number)
        assert it.program.wait(30) == code
        if number == signal.SIGKILL:  # its folder stays
            assert it.gone()
        else:
            assert (it.processes(), it.segments(), list(it.temporary.iterdir())) == ([], 0, [])
    finally:
        it.close()


@linux
def test_a_script_that_does_not_end_is_killed(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    # Deaf, with a child that is deaf and outlives it.
    (tmp_path / "export" / "run_lava.py").write_text(
        "import os, signal, time\nfor n in (2, 15):\n    signal.signal(n, signal.SIG_IGN)\nos.fork()\ntime.sleep(300)\n"
    )
    for name in ("manifest.json", "network.net"):
        (tmp_path / "export" / name).touch()
    program = (
        "from pathlib import Path; import numpy as np; from neuromoco.export.to_loihi import verify; "
        f"verify.GRACE_SECONDS = 0.5; verify.RUNNER = place = Path({str(tmp_path / 'export')!r}); "
        "verify._in_lava(place, np.zeros(3))"
    )
    it = Watched(tmp_path / "it", [sys.executable, "-c", program])
    try:
        it.wait(lambda: len(it.processes()) == 3 and not time.sleep(0.5))
        os.kill(it.program.pid, signal.SIGINT)
        assert it.program.wait(15) == -signal.SIGINT
        assert it.gone()
        assert not list(it.temporary.iterdir())
    finally:
        it.close()
