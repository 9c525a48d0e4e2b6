"""A folder of C: what is in it, what its programs answer, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import neuromoco
from neuromoco import models
from neuromoco.checkpoint import CheckpointHeader, read_header, replace_header, save_checkpoint
from neuromoco.config import EncoderConfig
from neuromoco.errors import CheckpointError, ConfigError, UnsupportedLayerError
from neuromoco.events import read_recording
from neuromoco.events.text.lines import write_csv
from neuromoco.export.targets import TARGETS, list_unsupported, summary
from neuromoco.export.to_c import export as c_export
from neuromoco.export.to_c.boards import BOARDS, boards_for
from neuromoco.export.to_c.write import OURS, TEMPLATES
from neuromoco.runtime.spiking import SOURCES
from tests.helpers.cli import run
from tests.helpers.networks import event_frames, export_header, live_classifier
from tests.runtime.spiking.compare import CHECKED, COMPILERS, STRICT

pytest.importorskip("h5py")
needs_compiler = pytest.mark.skipif(not COMPILERS, reason="no C compiler")
SOURCE = models.model_path(suffix=".safetensors")
FILES = sorted(OURS - {"classify", "board-m4.elf", "board-m7.elf"})
NAMES = ("zero", 'o"ne', "two\\", "??/three", "vier*/", "fünf", "6", "\x1b[31m7", "acht /*", "9%s")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of the shipped model with class names that are not easy to write in C."""
    folder = tmp_path_factory.mktemp("c")
    source = folder / "digits.safetensors"
    shutil.copyfile(SOURCE, source)
    replace_header(source, read_header(source).model_copy(update={"class_names": NAMES}))
    neuromoco.export(source, target="c")
    return folder / "digits-c"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that is soon exported."""
    encoder = EncoderConfig(name="chain_tiny", options={"width": 4})
    header = CheckpointHeader.model_validate(
        export_header(4, 9, encoder=encoder).model_dump(include=set(CheckpointHeader.model_fields))
    )
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    save_checkpoint(path, live_classifier(encoder, event_frames(4, 2, 9)), header)
    return path


@pytest.fixture(scope="module")
def program(exported: Path) -> Path:
    """Its program, compiled with all warnings and checks."""
    words = [COMPILERS[0], *STRICT, "-O1", *CHECKED, "-o", "classify", "main.c", "network.c", "spiking.c"]
    done = subprocess.run(words, cwd=exported, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return exported / "classify"


def answer(program: Path, content: bytes, *words: str) -> tuple[int, str, str]:
    done = subprocess.run([str(program), *words], input=content, capture_output=True)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_the_folder_holds_what_its_readme_says(exported: Path) -> None:
    assert sorted(path.name for path in exported.iterdir()) == FILES
    report = json.loads((exported / "report.json").read_text())
    header = (exported / "network.h").read_text()
    constants = dict(re.findall(r"#define NM_(\w+) (\S+)", header))
    assert constants["CLASSES"] == "10"
    assert constants["STEPS"] == "4"
    assert int(constants["MEMORY"]) == report["bytes"]["ram"]
    assert int(constants["NETWORK"]) == report["bytes"]["network"]
    for name in ("spiking.c", "spiking.h"):
        assert (exported / name).read_bytes() == next(s for s in SOURCES if s.name == name).read_bytes()
    readme = (exported / "README.md").read_text()
    assert f"{report['bytes']['ram']:,} bytes" in readme
    assert f"{report['total']['operations']:,.0f} a recording" in readme
    assert readme.isascii()


def test_the_runtime_needs_no_library_but_memset_and_no_floating_point(exported: Path, tmp_path: Path) -> None:
    if not (COMPILERS and shutil.which("nm")):
        pytest.skip("no C compiler")
    objects = [tmp_path / f"{name}.o" for name in ("network", "spiking")]
    for path in objects:
        words = [COMPILERS[0], *STRICT, "-O0", "-mgeneral-regs-only", "-c", f"{path.stem}.c", "-o", str(path)]
        done = subprocess.run(words, cwd=exported, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr  # with floating point, it would not compile without its registers
    found = subprocess.run(["nm", "-u", *map(str, objects)], capture_output=True, text=True, check=True).stdout
    needed = {line.split()[-1] for line in found.splitlines() if " U " in line}
    assert {name for name in needed if not name.startswith("spiking_")} <= {"memset", "_GLOBAL_OFFSET_TABLE_"}


@needs_compiler
def test_its_example_gives_its_answer(exported: Path, program: Path) -> None:
    sensor = re.search(r"classify (\d+) (\d+) < example", (exported / "Makefile").read_text())
    assert sensor
    code, said, _ = answer(program, (exported / "example.csv").read_bytes(), *sensor.groups())
    assert code == 0
    assert said == (exported / "example.txt").read_text()


@needs_compiler
@pytest.mark.parametrize("path", models.example_paths()[:4], ids=lambda path: path.stem)
def test_programs_answer_as_the_package_does(exported: Path, program: Path, path: Path, tmp_path: Path) -> None:
    classifier = neuromoco.load_classifier(SOURCE)
    recording = read_recording(path)
    code, said, _ = answer(program, path.read_bytes())
    assert code == 0
    *steps, label = said.splitlines()
    assert [line.split(":")[0] for line in steps] == [f"step {step}" for step in range(1, 5)]
    assert label == NAMES[int(classifier.predict([recording])[0].label)]
    write_csv(tmp_path / "one.csv", recording)
    assert answer(program, (tmp_path / "one.csv").read_bytes(), "34", "34")[1] == said


@needs_compiler
@pytest.mark.parametrize(
    ("content", "words", "problem"),
    [
        (b"", (), "no events"),
        (b"t,x,y,p\n", (), "no events"),
        (b"x,y,t,p\n1,2,3,1\n", (), "the first line has other columns than t, x, y, p"),
        (b"1,2,3,1\n1,2,three,1\n", (), "line 2 is no event t,x,y,p"),
        (b"1,2,3\n1,2,3,1\n", (), "line 1 is no event t,x,y,p"),
        (b"1,2,3,1\n0,2,3,1\n", (), "times run backwards; sort the events by time"),
        (b"-1,2,70000,1\n", (), "line 1 is no event t,x,y,p"),
        (b"1,40,3,1\n", ("34", "34"), "an event lies outside the sensor"),
        (b"1,2,3,1\n", ("0", "34"), "the sensor is too small"),
        (b"1,2,3,1\n", ("34",), "classify [COLUMNS ROWS] < recording"),
        (b"1,2,3,1\n", ("34", "rows"), "classify [COLUMNS ROWS] < recording"),
        (b"\x00\x01\x02", (), "neither text nor an ATIS .bin file"),
        (bytes([9, 245, 0, 0, 1]), (), "neither text nor an ATIS .bin file"),
    ],
)
def test_mistakes_are_one_line(program: Path, content: bytes, words: tuple[str, ...], problem: str) -> None:
    code, said, complained = answer(program, content, *words)
    assert code == 1
    assert not said
    (line,) = complained.splitlines()
    assert problem in line


# Python


def test_the_command_line_writes_it(small: Path, tmp_path: Path) -> None:
    result = run("export", small, "--target", "c", "--out", tmp_path / "c")
    assert result.exit_code == 0, result.stderr
    assert f"{tmp_path / 'c'}: C99, T = 4, " in result.stdout
    assert {path.name for path in (tmp_path / "c").iterdir()} == set(FILES)


def test_the_report_says_what_it_needs_and_where_it_fits(exported: Path) -> None:
    report = json.loads((exported / "report.json").read_text())
    lines = summary(exported, report).splitlines()
    assert f"{report['bytes']['ram']:,} bytes of RAM, {report['bytes']['flash']:,} of flash" in lines[0]
    assert report["boards"] == boards_for(report["bytes"]["ram"], report["bytes"]["flash"])
    assert "Teensy 4.1" in report["boards"]
    assert "STM32F4 Discovery" not in report["boards"]
    assert {layer["name"] for layer in report["layers"]} >= {"stem.2", "head"}


def test_a_folder_of_c_is_not_taken_for_a_model(exported: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is C code, and is run once compiled \(make -C .*with --target loihi"):
        neuromoco.load_classifier(exported)


def test_boards_fit_by_their_scarcer_memory() -> None:
    least = min(board.ram for board in BOARDS)
    assert boards_for(least - 4096, 1) == [board.name for board in BOARDS]
    assert boards_for(least - 4095, 1) != [board.name for board in BOARDS]
    assert boards_for(1, 1 << 30) == []


@needs_compiler
def test_code_that_answers_otherwise_is_not_kept(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(c_export.CompiledNetwork):
        def logits(self, frames: Any) -> Any:
            return super().logits(frames) + 1

    monkeypatch.setattr(c_export, "CompiledNetwork", Wrong)
    with pytest.raises(neuromoco.errors.ParityError, match="gives other logits than the twin"):
        neuromoco.export(small, tmp_path / "c", target="c")
    assert not (tmp_path / "c").exists()


def test_an_interrupted_export_leaves_the_old_one(
    exported: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "c"
    shutil.copytree(exported, out, ignore=shutil.ignore_patterns("classify"))
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def interrupt(*_: Any) -> Iterator[None]:
        raise KeyboardInterrupt

    monkeypatch.setattr(c_export, "write_example", interrupt)
    with pytest.raises(KeyboardInterrupt):
        neuromoco.export(small, out, target="c")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_only_an_earlier_export_is_replaced(small: Path, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "thesis.tex").write_text("")
    with pytest.raises(ConfigError, match=r"c: holds thesis\.tex; only an earlier export is replaced"):
        neuromoco.export(small, tmp_path / "c", target="c")


def test_what_does_not_map_is_refused_as_for_loihi(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list_unsupported(small, target="c") == []
    first = neuromoco.unsupported.Unsupported("stem.2", "Conv", "sums beyond 31 bits; use a narrower layer")
    monkeypatch.setattr(c_export, "list_uncompiled", lambda _: [first])
    with pytest.raises(UnsupportedLayerError, match=r"stem\.2: Conv: sums beyond 31 bits"):
        neuromoco.export(small, tmp_path / "c", target="c")
    assert not list(tmp_path.iterdir())


def test_the_templates_are_those_that_are_copied() -> None:
    folder = Path(c_export.__file__).parent / "template"
    assert {path.name for path in folder.iterdir()} == {*TEMPLATES, "network.h.in", "network.c.in"}
    assert TARGETS["c"].suffix == "-c"
