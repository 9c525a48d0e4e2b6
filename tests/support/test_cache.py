"""The cache is its user's own: what others may have written is neither loaded nor written to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from neuromoco import ConfigError
from neuromoco.errors import DiskError
from neuromoco.support.cache import cache_folder
from neuromoco.support.files import locked

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a cache that does not exist yet."""
    monkeypatch.setenv("NEUROMOCO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_folders_are_made_for_this_user_alone(root: Path) -> None:
    before = os.umask(0)
    try:
        folder = cache_folder("frames", "1")
    finally:
        os.umask(before)
    assert folder == root / "frames" / "1"
    assert [place.stat().st_mode & 0o777 for place in (root, folder.parent, folder)] == [0o700] * 3


@pytest.mark.parametrize("place", ["", "kernels"])
@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_a_folder_that_others_may_write_to_is_refused_in_a_line_that_says_what_to_type(
    root: Path, place: str, mode: int
) -> None:
    cache_folder("kernels")
    (root / place).chmod(mode)
    with pytest.raises(ConfigError) as caught:
        cache_folder("kernels")
    folder = str(root / place).rstrip("/")
    assert str(caught.value) == (
        f"{folder}: others may write to it (mode {mode:04o}); delete it, or if you trust what is in it: chmod 700 "
        f"'{folder}', or set NEUROMOCO_CACHE to a folder of your own"
    )
    (root / place).chmod(0o755)  # reading is harmless, and as older versions made it
    assert cache_folder("kernels") == root / "kernels"


@as_root
@pytest.mark.parametrize("place", ["", "kernels"])
def test_a_folder_of_another_user_is_refused(root: Path, place: str) -> None:
    cache_folder("kernels")
    os.chown(root / place, NOBODY, NOBODY)
    with pytest.raises(ConfigError, match=r"belongs to another user \(number 65534\).* or set NEUROMOCO_CACHE"):
        cache_folder("kernels")


def test_a_link_inside_is_refused_and_one_to_the_root_only_if_it_is_another_users(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    root.symlink_to(tmp_path / "elsewhere")
    assert cache_folder() == tmp_path / "elsewhere"  # as with a large disk for all caches
    (root / "kernels").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match=r"elsewhere/kernels: is a link or a file, no folder; delete it, or set"):
        cache_folder("kernels")
    if os.geteuid() == 0:
        os.lchown(root, NOBODY, NOBODY)
        with pytest.raises(ConfigError, match="is a link of another user"):
            cache_folder()


def test_without_a_home_the_line_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NEUROMOCO_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def nowhere() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(ConfigError, match="no home folder to keep a cache in: set NEUROMOCO_CACHE"):
        cache_folder()


def test_a_file_in_the_way_is_one_line(root: Path) -> None:
    root.write_text("")
    with pytest.raises(DiskError, match=r"cache: exists already|cache: a part of the path is a file"):
        cache_folder("frames")


def test_a_lock_that_is_a_link_is_refused_and_what_it_names_keeps_its_content(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("content")
    (tmp_path / ".lock").symlink_to(tmp_path / "precious")
    with (
        pytest.raises(DiskError, match=r"\.lock: is a link, which is not followed; delete it"),
        locked(tmp_path / ".lock"),
    ):
        pass
    assert (tmp_path / "precious").read_text() == "content"


def test_a_lock_file_keeps_its_content(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("content")
    with locked(tmp_path / ".lock"):
        assert (tmp_path / ".lock").read_text() == "content"
    assert (tmp_path / ".lock").read_text() == "content"
