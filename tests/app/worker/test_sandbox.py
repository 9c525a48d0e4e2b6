"""Workers with limits: what a file, or a request, may do to one, and what becomes of the next."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from neuromoco import models
from neuromoco.app.worker.analysis import Analyser, AnalysisRequest, offered_models
from neuromoco.app.worker.sandbox import NotAnalysedError, OverLimitError, Sandbox
from neuromoco.errors import ConfigError, EventFileError, MissingExtraError, NeuromocoError

EXAMPLES = models.example_paths()
MODEL = offered_models()[0]
SECONDS = 2.0


class Trap(str):
    """A name that calls a function of the standard library in the worker that unpickles it."""

    call: tuple[Callable[..., Any], tuple[Any, ...]]

    def __new__(cls, function: Callable[..., Any], *arguments: Any) -> Trap:
        self = super().__new__(cls, "trap")
        self.call = (function, arguments)
        return self

    def __reduce__(self) -> Any:
        return self.call


def request(number: int = 3, **changes: Any) -> AnalysisRequest:
    return replace(AnalysisRequest(EXAMPLES[number], f"{number}.bin", MODEL), **changes)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    box = Sandbox(1, request(), seconds=SECONDS, memory=1 << 29)
    yield box
    box.close()


@pytest.mark.parametrize(
    "trap",
    [Trap(time.sleep, 60), Trap(os._exit, 1), Trap(bytearray, 1 << 31)],
    ids=["hangs", "leaves", "eats memory"],
)
def test_a_worker_that_fails_is_replaced(sandbox: Sandbox, trap: Trap) -> None:
    begin = time.monotonic()
    with pytest.raises(OverLimitError, match="took more than 2 s or 512 MB and was stopped"):
        sandbox.analyse(request(name=trap))
    assert time.monotonic() - begin < SECONDS + 10
    assert sandbox.analyse(request()).predictions["onnx"].label == "3"


def test_a_level_that_the_model_cannot_keep_is_refused_before_the_file_is_read() -> None:
    with pytest.raises(ConfigError, match=r"^errors below 0\.001 need 2302 recordings"):
        Analyser().analyse(request(file=Path("none.bin"), abstain=0.001))


def test_a_file_that_crashes_its_worker_is_named(sandbox: Sandbox) -> None:
    with pytest.raises(EventFileError, match=r"trap: cannot be read: a library crashed on it \(aborted\)"):
        sandbox.analyse(request(name=Trap(os.abort)))
    assert sandbox.analyse(request()).predictions["onnx"].label == "3"


def test_a_file_whose_worker_is_killed_each_time_is_not_called_bad(sandbox: Sandbox) -> None:
    with pytest.raises(NotAnalysedError, match="trap: not analysed: its worker was killed twice"):
        sandbox.analyse(request(name=Trap(signal.raise_signal, signal.SIGKILL)))
    assert sandbox.analyse(request()).predictions["onnx"].label == "3"


def test_a_worker_that_was_killed_at_rest_costs_no_file(sandbox: Sandbox) -> None:
    (worker,) = sandbox._workers
    worker._process.kill()
    worker._process.join()
    assert sandbox.analyse(request()).predictions["onnx"].label == "3"


def test_a_worker_takes_one_core(sandbox: Sandbox) -> None:
    name = Trap(os.getenv, "OPENBLAS_NUM_THREADS")  # told by the command, which has the name
    assert sandbox.analyse(request(name=name)).command.startswith("neuromoco predict 1 ")


def test_it_says_what_an_analyst_says(sandbox: Sandbox) -> None:
    for asked in (request(0), request(7, backend="loihi-sim"), request(5, window_us=100_000, window=1)):
        mine, theirs = Analyser().analyse(asked).to_json(), sandbox.analyse(asked).to_json()
        assert mine.pop("milliseconds").keys() == theirs.pop("milliseconds").keys()
        assert mine == theirs


def test_arrays_come_through(sandbox: Sandbox) -> None:
    asked = request(compare=True, pictures=True)
    mine, theirs = Analyser().analyse(asked), sandbox.analyse(asked)
    np.testing.assert_array_equal(mine.animation, theirs.animation)
    assert (mine.rate, mine.raster) == (theirs.rate, theirs.raster)


def test_torch_fits_though_it_is_larger_than_the_limit_of_a_file() -> None:
    box = Sandbox(1, request(), memory=1 << 28)
    try:
        assert box.analyse(request(backend="torch")).predictions["torch"].label == "3"
    finally:
        box.close()


def test_errors_keep_their_kind(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    with pytest.raises(EventFileError, match=r"^photo.bin: is a PNG picture"):
        sandbox.analyse(request(file=tmp_path / "x", name="photo.bin"))
    with pytest.raises(ConfigError, match="has no file for torch"):
        sandbox.analyse(request(model=replace(MODEL, files={"onnx": MODEL.files["onnx"]}), backend="torch"))


def test_an_error_whose_constructor_takes_more_than_a_message_comes_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from neuromoco.app.worker import process

    def refuse(*_: object) -> None:
        raise MissingExtraError("torch", "train")

    monkeypatch.setattr(Analyser, "analyse", refuse)
    answer = process.answer(Analyser(), request(), None)  # type: ignore[arg-type]
    assert isinstance(answer, NeuromocoError)
    assert str(answer) == "torch needs packages that are not installed: neuromoco[train]"
    assert type(answer).__name__ == "MissingPackageError"


def test_closing_ends_the_one_at_work_and_those_that_wait() -> None:
    box = Sandbox(1, request())
    box.analyse(request())
    errors: list[Exception] = []

    def ask(asked: AnalysisRequest) -> None:
        try:
            box.analyse(asked)
        except NeuromocoError as error:
            errors.append(error)

    threads = [Thread(target=ask, args=(request(name=name),)) for name in (Trap(time.sleep, 60), "waits")]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    box.close()
    for thread in threads:
        thread.join(10)
    assert [str(error) for error in errors] == ["not analysed: the program is ending"] * 2
    assert not any(worker.alive for worker in box._workers)
