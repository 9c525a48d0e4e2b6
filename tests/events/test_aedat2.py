"""AEDAT 2.0 as jAER writes it, from bytes put together bit by bit."""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from neuromoco import Recording
from neuromoco.events import read_recording
from neuromoco.events.aedat import aedat2
from neuromoco.events.aedat.aedat2 import looks_like_aedat2, open_aedat2
from neuromoco.events.options import ReadOptions
from neuromoco.events.stream import gather
from tests.helpers.outcomes import outcome_of, refusal_of

LINE = b"#!AER-DAT2.0\r\n"
DVS128 = LINE + b"# This is a raw AE data file - do not edit\r\n# AEChip: ch.unizh.ini.jaer.chip.retina.DVS128\r\n"
DAVIS240 = LINE + b"# HardwareInterface: DAVIS FX2 02460013\r\n# AEChip: eu.seebetter.ini.chips.davis.DAVIS240C\r\n"
DAVIS346 = LINE + b"# AEChip: eu.seebetter.ini.chips.davis.Davis346blue\r\n#End Of ASCII Header\r\n"
ANY_TIME = st.integers(-(1 << 31), (1 << 31) - 1)


def dvs128(x_bits: int, y_bits: int, bit: int, special: int = 0) -> int:
    return int(f"{0:016b}{special:01b}{y_bits:07b}{x_bits:07b}{bit:01b}", 2)


def davis(x_bits: int, y_bits: int, bit: int, sample: int = 0, external: int = 0, low: int = 0) -> int:
    return int(f"{sample:01b}{y_bits:09b}{x_bits:010b}{bit:01b}{external:01b}{low:010b}", 2)


def dvs640(x_bits: int, y_bits: int, bit: int) -> int:
    return int(f"{0:011b}{y_bits:010b}{x_bits:010b}{bit:01b}", 2)


def records(*pairs: tuple[int, int]) -> bytes:
    return b"".join(struct.pack(">Ii", address, time) for address, time in pairs)


def read(folder: Path, content: bytes, sensor: tuple[int, int] | None = None) -> Recording:
    file = folder / "a.aedat"
    file.write_bytes(content)
    return gather(open_aedat2(file, ReadOptions(sensor=sensor)))


def refusal(folder: Path, content: bytes, sensor: tuple[int, int] | None = None) -> str:
    return refusal_of(lambda: read(folder, content, sensor))


def read_or_refused(folder: Path, content: bytes, sensor: tuple[int, int] | None = None) -> None:
    outcome_of(lambda: read(folder, content, sensor))


def test_the_mark_is_recognised() -> None:
    assert looks_like_aedat2(DVS128, 1000)
    assert not looks_like_aedat2(b"#!AER-DAT3.1\r\n", 1000)
    assert not looks_like_aedat2(b"", 0)


@pytest.mark.parametrize("header", [DVS128, LINE, LINE + b"# HardwareInterface: DVS128 2.0 #3\r\n"])
def test_a_dvs128_counts_from_the_lower_right_and_0_is_on(tmp_path: Path, header: bytes) -> None:
    pixels = [(dvs128(0, 0, 0), 5), (dvs128(127, 0, 1), 6), (dvs128(1, 100, 1), 6)]
    recording = read(tmp_path, header + records(*pixels, (dvs128(9, 9, 0, special=1), 7), (1 << 31, 8)))
    assert recording.source == "AEDAT 2.0"
    assert (recording.width, recording.height) == (128, 128)
    assert recording.t.tolist() == [5, 6, 6]
    assert recording.x.tolist() == [127, 0, 126]
    assert recording.y.tolist() == [127, 127, 27]
    assert recording.p.tolist() == [1, 0, 0]


def test_cifar10_dvs_readers_only_exchange_x_and_y(tmp_path: Path) -> None:
    """SpikingJelly: {"x": 127 - y, "y": 127 - x, "p": 1 - p} of the bits."""
    random = np.random.default_rng(0)
    bits = [(*random.integers(0, 128, 2).tolist(), int(random.integers(2))) for _ in range(100)]
    recording = read(tmp_path, DVS128 + records(*((dvs128(*b), i) for i, b in enumerate(bits))))
    x, y, p = np.array(bits).T
    assert np.array_equal(recording.y, 127 - y)
    assert np.array_equal(recording.x, 127 - x)
    assert np.array_equal(recording.p, 1 - p)


def test_a_polarity_bit_that_is_never_set_is_all_on(tmp_path: Path) -> None:
    assert read(tmp_path, DVS128 + records(*((dvs128(i, i, 0), i) for i in range(50)))).on_share == 1


@pytest.mark.parametrize(
    ("header", "sensor", "size"),
    [
        (DAVIS240, None, (240, 180)),
        (DAVIS240, (346, 260), (346, 260)),  # what the user says wins
        (DAVIS346, None, (346, 260)),
        (LINE, (346, 260), (346, 260)),
        (LINE + b"# HardwareInterface: DAVIS FX3\r\n", (240, 180), (240, 180)),
    ],
)
def test_of_a_davis_frames_imu_samples_and_external_events_are_passed_over(
    tmp_path: Path, header: bytes, sensor: tuple[int, int] | None, size: tuple[int, int]
) -> None:
    content = header + records(
        (davis(0, 0, 1), 5),
        (davis(200, 100, 0, sample=1, low=1023), 6),  # a frame's sample
        (davis(200, 100, 0, sample=1, external=1, low=7), 6),
        (davis(5, 5, 1, sample=1, external=1), 6),  # an IMU's
        (davis(3, 4, 0, external=1), 7),
        (davis(239, 179, 0), 8),
    )
    recording = read(tmp_path, content, sensor)
    width, height = size
    assert (recording.width, recording.height) == size
    assert recording.t.tolist() == [5, 8]
    assert recording.x.tolist() == [width - 1, width - 240]
    assert recording.y.tolist() == [height - 1, height - 180]
    assert recording.p.tolist() == [1, 0]


V2E = LINE + b"# This is a raw AE data file created by AEDat2Output in v2e (see https://github.com/SensorsINI/v2e)\r\n"


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["dvs128", "davis", "dvs640"]), st.booleans(), st.integers(0, 9), st.integers(0, 1000))
def test_addresses_show_the_camera_of_a_file_that_does_not_name_it(
    tmp_path_factory: pytest.TempPathFactory, name: str, v2e: bool, strays: int, seed: int
) -> None:
    """Whatever the user says of its size; single damaged addresses do not matter."""
    address, side = {"dvs128": (dvs128, (128, 128)), "davis": (davis, (346, 260)), "dvs640": (dvs640, (640, 480))}[name]
    if name == "dvs128" and v2e:
        return  # v2e writes none
    rng = np.random.default_rng(seed)
    x, y, bit = rng.integers(0, side[0], 1000), rng.integers(0, side[1], 1000), rng.integers(0, 2, 1000)
    pairs = [(address(*event), i) for i, event in enumerate(zip(x.tolist(), y.tolist(), bit.tolist(), strict=True))]
    for at in range(strays):
        pairs[100 * at] = (int(rng.integers(1 << 21, 1 << 30)) | 1, 100 * at)
    content = (V2E if v2e else LINE) + records(*pairs)
    folder = tmp_path_factory.mktemp("unnamed")
    file = folder / "a.aedat"
    file.write_bytes(content)
    recording = read_recording(file, options=ReadOptions(sensor=side))
    kept = np.isin(recording.t, 100 * np.arange(strays), invert=True)
    real = np.isin(np.arange(1000), 100 * np.arange(strays), invert=True)
    assert (recording.width, recording.height) == side
    assert recording.x[kept].tolist() == (side[0] - 1 - x[real]).tolist()
    assert recording.y[kept].tolist() == (side[1] - 1 - y[real]).tolist()
    assert recording.p[kept].tolist() == (bit[real] if name != "dvs128" else 1 - bit[real]).tolist()
    if name == "davis":
        assert "give --sensor WIDTHxHEIGHT" in refusal(folder, content)
    elif name == "dvs128" or v2e:
        assert (read_recording(file).width, read_recording(file).height) == side
    if name != "davis":
        wrong = refusal_of(lambda: read_recording(file, options=ReadOptions(sensor=(240, 180))))
        assert "not the 240 x 180 of --sensor" in wrong or "of a DVS640, give --sensor 640x480" in wrong


def test_a_header_may_be_followed_by_an_event_that_looks_like_a_comment(tmp_path: Path) -> None:
    for first in (davis(0, 140, 1), int.from_bytes(b"#ABC")):
        assert struct.pack(">I", first)[:1] == b"#"
        assert len(read(tmp_path, DAVIS240 + records((first, 5), (davis(1, 1, 0), 10)))) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (LINE[:-2], "header does not end"),
        (DVS128 + records((dvs128(0, 0, 0), 1))[:-1], "cut or damaged"),
        (LINE + b"# AEChip: ch.unizh.ini.jaer.chip.cochlea.CochleaAMS1b\r\n" + records((1, 1)), "'CochleaAMS1b'"),
        (LINE + records((davis(20, 100, 1), 1)), "give --sensor WIDTHxHEIGHT, such as 240x180 or 346x260"),
        (LINE + b"# AEChip: eu.seebetter.ini.chips.davis.DavisX\r\n" + records((davis(2, 1, 1), 1)), "give --sensor"),
        (DVS128 + records((davis(20, 100, 1), 1)), "outside the 128 x 128 sensor"),
        (LINE + records(*((dvs640(i, i, 1), i) for i in range(1, 300))), "DVS640, give --sensor 640x480"),
        (DAVIS240 + records((davis(240, 0, 1), 1)), "outside the 240 x 180 sensor"),
        (DAVIS240 + records((davis(0, 180, 1), 1)), "outside the 240 x 180 sensor"),
        (DAVIS240 + records((davis(2, 1, 1, sample=1), 1)), "1 samples of frames or others, and no events"),
        (DAVIS240, "holds no events"),
    ],
)
def test_refusals(tmp_path: Path, content: bytes, words: str) -> None:
    assert words in refusal(tmp_path, content)


def test_a_header_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aedat2, "LARGEST_HEADER", 4096)
    assert "longer than 4096 bytes" in refusal(tmp_path, LINE + b"# again\r\n" * 1000)


def test_the_clock_goes_on_over_its_overflow_and_into_negative_times(tmp_path: Path) -> None:
    top = (1 << 31) - 1
    times = [top - 1, top, -top - 1, top, -top + 4, 0, top, -top - 1]  # one step back, at the overflow itself
    recording = read(tmp_path, DVS128 + records(*((dvs128(1, 1, 0), t) for t in times)))
    assert recording.t[0] == top - 1
    assert (recording.t - top).tolist() == sorted([-1, 0, 1, 0, 6, top + 2, 2 * top + 2, 2 * top + 3])
    assert read(tmp_path, DVS128 + records(*((dvs128(1, 1, 0), t) for t in (-7, -7, 3)))).t.tolist() == [-7, -7, 3]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(ANY_TIME, st.integers(0, 239), st.integers(0, 179), st.integers(0, 1)), min_size=1, max_size=60),
    st.integers(1, 9),
)
@example([(0, 160, 140, 0)], 1)  # its address begins with "#\n"
def test_any_events_of_a_davis_in_any_pieces(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[int, int, int, int]], piece: int
) -> None:
    folder = tmp_path_factory.mktemp("davis")
    (folder / "a.aedat").write_bytes(DAVIS240 + records(*((davis(x, y, p), t) for t, x, y, p in events)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aedat2, "PIECE", piece)
        pieces = list(open_aedat2(folder / "a.aedat", ReadOptions()).pieces)
    t, x, y, p = (np.concatenate(column).tolist() for column in zip(*pieces, strict=True))
    assert [239 - v for v in x] == [event[1] for event in events]
    assert [179 - v for v in y] == [event[2] for event in events]
    assert p == [event[3] for event in events]
    assert t[0] == events[0][0]
    for (before, after), event in zip(pairwise(t), events[1:], strict=True):
        assert (after - event[0]) % (1 << 32) == 0
        assert -(1 << 31) <= after - before < 1 << 31


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([LINE, DVS128, DAVIS240, DAVIS346]),
    st.binary(max_size=200),
    st.sampled_from([None, (128, 128), (346, 260), (65535, 65535)]),
)
def test_any_bytes_after_a_header_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, header: bytes, rest: bytes, sensor: tuple[int, int] | None
) -> None:
    read_or_refused(tmp_path_factory.mktemp("any"), header + rest, sensor)


def test_every_cut_and_every_flip_is_read_or_refused(tmp_path: Path) -> None:
    whole = DAVIS240 + records(*((davis(i, i, i & 1), i) for i in range(4)))
    for at in range(len(aedat2.MAGIC), len(whole)):
        for content in (whole[:at], whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]):
            read_or_refused(tmp_path, content)
    for at in range(len(DAVIS240) + 1, len(whole)):
        if (at - len(DAVIS240)) % 8:
            assert "cut or damaged" in refusal(tmp_path, whole[:at])
