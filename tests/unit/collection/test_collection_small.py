"""Small and one-sided collections: what is proven is a match, whatever little is known of unrelated photos."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from photo_factory import HEIGHT, SMALL, WIDTH, make_photos, picture, save, view
from resight.artifacts import inverted_file
from resight.collection import create_collection, open_collection
from resight.collection.check import check_collection, repair_collection
from resight.index.asmk import Codebook
from resight.ranking.confidence import LEAST_THRESHOLD, MOST_THRESHOLD


def collection_of(tmp_path, pictures):
    """A collection of pixels, as `0.jpg`, `1.jpg`, ..."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, pixels in enumerate(pictures):
        save(folder / f"{number:03d}.jpg", pixels)
    collection = create_collection(tmp_path / "c.resight", "classic", SMALL)
    collection.add([folder])
    return collection


def matched(collection, tmp_path, pixels):
    """Ids that match a photo whose file is none of the collection's."""
    answer = collection.search(save(tmp_path / "query.png", pixels), top=400)
    assert LEAST_THRESHOLD <= answer.rule.threshold <= MOST_THRESHOLD
    return {result.id for result in answer.results if result.match}


def pixels_of(tmp_path, number):
    """The pixels of a stored photo: the same picture in another file."""
    return np.array(Image.open(tmp_path / "photos" / f"{number:03d}.jpg"))


@pytest.mark.parametrize("count", [1, 2, 3, 6, 10, 13])
def test_mixed_photos_match_themselves_and_no_others(tmp_path, count):
    collection = collection_of(tmp_path, [picture(seed) for seed in range(count)])
    for number in {0, count - 1}:
        assert matched(collection, tmp_path, pixels_of(tmp_path, number)) == {f"{number:03d}.jpg"}
    assert matched(collection, tmp_path, picture(999)) == set()


def test_pairs_of_views_among_few_photos_match(tmp_path):
    collection = collection_of(tmp_path, [view(picture(k // 2), k % 2 and 50 + k) for k in range(8)])
    assert matched(collection, tmp_path, view(picture(1), 77)) == {"002.jpg", "003.jpg"}


@pytest.mark.parametrize("count", [2, 10, 16])
def test_views_of_one_object_match(tmp_path, count):
    collection = collection_of(tmp_path, [view(picture(1), k) for k in range(count)])
    every = {f"{k:03d}.jpg" for k in range(count)}
    assert matched(collection, tmp_path, pixels_of(tmp_path, 0)) == every
    assert matched(collection, tmp_path, view(picture(1), 99)) == every
    assert matched(collection, tmp_path, picture(2)) == set()


def test_copies_of_one_photo_match(tmp_path):
    collection = collection_of(tmp_path, [picture(1)] * 120)
    answer = collection.search(save(tmp_path / "query.png", view(picture(1), 5)), top=200)
    assert len(answer.results) == 120
    assert all(result.match for result in answer.results[:100])  # those that geometry looks at
    assert min(result.score for result in answer.results) > 0
    assert matched(collection, tmp_path, picture(2)) == set()


def test_copies_among_others_do_not_hide_them(tmp_path):
    collection = collection_of(tmp_path, [picture(1)] * 40 + [picture(seed) for seed in range(10, 16)])
    assert matched(collection, tmp_path, pixels_of(tmp_path, 42)) == {"042.jpg"}
    assert "000.jpg" in matched(collection, tmp_path, view(picture(1), 3))


@pytest.mark.parametrize("noise", [0, 12])
def test_blank_photos_tell_nothing(tmp_path, noise):
    rng = np.random.default_rng(0)
    blank = [rng.integers(0, noise + 1, (HEIGHT, WIDTH, 3), np.uint8) for _ in range(20)]
    collection = collection_of(tmp_path, blank + [picture(seed) for seed in range(6)])
    assert matched(collection, tmp_path, pixels_of(tmp_path, 20)) == {"020.jpg"}
    assert matched(collection, tmp_path, view(picture(3), 4)) == {"023.jpg"}
    assert matched(collection, tmp_path, np.zeros((HEIGHT, WIDTH, 3), np.uint8)) == set()


def test_one_by_one_in_batches_and_at_once_answer_alike(tmp_path):
    photos = make_photos(tmp_path / "photos", objects=8)
    paths = [photos.folder / name for name in sorted(photos.names, key=lambda name: name[4:])]  # views spread out
    found = {}
    for size in (1, 3, len(paths)):
        name = tmp_path / f"{size}.resight"
        create_collection(name, "classic", {**SMALL, "words": None})
        for start in range(0, len(paths), size):
            open_collection(name).add(paths[start : start + size])
        collection = open_collection(name)
        assert len(collection.snapshot.index) == len(paths)
        words = len(collection.snapshot.index.codebook)
        answers = [collection.search(id_) for id_ in photos.names]
        found[size] = words, [{r.id for r in answer.results if r.match} for answer in answers]
    groups = {name: set(group) - {name} for group in photos.groups for name in group}
    assert found[1] == found[3] == found[len(paths)]
    assert found[1][1] == [groups[name] for name in photos.names]


def test_relearning_is_as_if_all_had_come_at_once(tmp_path):
    photos = make_photos(tmp_path / "photos", objects=5)
    paths = [photos.folder / name for name in photos.names]
    create_collection(tmp_path / "once.resight", "classic", SMALL).add(paths)
    grown = create_collection(tmp_path / "grown.resight", "classic", SMALL)
    grown.add(paths[:11])
    grown.add(paths[11:])
    once = open_collection(tmp_path / "once.resight")
    assert grown.snapshot.index.codebook.fingerprint != once.snapshot.index.codebook.fingerprint
    grown.relearn()
    assert grown.snapshot.finished
    assert grown.snapshot.index.codebook.fingerprint == once.snapshot.index.codebook.fingerprint
    assert grown.snapshot.confidence == once.snapshot.confidence
    assert all(finding.ok for finding in check_collection(grown.path))


def test_the_codebook_is_learned_anew_when_half_as_many_photos_came(tmp_path):
    photos = make_photos(tmp_path / "photos", objects=5)
    paths = [photos.folder / name for name in photos.names]
    collection = create_collection(tmp_path / "c.resight", "classic", SMALL)
    learned = []
    for start, end in ((0, 6), (6, 8), (8, 9), (9, 15)):
        collection.add(paths[start:end])
        learned.append(collection.snapshot.index.codebook.fingerprint)
    assert learned[0] == learned[1]
    assert len(set(learned)) == 3


def test_a_given_codebook_stays_however_many_photos_come(tmp_path):
    photos = make_photos(tmp_path / "photos", objects=5)
    paths = [photos.folder / name for name in photos.names]
    words = Codebook.fit(np.random.default_rng(0).random((500, 128), np.float32), 40)
    collection = create_collection(tmp_path / "c.resight", "classic", SMALL)
    collection.add(paths[:2], codebooks={"": words})
    collection.add(paths[2:])
    assert collection.snapshot.index.codebook.fingerprint == words.fingerprint
    collection.relearn()
    assert collection.snapshot.index.codebook.fingerprint != words.fingerprint


@pytest.mark.parametrize("name", ["_save_codebook", "_follow", "calibrate"])
def test_a_stopped_relearning_is_known_and_finished(copied, name):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inverted_file, name, lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        collection = open_collection(copied.path)
        with pytest.raises(KeyboardInterrupt):
            collection.relearn()
    assert not open_collection(copied.path).snapshot.finished
    assert all(finding.ok for finding in repair_collection(copied.path))
    assert open_collection(copied.path).search("001-0.jpg").confident


def test_an_empty_collection_has_nothing_to_relearn(tmp_path):
    collection = create_collection(tmp_path / "c.resight", "classic", SMALL)
    collection.relearn()  # nothing is there yet, which is no error
    assert collection.snapshot.finished
