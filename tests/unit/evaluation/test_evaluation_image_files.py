import gzip
from pathlib import Path

import numpy as np
import pytest

from resight.errors import UsageError
from resight.evaluation import image_files
from resight.evaluation.benchmark import Benchmark, BenchmarkQuery, Protocol


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def bench(*images: str, query: str = "q") -> Benchmark:
    judged = {"ok": np.array([0]), "junk": np.array([], np.int64)}
    protocol = Protocol("whole", "rectangle", "none", "absent")
    queries = (BenchmarkQuery("q", query),)
    return Benchmark("tiny", images, queries, (judged,), protocol, "none", "here", len(images))


def test_names_are_found_as_path_without_suffix_and_by_stem(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.jpg", "b/y.PNG", "c/z.jpg", "q.jpg", "ab/cd/noext", "v.1.jpg")
    found = image_files.find_images(bench("a/x.jpg", "b/y", "z", "ab/cd/noext", "v.1"), tmp_path).require()
    assert [path and path.relative_to(tmp_path).as_posix() for path in found.images] == [
        "a/x.jpg",
        "b/y.PNG",
        "c/z.jpg",
        "ab/cd/noext",
        "v.1.jpg",
    ]
    assert found.queries == (tmp_path / "q.jpg",)


def test_missing_images_are_counted_and_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    found = image_files.find_images(bench("a", "b", "c"), tmp_path)
    assert (found.images[1], found.missing) == (None, ("b", "c", "q"))
    with pytest.raises(UsageError, match="3 images of the benchmark are not in the folder: b, c, q"):
        found.require()
    with pytest.raises(UsageError, match="3 images"):
        image_files.images_checksum(found)


def test_a_name_that_fits_two_files_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.jpg", "b/x.jpg")
    with pytest.raises(UsageError, match=r"image x fits 2 files under .*: a/x\.jpg, b/x\.jpg"):
        image_files.find_images(bench("x"), tmp_path)
    assert image_files.find_images(bench("a/x", query="b/x.jpg"), tmp_path).missing == ()


def test_names_cannot_leave_the_folder(tmp_path: Path) -> None:
    touch(tmp_path, "secret", "photos/a.jpg")
    names = ("../secret", str(tmp_path / "secret"))
    assert image_files.find_images(bench(*names, query="a"), tmp_path / "photos").missing == names


def test_checksum_follows_the_pixels(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "q.jpg")
    before = image_files.images_checksum(image_files.find_images(bench("a"), tmp_path))
    assert before == image_files.images_checksum(image_files.find_images(bench("a"), tmp_path))
    (tmp_path / "a.jpg").write_bytes(b"blurred")
    assert before != image_files.images_checksum(image_files.find_images(bench("a"), tmp_path))


def test_listing_leaves_out_what_is_hidden_or_no_image(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a/c.WebP", ".hidden.jpg", ".git/x.jpg", "notes.txt")
    assert image_files.image_names(tmp_path) == ("a/c.WebP", "b.jpg")
    with pytest.raises(UsageError, match="not a folder of images"):
        image_files.image_names(tmp_path / "b.jpg")


def test_database_names_prefer_the_list(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"neither an images\.txt nor images"):
        image_files.database_names(tmp_path)
    touch(tmp_path, "b.jpg", "a.jpg")
    assert image_files.database_names(tmp_path) == ("a.jpg", "b.jpg")
    (tmp_path / "images.txt").write_text("z.jpg\n\n y.jpg \n")
    assert image_files.database_names(tmp_path) == ("z.jpg", "y.jpg")


def test_name_lists_may_be_compressed(tmp_path: Path) -> None:
    (tmp_path / "names.txt.gz").write_bytes(gzip.compress(b"a\nb\n"))
    assert image_files.read_names(tmp_path / "names.txt.gz") == ("a", "b")
    for name, content in (("cut.gz", gzip.compress(b"a\nb\n")[:-9]), ("latin.txt", b"\xff\n")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match="cannot read names"):
            image_files.read_names(tmp_path / name)
