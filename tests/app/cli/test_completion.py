"""Shells complete commands, options and choices; nothing is written before it is asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neuromoco.app.cli.main import app

BIN = Path(sys.executable).parent


def completed(shell: str, line: str) -> set[str]:
    """What `neuromoco` answers to the completion script of a shell, for a line up to the cursor."""
    words = line.split(" ")
    env = {"_NEUROMOCO_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": line, "COMP_WORDS": line}
    env |= {"COMP_CWORD": str(len(words) - 1), "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    answer = CliRunner().invoke(app, [], prog_name="neuromoco", env=env)
    assert answer.exit_code == 0, answer.output
    return {text.split('"')[1].split(":")[0] if shell == "zsh" and '"' in text else text.split("\t")[0]
            for text in answer.stdout.splitlines()}  # fmt: skip


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_commands_options_and_choices_are_completed(shell: str) -> None:
    assert "evaluate" in completed(shell, "neuromoco ev")
    assert "predict" not in completed(shell, "neuromoco ev")
    assert {"pretrain", "finetune", "supervised", "all"} <= completed(shell, "neuromoco train --stage ")
    assert "--time-unit" in completed(shell, "neuromoco predict --ti")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_with_the_shown_script(tmp_path: Path) -> None:
    script = 'eval "$(neuromoco --show-completion)"; COMP_WORDS=(neuromoco surv); COMP_CWORD=1\n'
    script += '_neuromoco_completion neuromoco; echo "${COMPREPLY[@]}"; complete -p neuromoco'
    env = {**os.environ, "HOME": str(tmp_path), "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "survey"
    assert "-o default" in done.stdout  # files are completed where nothing else is
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_it_is_installed_on_request(tmp_path: Path) -> None:
    env = {**os.environ, "HOME": str(tmp_path), "PATH": f"{BIN}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", "neuromoco --install-completion; true"], env=env, capture_output=True, check=True)
    script = "COMP_WORDS=(neuromoco conv); COMP_CWORD=1; _neuromoco_completion neuromoco; echo ${COMPREPLY[@]}"
    done = subprocess.run(["bash", "-c", f". ~/.bashrc; {script}"], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "convert"
