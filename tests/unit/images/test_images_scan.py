"""resight.images.scan: folders, links, names, and what is left out."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import pytest

from resight.errors import UnreadableFile, UsageError
from resight.images.scan import content_hash, scan

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def touch(path: Path, content: bytes = PNG_MAGIC) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def ids(*paths: Path, hidden: bool = False) -> list[str]:
    return [photo.id for photo in scan(paths, hidden=hidden).photos]


def test_ids_are_relative_posix_paths_in_sorted_order(tmp_path: Path) -> None:
    for name in ("b.jpg", "a/z.jpg", "a/b/c.PNG", "B.jpeg"):
        touch(tmp_path / name)
    found = scan([tmp_path])
    assert [photo.id for photo in found.photos] == ["B.jpeg", "a/b/c.PNG", "a/z.jpg", "b.jpg"]
    assert found.problems == ()
    assert all(photo.root == str(tmp_path) and Path(photo.path) == tmp_path / photo.id for photo in found.photos)


def test_photo_carries_size_and_time(tmp_path: Path) -> None:
    path = touch(tmp_path / "a.jpg", b"12345")
    os.utime(path, ns=(1, 1_700_000_000_123_456_789))
    (photo,) = scan([tmp_path]).photos
    assert (photo.size, photo.mtime_ns) == (5, path.stat().st_mtime_ns)


def test_a_given_file_is_relative_to_its_folder(tmp_path: Path) -> None:
    path = touch(tmp_path / "x" / "any.name", b"no image")
    (photo,) = scan([path]).photos
    assert (photo.id, photo.root, photo.path) == ("any.name", str(tmp_path / "x"), str(path))


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "in" / "a.jpg")
    monkeypatch.chdir(tmp_path)
    (photo,) = scan(["in/../in"]).photos
    assert photo.path == str(tmp_path / "in" / "a.jpg")
    assert photo.id == "a.jpg"


def test_photos_follow_the_order_of_the_arguments(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "1.jpg")
    touch(tmp_path / "b" / "0.jpg")
    assert ids(tmp_path / "b", tmp_path / "a") == ["0.jpg", "1.jpg"]
    assert ids(tmp_path / "a", tmp_path / "b") == ["1.jpg", "0.jpg"]


def test_overlapping_arguments_list_a_file_once(tmp_path: Path) -> None:
    path = touch(tmp_path / "a" / "1.jpg")
    assert ids(tmp_path, tmp_path / "a", path, tmp_path) == ["a/1.jpg"]


def test_content_decides_where_the_name_says_nothing(tmp_path: Path) -> None:
    touch(tmp_path / "README.txt", b"hello")
    touch(tmp_path / "BMW.txt", b"BMW makes cars, and this is a text about them")
    touch(tmp_path / "clip.mp4", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom")
    touch(tmp_path / "empty", b"")
    touch(tmp_path / "really_a_png.txt")
    touch(tmp_path / "broken.jpg", b"no image")
    found = scan([tmp_path])
    assert [photo.id for photo in found.photos] == ["broken.jpg", "really_a_png.txt"]
    assert found.skipped == 4
    assert found.problems == ()


def test_hidden_names_and_collections_are_passed_over(tmp_path: Path) -> None:
    for name in ("a.jpg", ".b.jpg", ".thumbs/c.jpg", "x.resight/d.jpg"):
        touch(tmp_path / name)
    assert ids(tmp_path) == ["a.jpg"]
    assert ids(tmp_path, hidden=True) == [".b.jpg", ".thumbs/c.jpg", "a.jpg"]
    assert ids(tmp_path / ".thumbs") == ["c.jpg"]


def test_link_loops_end(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "b" / "1.jpg")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a" / "self")
    found = scan([tmp_path])
    assert [photo.id for photo in found.photos] == ["a/b/1.jpg"]
    assert [problem.path for problem in found.problems] == [str(tmp_path / "a" / "self")]


def test_links_are_followed_and_real_places_preferred(tmp_path: Path) -> None:
    outside = touch(tmp_path / "outside" / "o.jpg")
    photos = tmp_path / "photos"
    touch(photos / "z" / "1.jpg")
    (photos / "a_folder").symlink_to(photos / "z", target_is_directory=True)
    (photos / "a_file.jpg").symlink_to(photos / "z" / "1.jpg")
    (photos / "o1.jpg").symlink_to(outside)
    (photos / "o2.jpg").symlink_to(outside)
    assert ids(photos) == ["o1.jpg", "z/1.jpg"]


def test_linked_folder_outside_keeps_the_name_of_the_link(tmp_path: Path) -> None:
    touch(tmp_path / "disk" / "1.jpg")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "link").symlink_to(tmp_path / "disk", target_is_directory=True)
    assert ids(tmp_path / "photos") == ["link/1.jpg"]


def test_a_link_to_nowhere_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nothing")
    (problem,) = scan([tmp_path]).problems
    assert problem.kind == "unreadable"
    assert "gone.jpg" in problem.message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_are_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")  # opening it would wait for ever
    (tmp_path / "link.jpg").symlink_to(tmp_path / "pipe.jpg")
    found = scan([tmp_path])
    assert (found.photos, found.skipped) == ((), 2)
    with pytest.raises(UsageError, match="neither a file nor a folder"):
        scan([tmp_path / "pipe.jpg"])
    with pytest.raises(UnreadableFile, match="only regular files"):
        content_hash(str(tmp_path / "pipe.jpg"))


def test_a_folder_that_cannot_be_listed_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "open" / "1.jpg")
    touch(tmp_path / "shut" / "2.jpg")
    listing = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("shut"):
            raise PermissionError(13, "Permission denied", path)
        return listing(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = scan([tmp_path])
    assert [photo.id for photo in found.photos] == ["open/1.jpg"]
    (problem,) = found.problems
    assert problem.path == str(tmp_path / "shut")
    assert "Permission denied" in problem.message


@pytest.mark.parametrize("name", ["", "nowhere", "nul\0byte"])
def test_a_missing_path_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="cannot be scanned"):
        scan([name])


def test_odd_names(tmp_path: Path) -> None:
    for name in ("new\nline.jpg", "🏛 église.jpg", "100%25.jpg", "e\u0301.jpg"):
        touch(tmp_path / name)
    found = scan([tmp_path])
    assert sorted(photo.id for photo in found.photos) == sorted(os.listdir(tmp_path))
    assert all(content_hash(photo.path) == hashlib.sha256(PNG_MAGIC).hexdigest() for photo in found.photos)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse names that are not UTF-8")
def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    for name in (b"caf\xe9 50%.jpg", b"d\xff/\xc3\xa9.jpg"):
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(os.fsdecode(path)).write_bytes(PNG_MAGIC)
    found = scan([tmp_path])
    assert [photo.id for photo in found.photos] == ["caf%E9 50%25.jpg", "d%FF/é.jpg"]
    for photo in found.photos:
        photo.id.encode("utf-8")
        assert content_hash(photo.path) == hashlib.sha256(PNG_MAGIC).hexdigest()


def test_content_hash_streams_and_names_missing_files(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    assert content_hash(str(touch(tmp_path / "a", content))) == hashlib.sha256(content).hexdigest()
    with pytest.raises(UnreadableFile, match=r"gone\.jpg"):
        content_hash(str(tmp_path / "gone.jpg"))
    with pytest.raises(UnreadableFile, match="is a folder"):
        content_hash(str(tmp_path))
