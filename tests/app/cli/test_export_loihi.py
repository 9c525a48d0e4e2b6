"""Loihi and NIR exports as a user meets them: export, predict, evaluate, info, verify, and their mistakes."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from neuromoco import models
from neuromoco.checkpoint import CheckpointHeader, SeenRecordings, save_checkpoint
from neuromoco.config import EncoderConfig, FrameConfig
from neuromoco.events import read_recording
from neuromoco.export.check import accuracy_loss
from neuromoco.export.to_loihi import export as loihi_export
from neuromoco.export.to_loihi import verify
from neuromoco.runtime.checkpoint_file import TrainedClassifier
from neuromoco.runtime.load import LoihiClassifier
from neuromoco.runtime.loihi.folder import TwinNetwork
from neuromoco.runtime.loihi.manifest import FRAMES, MANIFEST, NET
from tests.helpers.cli import error_line, run
from tests.helpers.networks import live_classifier

SOURCE = models.model_path(suffix=".safetensors")
EXAMPLES = models.example_paths()
CONTENT = [FRAMES, "lava_parts", MANIFEST, NET, "report.json", "report.md", "run_lava.py"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model for Loihi."""
    out = tmp_path_factory.mktemp("loihi") / "digits.loihi"
    result = run("export", SOURCE, "--target", "loihi", "--out", out)
    assert result.exit_code == 0, result.stderr
    assert "extended dialect, T = 4, latency 9 steps" in result.stdout
    return out


def live_checkpoint(path: Path, name: str, **options: object) -> Path:
    """A network of random weights that spikes, as a file."""
    frames = FrameConfig(steps=4, height=34, width=34)
    config = EncoderConfig(name=name, options=options)
    recordings = TrainedClassifier(SOURCE, "cpu").frames([read_recording(file) for file in EXAMPLES])
    network = live_classifier(config, torch.from_numpy(recordings))
    seen = SeenRecordings(
        count=1, shortest_us=290_000, longest_us=310_000, fewest_events=1000, most_events=7000, sensor=(34, 34)
    )
    header = CheckpointHeader(
        kind="classifier", encoder=config, frames=frames, class_names=("a", "b", "c"), seen=seen, stage="supervised",
        epoch=1, seed=0,
    )  # fmt: skip
    save_checkpoint(path, network, header)
    return path


def test_a_folder_has_everything_and_says_what_it_is(exported: Path) -> None:
    assert names(exported) == CONTENT
    manifest = json.loads((exported / MANIFEST).read_text())
    assert manifest["reset"] == {"interval": 4, "offset": 1}
    assert manifest["latency"] == max(layer["depth"] for layer in manifest["layers"])
    report = json.loads((exported / "report.json").read_text())
    assert report["problem"] is None
    assert report["compared"] == {"recordings": 10}
    assert report["total"]["neurons"] == sum(layer["neurons"] for layer in report["layers"])
    assert {layer["kind"] for layer in report["layers"]} == {"conv", "relay", "readout"}
    for layer in report["layers"]:
        if layer["rate_float32"] is not None:
            assert layer["differ"] <= layer["rate"] + layer["rate_float32"]
    text = (exported / "report.md").read_text()
    assert all(f"| {layer['name']} |" in text for layer in report["layers"])
    assert "23.6 pJ" in text
    assert "Nothing here was run on a chip" in text


def test_the_file_read_back_is_the_network_that_was_written(exported: Path) -> None:
    twin = TwinNetwork(exported)
    again = twin.graph
    with h5py.File(exported / NET) as file:
        assert file["layer/1/type"][0] == b"unpool"  # unmodified netx stops here
    samples = np.load(exported / FRAMES)
    wanted = twin.frame_logits(samples["frames"]).sum(0) * again.readout.scale
    assert np.array_equal(np.rint(wanted), samples["logits"])
    classifier = TrainedClassifier(SOURCE, "cpu")
    recordings = [read_recording(path) for path in EXAMPLES]
    ours, source = LoihiClassifier(exported).predict(recordings), classifier.predict(recordings)
    assert [answer.label for answer in ours] == [answer.label for answer in source]


def test_predict_evaluate_and_info_take_a_folder(exported: Path, tmp_path: Path) -> None:
    result = run("predict", "--model", exported, "--json", *EXAMPLES)
    assert [json.loads(line)["label"] for line in result.stdout.splitlines()] == [path.stem for path in EXAMPLES]
    for jobs in (1, 2):
        assert run("predict", "--model", exported, "--jobs", jobs, EXAMPLES[4]).stdout.split(": ")[1][0] == "4"
    for path in EXAMPLES[:3]:
        (tmp_path / path.stem).mkdir()
        (tmp_path / path.stem / "a.bin").write_bytes(path.read_bytes())
    words = ["evaluate", exported, "--data", tmp_path, "--backend", "loihi-sim", "--json"]
    assert json.loads(run(*words).stdout)["accuracy"] == 1.0
    facts = json.loads(run("info", "--json", exported).stdout)
    assert (facts["target"], facts["dialect"], facts["latency"]) == ("loihi", "extended", 9)
    assert json.loads(run("bench", "--model", exported, "--runs", 1, "--json", EXAMPLES[0]).stdout)["files"] == 1


def test_the_model_that_comes_along_has_every_backend() -> None:
    labels = {}
    for backend in ("onnx", "torch", "loihi-sim"):
        result = run("predict", "--backend", backend, "--json", *EXAMPLES)
        assert result.exit_code == 0, result.stderr
        labels[backend] = [json.loads(line)["label"] for line in result.stdout.splitlines()]
    assert labels["loihi-sim"] == labels["onnx"] == labels["torch"]


def test_a_chain_is_stock_and_a_finer_net_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy_loss, "LEAST_AGREEMENT", 0.0)  # random weights answer at random
    chain = live_checkpoint(tmp_path / "chain.safetensors", "chain_tiny")
    report = json.loads(run("export", chain, "--target", "loihi", "--json", "--quiet").stdout)
    assert report["dialect"] == "stock"
    with h5py.File(tmp_path / "chain.loihi" / NET) as file:
        kinds = [file[f"layer/{i}/type"][0] for i in range(len(file["layer"]))]
        assert kinds == [b"input", *[b"conv"] * (len(kinds) - 1)]
        assert all("inputs" not in file[f"layer/{i}"] for i in range(len(kinds)))
    report = json.loads(run("export", chain, "--target", "loihi", "--dialect", "extended", "--json", "--quiet").stdout)
    assert report["dialect"] == "extended"  # and the folder before was replaced
    assert names(tmp_path) == ["chain.loihi", "chain.safetensors"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["--target", "loihi", "--dialect", "stock"],
            6,
            "stages.1.sn1: Conv: a residual path, and the stock dialect is a chain; use --dialect extended, or the "
            "encoder chain_tiny (and 4 more; --check lists them)",
        ),
        (["--target", "loihi", "--input", "events"], 2, "--input with --target loihi; omit it, or use --target onnx"),
        (["--target", "nir", "--quantize", "int8"], 2, "--quantize with --target nir; omit it, or use --target onnx"),
        (["--dialect", "stock"], 2, "--dialect with --target onnx; omit it, or use --target loihi"),
        (
            ["--target", "loihi", "--out", "."],
            2,
            "only an earlier export is replaced: give another --out",
        ),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    words: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("export", SOURCE, *(words if "--out" in words else [*words, "--out", "x"]))
    assert message in error_line(result)
    assert result.exit_code == code
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("target", "dialect", "count"), [("loihi", [], 0), ("loihi", ["--dialect", "stock"], 5), ("nir", [], 0)]
)
def test_check_lists_what_a_target_has_not(target: str, dialect: list[str], count: int) -> None:
    result = run("export", SOURCE, "--check", "--target", target, *dialect, "--json")
    assert len(json.loads(result.stdout)) == count
    assert len(result.stderr.splitlines()) == count
    assert result.exit_code == (6 if count else 0)


@pytest.fixture
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two copies of every bundled recording, in class folders."""
    folder = tmp_path_factory.mktemp("labelled")
    for path in EXAMPLES:
        (folder / path.stem).mkdir()
        for name in "ab":
            (folder / path.stem / f"{name}.bin").write_bytes(path.read_bytes())
    return folder


def test_a_bad_result_is_not_written_and_the_folder_before_stays(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "m.loihi"
    assert run("export", SOURCE, "--target", "loihi", "--out", out).exit_code == 0
    before = (out / NET).read_bytes()
    monkeypatch.setattr(accuracy_loss, "LEAST_AGREEMENT", 1.1)
    result = run("export", SOURCE, "--target", "loihi", "--out", out, "--data", labelled)
    assert result.exit_code == 7
    assert "not written: loihi: answers agree with float32 on" in error_line(result)
    assert "train on with --stage finetune --quantize loihi" in error_line(result)
    assert (out / NET).read_bytes() == before
    assert names(tmp_path) == ["m.loihi", "m.loihi.report.json"]


def test_an_interrupted_export_leaves_the_folder_before(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "m.loihi"
    assert run("export", SOURCE, "--target", "loihi", "--out", out).exit_code == 0
    monkeypatch.setattr(loihi_export, "write_folder", interrupt)
    assert run("export", SOURCE, "--target", "loihi", "--out", out).exit_code == 130
    assert names(out) == CONTENT
    assert names(tmp_path) == ["m.loihi"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / MANIFEST).write_text("{"), "manifest.json: is cut or damaged"),
        (lambda f: (f / MANIFEST).write_text('{"format": 2}'), "manifest.json: is cut or damaged"),
        (lambda f: (f / NET).unlink(), "network.net: does not exist"),
        (lambda f: (f / NET).write_bytes((f / NET).read_bytes()[:3000]), "network.net: is no network description"),
        (lambda f: (f / NET).write_bytes(b"x"), "network.net: is no network description"),
        (lambda f: (f / MANIFEST).unlink(), "is a folder, and neither a Loihi export"),
    ],
)
def test_damaged_folders_are_refused_in_one_line(damage: object, message: str, exported: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in (MANIFEST, NET):
        (copy / name).write_bytes((exported / name).read_bytes())
    damage(copy)  # type: ignore[operator]
    result = run("predict", "--model", copy, EXAMPLES[0])
    assert result.exit_code == 4
    assert message in error_line(result)


def test_a_backend_that_does_not_fit_the_model_is_named(exported: Path) -> None:
    result = run("predict", "--model", exported, "--backend", "onnx", EXAMPLES[0])
    assert error_line(result) == f"neuromoco: {exported}: --backend onnx takes an .onnx file; this is for loihi-sim"
    result = run("evaluate", SOURCE, "--backend", "loihi-sim", "--data", "digits")
    assert "takes a folder that `neuromoco export --target loihi` wrote; this is for torch" in error_line(result)
    result = run("predict", "--model", exported, "--stop-at", 0.9, EXAMPLES[0])
    assert "neuromoco export --target onnx-step" in error_line(result)


def test_nir_is_written_with_its_report(tmp_path: Path) -> None:
    source = live_checkpoint(tmp_path / "chain.safetensors", "chain_tiny")
    result = run("export", source, "--target", "nir")
    assert result.exit_code == 0, result.stderr
    assert "0 of " in result.stdout
    assert names(tmp_path) == ["chain.nir", "chain.nir.report.json", "chain.safetensors"]


def test_verify_needs_an_export_and_says_what_is_missing(exported: Path, tmp_path: Path) -> None:
    result = run("verify", tmp_path)
    assert result.exit_code == 4
    assert "neither a Loihi export" in error_line(result)
    if not find_spec("lava"):
        result = run("verify", exported, EXAMPLES[0])
        assert result.exit_code == 5
        assert "pip install" in error_line(result)


# Stands in for the package's runner: writes what the twin computes, and where it ran and from what.
HONEST = """
import json, os, sys
from pathlib import Path
import numpy as np
from neuromoco.runtime.loihi.folder import TwinNetwork
from neuromoco.runtime.loihi.twin import run
words = dict(zip(sys.argv[1:], sys.argv[2:]))
twin = TwinNetwork(words["--folder"])
answer = run(twin.graph, np.load(words["--frames"])["frames"], keep=lambda _: True)
layers = [layer for layer in twin.manifest.layers if layer.name in answer.spikes]
spikes = {f"spikes/{layer.index}": answer.spikes[layer.name] for layer in layers}
np.savez(words["--out"], logits=answer.logits.sum(0), **spikes)
facts = {"script": __file__, "cwd": os.getcwd(), "path": sys.path, "files": os.listdir(words["--folder"])}
Path(os.environ["FACTS"]).write_text(json.dumps(facts))
"""


def test_verify_executes_nothing_of_the_folder(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither scripts, nor modules that a runner or Python itself would import, nor objects in frames.npz."""
    runner, folder, ran = tmp_path / "runner", tmp_path / "strange.loihi", tmp_path / "ran"
    runner.mkdir()
    (runner / "run_lava.py").write_text(HONEST)
    monkeypatch.setattr(verify, "RUNNER", runner)
    monkeypatch.setenv("FACTS", str(tmp_path / "facts"))
    shutil.copytree(exported, folder)
    code = f"open({str(ran)!r}, 'a').write(__file__)\n"
    parts = [f"lava_parts/{name}.py" for name in ("__init__", "ending", "compat", "files", "simulate")]
    for name in ("run_lava.py", *parts, "sitecustomize.py", "usercustomize.py", "numpy.py", "lava/__init__.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(code)
    (folder / "strange.pth").write_text(f"import os; {code}")
    np.savez(folder / FRAMES, frames=np.array([Explosive(ran)], dtype=object), logits=np.zeros(1))
    monkeypatch.chdir(folder)
    result = run("verify", folder, EXAMPLES[0], "--json")
    assert result.exit_code == 0, result.stderr
    assert not ran.exists()
    assert json.loads(result.stdout)["runner"] == "different"
    assert error_line(result).endswith("differ from this version's, which were run instead")
    facts = json.loads((tmp_path / "facts").read_text())
    assert facts["script"] == str(runner / "run_lava.py")
    places = [Path(facts["cwd"], place).resolve() for place in ("", *facts["path"])]
    assert not any(place.is_relative_to(folder) for place in places)
    assert set(facts["files"]) == {"frames.npz", "answer.npz", MANIFEST, NET}


class Explosive:
    """Unpickled, it leaves a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> object:
        return Path.touch, (self.mark,)


def test_verify_knows_its_own_runner_and_a_folder_without_one(exported: Path, tmp_path: Path) -> None:
    assert verify.compare_runner(exported) == "same"
    assert verify.compare_runner(models.model_path(suffix=".loihi")) == "absent"
    for number, name in enumerate(("run_lava.py", "lava_parts/more.py", "lava_parts/more.so")):
        copy = tmp_path / str(number)
        shutil.copytree(exported, copy)
        with (copy / name).open("a") as file:
            file.write("\n")
        assert verify.compare_runner(copy) == "different", name


@pytest.mark.lava
@pytest.mark.skipif(not find_spec("lava"), reason="Lava is not installed: make lava")
@pytest.mark.parametrize("name", ["chain_tiny", "sew_resnet_tiny", "spikformer_tiny"])
def test_lava_does_what_the_twin_does(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy_loss, "LEAST_AGREEMENT", 0.0)
    source = live_checkpoint(tmp_path / f"{name}.safetensors", name)
    exported = run("export", source, "--target", "loihi")
    assert exported.exit_code == 0, exported.stderr
    result = run("verify", tmp_path / f"{name}.loihi", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["recordings"] == len(EXAMPLES)
    assert found["logits_differ"] == 0
    assert {layer["differ"] for layer in found["layers"]} == {0}
    assert min(layer["spikes"] for layer in found["layers"]) > 0


@pytest.mark.lava
@pytest.mark.skipif(not find_spec("lava"), reason="Lava is not installed: make lava")
def test_verify_notices_a_difference(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(exported, copy, ignore=shutil.ignore_patterns("run_lava.py", "lava_parts"))
    with h5py.File(copy / NET, "r+") as file:
        file["layer/2/neuron/vDecay"][()] = 1024
    manifest = json.loads((copy / MANIFEST).read_text())
    assert manifest["layers"][1]["index"] == 2
    twin = TwinNetwork(copy)
    assert twin.graph.blocks[1].neuron.v_decay == 1024  # type: ignore[attr-defined]
    # A runner that runs another network than the twin reads.
    runner = tmp_path / "runner"
    shutil.copytree(verify.RUNNER, runner)
    script = (runner / "run_lava.py").read_text()
    script = script.replace("simulate(options.folder,", f"simulate(Path({str(exported)!r}),")
    (runner / "run_lava.py").write_text(script)
    monkeypatch.setattr(verify, "RUNNER", runner)
    result = run("verify", copy, EXAMPLES[0], EXAMPLES[1])
    assert result.exit_code == 7
    assert "differ from the twin's" in error_line(result)
