"""Loihi folders that are not what the exporter wrote: refused in one line before anything is computed."""

from __future__ import annotations

import functools
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from neuromoco.errors import CheckpointError
from neuromoco.models import model_path
from neuromoco.runtime.loihi.folder import TwinNetwork
from neuromoco.runtime.loihi.manifest import MANIFEST, NET
from neuromoco.runtime.loihi.stored import read_arrays

Change = Callable[[Path], None]


def stated(place: str, value: Any) -> Change:
    """Another value in the manifest."""

    def change(folder: Path) -> None:
        tree = json.loads((folder / MANIFEST).read_text())
        *groups, leaf = (int(part) if part.isdigit() else part for part in place.split("."))
        functools.reduce(lambda node, group: node[group], groups, tree)[leaf] = value
        (folder / MANIFEST).write_text(json.dumps(tree))

    return change


def stored(place: str, value: Any) -> Change:
    """Another array in the network description; None removes it."""

    def change(folder: Path) -> None:
        with h5py.File(folder / NET, "r+") as file:
            if place in file["layer"]:
                del file["layer"][place]
            if value is not None:
                file["layer"][place] = value

    return change


def both(*changes: Change) -> Change:
    def change(folder: Path) -> None:
        for each in changes:
            each(folder)

    return change


def in_file(make: Callable[[h5py.Group], object]) -> Change:
    def change(folder: Path) -> None:
        with h5py.File(folder / NET, "r+") as file:
            make(file["layer"])

    return change


def compressed(layers: h5py.Group) -> None:
    weight = layers["2/weight"][()]
    del layers["2/weight"]
    layers.create_dataset("2/weight", data=weight, compression="gzip")


def other_file(layers: h5py.Group) -> None:
    del layers["2/bias"]
    layers.create_dataset("2/bias", (16,), "i4", external=[("/etc/passwd", 0, 64)])


def link(layers: h5py.Group) -> None:
    del layers["2/bias"]
    layers["2/bias"] = h5py.ExternalLink("/etc/passwd", "/x")


def circle(layers: h5py.Group) -> None:
    layers["2/neuron/more"] = layers


def huge(layers: h5py.Group) -> None:
    del layers["2/weight"]
    layers.create_dataset("2/weight", (16, 2, 1 << 16, 1 << 16), "i4")  # no data is written


def texts(layers: h5py.Group) -> None:
    del layers["2/type"]
    layers.create_dataset("2/type", data=["conv"], dtype=h5py.string_dtype())


def pipe(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)


def sparse(folder: Path) -> None:
    os.truncate(folder / MANIFEST, 1 << 40)


W3 = np.ones((16, 2, 3, 3), np.int32)
HOSTILE: list[tuple[Change, str]] = [
    (stored("2/dilation", np.array([-3000, 1])), "dilation (-3000, 1)"),
    (stored("2/stride", np.array([0, 1])), "stride (0, 1)"),
    (stored("2/stride", np.array([1 << 40, 1])), "above 16777216"),
    (stored("2/stride", np.array([-(1 << 63), 1])), "above 16777216"),
    (stored("2/padding", np.array([-1, 1])), "padding"),
    (stored("2/padding", np.array([4000, 4000])), "padded numbers in a step"),
    (stored("2/stride", np.array([2, 2])), "gives (16, 17, 17), and is stated to give (16, 34, 34)"),
    (stored("2/groups", 0), "states 2 channels in, 16 out and 0 groups"),
    (stored("2/inChannels", 1 << 20), "states 1048576 channels in"),
    (stored("2/weight", np.ones((16, 2, 0, 3), np.int32)), "has weights of shape [16, 2, 0, 3]"),
    (stored("2/weight", W3 * 1000), "a weight of 1000"),
    (stored("2/weight", W3 * 0), "all its weights are 0"),
    (stored("2/weight", W3.astype(np.float32)), "weight is of another type"),
    (stored("2/weight", None), "layer 2 has"),
    (stored("2/more", 1), "layer 2 has"),
    (stored("2/bias", np.zeros(3, np.int32)), "has a bias of another shape"),
    (stored("2/shape", np.array([16, 34])), "not enough values"),
    (stored("2/shape", np.array([0, 34, 34])), "has shape (0, 34, 34)"),
    (stored("2/neuron/vDecay", -5), "has vDecay -5"),
    (stored("2/neuron/vThMant", 1 << 20), "a threshold vThMant of 1048576"),
    (stored("2/neuron/iDecay", 5), "neuron is of another kind"),
    (stored("2/inputs", np.array([16])), "takes later layers"),
    (stored("2/inputs", np.array([99])), "99"),
    (stored("2/inputs", np.zeros(0, int)), "takes later layers"),
    (stored("2/type", np.array([b"dense"])), "layer 2 of type 'dense'"),
    (stored("17/type", np.array([b"conv"])), "other layers than those of the manifest"),
    (in_file(compressed), "weight is of another type or layout"),
    (in_file(other_file), "bias is of another type or layout"),
    (in_file(link), "bias is a link"),
    (in_file(circle), "more groups and arrays than a network has"),
    (in_file(huge), "weight has shape [16, 2, 65536, 65536]"),
    (in_file(texts), "type is of another type"),
    (stated("net", "../../etc/passwd"), "net: "),
    (stated("steps", 5), "steps are not those of the header"),
    (stated("steps", -1), "steps: "),
    (stated("latency", 10**9), "latency is not the depth"),
    (stated("class_names", ["a"]), "class_names are not those"),
    (both(stated("class_names", ["a"]), stated("header.class_names", ["a"])), "10 logits"),
    (stated("input.shape", [2, 34, 10**9]), "input.shape"),
    (both(stated("input.shape", [2, 34, 30]), stated("header.frames.width", 30)), "an input of shape (2, 34, 34)"),
    (stated("readout.scale", 0.0), "readout.scale: "),
    (stated("readout.layer", 3), "readout is not the last layer"),
    (stated("layers.0.largest", 5), "states spikes of up to 5"),
    (stated("layers.1.kind", "ssa"), "'stem.2' is conv, and stated to be ssa"),
    (stated("layers.1.name", "frames"), "two layers of the same name"),
    (stated("layers.2.index", 2), "layers are not in order"),
    (stated("layers.1.depth", 3), "arrive at different steps"),
    (stated("layers", []), "layers: "),
    (stated("header.frames.height", 10**9), "header.frames: "),
    (stated("header.target", "onnx"), "a header of another target"),
    (stated("more", 1), "more: "),
    (lambda folder: (folder / MANIFEST).write_text("[" * 500_000) and None, "is cut or damaged"),
    (lambda folder: (folder / MANIFEST).write_text('{"steps": ' + "9" * 9999 + "}") and None, "is cut or damaged"),
    (lambda folder: pipe(folder, MANIFEST), "manifest.json is no regular file"),
    (lambda folder: pipe(folder, NET), "network.net: is no regular file"),
    (lambda folder: (folder / NET).write_bytes(b"") and None, "is no network description"),
    (sparse, "manifest.json has 1,099,511,627,776 bytes"),
]


@pytest.mark.parametrize(("change", "message"), HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_folder_is_refused_in_one_line(change: Change, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "hostile.loihi"
    shutil.copytree(model_path(suffix=".loihi"), folder, copy_function=shutil.copyfile)
    change(folder)
    begun = time.monotonic()
    with pytest.raises(CheckpointError) as error:
        TwinNetwork(folder)
    assert time.monotonic() - begun < 2.0
    assert message in str(error.value)
    assert str(error.value).startswith(str(folder))
    assert str(error.value).isprintable()


def test_arrays_are_read_as_h5py_reads_them() -> None:
    path = model_path(suffix=".loihi") / NET
    found = read_arrays(path)
    with h5py.File(path) as file:
        names: list[str] = []
        file.visititems(lambda name, entry: names.append(name) if isinstance(entry, h5py.Dataset) else None)
        assert len(names) > 200
        for name in names:
            ours: Any = functools.reduce(lambda tree, key: tree[key], name.split("/"), found)
            assert ours.dtype == file[name].dtype
            assert np.array_equal(ours, file[name][()])
