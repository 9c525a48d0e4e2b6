"""`probe` and `embed` as a user meets them: figures, files, one-line errors, nothing half written."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from neuromoco.datasets import cached_frames, list_recordings
from neuromoco.evaluation import embedding
from neuromoco.evaluation.features import features, load_encoder
from tests.helpers.cli import SMALL, error_line, run


@pytest.fixture(scope="module")
def encoder(trained: Path) -> Path:
    options = ["--set=pretrain.batch_size=8", "--set=pretrain.moco.queue_size=12", *SMALL]
    result = run("train", "--stage", "pretrain", "--data", trained / "data", "--out", trained / "pre", "--epochs", 1,
                 "--quiet", *options)  # fmt: skip
    assert result.exit_code == 0, result.stderr
    return trained / "pre/weights/last.safetensors"


def test_probe(trained: Path, encoder: Path) -> None:
    words = ("probe", encoder, "--data", trained / "data", "--quiet")
    result = run(*words, "--kind", "linear", "--features", "steps", "--json")
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout)
    assert (facts["trained_on"], facts["recordings"], len(facts["accuracy_by_step"])) == (24, 6, 2)
    assert facts["encoder_unchanged"]
    low, high = facts["interval_95"]
    assert 0.0 <= low <= facts["accuracy"] <= high <= 1.0
    shown = run(*words, "--test", trained / "data", "--labels-per-class", 5)
    assert "on 30 recordings" in shown.stdout
    assert "nearest neighbours on the mean of the features over time, trained on 15 recordings" in shown.stdout
    assert f"the encoder is unchanged, sha256 {facts['encoder_sha256'][:16]} before and after" in shown.stdout
    assert run("probe", trained / "run/weights/best.safetensors", "--data", trained / "data").exit_code == 0


def test_mistakes_of_probe(trained: Path, encoder: Path) -> None:
    data = trained / "data"
    for words, code, message in (
        (["--data", data, "--test", data, "--validation", 0.3], 2, "--test with --validation"),
        (["--data", data, "--validation", 1.5], 2, "--validation 1.5: give a fraction"),
        (["--data", data, "--labels-per-class", 99], 2, "class c0 has 10 recordings"),
        (["--data", data / "c0"], 2, "holds no class folders"),
        (["--data", trained / "none"], 2, "does not exist"),
    ):
        result = run("probe", encoder, *words)
        assert message in error_line(result)
        assert result.exit_code == code
    result = run("probe", data / "c0/0.bin", "--data", data)
    assert result.exit_code == 4
    assert "is no safetensors file" in error_line(result)


def test_embed_writes_features_and_maps(trained: Path, encoder: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out/walk.npz"
    shutil.copytree(trained / "data", data)
    (data / "c1").rename(data / "<c&歩>")
    (data / "c0/half.bin").write_bytes(b"no events")
    result = run("embed", encoder, data, "--out", out, "--json", "--quiet")
    assert result.exit_code == 3
    assert error_line(result).startswith(f"neuromoco: {data / 'c0/half.bin'}: ")
    facts = json.loads(result.stdout)
    assert facts["files"] == [str(out.with_suffix(end)) for end in (".npz", ".png", ".html")]
    assert (facts["features"][0], len(facts["left_out"])) == (30, 1)
    found = arrays_of(out)
    assert found["class_names"].tolist() == ["<c&歩>", "c0", "c2"]
    listing = list_recordings(trained / "data", labelled=True)
    network, header = load_encoder(encoder, torch.device("cpu"))
    rows = {Path(*path.parts[-2:]).as_posix(): row for row, path in enumerate(listing.paths)}
    order = [rows[Path(*Path(p).parts[-2:]).as_posix().replace("<c&歩>", "c1")] for p in found["paths"].tolist()]
    own = features(network, cached_frames(listing, header.frames), order, torch.device("cpu"))
    np.testing.assert_allclose(found["features"], own, atol=1e-6)
    labels = found["class_names"][found["labels"]].tolist()
    assert labels == [Path(path).parent.name for path in found["paths"].tolist()]
    assert found["map"].shape == (30, 2)
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    page = out.with_suffix(".html").read_text()
    assert titles(page) == [f"{path}: {name}" for path, name in zip(found["paths"].tolist(), labels, strict=True)]
    assert "http" not in page  # it loads nothing
    again = tmp_path / "again.npz"
    assert run("embed", encoder, data / "c2", data / "c0/0.bin", "--out", again, "--features", "steps").exit_code == 0
    steps = arrays_of(again)
    assert steps["features"].shape == (11, 2, own.shape[1])
    assert set(steps["labels"].tolist()) == {-1}


def arrays_of(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as arrays:
        return dict(arrays)


def titles(page: str) -> list[str]:
    """What the dots of a page say."""
    found: list[str] = []

    class Reader(HTMLParser):
        inside = ""

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.inside = f"{self.inside}/{tag}" if tag in ("circle", "title") else ""

        def handle_data(self, data: str) -> None:
            if self.inside == "/circle/title":
                found.append(data)

        def handle_endtag(self, tag: str) -> None:
            self.inside = ""

    reader = Reader()
    reader.feed(page)
    return found


@pytest.mark.parametrize("method", ["tsne", "pca"])
@pytest.mark.parametrize("count", [1, 2, 9, 12])
def test_a_map_of_any_number_of_recordings(method: embedding.Method, count: int) -> None:
    values = np.random.default_rng(0).normal(size=(count, 5)).astype(np.float32)
    places, by = embedding.project(values, method, seed=3)
    assert places.shape == (count, 2)
    assert np.isfinite(places).all()
    assert by == ("t-SNE" if method == "tsne" and count >= 10 else "PCA")
    assert np.array_equal(places, embedding.project(values, method, seed=3)[0])


def test_pca_keeps_the_distances_of_a_plane() -> None:
    angles = np.linspace(0.0, 1.0, 6)
    circle = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    places, _ = embedding.project(circle, "pca", seed=0)
    apart = [np.linalg.norm(x[:, None] - x[None], axis=2) for x in (circle, places)]
    np.testing.assert_allclose(apart[0], apart[1], atol=1e-12)


def test_an_interrupted_embed_leaves_what_was_there(
    trained: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "walk.npz"
    assert run("embed", encoder, trained / "data", "--out", out, "--quiet").exit_code == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(before) == 3

    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(embedding, "map_page", interrupted)
    for target in (out, tmp_path / "new.npz"):
        assert run("embed", encoder, trained / "data", "--out", target, "--quiet").exit_code == 130
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_mistakes_of_embed(trained: Path, encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.npz").mkdir()
    assert "folder.npz is a folder" in error_line(run("embed", encoder, trained, "--out", tmp_path / "folder.npz"))
    (tmp_path / "folder.npz").rmdir()
    (tmp_path / "bad.bin").write_bytes(b"no events")
    for words, code, message in (
        ([encoder, trained / "data", "--out", tmp_path / "walk.csv"], 2, "for example"),
        ([encoder, tmp_path / "bad.bin", "--out", tmp_path / "walk.npz"], 3, "bad.bin: is no event recording"),
        ([encoder, tmp_path / "none", "--out", tmp_path / "walk.npz"], 3, "none"),
        ([tmp_path / "none", trained / "data", "--out", tmp_path / "walk.npz"], 4, "does not exist"),
    ):
        result = run("embed", *words)
        assert message in error_line(result)
        assert result.exit_code == code
    assert [path.name for path in tmp_path.iterdir()] == ["bad.bin"]
