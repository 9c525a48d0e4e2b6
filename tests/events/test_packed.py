"""Packed bytes: the bound holds for what public packers write, and what boasts is refused before it is unpacked."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import lz4.frame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromoco.events.packed import lz4_bound, zstd_bound
from tests.conftest import make_recording
from tests.helpers.aedat4_writer import write_packed_aedat4

zstd = pytest.importorskip("backports.zstd" if sys.version_info < (3, 14) else "compression.zstd")

CONTENT = st.one_of(
    st.binary(max_size=4000),
    st.builds(lambda part, times: part * times, st.binary(min_size=1, max_size=40), st.integers(0, 30_000)),
)


@settings(max_examples=100, deadline=None)
@given(CONTENT, st.integers(-5, 19), st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_no_frame_unpacks_to_more_than_its_bound(
    content: bytes, level: int, sized: bool, checked: bool, linked: bool, twice: bool
) -> None:
    options = {zstd.CompressionParameter.content_size_flag: sized, zstd.CompressionParameter.checksum_flag: checked}
    one = zstd.ZstdCompressor(level=None, options={**options, zstd.CompressionParameter.compression_level: level})
    whole = (one.compress(content) + one.flush()) * (1 + twice)
    assert len(content) * (1 + twice) <= zstd_bound(whole)
    assert zstd_bound(whole) <= max(1 << 17, 2 * len(content)) * (1 + twice) + (1 << 17)
    whole = lz4.frame.compress(
        content, level, store_size=sized, content_checksum=checked, block_checksum=checked, block_linked=linked
    ) * (1 + twice)
    assert len(content) * (1 + twice) <= lz4_bound(memoryview(whole)) <= 255 * len(whole)


@settings(max_examples=200, deadline=None)
@given(CONTENT.filter(bool), st.data())
def test_damaged_frames_have_a_bound_or_none(content: bytes, data: st.DataObject) -> None:
    for bound, whole in ((lz4_bound, lz4.frame.compress(content)), (zstd_bound, zstd.compress(content))):
        with pytest.raises(ValueError, match="packed bytes are"):
            bound(whole[: data.draw(st.integers(1, len(whole) - 1))])
        damaged = bytearray(whole)
        damaged[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
        with contextlib.suppress(ValueError):
            assert bound(bytes(damaged)) >= 0


@pytest.mark.parametrize("packing", ["lz4", "zstd"])
def test_packed_aedat4_is_read(tmp_path: Path, packing: str) -> None:
    from neuromoco.events import read_recording

    recording = make_recording(500)
    write_packed_aedat4(tmp_path / "a.aedat4", recording, packing)
    found = read_recording(tmp_path / "a.aedat4")
    assert found.t.tolist() == recording.t.tolist()
    assert found.x.tolist() == recording.x.tolist()


READ_IT = """
import sys
from neuromoco import EventFileError
from neuromoco.events import read_recording
try:
    read_recording(sys.argv[1])
except EventFileError as error:
    print(error)
# getrusage would count the memory of the process that this one was forked from
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.parametrize(("packing", "table_at"), [("lz4", -1), ("zstd", -1), ("zstd", 5)])
def test_a_packet_that_unpacks_to_2_gib_is_refused_before(tmp_path: Path, packing: str, table_at: int) -> None:
    file = tmp_path / "bomb.aedat4"
    write_packed_aedat4(file, make_recording(50), packing, 2 << 30, table_at)
    answer = subprocess.run([sys.executable, "-c", READ_IT, file], capture_output=True, text=True, check=True)
    message, memory_kib = answer.stdout.splitlines()
    assert ("inside the header" if table_at > 0 else "a packet at byte") in message
    assert int(memory_kib) < 400 << 10
