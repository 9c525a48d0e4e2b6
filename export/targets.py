"""Every export target in one table, and the one path that all of them take: load, trace, write, compare, report.

To add a target: an `Exporter` in a folder of its own, and a row in `TARGETS`. Importing this module loads neither torch
nor a target's folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from neuromoco.checkpoint import best_weights
from neuromoco.config import RecordingsConfig
from neuromoco.config.frames import Crop
from neuromoco.errors import ConfigError, ParityError
from neuromoco.events import Recording
from neuromoco.hub.names import find_checkpoint, is_on_hub
from neuromoco.runtime.header import TargetName
from neuromoco.runtime.onnx_guard.operator_sets import OPSET, OPSETS
from neuromoco.support.console import printable
from neuromoco.support.extras import need
from neuromoco.support.files import replacing_folder, write_json, writing
from neuromoco.unsupported import Unsupported, refuse

if TYPE_CHECKING:
    from torch import Tensor, nn

    from neuromoco.export.exporter import Exporter, ExportJob


@dataclass(frozen=True)
class Option:
    """An option of some targets.

    Attributes:
        values: allowed ones, the default first.
        in_name: whether it shows in an export's default name.
        needs_data: whether it needs recordings to calibrate on.
    """

    values: tuple[Any, ...]
    in_name: bool = False
    needs_data: bool = False


OPTIONS = {
    "input": Option(("frames", "events"), in_name=True),
    "quantize": Option((None, "int8"), in_name=True, needs_data=True),
    "spike_rates": Option((False, True)),
    "dialect": Option((None, "stock", "extended")),
    "opset": Option((OPSET, *(version for version in OPSETS if version != OPSET))),
    "portable": Option((False, True), in_name=True),
}


MODULE_OPTIONS = {"steps", "layout", "class_names", "slice_by"}  # of torch modules


@dataclass(frozen=True)
class Target:
    """A format that checkpoints are exported to.

    Attributes:
        writer: the exporter's module and class, within this package; it also compares what it wrote.
        reader: module and name of what loads an export again.
        suffix: of an export's default name, behind the checkpoint's stem and its options.
        options: names of those in `OPTIONS` that it takes.
        extras: of this package that it needs.
        place: how what is written takes the place of an earlier export.
    """

    writer: str
    reader: str
    suffix: str
    options: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    place: Callable[[Path], AbstractContextManager[Path]] = writing

    def exporter(self) -> type[Exporter]:
        """Imports the target's folder and returns its exporter."""
        exporter: type[Exporter] = resolve_name(f"neuromoco.export.{self.writer}")
        return exporter


FORM = ("opset", "portable")  # of ONNX files
ONNX_READER = "neuromoco.runtime.onnx_file:OnnxNetwork"
LOIHI_READER = "neuromoco.runtime.loihi.folder:TwinNetwork"
C_READER = "neuromoco.runtime.spiking.native:CompiledNetwork"
TARGETS: dict[str, Target] = {
    "onnx": Target("to_onnx.export:OnnxExporter", ONNX_READER, ".onnx", ("input", "quantize", "spike_rates", *FORM)),
    "onnx-step": Target("to_onnx.export:OnnxStepExporter", ONNX_READER, "-step.onnx", FORM),
    "loihi": Target(
        "to_loihi.export:LoihiExporter", LOIHI_READER, ".loihi", ("dialect",), ("loihi",), replacing_folder
    ),
    "c": Target("to_c.export:CExporter", C_READER, "-c", place=replacing_folder),
    "html": Target("to_html.export:HtmlExporter", C_READER, ".html"),
    "nir": Target("to_nir.export:NirExporter", "nir:read", ".nir", extras=("nir",)),
}


def export(
    source: Path | str | nn.Module,
    out: Path | str | Tensor | None = None,
    path: Path | str | None = None,
    *,
    target: TargetName = "onnx",
    data: Path | str | None = None,
    recordings: Sequence[Recording] | None = None,
    reading: RecordingsConfig | None = None,
    crop: Crop = None,
    **options: Any,
) -> dict[str, Any]:
    """Writes a trained classifier, or any spiking network, for another runtime and compares the two, layer by layer.

    `export(module, example, path)` takes any torch module of known layers, spikingjelly's models among them, without a
    checkpoint: channels, T, N and sizes are those of the example. The file's input is `frames`, of the example's layout
    and any N; its outputs are `logits_per_step` [T, N, ...] and their mean `logits` [N, ...], whatever they mean.

    The network is run once and traced into a graph, which the target writes. Then source and export run the same
    recordings: spikes of every layer, logits and answers are compared. Nothing but a report is written if they
    differ too much.

    Args:
        source: checkpoint of a classifier (`.safetensors`), or the run folder that has it; or a torch module.
        out: of a module, an example of its input, a float32 tensor. Else the file to write (for "loihi" and "c" a
            folder; an earlier export there is replaced). By default it is named after the checkpoint and lies in the
            same folder.
        path: of a module, the file to write.
        target: what to write ("onnx" or "nir" of a module):

            - "onnx": an ONNX file that computes all T time steps in one call: float32 `frames` [T, N, P, H, W] in,
              `logits` [N, classes] and `logits_per_step` [T, N, classes] out.
            - "onnx-step": an ONNX file of one time step; the caller keeps the neurons' state.
            - "loihi": a folder for Intel's Lava with 8-bit weights.
            - "c": a folder of C99 with 8-bit weights, for microcontrollers.
            - "html": a page in one file with 8-bit weights, which a browser opens without a server.
            - "nir": a graph of the Neuromorphic Intermediate Representation (Pedersen et al. 2024).
        data: file or folder of recordings to compare on, or (for "loihi", "c", "html" and `quantize="int8"`) to
            calibrate on one half of and compare on the other. By default the bundled example recordings.
        recordings: to compare on instead of those in `data`; an empty list leaves noise alone.
        reading: how those in `data` are read, where it is not as the training recordings were.
        crop: the part of their sensor that is used instead of the network's, see `FrameConfig`; "activity" is that in
            which their events lie.
        **options: of the target.

            - `input` ("onnx"): "frames" (default), or "events" for a file that takes raw events: `t` [E] in
              microseconds, `x`, `y`, `p` [E] and `sensor` [2].
            - `quantize` ("onnx"): "int8" for 8-bit weights, calibrated on `data`.
            - `spike_rates` ("onnx"): True for another output `spike_rates` [N, layers], spikes per neuron and step.
            - `opset` ("onnx", "onnx-step"): the version of ONNX's operators, 13 to 21; 16 or later for events. 18 by
              default.
            - `portable` ("onnx", "onnx-step"): True for a file for other runtimes than ONNX Runtime: one recording a
              call, no texts, operators that all of them have, fp16's range, int8 around zero.
            - `steps` (of a module): T, for a module that takes one time step [N, ...] per call and keeps its state.
            - `layout` (of a module): "TN" (default) or "NT", the order of the example's first axes.
            - `class_names` (of a module): names of the classes, for another output `label`.
            - `slice_by` (of a module with recordings): "count" (default) or "time", how they become frames.
            - `dialect` ("loihi"): "stock" (a chain that any Lava-DL loads) or "extended"; by default "stock" where
              the network allows it.

    Returns:
        The report that is also written as JSON, to `<name>.report.json` next to a file or `report.json` in a folder.

    Raises:
        ConfigError: unknown target, an option that it does not take, or a place that must not be overwritten.
        CheckpointError: `source` is not a usable checkpoint of a classifier.
        EventFileError: a recording cannot be read.
        MissingExtraError: an optional part of this package is needed and is not installed.
        UnsupportedLayerError: a layer that the target cannot express; `list_unsupported` lists all of them.
        ParityError: the export's answers differ too much from those of its source.

    Examples:
        >>> import neuromoco
        >>> report = neuromoco.export("models/sew_resnet_tiny-digits.safetensors", "digits.onnx")
        >>> report["parity"]["agreement"], report["parity"]["flipped"] < 1e-3
        (1.0, True)
        >>> neuromoco.load_classifier("digits.onnx").header.target
        'onnx'
    """
    if not isinstance(source, str | Path):
        given = {"data": data, "recordings": recordings, "reading": reading, "crop": crop}
        return _export_module(source, out, path, target, options, {n: v for n, v in given.items() if v is not None})
    if path is not None:
        raise ConfigError(f"{path}: is for modules, export(module, example, path); of a checkpoint, give two arguments")
    row, chosen = _choose(target, options)  # says what is not installed, which the next lines import
    from neuromoco.export.exporter import ExportJob
    from neuromoco.runtime.checkpoint_file import TrainedClassifier

    word, source, data = Path(source), best_weights(source), None if data is None else Path(data)
    # What a name or a repository stands for does not lie where exports are wanted.
    beside = word if find_checkpoint(word) != word else source
    out = default_place(beside, target, options) if out is None else Path(out)  # type: ignore[arg-type]
    classifier = TrainedClassifier(source, "cpu")
    job = ExportJob(source, classifier, target, data, recordings, reading or RecordingsConfig(), crop)
    return _write(job, row, chosen, out)


def _write(job: ExportJob, row: Target, options: dict[str, Any], out: Path) -> dict[str, Any]:
    """Traces, writes, compares and reports."""
    from neuromoco.export.exporter import report_path
    from neuromoco.graph.trace import lower

    for name, value in options.items():
        if OPTIONS[name].needs_data and value != OPTIONS[name].values[0] and job.data is None:
            raise ConfigError(f"--{name} {value} is calibrated on your recordings: give them with --data FOLDER")
    exporter = row.exporter()(job, **options)
    exporter.check_place(out)
    begin = time.perf_counter()
    graph = lower(job.classifier.network, *job.size, job.header.frames.steps, job.examples)
    refuse(exporter.find_unsupported(graph))
    with row.place(out) as part:
        facts = exporter.write(graph, part)
        seconds = time.perf_counter() - begin
        figures, problem = exporter.compare(graph, part)
        report = {
            "file": out.name,
            "source": job.source.name,
            "source_sha256": job.header.source_sha256,
            "target": job.target,
            **facts,
            "seconds_to_write": seconds,
            **figures,
        }
        if problem:
            write_json(report_path(out), report)
            raise ParityError(f"{out}: not written: {problem}; see {report_path(out)}")
        exporter.write_report(report, part, out)
    return report


def _export_module(
    module: Any, example: Any, path: Any, target: TargetName, options: dict[str, Any], given: dict[str, Any]
) -> dict[str, Any]:
    """Exports a torch module, with recordings (in `given`) as a classifier of such."""
    need("export")
    from torch import nn

    from neuromoco.export.modules.classifier import module_job
    from neuromoco.export.modules.export import export_module

    if not isinstance(module, nn.Module):
        raise ConfigError(f"a {type(module).__name__} to export; give a checkpoint's path, or a torch module")
    if not isinstance(path, str | Path):
        raise ConfigError("a module without a place to write; use export(module, example, path)")
    how = {name: options.pop(name) for name in MODULE_OPTIONS & options.keys()}
    if given.keys().isdisjoint(("data", "recordings")):
        if odd := sorted([*options, *given, *({"slice_by"} & how.keys())]):
            allowed = ", ".join(sorted(MODULE_OPTIONS - {"slice_by"}))
            raise ConfigError(f"{odd[0]} of a module; allowed are {allowed}, and with data or recordings all others")
        return export_module(module, example, path, target=target, **how)
    row, chosen = _choose(target, options)
    with module_job(module, example, target, how.pop("class_names", None), **how, **given) as job:
        return _write(job, row, chosen, Path(path))


def list_unsupported(source: Path | str, *, target: TargetName = "onnx", **options: Any) -> list[Unsupported]:
    """Lists every layer of a checkpoint that a target cannot express, in the order of computing.

    Args:
        source: checkpoint of a classifier, or the run folder that has it.
        target: see `export`.
        **options: see `export`.

    Raises:
        ConfigError: unknown target, or an option that it does not take.
        CheckpointError: `source` is not a usable checkpoint of a classifier.
        MissingExtraError: an optional part of this package is needed and is not installed.
    """
    row, chosen = _choose(target, options)
    from neuromoco.export.exporter import ExportJob
    from neuromoco.graph.trace import lowered
    from neuromoco.runtime.checkpoint_file import TrainedClassifier

    source = best_weights(source)
    job = ExportJob(source, TrainedClassifier(source, "cpu"), target)
    graph, unsupported = lowered(job.classifier.network, *job.size, job.header.frames.steps)
    return row.exporter()(job, **chosen).find_unsupported(graph) if graph else unsupported


def default_place(source: Path, target: str, options: dict[str, Any]) -> Path:
    """Where an export lies if no place is given: next to its source, named after it and what is special about it."""
    named = {name: options.get(name, option.values[0]) for name, option in OPTIONS.items() if option.in_name}
    source = Path(source.name) if is_on_hub(source) else source
    special = "".join(
        f"-{name if value is True else value}" for name, value in named.items() if value != OPTIONS[name].values[0]
    )
    return source.with_name(f"{source.stem}{special}{TARGETS[target].suffix}")


def summary(out: Path, report: dict[str, Any]) -> str:
    """The report of an export at `out`, in a few lines for the terminal."""
    return "\n".join(map(printable, TARGETS[report["target"]].exporter().summary(out, report)))


def _choose(target: str, options: dict[str, Any]) -> tuple[Target, dict[str, Any]]:
    """A target and its options; refuses what does not go together, and asks for what has to be installed."""
    if target not in TARGETS:
        raise ConfigError(f"target {target!r}; choose {', '.join(TARGETS)}")
    row = TARGETS[target]
    for name, value in options.items():
        option, word = OPTIONS.get(name), f"--{name.replace('_', '-')}"
        if option is None or value not in option.values:
            allowed = ", ".join(OPTIONS) if option is None else ", ".join(map(str, option.values))
            raise ConfigError(f"{name}={value!r}; allowed are {allowed}")
        if value != option.values[0] and name not in row.options:
            takers = [other for other, its in TARGETS.items() if name in its.options]
            raise ConfigError(f"{word} with --target {target}; omit it, or use --target {' or '.join(takers)}")
    need("export")
    for extra in row.extras:
        need(extra, f"--target {target}")
    return row, {name: options.get(name, OPTIONS[name].values[0]) for name in row.options}
