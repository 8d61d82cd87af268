"""Photos that are added to shards."""

import shutil

import pytest

from photo_factory import SMALL
from resight.cluster.extract import ray_reads
from resight.cluster.grow import add_photos
from resight.cluster.layout import read_layout
from resight.cluster.sharded import open_shards
from resight.cluster.split import split
from resight.collection import create_collection, open_collection
from resight.errors import CollectionError, UsageError
from resight.images.scan import scan


@pytest.fixture
def half(built, tmp_path):
    """Shards of the first photos of each object, and the folder of all."""
    folder = tmp_path / "photos"
    shutil.copytree(built.photos.folder, folder)
    first = tmp_path / "first"
    first.mkdir()
    known = sorted(folder.rglob("*.jpg"))[::2]
    collection = create_collection(tmp_path / "c.resight", "classic", SMALL)
    collection.add(known)
    split(tmp_path / "c.resight", tmp_path / "c.shards", 3)
    return tmp_path / "c.shards", folder, known


def test_new_photos_are_found_and_known_ones_are_not_added_again(half):
    shards, folder, known = half
    before = len(open_shards(shards).snapshot.tables)
    report = add_photos(shards, scan([folder]))
    after = open_shards(shards)
    assert report.unchanged == len(known)
    assert len(after.snapshot.tables) == before + report.added + len(report.problems) - report.skipped
    new = next(path for path in sorted(folder.rglob("*.jpg")) if path not in known)
    answer = after.search(new)
    assert answer.results[0].path == str(new)
    assert answer.calibrated
    again = add_photos(shards, scan([folder]))
    assert again.added == 0


def test_the_words_stay_those_of_all_shards(half):
    shards, folder, _ = half
    add_photos(shards, scan([folder]))
    words = {open_collection(path).snapshot.index.codebook.fingerprint for path in read_layout(shards).shards}
    assert len(words) == 1


def test_engines_that_cannot_read_photos(half):
    with pytest.raises(UsageError, match="spark"):
        ray_reads(str(half[0]), "spark")
    pytest.importorskip("ray")
    with pytest.raises(CollectionError, match=r"no Ray cluster at 127\.0\.0\.1:1"):
        ray_reads(str(half[0]), "ray://127.0.0.1:1")
