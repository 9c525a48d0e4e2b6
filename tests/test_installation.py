"""Hints to install an extra can be typed as they stand, wherever the package came from."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from neuromoco import installation
from neuromoco.installation import pip_install, without_place

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (None, 'pip install "neuromoco[text]"'),
        ({"url": "FOLDER", "dir_info": {"editable": True}}, 'pip install -e "PLACE[text]"'),
        ({"url": "FOLDER", "dir_info": {}}, 'pip install "PLACE[text]"'),
        ({"url": "FOLDER/gone", "dir_info": {"editable": True}}, 'pip install "neuromoco[text]"'),
        ({"url": "FOLDER/n.whl", "archive_info": {}}, 'pip install "PLACE/n.whl[text]"'),
        (
            {"url": "https://lab.example/n.whl", "archive_info": {}},
            'pip install "neuromoco[text] @ https://lab.example/n.whl"',
        ),
        (
            {"url": "https://lab.example/n", "vcs_info": {"vcs": "git", "commit_id": COMMIT}},
            f'pip install "neuromoco[text] @ git+https://lab.example/n@{COMMIT}"',
        ),
        (
            {
                "url": "https://lab.example/n",
                "vcs_info": {"vcs": "git", "commit_id": COMMIT, "requested_revision": "v1"},
                "subdirectory": "python",
            },
            'pip install "neuromoco[text] @ git+https://lab.example/n@v1#subdirectory=python"',
        ),
    ],
)
def test_the_hint_names_where_the_package_came_from(
    origin: dict[str, Any] | None, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "my clone"
    place.mkdir()
    (place / "n.whl").touch()
    monkeypatch.setattr(installation, "distribution", lambda _: Distribution(origin, place))
    monkeypatch.setattr(installation, "__file__", "/site-packages/neuromoco/installation.py")
    assert pip_install("text") == command.replace("PLACE", str(place))
    monkeypatch.chdir(place)
    assert pip_install("text") == command.replace("PLACE[", ".[").replace("PLACE", str(place))


class Distribution:
    """An installed distribution of which `direct_url.json` alone is known."""

    def __init__(self, origin: dict[str, Any] | None, place: Path) -> None:
        self._text = None if origin is None else json.dumps(origin).replace("FOLDER", place.as_uri())

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return self._text


def test_a_clone_without_a_record_of_its_installation_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "distribution", lambda _: Distribution(None, tmp_path))
    monkeypatch.setattr(installation, "__file__", str(tmp_path / "neuromoco/installation.py"))
    (tmp_path / "pyproject.toml").touch()
    assert pip_install("text") == f'pip install -e "{tmp_path}[text]"'


def test_a_name_that_a_shell_would_read_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / 'a "$HOME" b'
    place.mkdir()
    origin = {"url": place.as_uri(), "dir_info": {"editable": True}}
    monkeypatch.setattr(installation, "distribution", lambda _: Distribution(origin, place))
    words = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {pip_install('text')}"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert words == ["pip", "install", "-e", f"{place}[text]"]


@pytest.mark.parametrize("command", ['pip install -e "/home/anna/my [x] clone[text]"', 'pip install "neuromoco[text]"'])
def test_strangers_are_not_told_where_the_package_lies(command: str) -> None:
    assert without_place(f"reading text needs packages that are not installed: {command}") == (
        "reading text needs packages that are not installed: neuromoco[text]"
    )
    assert without_place("/a/b: cut or damaged") == "/a/b: cut or damaged"
