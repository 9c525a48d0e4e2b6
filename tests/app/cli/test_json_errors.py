"""With --json, an error is a JSON object on standard output; the exit code and the line for people are as without."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from neuromoco import load_classifier, models, read_recording
from neuromoco.errors import EventFileError
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
    assert told == {"error": error_line(answer).removeprefix("neuromoco: "), "exit_code": exit_code}
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
