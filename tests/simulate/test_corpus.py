"""The corpus: decided by its seed, resumed where it stopped, with motions and cameras of many kinds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuromoco.errors import ConfigError
from neuromoco.events import read_recording
from neuromoco.simulate import corpus, pictures
from neuromoco.simulate.pictures import Stencils, pictures_in
from neuromoco.simulate.scenes import (
    CAMERA,
    Pose,
    Scene,
    at_rest,
    crossing,
    draw_camera,
    hovering,
    render,
    sample_times,
)
from tests.helpers.cli import error_line, run
from tests.simulate.test_simulate import same

U = np.linspace(0, 1, 101)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five pictures, one of them in a folder inside, and a file that is none."""
    place = tmp_path / "pictures"
    (place / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(4):
        pixels = np.kron(rng.integers(0, 256, (6, 5, 4)), np.ones((20, 20, 1))).astype(np.uint8)
        Image.fromarray(pixels, "RGBA").save(place / f"{number}.png")
    Image.fromarray(np.tri(30, dtype=np.uint8) * 255).save(place / "more/grey.png")
    (place / "notes.txt").write_text("none")
    return place


@pytest.fixture
def stencils(folder: Path) -> list[Stencils]:
    return [pictures_in(folder)]


def test_pictures_are_small_and_keep_their_shape(stencils: list[Stencils]) -> None:
    (only,) = stencils
    assert len(only) == 5
    shapes = sorted(only.picture(number).shape for number in range(5))
    assert shapes == [(2, 30, 30), *[(2, 96, 80)] * 4]
    grey = next(only.picture(n) for n in range(5) if only.picture(n).shape[1] == 30)
    assert np.array_equal(grey[0], np.tri(30) * 255)
    assert (grey[1] == 255).all()


def test_the_command_makes_the_same_again_and_goes_on(folder: Path, tmp_path: Path) -> None:
    words = ("corpus", "--pictures", folder, "--seed", 3, "--quiet")
    result = run(*words, "--out", tmp_path / "a", "--recordings", 5, "--json")
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout)
    assert (facts["recordings"], facts["seed"], facts["pictures"]["pictures"]["pictures"]) == (5, 3, 5)
    assert facts["pictures"] == json.loads((tmp_path / "a/corpus.json").read_text())["pictures"]
    files = sorted(file.name for file in (tmp_path / "a").glob("*.raw"))
    assert files == [f"{index:06d}.raw" for index in range(5)]
    before = {name: read_recording(tmp_path / "a" / name) for name in files}
    (tmp_path / "a/000002.raw").unlink()  # as if it had been interrupted
    assert run(*words, "--out", tmp_path / "a", "--recordings", 6).exit_code == 0
    for name, recording in before.items():
        assert same(read_recording(tmp_path / "a" / name), recording)
    assert (tmp_path / "a/000005.raw").is_file()
    other = run("corpus", "--pictures", folder, "--seed", 4, "--out", tmp_path / "a", "--recordings", 6)
    assert "is a corpus of another seed, version or other pictures" in error_line(other)
    assert "holds more than 2 recordings" in error_line(run(*words, "--out", tmp_path / "a", "--recordings", 2))
    assert "is no corpus" in error_line(run(*words, "--out", folder))
    assert "is no folder" in error_line(run("corpus", "--pictures", tmp_path / "none", "--out", tmp_path / "b"))
    (tmp_path / "void").mkdir()
    assert "holds no picture" in error_line(run("corpus", "--pictures", tmp_path / "void", "--out", tmp_path / "b"))


@pytest.mark.slow
def test_several_processes_make_the_same(stencils: list[Stencils], tmp_path: Path) -> None:
    for name, jobs in (("one", 1), ("two", 2)):
        corpus.make_corpus(tmp_path / name, stencils, 18, seed=1, jobs=jobs)
    for file in sorted((tmp_path / "one").glob("*.raw")):
        assert same(read_recording(file), read_recording(tmp_path / "two" / file.name))


def test_folders_of_the_same_name_are_told_apart(stencils: list[Stencils], tmp_path: Path) -> None:
    facts = corpus.make_corpus(tmp_path / "corpus", [*stencils, *stencils], 2)
    assert sorted(facts["pictures"]) == ["pictures", "pictures-2"]
    with pytest.raises(ConfigError, match="other pictures"):
        corpus.make_corpus(tmp_path / "corpus", stencils, 2)


def test_recordings_differ_widely_and_none_is_empty(stencils: list[Stencils]) -> None:
    found = [corpus.draw_recording(stencils, 0, index) for index in range(60)]
    sensors = {(recording.width, recording.height) for recording in found}
    events = np.array([len(recording) for recording in found])
    seconds = np.array([recording.duration for recording in found]) * 1e-6
    shares = np.array([recording.p.mean() for recording in found])
    assert len(sensors) >= 5
    assert (34, 34) in sensors
    assert events.min() >= 50
    assert events.max() <= 1.3 * corpus.MOST_EVENTS
    assert seconds.max() / seconds.min() > 50
    assert shares.min() < 0.4 < 0.6 < shares.max()
    assert same(found[7], corpus.draw_recording(stencils, 0, 7))
    assert not same(found[7], corpus.draw_recording(stencils, 1, 7))
    large = [corpus.draw_recording(stencils, 0, index, smallest=128) for index in range(3)]
    assert all(min(recording.width, recording.height) >= 128 for recording in large)


@pytest.mark.parametrize("motion", [*CAMERA, draw_camera, crossing, hovering])
def test_motions_are_smooth_and_move(motion: object) -> None:
    lengths = []
    for seed in range(20):
        pose = motion(np.random.default_rng(seed), 34.0)(U)  # type: ignore[operator]
        assert all(part.shape == U.shape and np.isfinite(part).all() for part in pose)
        lengths.append(pose.length(34.0))
        steps = np.hypot(np.diff(pose.x), np.diff(pose.y))
        assert steps.max() < 0.2 * 34 + 1e-9  # in a hundredth of the time
    assert min(lengths) > 0.3
    assert max(lengths) > 2 * min(lengths)


def test_light_of_a_scene_is_that_of_its_parts() -> None:
    backdrop = np.random.default_rng(0).random((20, 24)).astype(np.float32)
    still = render(Scene(backdrop, at_rest, ()), U[:3], 20, 24)
    assert np.allclose(still, backdrop, atol=1e-3)  # centred, and as large as the sensor

    def right(u: np.ndarray) -> Pose:
        return Pose(3 * u, 0 * u, 0 * u, 0 * u)

    moved = render(Scene(backdrop, right, ()), np.array([0.0, 1.0]), 20, 24)
    assert np.allclose(moved[1][:, 3:-1], backdrop[:, :-4], atol=1e-2)  # what was at the left is now three to the right

    def quarter(u: np.ndarray) -> Pose:
        return Pose(0 * u, 0 * u, np.pi / 2 * u, 0 * u)

    square = backdrop[:, :20]
    turned = render(Scene(square, quarter, ()), np.array([1.0]), 20, 20)[0]
    assert np.allclose(turned[1:-1, 1:-1], np.rot90(square, -1)[1:-1, 1:-1], atol=1e-2)


def test_fast_scenes_have_more_samples() -> None:
    backdrop = np.zeros((68, 68), np.float32)
    slow = Scene(backdrop, lambda u: Pose(u, 0 * u, 0 * u, 0 * u), ())
    fast = Scene(backdrop, lambda u: Pose(40 * u, 0 * u, 0 * u, 0 * u), ())
    assert len(sample_times(slow, 34, 34)) == 12
    assert len(sample_times(fast, 34, 34)) == 40


def test_missing_pictures_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gone = pictures.SOURCES["openclipart"]._replace(is_there=lambda: False)
    monkeypatch.setitem(pictures.SOURCES, "openclipart", gone)
    with pytest.raises(ConfigError, match="apt-get install openclipart-png; or give --pictures FOLDER"):
        pictures.installed_pictures()


def test_no_source_shows_mnist() -> None:
    assert not any("mnist" in name.replace("fashion-mnist", "") for name in pictures.SOURCES)
