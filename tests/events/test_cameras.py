"""Files of several cameras, and words and files that are no events of a camera."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromoco.errors import EventFileError
from neuromoco.events import ReadOptions, Recording, read_recording
from neuromoco.events.prophesee import evt
from tests.conftest import make_recording
from tests.helpers.aedat4_writer import write_aedat4
from tests.helpers.evt_files import HEADERS, evt3_word, raw
from tests.helpers.outcomes import refusal_of, rows

SOURCE = b'<attr key="source" type="string">test</attr>'


def stereo_aedat4(path: Path, left: Recording, right: Recording) -> None:
    """Two files in one: the second stream has the number 1, and a camera of another name of the same length."""
    write_aedat4(path, left)
    first = path.read_bytes()
    write_aedat4(path, right)
    second = path.read_bytes()
    begin = 18 + int.from_bytes(first[14:18], "little")
    packet = second[begin:]
    head = first[:begin]
    node = head[head.index(b'<node name="0"') : head.rindex(b"</node></dv>")]
    other = node.replace(b'name="0"', b'name="1"').replace(b"outInfo/0/", b"outInfo/1/").replace(b">test<", b">tset<")
    text = head[head.index(b"<dv") : head.index(b"</dv>") + 5]
    grown = text.replace(node, node + other)
    # The description is the last field of the header: its size, and that of the header, grow.
    at = head.index(text)
    size = int.from_bytes(head[at - 4 : at], "little")
    more = len(grown) - len(text)
    padding = -more % 4
    new = head[: at - 4] + (size + more).to_bytes(4, "little") + grown + head[at + len(text) :] + bytes(padding)
    new = new[:14] + (len(new) - 18).to_bytes(4, "little") + new[18:]
    path.write_bytes(new + first[begin:] + (1).to_bytes(4, "little") + packet[4:])


def test_a_stream_of_several_is_selected_in_aedat4(tmp_path: Path) -> None:
    left, right = make_recording(1, events=200), make_recording(2, events=300)
    file = tmp_path / "a.aedat4"
    stereo_aedat4(file, left, right)
    words = refusal_of(lambda: read_recording(file))
    assert words.endswith("events of 2 cameras: give --select with one of 0 (test 34 x 34), 1 (tset 34 x 34)")
    for select, expected in (("0", left), ("1", right), ("test", left), ("tset", right)):
        assert rows(read_recording(file, options=ReadOptions(select=select))) == rows(expected)
    words = refusal_of(lambda: read_recording(file, options=ReadOptions(select="2")))
    assert "--select 2: is none of the streams with events, which are 0 (test 34 x 34)" in words


def test_a_source_of_several_is_selected_in_aedat3(tmp_path: Path) -> None:
    from tests.events.test_aedat3 import GESTURE, event, packet

    file = tmp_path / "a.aedat"
    head = GESTURE.replace(b"#Source 1", b"#Source 2: DAVIS240C\r\n#Source 1")
    parts = [packet(event(5, 1, 2, 1), source=1), packet(event(6, 200, 9, 0), source=2), packet(event(7, 3, 4, 1))]
    file.write_bytes(head + b"".join(parts))
    assert "give --select with one of 1 (DVS128), 2 (DAVIS240C)" in refusal_of(lambda: read_recording(file))
    left, right = (read_recording(file, options=ReadOptions(select=source)) for source in "12")
    assert (rows(left), left.width) == ([(5, 1, 2, 1), (7, 3, 4, 1)], 128)
    assert (rows(right), right.width) == ([(6, 200, 9, 0)], 240)
    with pytest.raises(EventFileError, match=re.escape("the cameras with events are 1 (DVS128), 2 (DAVIS240C)")):
        read_recording(file, options=ReadOptions(select="3"))


@settings(max_examples=40, deadline=None)
@given(
    words=st.lists(st.sampled_from([0x9999, 0xD123, 0x7001, 0xA001, 0xE005, 0xF123]), min_size=1, max_size=20),
    seed=st.integers(0, 1000),
    piece=st.sampled_from([5, 1 << 17]),
)
def test_padding_and_other_words_of_evt3_are_passed_over(
    tmp_path_factory: pytest.TempPathFactory, words: list[int], seed: int, piece: int
) -> None:
    rng = np.random.default_rng(seed)
    plain = [evt3_word(8, 0), evt3_word(6, 5), evt3_word(0, 7)]
    plain += [evt3_word(2, int(x)) for x in rng.integers(0, 640, 30)]
    padded = list(plain)
    for word in words:
        padded.insert(int(rng.integers(0, len(padded) + 1)), word)
    folder = tmp_path_factory.mktemp("padded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(evt.WORDS, "EVT3", piece)
        found = [rows(read_recording(raw(folder / "a.raw", HEADERS["EVT3"], some, "<H"))) for some in (plain, padded)]
    assert found[0] == found[1]


def test_another_word_of_the_type_of_padding_is_damage(tmp_path: Path) -> None:
    words = [evt3_word(8, 0), evt3_word(0, 7), evt3_word(2, 3), 0x9998]
    assert "reserved type 0x9" in refusal_of(
        lambda: read_recording(raw(tmp_path / "a.raw", HEADERS["EVT3"], words, "<H"))
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 240), st.integers(16, 2000), st.integers(0, 1000))
def test_spikes_of_neurons_are_no_atis_events(
    tmp_path_factory: pytest.TempPathFactory, neurons: int, spikes: int, seed: int
) -> None:
    """SLAYER's `.bs1`: 16 bits of a neuron, 24 bits of time, big-endian."""
    rng = np.random.default_rng(seed)
    n, t = rng.integers(0, neurons, spikes), np.cumsum(rng.integers(1, 2000, spikes))
    content = np.stack([n >> 8, n & 255, t >> 16, t >> 8 & 255, t & 255], 1).astype(np.uint8)
    file = tmp_path_factory.mktemp("spikes") / "a.bs1"
    file.write_bytes(content.tobytes())
    assert "no event recording" in refusal_of(lambda: read_recording(file))
    assert len(read_recording(file, options=ReadOptions(format="atis", sensor=(256, 240)))) == spikes


def test_more_events_than_a_camera_sends_are_no_atis_events(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for step, is_read in ((0, False), (1, True)):
        raw_events = np.zeros((800, 5), np.uint8)
        raw_events[:, :2] = rng.integers(0, 34, (800, 2))
        t = np.arange(800) * step + 5
        raw_events[:, 2], raw_events[:, 3], raw_events[:, 4] = 128 * rng.integers(0, 2, 800), t >> 8, t & 255
        (tmp_path / "a.bin").write_bytes(raw_events.tobytes())
        if is_read:
            assert len(read_recording(tmp_path / "a.bin")) == 800
        else:
            assert "no event recording" in refusal_of(lambda: read_recording(tmp_path / "a.bin"))
