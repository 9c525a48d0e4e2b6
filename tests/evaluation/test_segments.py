"""Scores of timelines: closed forms, and a brute-force computation frame by frame as in MS-TCN's published code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neuromoco.datasets import Listing
from neuromoco.errors import ConfigError, EventFileError
from neuromoco.evaluation.segments import OVERLAPS, Part, edit_score, score_recording, score_timelines, summarise
from neuromoco.events import write_npz
from tests.conftest import make_recording

BACKGROUND = "none"


def test_a_perfect_timeline_scores_1_and_an_empty_one_0() -> None:
    truth = [Part(0, 40, "a"), Part(60, 100, "b")]
    perfect = summarise([score_recording(truth, truth, (0, 100))])
    assert (perfect.frame_accuracy, perfect.edit, set(perfect.f1.values())) == (1.0, 1.0, {1.0})
    assert perfect.intervals == {}
    empty = summarise([score_recording([], truth, (0, 100))])
    assert (empty.frame_accuracy, empty.edit, set(empty.f1.values())) == (0.2, 0.0, {0.0})
    nothing = summarise([score_recording([], [], (0, 100))])
    assert (nothing.frame_accuracy, nothing.edit, set(nothing.f1.values())) == (1.0, 1.0, {1.0})


def test_overlap_is_intersection_over_union() -> None:
    truth = [Part(0, 100, "a")]
    for end, hits in ((50, 3), (49, 2), (25, 2), (24, 1), (10, 1), (9, 0)):
        assert sum(score_recording([Part(0, end, "a")], truth, (0, 100)).hits) == hits
    assert score_recording([Part(0, 100, "b")], truth, (0, 100)).hits == (0, 0, 0)


def test_a_segment_in_two_pieces_is_found_once() -> None:
    pieces = [Part(0, 55, "a"), Part(60, 100, "a")]
    counts = score_recording(pieces, [Part(0, 100, "a")], (0, 100))
    assert (counts.right_us, counts.hits, counts.edit) == (95, (1, 1, 1), 0.5)
    assert summarise([counts]).f1[0.5] == pytest.approx(2 / 3)  # precision 1/2, recall 1


def test_edit_score_ignores_lengths_and_counts_order() -> None:
    assert edit_score("abc", "abc") == 1.0
    assert edit_score("abc", "cab") == pytest.approx(1 - 2 / 3)
    assert edit_score("aabc", "abc") == 0.75


def frames_of(parts: list[Part], length: int) -> list[str]:
    frames = [BACKGROUND] * length
    for begin, end, label in parts:
        frames[begin:end] = [label] * (end - begin)
    return frames


def spans_of(frames: list[str]) -> list[Part]:
    """Runs of a label other than the background; neighbours of one class must have a gap."""
    found, begin = [], 0
    for end in range(1, len(frames) + 1):
        if end == len(frames) or frames[end] != frames[begin]:
            if frames[begin] != BACKGROUND:
                found.append(Part(begin, end, frames[begin]))
            begin = end
    return found


def brute_force(answers: list[list[Part]], truths: list[list[Part]], length: int) -> tuple[float, float, list[float]]:
    """Frame accuracy, edit score and F1, from frames, with sets of frames instead of ends and a recursive distance."""
    right, edits = 0, []
    found = np.zeros((len(OVERLAPS), 3))  # hits, false alarms, misses
    for answer, truth in zip(answers, truths, strict=True):
        a, b = frames_of(answer, length), frames_of(truth, length)
        right += sum(x == y for x, y in zip(a, b, strict=True))
        p, y = spans_of(a), spans_of(b)
        cost = np.zeros((len(p) + 1, len(y) + 1))
        for i in range(len(p) + 1):
            for j in range(len(y) + 1):
                if not i or not j:
                    cost[i, j] = max(i, j)
                else:
                    same = p[i - 1].label == y[j - 1].label
                    cost[i, j] = min(cost[i - 1, j] + 1, cost[i, j - 1] + 1, cost[i - 1, j - 1] + (not same))
        edits.append(1 - cost[-1, -1] / max(len(p), len(y), 1))
        for row, overlap in enumerate(OVERLAPS):
            used = [False] * len(y)
            for one in p:
                shares = [_share(one, other) * (one.label == other.label) for other in y] or [0.0]
                best = int(np.argmax(shares))
                if y and shares[best] >= overlap and not used[best]:
                    used[best] = True
                    found[row, 0] += 1
                else:
                    found[row, 1] += 1
            found[row, 2] += used.count(False)
    f1 = [2 * tp / (2 * tp + fp + fn) for tp, fp, fn in found]
    return right / (length * len(answers)), float(np.mean(edits)), f1


def _share(a: Part, b: Part) -> float:
    x, y = set(range(a.begin, a.end)), set(range(b.begin, b.end))
    return len(x & y) / len(x | y)


def random_parts(rng: np.random.Generator, length: int) -> list[Part]:
    edges = np.sort(rng.choice(length, 2 * rng.integers(1, 8), replace=False)).tolist()
    return [Part(a, b, "abc"[rng.integers(3)]) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def test_scores_are_those_of_a_computation_frame_by_frame() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        truths = [random_parts(rng, 120) for _ in range(3)]
        answers = [random_parts(rng, 120) for _ in range(3)]
        answers[0] = [Part(a, (a + b + 1) // 2, label) for a, b, label in truths[0]]
        scores = summarise([score_recording(a, b, (0, 120)) for a, b in zip(answers, truths, strict=True)])
        accuracy, edit, f1 = brute_force(answers, truths, 120)
        assert scores.frame_accuracy == pytest.approx(accuracy)
        assert scores.edit == pytest.approx(edit)
        assert list(scores.f1.values()) == pytest.approx(f1)


def test_intervals_are_of_recordings_and_have_a_seed() -> None:
    truth = [Part(0, 100, "a")]
    good, bad = (score_recording([Part(0, 100, label)], truth, (0, 100)) for label in "ab")
    scores = summarise([good] * 8 + [bad] * 2)
    assert scores.frame_accuracy == 0.8
    low, high = scores.intervals["frame_accuracy"]
    assert 0.4 <= low <= 0.6 < 0.8 < high == 1.0  # of 10 recordings, 0.8 +- 0.25
    assert summarise([good] * 8 + [bad] * 2) == scores
    assert summarise([good] * 10).intervals["segment_f1_0.5"] == (1.0, 1.0)


@pytest.fixture
def recordings(tmp_path: Path) -> Listing:
    """Two files of 300 ms that show "cat" in their first 100 ms; their clocks start at 0."""
    for name in ("a.npz", "b.npz"):
        write_npz(tmp_path / name, make_recording(0))
    return Listing(tmp_path, ("a.npz", "b.npz"), (0, 0), ("cat", "dog"), ((0, 100_000), (0, 100_000)))


def scored(folder: Path, rows: str, listing: Listing) -> dict[str, object]:
    table = folder / "answer.csv"
    table.write_text("file,begin_ms,end_ms,class\n" + rows)
    return score_timelines(table, listing).to_json()


def test_a_table_is_scored_by_file(recordings: Listing, tmp_path: Path) -> None:
    scores = scored(tmp_path, "a.npz,0,100,cat\n", recordings)
    assert scores["segment_f1"] == {"0.1": 2 / 3, "0.25": 2 / 3, "0.5": 2 / 3}
    assert scores["edit_score"] == 0.5
    assert scores["frame_accuracy"] == pytest.approx(1 - 100_000 / 600_002)
    assert scores["segments"] == {"answered": 1, "true": 2}


def test_files_without_labels_are_named(
    recordings: Listing, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scored(tmp_path, "a.npz,0,100,cat\nother.npz,0,100,cat\n", recordings)
    assert "1 files without labels are not scored, such as other.npz" in " ".join(capsys.readouterr().err.split())


def test_classes_that_no_label_has_are_named(
    recordings: Listing, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scored(tmp_path, "a.npz,0,100,cat\n", recordings)
    assert capsys.readouterr().err == ""
    scored(tmp_path, "a.npz,0,50,Cat\na.npz,60,100,cat\nb.npz,0,100,fox\n", recordings)
    said = " ".join(capsys.readouterr().err.split())
    assert said.endswith("answer.csv: classes that no label has, which count as wrong: Cat, fox")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("c.npz,0,100,cat\n", "names no labelled file of .*, but such as c.npz"),
        ("a.npz,0,100,cat\na.npz,50,200,dog\n", "a.npz has a part from 50000 us, before the end of the one before"),
        ("a.npz,100,0,cat\n", "line 2 runs from 100 to 0"),
    ],
)
def test_tables_that_are_no_timelines_are_refused(recordings: Listing, tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        scored(tmp_path, rows, recordings)


def test_a_timeline_has_times(recordings: Listing, tmp_path: Path) -> None:
    (tmp_path / "answer.csv").write_text("file,class\na.npz,cat\n")
    with pytest.raises(ConfigError, match="has no times"):
        score_timelines(tmp_path / "answer.csv", recordings)


def test_a_damaged_recording_is_an_error_of_its_own(recordings: Listing, tmp_path: Path) -> None:
    (tmp_path / "b.npz").write_bytes(b"")
    with pytest.raises(EventFileError, match=r"b\.npz: is empty"):
        scored(tmp_path, "a.npz,0,100,cat\n", recordings)
