"""With --json, an error is a JSON object on standard output; the exit code and the line for people are as without."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from neuromoco import load_classifier, models, read_recording
from neuromoco.app.cli.main import app
from neuromoco.errors import EventFileError
from neuromoco.installation import pip_install
from tests.helpers.cli import error_line, run


@pytest.mark.parametrize(
    ("words", "exit_code"),
    [
        (["evaluate", "nothing", "--data", "digits"], 4),
        (["train", "--data", "nowhere"], 2),
        (["survey", "nowhere"], 2),
        (["convert", "nothing.csv", "nothing.npz"], 3),
    ],
)
def test_an_error_is_an_object(words: list[str], exit_code: int) -> None:
    plain, answer = run(*words), run(*words, "--json")
    assert (plain.stdout, plain.exit_code) == ("", exit_code)
    told = json.loads(answer.stdout)
    error = error_line(answer).removeprefix("neuromoco: ")
    assert told == {"schema": "neuromoco/error/1", "error": error, "exit_code": exit_code}
    assert (answer.exit_code, answer.stderr) == (exit_code, plain.stderr)


def test_a_wrong_option_is_an_object() -> None:
    answer = run("survey", "--nothing", "--json")
    assert json.loads(answer.stdout)["exit_code"] == answer.exit_code == 2
    assert "--nothing" in json.loads(answer.stdout)["error"]


def test_the_package_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "neuromoco", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == run("--version").stdout


@pytest.mark.parametrize("suffix", [".onnx", ".loihi", ".safetensors"])
def test_files_are_answered_as_their_recordings(suffix: str) -> None:
    classifier = load_classifier(models.model_path(suffix=suffix))
    paths = models.example_paths()[:3]
    given = [paths[0], str(paths[1]), read_recording(paths[2])]
    assert [answer.label for answer in classifier.predict(given)] == [path.stem for path in paths]
    with pytest.raises(EventFileError, match=r"nothing\.bin: does not exist"):
        classifier.predict([Path("nothing.bin")])


@pytest.mark.parametrize("command", [command.name for command in typer.main.get_command(app).commands.values()])
def test_every_command_can_be_quiet_and_speak_json(command: str) -> None:
    answer = run(command, "--json", "--quiet", "--no-such-option")
    assert json.loads(answer.stdout)["exit_code"] == answer.exit_code == 2
    assert "--no-such-option" in json.loads(answer.stdout)["error"]


# Modules that a base install lacks, as if they were not there.
BASE = """
import sys
class Missing:
    def find_spec(self, name, *_):
        if name.split(".")[0] in {"torch", "onnx", "h5py", "fastapi", "gradio", "pandas", "scipy", "sklearn", "PIL"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
import importlib.util
real = importlib.util.find_spec
def find_spec(name, *more):
    try:
        return real(name, *more)
    except ModuleNotFoundError:
        return None
importlib.util.find_spec = find_spec
from neuromoco.app.cli.main import app
from typer.testing import CliRunner
for line in sys.stdin.read().splitlines():
    answer = CliRunner().invoke(app, line.split("|"))
    print(answer.exit_code, answer.stderr.splitlines()[-1] if answer.stderr else repr(answer.exception))
"""


def test_a_base_install_says_what_is_missing(tmp_path: Path) -> None:
    checkpoint, loihi = (models.model_path(suffix=suffix) for suffix in (".safetensors", ".loihi"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "graph.nir").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / "a.csv").write_text("t,x,y,p\n1,2,3,0\n")
    loihi_extra = pip_install("loihi")
    expected = {
        f"export|{checkpoint}": (5, f"this command needs packages that are not installed: {pip_install('export')}"),
        f"export|{checkpoint}|--check|--target|nir": (5, pip_install("export")),
        f"predict|x.bin|--model|{loihi}": (5, f"a Loihi export needs packages that are not installed: {loihi_extra}"),
        f"predict|x.bin|--model|{checkpoint}": (5, pip_install("train")),
        f"evaluate|{tmp_path}/empty|--data|{tmp_path}": (4, "empty: is a folder, and neither a Loihi export"),
        f"evaluate|{tmp_path}/graph.nir|--data|{tmp_path}": (4, "is an HDF5 file, such as an NIR graph"),
        f"info|{tmp_path}/a.csv": (5, f"reading text needs packages that are not installed: {pip_install('text')}"),
        "train|--data|digits": (5, pip_install("train")),
        "serve": (5, pip_install("serve")),
        "app": (5, pip_install("app")),
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-c", BASE], input="\n".join(expected), capture_output=True, text=True)
    for (words, (code, message)), line in zip(expected.items(), done.stdout.splitlines(), strict=True):
        assert line.startswith(f"{code} "), (words, line)
        assert message in line, words
