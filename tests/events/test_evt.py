"""Prophesee RAW: the words as published, and state from piece to piece."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromoco import Recording
from neuromoco.events.options import ReadOptions
from neuromoco.events.prophesee import evt
from neuromoco.events.prophesee.evt_writer import LAST_US, write_evt2, write_evt3
from tests.helpers.evt_files import (
    HEADERS,
    Event,
    bits,
    events_of,
    evt2_event,
    evt2_high,
    evt3_word,
    evt21_event,
    raw,
    read,
)


def test_evt2_words_are_read_as_published(tmp_path: Path) -> None:
    words = [
        evt2_high(5),
        evt2_event(1, 3, 639, 479),
        bits((10, 4), (9, 28)),
        evt2_event(0, 63, 0, 1),
        evt2_high(1 << 20),
    ]
    words += [bits((14, 4), (0, 28)), bits((15, 4), (1, 28)), evt2_event(1, 0, 7, 8)]
    recording = read(raw(tmp_path / "a.raw", HEADERS["EVT2"], words, "<I"))
    assert events_of(recording) == [(5 * 64 + 3, 639, 479, 1), (5 * 64 + 63, 0, 1, 0), (1 << 26, 7, 8, 1)]
    assert (recording.width, recording.height, recording.source) == (640, 480, "Prophesee RAW EVT2")


@pytest.mark.parametrize("order", ["little", "legacy"])
def test_evt21_vectors_in_both_orders_of_their_halves(tmp_path: Path, order: str) -> None:
    words = [bits((8, 4), (2, 28), (0, 32)), evt21_event(1, 1, 32, 9, 1 | 1 << 31), evt21_event(0, 2, 600, 10, 0b110)]
    if order == "legacy":
        words = [(word & 0xFFFFFFFF) << 32 | word >> 32 for word in words]
    header = HEADERS["EVT2.1"].replace(b"little", order.encode())
    recording = read(raw(tmp_path / "a.raw", header, words, "<Q"))
    assert events_of(recording) == [(129, 32, 9, 1), (129, 63, 9, 1), (130, 601, 10, 0), (130, 602, 10, 0)]


def test_evt3_words_are_read_as_published(tmp_path: Path) -> None:
    words = [
        (8, 1),
        (6, 5),
        (0, 479),
        (2, 1 << 11 | 639),
        (2, 3),
        (3, 1 << 11 | 100),
        (4, 0b100000000001),
        (4, 1),
        (5, 0x80),
    ]
    words += [(8, 2), (2, 4), (6, 9), (8, 2), (10, 1), (14, 0), (15, 3), (7, 2), (0, 7), (2, 5), (5, 1)]
    recording = read(raw(tmp_path / "a.raw", HEADERS["EVT3"], (evt3_word(*word) for word in words), "<H"))
    first = 4096 + 5
    assert events_of(recording) == [
        (first, 639, 479, 1),
        (first, 3, 479, 0),
        *((first, x, 479, 1) for x in (100, 111, 112, 124 + 7)),
        (8192, 4, 479, 0),
        (8192 + 9, 5, 7, 0),
        (8192 + 9, 132, 7, 1),  # the last vector went on from 124 by 8
    ]


def test_what_comes_before_the_first_time_and_row_is_left_out(tmp_path: Path) -> None:
    words = [(2, 1), (4, 0xFFF), (6, 1), (0, 3), (2, 1), (8, 0), (5, 0xFF), (2, 2)]
    recording = read(raw(tmp_path / "a.raw", HEADERS["EVT3"], (evt3_word(*word) for word in words), "<H"))
    assert events_of(recording) == [(0, 2, 3, 0)]
    recording = read(raw(tmp_path / "b.raw", HEADERS["EVT2"], [evt2_event(1, 1, 1, 1), evt2_high(0), 0], "<I"))
    assert events_of(recording) == [(0, 0, 0, 0)]


def test_clocks_that_begin_again_go_on_and_small_steps_back_stay_small(tmp_path: Path) -> None:
    highs = [4094, 4095, 0, 4095, 0, 2000, 4000, 4095, 1, 0]
    words = [evt3_word(0, 1), *(word for high in highs for word in (evt3_word(8, high), evt3_word(2, 1)))]
    recording = read(raw(tmp_path / "a.raw", HEADERS["EVT3"], words, "<H"))
    turns = [0, 0, 1, 0, 1, 1, 1, 1, 2, 2]
    assert recording.t.tolist() == sorted((turn << 12 | high) << 12 for turn, high in zip(turns, highs, strict=True))
    words = [word for high in (2**28 - 1, 0, 1) for word in (evt2_high(high), evt2_event(1, 7, 1, 1))]
    recording = read(raw(tmp_path / "b.raw", HEADERS["EVT2"], words, "<I"))
    assert recording.t.tolist() == [2**34 - 64 + 7, 2**34 + 7, 2**34 + 64 + 7]


def one_by_one(words: list[int]) -> list[Event]:
    """EVT3 as a state machine that goes through its words one after another."""
    events: list[Event] = []
    high = low = turns = 0
    y, base, p, timed = -1, -1, 0, False
    for word in words:
        kind, value = word >> 12, word & 0xFFF
        if kind == 0:
            y = value & 0x7FF
        elif kind == 3:
            base, p = value & 0x7FF, value >> 11
        elif kind == 6:
            low = value
        elif kind == 8:
            if timed and high - value > 2048:
                turns += 1
            elif timed and value - high > 4088 and turns:
                turns -= 1
            low = low if timed and high == value else 0
            high, timed = value, True
        t = (turns << 12 | high) << 12 | low
        pixels = [(value & 0x7FF, value >> 11)] if kind == 2 else []
        if kind in (4, 5) and base >= 0:
            width = 12 if kind == 4 else 8
            pixels = [(base + bit, p) for bit in range(width) if value >> bit & 1]
            base += width
        events += [(t, x, y, polarity) for x, polarity in pixels if timed and y >= 0]
    return events


EVT3_WORDS = st.lists(
    st.one_of(
        st.tuples(st.just(8), st.sampled_from([0, 1, 2, 3, 2000, 2050, 4090, 4094, 4095])),
        st.tuples(st.sampled_from([6, 7, 10, 14, 15]), st.integers(0, 4095)),
        st.tuples(st.just(0), st.integers(0, 479)),
        st.tuples(st.sampled_from([2, 3]), st.integers(0, 639) | st.integers(2048, 2048 + 639)),
        st.tuples(st.sampled_from([4, 5]), st.integers(0, 4095)),
    ),
    max_size=80,
)


@settings(max_examples=200, deadline=None)
@given(EVT3_WORDS, st.integers(1, 9))
def test_evt3_equals_a_state_machine_however_it_is_cut(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[int, int]], piece: int
) -> None:
    words = [evt3_word(*pair) for pair in pairs]
    path = raw(tmp_path_factory.mktemp("evt3") / "a.raw", HEADERS["EVT3"], words, "<H")
    expected = one_by_one(words)
    before = dict(evt.WORDS)
    try:
        evt.WORDS["EVT3"] = piece
        stream = evt.open_evt(path, ReadOptions())
        columns = list(stream.pieces)
    finally:
        evt.WORDS.update(before)
    assert [event for piece in columns for event in zip(*(c.tolist() for c in piece), strict=True)] == expected


VECTORS = st.lists(
    st.tuples(st.just(8), st.sampled_from([0, 1, 2, 2**28 - 1, 2**27]))
    | st.tuples(st.sampled_from([0, 1]), st.integers(0, 63))
    | st.tuples(st.sampled_from([10, 14, 15]), st.just(0)),
    max_size=40,
)


@settings(max_examples=100, deadline=None)
@given(VECTORS, st.data(), st.integers(1, 5), st.booleans(), st.booleans())
def test_evt2_equals_a_state_machine_however_it_is_cut(
    tmp_path_factory: pytest.TempPathFactory,
    kinds: list[tuple[int, int]],
    data: st.DataObject,
    piece: int,
    vectors: bool,
    legacy: bool,
) -> None:
    words: list[int] = []
    expected: list[Event] = []
    high, turns = -1, 0
    for kind, value in kinds:
        x, y = data.draw(st.integers(0, 600)), data.draw(st.integers(0, 479))
        mask = data.draw(st.integers(0, 2**32 - 1)) if vectors else 1
        head = evt2_event(kind, value, x, y) if kind < 2 else bits((kind, 4), (value, 28))
        words.append(head << 32 | mask if vectors else head)
        if kind == 8:
            turns += high - value > 2**27
            turns -= 1 if high >= 0 and value - high > 2**28 - 1024 and turns else 0
            high = value
        elif kind < 2 and high >= 0:
            t = (turns << 28 | high) << 6 | value
            expected += [(t, x + bit, y, kind) for bit in range(32) if mask >> bit & 1]
    if vectors and legacy:
        words = [(word & 0xFFFFFFFF) << 32 | word >> 32 for word in words]
    name = "EVT2.1" if vectors else "EVT2"
    header = HEADERS[name].replace(b"little", b"legacy") if legacy else HEADERS[name]
    path = raw(tmp_path_factory.mktemp("evt2") / "a.raw", header, words, "<Q" if vectors else "<I")
    before = dict(evt.WORDS)
    try:
        evt.WORDS[name] = piece
        columns = list(evt.open_evt(path, ReadOptions()).pieces)
    finally:
        evt.WORDS.update(before)
    assert [event for part in columns for event in zip(*(c.tolist() for c in part), strict=True)] == expected


RECORDINGS = st.lists(
    st.tuples(
        st.integers(0, LAST_US) | st.integers(0, 20_000) | st.sampled_from([0, 63, 64, 4095, 4096, 2**24 - 1, 2**24]),
        st.integers(0, 2047),
        st.integers(0, 2047),
        st.integers(0, 1),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=100, deadline=None)
@given(RECORDINGS, st.integers(1, 50))
def test_round_trips(tmp_path_factory: pytest.TempPathFactory, events: list[Event], piece: int) -> None:
    events = sorted(events, key=lambda event: event[0])
    recording = Recording.from_columns(*zip(*events, strict=True), width=2048, height=2048)
    folder = tmp_path_factory.mktemp("round")
    before = dict(evt.WORDS)
    try:
        evt.WORDS.update(EVT2=piece, EVT3=piece)
        for write in (write_evt2, write_evt3):
            write(folder / "a.raw", recording)
            back = read(folder / "a.raw")
            assert events_of(back) == events
            assert (back.width, back.height) == (2048, 2048)
    finally:
        evt.WORDS.update(before)
