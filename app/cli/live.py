"""The command that answers events as they come: from a camera, a network, a program, a growing file or a recording."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuromoco.app.cli.arguments import microseconds
from neuromoco.app.cli.command_group import Abstain, AsJson, Backend, Quiet, app, complain, out, print_json
from neuromoco.app.cli.predict import Model, model_or_default
from neuromoco.app.cli.recordings import READING, takes_recordings
from neuromoco.app.cli.tables import prediction_line
from neuromoco.app.cli.timelines import Least, Shortest
from neuromoco.config import RecordingsConfig
from neuromoco.datasets.samples import read_options
from neuromoco.errors import ConfigError
from neuromoco.support.console import console, escape

if TYPE_CHECKING:
    from neuromoco.app.live.answering import News, Totals
    from neuromoco.app.live.source import Source
    from neuromoco.events import ReadOptions
    from neuromoco.runtime.timeline import Segment

SCHEMA = "neuromoco/live/1"  # of each line of JSON; keys may be added
ADDRESS = re.compile(r"(udp|tcp)://(\[[^\]]*\]|[^:/\s]*):(\d{1,5})/?")
SLOWEST, FASTEST = 0.01, 1000.0  # of a recording that is played
TAKEN = {name: READING[name] for name in ("format", "sensor", "columns", "time_unit", "select", "flip")}


@app.command()
@takes_recordings(TAKEN)
def live(
    source: Annotated[
        str,
        typer.Argument(
            help="- for a pipe; udp://ADDRESS:PORT or tcp://ADDRESS:PORT to listen; camera:dv, camera:metavision, "
            "camera:neuromorphic or camera:inivation, with :SERIAL for one of several; or a recording, which is played."
        ),
    ],
    model: Model = None,
    window: Annotated[
        str | None, typer.Option(help="Length of a window, such as 300ms; by default that of a training recording.")
    ] = None,
    stride: Annotated[
        str | None, typer.Option(help="From one answer to the next, such as 50ms; by default a sixth of a window.")
    ] = None,
    shortest: Shortest = None,
    least: Least = None,
    abstain: Abstain = None,
    speed: Annotated[
        float,
        typer.Option(help="Seconds of a recording per second, 0.01 to 1000; 0 plays it as fast as it is answered."),
    ] = 1.0,
    follow: Annotated[
        bool, typer.Option("--follow", help="The recording grows: read what is there, and then what is added.")
    ] = False,
    backend: Backend = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
    *,
    recordings: RecordingsConfig,
) -> None:
    """Answer events as they come, window by window, until the source ends or Ctrl-C.

    Example: neuromoco live udp://127.0.0.1:3333 --model walk.onnx --sensor 640x480
    """
    from neuromoco.app.live.answering import LiveAnswers
    from neuromoco.runtime.live_segments import LiveSegments
    from neuromoco.runtime.load import load_classifier
    from neuromoco.runtime.timeline import TimelineRule
    from neuromoco.runtime.window_classifier import WindowClassifier

    if speed != 0 and not SLOWEST <= speed <= FASTEST:
        raise ConfigError(f"--speed {speed:g}: give {SLOWEST:g} to {FASTEST:g}, or 0 for as fast as it is answered")
    classifier = load_classifier(model_or_default(model, backend), "auto", 1, backend)
    durations = {"window": window, "stride": stride, "shortest": shortest}
    given: dict[str, Any] = {f"{name}_us": microseconds(word) for name, word in durations.items() if word is not None}
    if least is not None:
        given["least"] = least
    rule = TimelineRule.for_recordings(classifier.header.seen, given)
    stream = WindowClassifier(classifier, rule.window_us, rule.stride_us, abstain)
    options = classifier.header.read_options(read_options(recordings))
    seen = classifier.header.seen.sensor
    chosen = _source(source, options, speed, follow, (seen[1], seen[0]) if seen else None)
    answers = LiveAnswers(chosen, stream, LiveSegments(classifier.header.class_names, rule))
    tell = _told_as_json if as_json else _told_in_words
    if not as_json:
        windows = f"windows of {rule.window_us / 1e3:,.4g} ms, one each {rule.stride_us / 1e3:,.4g} ms"
        console.print(f"{escape(chosen.name)}: {windows}; Ctrl-C ends", soft_wrap=True)
    try:
        with _interrupted_by_sigterm(), closing(answers.news()) as news:
            _tell(news, tell)
    except KeyboardInterrupt:
        pass
    _tell(answers.last(), tell)
    if as_json:
        print_json({"schema": SCHEMA, "summary": answers.totals.to_json()}, indent=None)
    else:
        out.print(summary_lines(answers.totals))


def _source(word: str, options: ReadOptions, speed: float, follow: bool, usual: tuple[int, int] | None) -> Source:
    """The source that a word names."""
    from neuromoco.app.live.bytes_in import GrowingFile, StandardInput, TcpSource, UdpSource
    from neuromoco.app.live.cameras import CameraSource
    from neuromoco.app.live.replay import Replay

    if follow and (word == "-" or "://" in word or word.startswith("camera:")):
        raise ConfigError(f"--follow with {word}: only a file grows")
    if word == "-":
        return StandardInput("-", options.format, options, usual)
    if word.startswith("camera:"):
        return CameraSource(word.removeprefix("camera:"), options)
    if "://" in word:
        match = ADDRESS.fullmatch(word)
        if match is None or int(match[3]) > 65535:
            raise ConfigError(
                f"{word}: give an address to listen on, such as udp://127.0.0.1:3333 or tcp://0.0.0.0:3333"
            )
        kind, host = {"udp": UdpSource, "tcp": TcpSource}[match[1]], match[2].strip("[]") or "127.0.0.1"
        return kind(word, host, int(match[3]), options.format or "spif", options, usual)
    if follow:
        return GrowingFile(Path(word), options.format, options, usual)
    return Replay(Path(word), speed, options)


def _tell(news: Iterable[News], tell: Callable[[News], None]) -> None:
    for one in news:
        tell(one)
        sys.stdout.flush()  # whoever reads the pipe wants it now


def _told_as_json(one: News) -> None:
    from neuromoco.runtime.timeline import Segment

    if isinstance(one, str):
        complain(one)
        return
    facts = {"segment": one.to_json()} if isinstance(one, Segment) else one.to_json()
    print_json({"schema": SCHEMA, **facts}, indent=None)


def _told_in_words(one: News) -> None:
    from neuromoco.runtime.timeline import Segment

    if isinstance(one, str):
        console.print(escape(one), soft_wrap=True)
    elif isinstance(one, Segment):
        out.print(f"[bold]{_span(one.begin_us, one.end_us)}[/]  {_segment_words(one)}")
    else:
        answer = one.answer
        words = "[dim]nothing moves[/]" if answer.prediction is None else prediction_line(answer.prediction)
        latency = "" if one.latency_ms is None else f"  [dim]{one.latency_ms:.1f} ms[/]"
        dropped = f"  [bold]{one.dropped:,} events dropped[/]" if one.dropped else ""
        out.print(f"{_span(*answer.window)}: {words}{latency}{dropped}")


def _segment_words(segment: Segment) -> str:
    if segment.label is None:
        return "pause" if segment.why == "pause" else f"unknown, {segment.why}"
    return f"[bold]{escape(segment.label)}[/], mean {segment.confidence or 0.0:.1%}"


def _span(begin: int, end: int) -> str:
    return f"{begin / 1e6:,.3f} to {end / 1e6:,.3f} s"


def summary_lines(totals: Totals) -> str:
    """What came, and what became of it, in a few lines."""
    rate = totals.events / totals.seconds if totals.seconds else 0.0
    labels = ", ".join(f"{escape(name)} {count:,}" for name, count in totals.labels.most_common(5))
    lines = [
        f"{totals.events:,} events in {totals.seconds:,.1f} s ({rate:,.0f} per second), {totals.windows:,} windows: "
        f"{labels or 'no label'}; nothing moved in {totals.still:,}, {totals.unlike:,} unlike the training recordings"
    ]
    if (late := totals.latency(99)) is not None:
        lines.append(f"answers within {totals.latency(50):.1f} ms (median), {late:.1f} ms (99 %)")
    losses = {"dropped": totals.dropped, "late": totals.late, **totals.losses}
    if any(losses.values()):
        lines.append(", ".join(f"{name.replace('_', ' ')}: {count:,}" for name, count in losses.items() if count))
    return "\n".join(lines)


@contextmanager
def _interrupted_by_sigterm() -> Any:
    """SIGTERM ends as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
