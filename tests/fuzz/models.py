"""Models: ONNX files of every target and input, checkpoints and Loihi folders, which classify a recording."""

from __future__ import annotations

import contextlib
import io
import json
import struct
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from neuromoco.checkpoint import KEY, save_checkpoint
from neuromoco.config import EncoderConfig
from neuromoco.errors import NeuromocoError
from neuromoco.runtime.facts import facts_of
from neuromoco.runtime.load import load_classifier
from neuromoco.runtime.stream import StreamClassifier
from tests.fuzz.bytes_damage import damaged
from tests.fuzz.campaign import Files
from tests.fuzz.event_files import example
from tests.fuzz.trees import damaged_tree

STEPS, SIDE = 2, 16
ONNX, CHECKPOINT, FOLDER = "model.onnx", "model.safetensors", "model.loihi"
NETWORKS = {"chain_tiny": {"width": 2}, "sew_resnet_tiny": {"width": 3}, "spikformer_tiny": {"dim": 8, "heads": 2}}
OPERATORS = (
    *("Loop", "If", "Scan", "Identity", "Neg", "Expand", "ConstantOfShape", "Range", "Tile", "Pad", "Conv", "Add"),
    *("Div", "MatMul", "Reshape", "Concat", "Split", "Gather", "MaxPool", "Squeeze", "Cast", "Clip"),
)
LARGE = tuple(sign * size for size in (3000, 1 << 16, 1 << 31, 1 << 40, (1 << 63) - 1) for sign in (1, -1))
NUMBERS = (0, 1, -1, 2, 3, 5, 16, 100, *LARGE)


def _live(name: str) -> tuple[Any, Any, Any]:
    """A small network, its graph, and frames."""
    from neuromoco.graph.trace import lower
    from tests.helpers.networks import event_frames, live_classifier

    frames = event_frames(STEPS, 4, SIDE)
    network = live_classifier(EncoderConfig(name=name, options=NETWORKS[name]), frames)
    return network, lower(network, SIDE, SIDE), frames


def _header(name: str, **changes: Any) -> Any:
    from tests.helpers.networks import export_header

    return export_header(STEPS, SIDE, encoder=EncoderConfig(name=name, options=NETWORKS[name]), **changes)


def onnx_seeds() -> dict[str, Files]:
    """Files of every target, input and precision."""
    from neuromoco.export.to_onnx.int8 import calibrate, quantize_onnx
    from neuromoco.export.to_onnx.model import single_step, unrolled

    models = {}
    for name in NETWORKS:
        _, graph, frames = _live(name)
        header = _header(name)
        by_time = header.frames.model_copy(update={"slice_by": "time"})
        events = header.model_copy(update={"input": "events"})
        models[f"{name}-frames"] = unrolled(graph, header, rates=True)
        models[f"{name}-events"] = unrolled(graph, events)
        models[f"{name}-by-time"] = unrolled(graph, events.model_copy(update={"frames": by_time}))
        models[f"{name}-step"] = single_step(graph, _header(name, target="onnx-step"))
        ranges = calibrate(unrolled(graph, header), [frames.numpy()])
        models[f"{name}-int8"] = quantize_onnx(unrolled(graph, header), header, ranges)
    return {name: {ONNX: model.SerializeToString()} for name, model in models.items()}


@cache
def _parsed(raw: bytes) -> onnx.ModelProto:
    return onnx.load_from_string(raw)


def mutate_onnx(files: Files, rng: np.random.Generator) -> Files:
    """Operators, attributes, arrays, declared shapes or the header changed; sometimes any bytes."""
    if rng.random() < 0.2:
        return {ONNX: damaged(files[ONNX], rng)}
    model = onnx.ModelProto()
    model.CopyFrom(_parsed(files[ONNX]))
    for _ in range(int(rng.integers(1, 3))):
        change = (_attribute, _array, _numbers, _wiring, _node, _declared, _metadata)[int(rng.integers(7))]
        with contextlib.suppress(ValueError, TypeError):  # the change before has left nothing to change
            change(model, rng)
    return {ONNX: model.SerializeToString()}


def _pick(items: Any, rng: np.random.Generator) -> Any:
    return items[int(rng.integers(len(items)))]


def _attribute(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    node = _pick([node for node in model.graph.node if node.attribute], rng)
    attribute = _pick(node.attribute, rng)
    if attribute.ints and rng.random() < 0.8:
        attribute.ints[int(rng.integers(len(attribute.ints)))] = _pick(NUMBERS, rng)
    elif attribute.ints:
        del attribute.ints[int(rng.integers(len(attribute.ints))) :]
    elif attribute.HasField("i"):
        attribute.i = _pick(NUMBERS, rng)
    elif attribute.HasField("f"):
        attribute.f = float(_pick((0.0, -1.0, 1e38, float("nan"), float("inf")), rng))
    else:
        node.attribute.remove(attribute)


def _array(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    array = _pick(model.graph.initializer, rng)
    change = int(rng.integers(5))
    if change == 0 and array.dims:
        array.dims[int(rng.integers(len(array.dims)))] = _pick(NUMBERS, rng)
    elif change == 1:
        array.data_type = int(rng.integers(0, 20))
    elif change == 2:
        model.graph.initializer.remove(array)
    elif change == 3:
        array.data_location = TensorProto.EXTERNAL
        array.external_data.add(key="location", value="/etc/passwd")
    else:
        array.raw_data = array.raw_data[: int(rng.integers(0, len(array.raw_data) + 1))]


def _numbers(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    """Other numbers in a constant of the same shape, or one of another shape."""
    own = [array for array in model.graph.initializer if array.data_location != TensorProto.EXTERNAL]
    old = _pick([array for array in own if array.data_type != TensorProto.STRING], rng)
    array = numpy_helper.to_array(old).copy()
    if rng.random() < 0.3:
        array = array.reshape(_pick([(-1,), (1, -1), (*array.shape, 1)], rng))
    if array.size:
        value = _pick(
            NUMBERS if array.dtype.kind in "iu" else (0.0, -3e38, 3e38, float("nan"), float("inf"), 1e-40), rng
        )
        with np.errstate(over="ignore"):
            array.flat[int(rng.integers(array.size))] = np.array(value).astype(array.dtype)
    old.CopyFrom(numpy_helper.from_array(array, old.name))


def _wiring(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    node, other = _pick(model.graph.node, rng), _pick(model.graph.node, rng)
    names = [
        *other.output,
        *(value.name for value in model.graph.input),
        *(a.name for a in model.graph.initializer),
        "",
    ]
    if node.input and rng.random() < 0.8:
        node.input[int(rng.integers(len(node.input)))] = _pick(names, rng)
    else:
        node.output[0] = _pick(names, rng)


def _node(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    node = _pick(model.graph.node, rng)
    change = int(rng.integers(5))
    if change == 0:
        node.op_type = _pick(OPERATORS, rng)
    elif change == 1:
        model.graph.node.remove(node)
    elif change == 2:
        at = int(rng.integers(len(model.graph.node)))
        inputs = list(node.input[: int(rng.integers(1, 3))])
        model.graph.node.insert(at, helper.make_node(_pick(OPERATORS, rng), inputs, ["more"]))
    elif change == 3:
        node.domain = "com.microsoft"
    else:
        node.input.append(_pick([*node.input, *node.output], rng) if node.input else "")


def _declared(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    value = _pick([*model.graph.input, *model.graph.output, *model.graph.value_info], rng)
    sides = value.type.tensor_type.shape.dim
    change = int(rng.integers(4))
    if change == 0 and sides:
        _pick(sides, rng).dim_value = _pick(NUMBERS, rng)
    elif change == 1 and sides:
        _pick(sides, rng).dim_param = _pick(("N", "E", "M", ""), rng)
    elif change == 2:
        value.type.tensor_type.elem_type = int(rng.integers(0, 20))
    else:
        value.name = _pick(["frames", "logits", "label", "more", ""], rng)


def _metadata(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    entry = next(entry for entry in model.metadata_props if entry.key == KEY)
    with contextlib.suppress(UnicodeEncodeError, ValueError):
        entry.value = _other_json(entry.value, rng)


def _other_json(text: str, rng: np.random.Generator) -> str:
    if rng.random() < 0.1:
        return damaged(text.encode(), rng).decode("utf-8", "replace")
    return json.dumps(damaged_tree(json.loads(text), rng))


def attempt_onnx(folder: Path, number: int) -> None:
    """Says what it is, streams or classifies."""
    _try(folder / ONNX, number)


def checkpoint_seeds() -> dict[str, Files]:
    """A classifier of each kind of encoder."""
    found = {}
    for name in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / CHECKPOINT
            header = _header(name).model_dump()
            from neuromoco.checkpoint import CheckpointHeader

            facts = {key: header[key] for key in CheckpointHeader.model_fields if key in header}
            save_checkpoint(path, _live(name)[0], CheckpointHeader(**facts))
            found[name] = {CHECKPOINT: path.read_bytes()}
    return found


def mutate_checkpoint(files: Files, rng: np.random.Generator) -> Files:
    """The list of tensors, the header or numbers changed; sometimes any bytes."""
    raw = files[CHECKPOINT]
    if rng.random() < 0.2:
        return {CHECKPOINT: damaged(raw, rng)}
    (size,) = struct.unpack("<Q", raw[:8])
    tree, data = json.loads(raw[8 : 8 + size]), bytearray(raw[8 + size :])
    change = rng.random()
    if change < 0.5:
        tree["__metadata__"][KEY] = _other_json(tree["__metadata__"][KEY], rng)
    elif change < 0.8:
        tree = damaged_tree(tree, rng)
    else:
        at = int(rng.integers(len(data) // 4)) * 4
        data[at : at + 4] = struct.pack("<f", _pick((float("nan"), float("inf"), -3e38, 3e38, 1e-40, 0.0), rng))
    head = json.dumps(tree).encode()
    return {CHECKPOINT: struct.pack("<Q", len(head)) + head + bytes(data)}


def attempt_checkpoint(folder: Path, number: int) -> None:
    """Says what it is, gives features or classifies."""
    if number % 5 == 1:
        import torch

        from neuromoco.evaluation.features import load_encoder

        load_encoder(folder / CHECKPOINT, torch.device("cpu"))
    _try(folder / CHECKPOINT, number)


def loihi_seeds() -> dict[str, Files]:
    """A folder of either dialect, and one with attention."""
    from neuromoco.export.to_loihi.mapping import map_to_loihi
    from neuromoco.export.to_loihi.write import describe, write_folder

    found = {}
    for name in NETWORKS:
        _, graph, frames = _live(name)
        loihi, unsupported = map_to_loihi(graph, 100.0)
        assert not unsupported, unsupported
        dialect = "stock" if name == "chain_tiny" else "extended"
        with tempfile.TemporaryDirectory() as folder:
            header = _header(name, target="loihi", precision="int8")
            samples = frames.numpy()[:, :1].astype(np.uint8)
            write_folder(Path(folder), loihi, describe(loihi, dialect, header), samples)
            names = ("manifest.json", "network.net", "frames.npz")
            found[name] = {f"{FOLDER}/{file}": (Path(folder) / file).read_bytes() for file in names}
    return found


def mutate_loihi(files: Files, rng: np.random.Generator) -> Files:
    """The manifest, the network or the frames changed."""
    manifest, net, frames = (f"{FOLDER}/{name}" for name in ("manifest.json", "network.net", "frames.npz"))
    change = rng.random()
    if change < 0.35:
        return {**files, manifest: _other_json(files[manifest].decode(), rng).encode("utf-8", "replace")}
    if change < 0.6:
        return {**files, net: _other_net(files[net], rng)}
    name = frames if change > 0.9 else net
    return {**files, name: damaged(files[name], rng)}


def _other_net(raw: bytes, rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO(raw)
    with h5py.File(buffer, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, entry: names.append(name) if isinstance(entry, h5py.Dataset) else None)
        name = _pick(names, rng)
        old = file[name][()]
        change = int(rng.integers(6))
        if change == 0:
            del file[name]
        elif change == 1 and old.dtype.kind != "S":
            value = np.array(old, np.int64)
            if value.ndim:
                value.flat[int(rng.integers(value.size))] = _pick(NUMBERS, rng)
            else:
                value = np.array(_pick(NUMBERS, rng))
            del file[name]
            file[name] = value
        elif change == 2:
            del file[name]
            shape = tuple(int(rng.integers(0, 5)) for _ in range(int(rng.integers(0, 6))))
            file[name] = np.ones(shape, _pick(("i4", "f4", "u8", "S3", "c8"), rng))
        elif change == 3:
            del file[name]
            file[name] = _pick((h5py.SoftLink("/layer"), h5py.ExternalLink("/etc/passwd", "/x")), rng)
        elif change == 4 and old.ndim:
            del file[name]
            file.create_dataset(name, data=old, chunks=True, compression="gzip")
        else:
            file[f"{name}x"] = 0
    return buffer.getvalue()


def attempt_loihi(folder: Path, number: int) -> None:
    """Says what it is, classifies, or reads the frames as the runner does."""
    if number % 4 == 3:
        _read_frames(folder / FOLDER)
    _try(folder / FOLDER, number)


def _read_frames(folder: Path) -> None:
    runner = str(Path(__file__).parents[2] / "export" / "lava_runner")
    if runner not in sys.path:
        sys.path.append(runner)
    from lava_parts import errors, files

    try:
        files.read_frames(folder / "frames.npz", files.read_manifest(folder / "manifest.json"))
    except errors.UnusableFileError as error:
        raise NeuromocoError(" ".join(str(error).split())) from None


def _try(path: Path, number: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy would print them
        if number % 11 == 0:
            json.dumps(facts_of(path))
        elif number % 7 == 0 and path.suffix == ".onnx":
            StreamClassifier(path, step_size=30, threads=1).feed(example())
        else:
            (answer,) = load_classifier(path, device="cpu", threads=1).predict([example()])
            if not np.isfinite(answer.logits_per_step).all():
                raise AssertionError("logits that are not finite")
