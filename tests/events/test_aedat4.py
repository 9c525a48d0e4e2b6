"""AEDAT4 as DV packs it, and packets that unpack to more than is read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from neuromoco.events import read_recording
from tests.conftest import make_recording
from tests.helpers.aedat4_writer import write_packed_aedat4
from tests.helpers.outcomes import rows


@pytest.mark.parametrize("packing", ["lz4", "zstd"])
def test_packed_files_are_read(tmp_path: Path, packing: str) -> None:
    recording = make_recording(500)
    write_packed_aedat4(tmp_path / "a.aedat4", recording, packing)
    assert rows(read_recording(tmp_path / "a.aedat4")) == rows(recording)


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
def test_a_packet_that_unpacks_to_2_gib_is_refused(tmp_path: Path, packing: str, table_at: int) -> None:
    file = tmp_path / "bomb.aedat4"
    write_packed_aedat4(file, make_recording(50), packing, 2 << 30, table_at)
    answer = subprocess.run([sys.executable, "-c", READ_IT, file], capture_output=True, text=True, check=True)
    message, memory_kib = answer.stdout.splitlines()
    assert "damaged" in message
    assert int(memory_kib) < 200 << 10
    assert answer.stderr == ""
