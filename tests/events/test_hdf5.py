"""HDF5: the layouts that data sets come in, each written after its description, and what is refused."""

from __future__ import annotations

import bz2
import re
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromoco import EventFileError, Recording
from neuromoco.errors import ConfigError, MissingExtraError, MissingPackageError
from neuromoco.events import read_recording
from neuromoco.events.hdf5 import events as hdf5
from neuromoco.events.hdf5 import storage as hdf5_storage
from neuromoco.events.hdf5.events import looks_like_hdf5, open_hdf5
from neuromoco.events.options import ReadOptions
from neuromoco.events.stream import gather
from neuromoco.installation import pip_install
from tests.helpers.outcomes import outcome_of, refusal_of, rows

h5py = pytest.importorskip("h5py")

T, X, Y, P = (np.array(values) for values in ([4, 1_000_001, 1_000_001], [3, 639, 0], [4, 0, 479], [1, 0, 1]))
EVENTS = list(zip(T.tolist(), X.tolist(), Y.tolist(), P.tolist(), strict=True))
PROPHESEE = np.dtype({"names": list("xypt"), "formats": ["<u2", "<u2", "<i2", "<i8"], "offsets": [0, 2, 4, 8]})


def read(path: Path, **said: object) -> Recording:
    return read_recording(path, options=ReadOptions(format="hdf5", **said))  # type: ignore[arg-type]


def refusal(path: Path, **said: object) -> str:
    return refusal_of(lambda: read(path, **said), EventFileError, MissingPackageError)


def refusal_here(path: Path) -> str:
    """The refusal in this process, where a test can change what it pleases."""
    return refusal_of(lambda: gather(open_hdf5(path, ReadOptions())), EventFileError, MissingExtraError)


def outcome(path: Path) -> str:
    return outcome_of(lambda: read(path))


def records(dtype: Any = PROPHESEE, repeat: int = 1) -> np.ndarray:
    array = np.zeros(len(T) * repeat, dtype)
    for name, values in zip("txyp", (T, X, Y, P), strict=True):
        array[name] = np.tile(values, repeat)
    return array


def metavision(file: Any) -> None:
    file.create_dataset("CD/events", data=records(), chunks=(2,))
    file.create_dataset("CD/indexes", data=np.zeros(3, [("id", "<u8"), ("ts", "<i8")]))
    file.create_dataset("EXT_TRIGGER/events", data=np.zeros(0, [("p", "<i2"), ("t", "<i8"), ("id", "<i2")]))
    file.attrs["geometry"] = "640x480"


def dsec(file: Any) -> None:
    for name, values, code in (("t", T - 1, "u4"), ("x", X, "u2"), ("y", Y, "u2"), ("p", P, "u1")):
        file.create_dataset(f"events/{name}", data=values.astype(code), compression="gzip", chunks=(2,))
    file["t_offset"], file["ms_to_idx"] = np.int64(1), np.arange(1001, dtype="u8")


def rvt(file: Any) -> None:
    for name, values in (("t", T), ("x", X), ("y", Y), ("p", P), ("height", 480), ("width", 640)):
        file[f"events/{name}"] = values


def tonic_cache(file: Any) -> None:
    dtype = np.dtype([("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")])
    file.create_dataset("data/0", data=records(dtype), compression="lzf")
    file.create_dataset("target/0", data=3)


def e2vid(file: Any) -> None:
    for name, values in (("ts", T / 1e6), ("xs", X.astype("i2")), ("ys", Y.astype("i2")), ("ps", P == 1)):
        file[f"events/{name}"] = values
    file["images/image000000000"] = np.zeros((480, 640), np.uint8)
    file.attrs["sensor_resolution"], file.attrs["t0"] = (480, 640, 1), 0.0


def older_e2vid(file: Any) -> None:
    for name, values in (("t", T / 1e6), ("x", X / 1.0), ("y", Y / 1.0), ("p", P * 2.0 - 1)):
        file[f"events/{name}"] = values


def m3ed(file: Any) -> None:
    for name, values in (("t", T), ("x", X), ("y", Y), ("p", P)):
        file[f"prophesee/left/{name}"] = values
    file["prophesee/left"].attrs.update(width=640, height=480)


def v2e(file: Any) -> None:
    file["events"] = np.stack([T, X, Y, P], 1).astype(np.uint32)
    file["frame"] = np.zeros((2, 480, 640), np.uint8)


def mvsec(file: Any) -> None:
    file["davis/left/events"] = np.stack([X, Y, T / 1e6, P * 2 - 1], 1)
    file["davis/left/image_raw"] = np.zeros((2, 480, 640), np.uint8)


@pytest.mark.parametrize("layout", [metavision, dsec, rvt, tonic_cache, e2vid, older_e2vid, m3ed, v2e, mvsec])
@pytest.mark.parametrize("version", ["earliest", "latest"])
def test_layouts(tmp_path: Path, layout: Any, version: str) -> None:
    file = tmp_path / "a.anything"
    with h5py.File(file, "w", libver=version) as out:
        layout(out)
    recording = read(file)
    assert rows(recording) == EVENTS
    assert (recording.width, recording.height) == (640, 480)
    assert looks_like_hdf5(file.read_bytes()[:4000], 0)
    assert read(file, sensor=(1280, 720)).width == 1280


def test_what_the_user_says_counts(tmp_path: Path) -> None:
    file = tmp_path / "a.h5"
    with h5py.File(file, "w") as out:
        e2vid(out)
    assert read(file, time_unit="ms").t.tolist() == [0, 1000, 1000]
    with h5py.File(file, "w") as out:
        dsec(out)
    assert read(file, time_unit="ns").t.tolist() == [0, 1000, 1000]
    with h5py.File(file, "w") as out:
        out["events"] = np.stack([X, Y, P, T], 1)
    assert rows(read(file, columns="xypt")) == EVENTS
    assert "each of t, x, y and p once" in refusal_of(lambda: read(file, columns="xyp"), ConfigError)


def test_long_recordings_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "PIECE", 7)
    file = tmp_path / "a.h5"
    with h5py.File(file, "w") as out:
        out.create_dataset("CD/events", data=records(repeat=50), chunks=(16,), compression="gzip")
    stream = open_hdf5(file, ReadOptions())
    pieces = list(stream.pieces)
    assert [len(piece.t) for piece in pieces] == [7] * 21 + [3]
    assert np.array_equal(np.concatenate([piece.x for piece in pieces]), np.tile(X, 50))


def test_no_layout_of_events(tmp_path: Path) -> None:
    file = tmp_path / "a.h5"
    with h5py.File(file, "w") as out:
        out["images/a"], out["spikes/times"] = np.zeros((2, 3)), np.zeros(4)
    assert "the file holds images/a 2x3, spikes/times 4" in refusal(file)
    with h5py.File(file, "w"):
        pass
    assert "the file holds no data sets" in refusal(file)
    with h5py.File(file, "w") as out:
        for number in range(500):
            out[f"a/{number}"] = 1
    assert "a/102 scalar, ..." in refusal(file)
    with h5py.File(file, "w") as out:
        dsec(out)
        del out["events/p"]
        out["events/p"] = P[:2]
    assert "differ in length: t 3, x 3, y 3, p 2" in refusal(file)
    with h5py.File(file, "w") as out:
        out["left"], out["right"] = records(), records()
    assert "of 2 cameras or recordings: give --select with one of /left, /right" in refusal(file)
    with h5py.File(file, "w") as out:
        out["CD/events"] = records()[:0]
    assert "holds no events" in refusal(file)


@pytest.mark.parametrize("layout", ["MVSEC", "M3ED"])
def test_a_camera_of_several_is_selected(tmp_path: Path, layout: str) -> None:
    """By its place or a group around it; M3ED states the sensor."""
    file, end = tmp_path / "a.h5", "/events" if layout == "MVSEC" else ""
    with h5py.File(file, "w") as out:
        for number, side in enumerate(("left", "right", "leftmost")):
            if layout == "MVSEC":
                out[f"cam/{side}/events"] = np.stack([X + number, Y, T * 1e-6, 2 * P - 1], 1).astype(float)
                continue
            for name, column in zip("txyp", (T, X + number, Y, P), strict=True):
                out[f"cam/{side}/{name}"] = column
            out[f"cam/{side}/calib/resolution"] = [1280, 720]
    listed = f"give --select with one of /cam/left{end}, /cam/leftmost{end}, /cam/right{end}"
    assert f"of 3 cameras or recordings: {listed}" in refusal(file)
    for select, shift in (("cam/left", 0), (f"/cam/right{end}", 1), ("cam/leftmost/", 2)):
        recording = read_recording(file, options=ReadOptions(select=select))
        assert recording.x.tolist() == (X + shift).tolist()
        assert ((recording.width, recording.height) == (1280, 720)) == (layout == "M3ED")
    for select, words in (("cam", "several of them in cam"), ("imu", "none of them in imu")):
        message = refusal_of(lambda select=select: read_recording(file, options=ReadOptions(select=select)))
        assert f"of 3 cameras or recordings, {words}: {listed}" in message


def test_values_that_are_no_events(tmp_path: Path) -> None:
    file = tmp_path / "a.h5"
    for name, value, words in (("t", np.nan, "time of event 1 is nan"), ("x", 0.5, "x of event 1"), ("p", 7, "is 7;")):
        with h5py.File(file, "w") as out:
            older_e2vid(out)
            out[f"events/{name}"][1] = value
        assert words in refusal(file)
    with h5py.File(file, "w") as out:
        rvt(out)
        out["events/width"][()] = 600
    assert "outside the 600 x 480 sensor" in refusal(file)
    with h5py.File(file, "w") as out:
        dsec(out)
        out["t_offset"][()] = 2**63 - 5
    assert "do not fit 63 bits" in refusal(file)
    with h5py.File(file, "w") as out:
        m3ed(out)
        del out["prophesee/left/t"]
        out["prophesee/left/t"] = np.array([b"1", b"2", b"3"])
    assert "no layout of events" in refusal(file)


def test_what_lies_in_other_files_is_not_read(tmp_path: Path) -> None:
    file, other = tmp_path / "a.h5", tmp_path / "b.h5"
    with h5py.File(other, "w") as out:
        dsec(out)
    with h5py.File(file, "w") as out:
        out["events"] = h5py.ExternalLink(str(other), "/events")
        out["again"] = h5py.SoftLink("/again")
    assert "no layout of events" in refusal(file)
    with h5py.File(file, "w") as out:
        dsec(out)
        del out["events/t"]
        out.create_dataset("events/t", (3,), "u4", external=[(str(other), 0, 12)])
    assert "other files" in refusal(file)
    with h5py.File(file, "w") as out:
        dsec(out)
        del out["events/t"]
        virtual = h5py.VirtualLayout((3,), "u4")
        virtual[:] = h5py.VirtualSource(str(other), "events/t", (3,))
        out.create_virtual_dataset("events/t", virtual)
    assert "other files" in refusal(file)


def test_sizes_that_the_file_does_not_hold_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.h5"
    with h5py.File(file, "w") as out:
        for name in "txyp":
            out.create_dataset(f"events/{name}", (10**12,), "u4", chunks=(1000,))
    assert "events claim 16000000000000 bytes" in refusal(file)
    for options in ({"chunks": (1000,), "compression": "gzip"}, {"chunks": (1000,)}, {}):
        with h5py.File(file, "w") as out:
            for name in "txyp":
                out.create_dataset(f"events/{name}", (10_000,), "u4", **options)
        assert re.search(r"cut or damaged: (a chunk of /)?events/t", refusal(file))
    with h5py.File(file, "w") as out:
        dsec(out)
    monkeypatch.setattr(hdf5_storage, "LARGEST_CHUNK", 7)
    assert "h5repack" in refusal_here(file)


def test_chunks_that_unpack_to_more_than_a_chunk_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.h5"
    with h5py.File(file, "w") as out:
        dsec(out)
        out["events/t"].id.write_direct_chunk((0,), zlib.compress(b"\0" * (1 << 20)))
    assert "a chunk of /events/t unpacks to 1048576 bytes of its 8" in refusal(file)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0x8ECF, "metavision_file_to_dat -i FILE"),
        (32001, f"compressed with Blosc needs packages that are not installed: {pip_install('hdf5')}"),
        (32013, "compressed with ZFP, which does not keep events as they were"),
        (40000, "compressed with HDF5 filter 40000, which is not installed"),
    ],
)
def test_codecs_that_are_missing_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda number: number < 10)
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((3,))
    plan.set_filter(code, h5py.h5z.FLAG_OPTIONAL)
    with h5py.File(tmp_path / "a.h5", "w") as out:
        kind, space = h5py.h5t.py_create(PROPHESEE), h5py.h5s.create_simple((3,))
        h5py.h5d.create(out.create_group("CD").id, b"events", kind, space, plan).write_direct_chunk((0,), b"packed")
    assert words in refusal_here(tmp_path / "a.h5")


def test_blosc_as_dsec_uses_it(tmp_path: Path) -> None:
    hdf5plugin = pytest.importorskip("hdf5plugin")
    with h5py.File(tmp_path / "a.h5", "w") as out:
        for name, values in (("t", T), ("x", X), ("y", Y), ("p", P)):
            out.create_dataset(f"events/{name}", data=values, **hdf5plugin.Blosc(cname="zstd", shuffle=1))
    assert rows(read(tmp_path / "a.h5")) == EVENTS


def plugin_codecs() -> dict[str, Any]:
    hdf5plugin = pytest.importorskip("hdf5plugin")
    return {
        "Blosc": hdf5plugin.Blosc(cname="zstd", shuffle=1),
        "Blosc2": hdf5plugin.Blosc2(),
        "LZ4": hdf5plugin.LZ4(),
        "Bitshuffle": hdf5plugin.Bitshuffle(),
        "Bitshuffle alone": hdf5plugin.Bitshuffle(cname="none"),
        "Zstandard": hdf5plugin.Zstd(),
        "BZip2": hdf5plugin.BZip2(),
        "LZF": {"compression": "lzf", "shuffle": True, "fletcher32": True},
    }


@pytest.mark.parametrize(
    "name", ["Blosc", "Blosc2", "LZ4", "Bitshuffle", "Bitshuffle alone", "Zstandard", "BZip2", "LZF"]
)
def test_every_codec_is_read(tmp_path: Path, name: str) -> None:
    t = np.arange(100_000, dtype="u4") * 7
    x = (np.arange(100_000, dtype="u2") * 31) % 640
    with h5py.File(tmp_path / "a.h5", "w") as out:
        for role, values in {"t": t, "x": x, "y": x // 2, "p": (x % 2).astype("u1")}.items():
            out.create_dataset(f"events/{role}", data=values, chunks=(30_000,), **plugin_codecs()[name])
    found = read(tmp_path / "a.h5", sensor=(640, 480))
    assert (found.t == t).all()
    assert (found.x == x).all()


def write_overwritten(file: Path, codec: str, at: int, raw: bytes) -> None:
    """Four packed columns of 4,000 bytes; in the packed polarities some bytes are others."""
    with h5py.File(file, "w") as out:
        for role in "txyp":
            dataset = out.create_dataset(f"events/{role}", (1000,), "u4", chunks=(1000,), **plugin_codecs()[codec])
            dataset[:] = np.arange(1000) // 2
        packed = bytearray(dataset.id.read_direct_chunk((0,))[1])
        packed[at : at + len(raw)] = raw
        dataset.id.write_direct_chunk((0,), bytes(packed))


@pytest.mark.parametrize(
    ("name", "at", "claim"),
    [
        ("LZ4", 0, struct.pack(">Q", 1 << 33)),
        ("Blosc2", 30, struct.pack(">Q", 1 << 40)),
        ("LZ4", 0, struct.pack(">Q", 1 << 40)),
        ("Bitshuffle", 0, struct.pack(">Q", 1 << 40)),
    ],
)
def test_chunks_that_boast_of_their_size_are_refused(tmp_path: Path, name: str, at: int, claim: bytes) -> None:
    write_overwritten(tmp_path / "a.h5", name, at, claim)
    begin = time.monotonic()
    assert "damaged" in refusal(tmp_path / "a.h5")
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize(
    ("at", "value"), [(4, 1 << 31), (4, 1 << 26), (8, 0), (8, 1 << 20), (12, 1 << 20), (16, 1 << 20), (16, 0)]
)
def test_blosc_headers_that_lead_outside_are_refused(tmp_path: Path, at: int, value: int) -> None:
    write_overwritten(tmp_path / "a.h5", "Blosc", at, struct.pack("<I", value))
    # Blosc does not need the packed size at 12, so that the values are unpacked as they were, which are no polarities.
    assert ("the polarity of event 4 is 2" if at == 12 else "damaged") in refusal(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("at", "value"), [(8, 0), (8, 63), (8, 64), (12, 1 << 31), (12, 3), (20, 0xFFFFFFFF), (4, 4004)]
)
def test_damaged_lz4_blocks_are_refused_and_the_plugin_prints_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], at: int, value: int
) -> None:
    write_overwritten(tmp_path / "a.h5", "LZ4", at, struct.pack(">I", value))
    assert "damaged" in refusal(tmp_path / "a.h5")
    assert capfd.readouterr() == ("", "")


OTHER_CODECS: dict[str, Any] = {"Shuffle": {"shuffle": True}, "GZIP": {"compression": "gzip"}}
TELLING = ["Blosc", "Blosc2", "LZ4", "Bitshuffle", "Bitshuffle alone", "Zstandard", "BZip2", *OTHER_CODECS]


@pytest.mark.parametrize("kept", [100, 40_000])
@pytest.mark.parametrize("name", TELLING)
def test_chunks_that_unpack_to_too_little_are_refused(tmp_path: Path, name: str, kept: int) -> None:
    file = tmp_path / "a.h5"
    codec = {**OTHER_CODECS, **plugin_codecs()}[name]
    rng = np.random.default_rng(0)
    with h5py.File(file, "w") as out:
        for role in "txyp":
            out.create_dataset(f"events/{role}", data=np.zeros(100_000, "u4"), chunks=(50_000,), **codec)
        short = out.create_dataset("short", data=rng.integers(0, 9, kept).astype("u4"), chunks=(kept,), **codec)
        out["events/t"].id.write_direct_chunk((0,), short.id.read_direct_chunk((0,))[1])
    assert re.search(r"a chunk of /events/t unpacks to \d+ bytes of its 200000", refusal(file))


@pytest.mark.parametrize("name", [*TELLING, "LZF"])
def test_checksums_behind_packed_chunks_are_no_damage(tmp_path: Path, name: str) -> None:
    codec = {**{**OTHER_CODECS, **plugin_codecs()}[name], "fletcher32": True}
    with h5py.File(tmp_path / "a.h5", "w") as out:
        for role, values in (("t", T), ("x", X), ("y", Y), ("p", P)):
            out.create_dataset(f"events/{role}", data=values, chunks=(2,), **codec)
    assert rows(read(tmp_path / "a.h5")) == EVENTS


@pytest.mark.parametrize("name", ["BZip2", "Zstandard", "LZF"])
def test_bombs_are_refused(tmp_path: Path, name: str) -> None:
    file, zeros = tmp_path / "a.h5", bytes((1 << 27) + (1 << 20))
    with h5py.File(file, "w") as out:
        dsec(out)
        del out["events/t"]
        dataset = out.create_dataset("events/t", (3,), "u4", chunks=(3,), **plugin_codecs()[name])
        if name == "LZF":
            packed = b"\x00\x00" + b"\xe0\xff\x00" * (len(zeros) // 264 + 1)
        else:
            packed = bz2.compress(zeros) if name == "BZip2" else pytest.importorskip("backports.zstd").compress(zeros)
        dataset.id.write_direct_chunk((0,), packed)
    begin = time.monotonic()
    assert "damaged" in refusal(file)
    assert time.monotonic() - begin < 10


def test_without_h5py_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    with h5py.File(tmp_path / "a.h5", "w") as out:
        dsec(out)
    monkeypatch.setattr(hdf5.importlib, "import_module", missing)
    assert pip_install("hdf5") in refusal_here(tmp_path / "a.h5")


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("whole")
    for layout in (metavision, dsec, e2vid):
        with h5py.File(folder / layout.__name__, "w", libver="latest" if layout is e2vid else None) as out:
            layout(out)
    return [file.read_bytes() for file in sorted(folder.iterdir())]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_bytes_are_read_or_refused(
    whole_files: list[bytes], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = bytearray(data.draw(st.sampled_from(whole_files)))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.mktemp("hdf5") / "a.h5"
    file.write_bytes(whole[: data.draw(st.integers(1, len(whole)))] if data.draw(st.booleans()) else whole)
    assert "\n" not in outcome(file)
