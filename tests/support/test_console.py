"""Names from outside that a terminal would obey are shown, by every command and on every console."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from neuromoco.support.console import PlainConsole, escape, printable

ESCAPE = "\x1b]0;owned\x07\x1b[31m"
NAMES = {
    f"{ESCAPE}red": r"\x1b]0;owned\x07\x1b[31mred",
    "two\nlines\r": r"two\nlines\r",
    "txt.\u202egpj": r"txt.\u202egpj",
    "\x9b31m": r"\x9b31m",
    "half \udcff": r"half \udcff",
    "line\u2028paragraph\u2029": r"line\u2028paragraph\u2029",
    "\u2067mixed\u2069": r"\u2067mixed\u2069",
    "Ärger 漢字 \N{GRINNING FACE}": "Ärger 漢字 \N{GRINNING FACE}",
}


@pytest.mark.parametrize(("name", "shown"), NAMES.items(), ids=list(NAMES.values()))
def test_what_a_terminal_would_obey_is_shown(name: str, shown: str) -> None:
    assert printable(name) == shown
    output = io.StringIO()
    console = PlainConsole(file=output, force_terminal=True, highlight=False, width=200)
    table = Table(title=escape(name))
    table.add_row(escape(name))
    console.print(f"[bold]{escape(name)}[/]")
    console.print(table)
    console.print(name, markup=False)  # as a title that was forgotten: only ends of lines pass
    text = output.getvalue()
    assert text.count(shown) >= 3
    for character in ("\x07", "\x9b", "\u202e", "\u2067", "\udcff", "\x1b]"):
        assert character not in text


def test_every_command_shows_names_of_files(tmp_path: Path) -> None:
    """An error, a table and a result, in a real process: no byte of a name reaches the terminal as it is."""
    hostile = tmp_path / f"{ESCAPE}\n\u202e.bin"
    hostile.write_bytes(b"no recording")
    good = tmp_path / "class \x1b[2J\n" / "good.csv"
    good.parent.mkdir()
    good.write_text("t,x,y,p\n" + "".join(f"{i * 1000},{i % 34},{i % 34},1\n" for i in range(400)))
    for words in (["info", hostile, good], ["predict", hostile, good, "--any-length"], ["info", f"--{ESCAPE}"]):
        done = subprocess.run([sys.executable, "-m", "neuromoco.app", *words], capture_output=True, check=False)
        output = (done.stdout + done.stderr).decode()
        assert done.returncode != 0
        assert r"\x1b]0;owned\x07" in output
        assert not {"\x1b", "\x07", "\u202e"} & set(output), output
        if words[0] == "predict" or words[-1] == good:
            assert r"class \x1b[2J\n" in output
