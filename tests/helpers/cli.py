"""Commands run in this process, and settings of training runs that take a second."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from neuromoco.app.cli.main import app

SMALL = [
    "--set=frames={steps: 2, height: 16, width: 16}",
    "--set=encoder.options={width: 4}",
    "--set=supervised.batch_size=8",
    "--set=supervised.views=null",
    "--set=watch.samples=0",
]  # fmt: skip


def run(*words: object) -> Result:
    """Runs a command in this process; an exception other than an exit fails the test."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def error_line(result: Result) -> str:
    """The one line in which a command reports an error."""
    lines = [line for line in result.stderr.splitlines() if line.startswith("neuromoco: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    return lines[0]
