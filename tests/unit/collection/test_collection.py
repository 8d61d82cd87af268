from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

import resight
from photo_factory import HEIGHT, SMALL, WIDTH, make_photos, picture, save, spoil, view
from resight.artifacts.files import CODEBOOK, CONFIDENCE
from resight.collection import create_collection, open_collection, open_or_create
from resight.errors import CollectionError, CollectionNotFound, ImageError, StampMismatch, UsageError
from resight.index.asmk import Codebook
from resight.store.folder import derived_path
from resight.store.writer import writing
from resight.types import Box


@pytest.fixture
def collection(built):
    return open_collection(built.path)


@pytest.fixture
def fresh(tmp_path):
    """An empty collection, and photos of three objects beside it."""
    return create_collection(tmp_path / "c.resight", "classic", SMALL), make_photos(tmp_path / "photos", 3)


def matches(answer):
    return {result.id for result in answer.results if result.match}


def test_every_photo_finds_its_siblings(built, collection):
    for group in built.photos.groups:
        for name in group:
            answer = collection.search(name)
            assert matches(answer) == set(group) - {name}
            assert answer.confident
            assert [result.rank for result in answer.results] == list(range(1, len(answer.results) + 1))
            assert name not in {result.id for result in answer.results}


def test_a_photo_from_outside(built, collection, tmp_path):
    path = save(tmp_path / "outside.jpg", view(picture(2), 77))
    answer = collection.search(path, top=5)
    assert matches(answer) == set(built.photos.groups[2])
    assert (answer.query.row, answer.query.path) == (-1, str(path))
    assert len(answer.results) == 5
    stranger = collection.search(save(tmp_path / "stranger.jpg", picture(500)))
    assert not stranger.confident
    assert stranger.results


def test_a_path_and_an_id_ask_the_same(built, collection):
    group = built.photos.groups[0]
    assert matches(collection.search(group[0])) == {*group[1:]}
    # What is given as a file is not known to be the indexed photo, so that one is a result too.
    assert matches(collection.search(built.photos.folder / group[0])) == {*group}


def test_search_top(collection, built):
    everything = collection.search(built.photos.names[0], top=1000)
    assert len(everything.results) == len(built.photos.names) - 1
    few = collection.search(built.photos.names[0], top=2)
    assert [r.id for r in few.results] == [r.id for r in everything.results[:2]]
    with pytest.raises(UsageError, match="0 results were asked for"):
        collection.search(built.photos.names[0], top=0)


def test_search_is_repeatable(built):
    first, second = (open_collection(built.path).search("001-0.jpg") for _ in range(2))
    assert [(r.id, r.score) for r in first.results] == [(r.id, r.score) for r in second.results]


def test_search_where(collection, built):
    names = built.photos.names
    answer = collection.search(names[0], where="id LIKE '%-2.jpg'")
    assert {result.id for result in answer.results} == {name for name in names if name.endswith("-2.jpg")}
    assert answer.results[0].id == "000-2.jpg"
    assert collection.search(names[0], where="id = 'nosuch'").results == ()
    assert collection.search(names[0], where=f"width = {WIDTH} AND height = {HEIGHT}").results


@pytest.mark.parametrize("condition", ["colour > 3", "(((", "row", "id = 3 +", ""])
def test_search_where_it_makes_no_sense(collection, condition):
    with pytest.raises(UsageError, match="condition"):
        collection.search("000-0.jpg", where=condition)


def test_a_box_looks_for_a_part(built, collection, tmp_path):
    collage = np.vstack([np.hstack([picture(0), picture(50)]), np.hstack([picture(51), picture(3)])])
    path = save(tmp_path / "collage.png", collage)
    box = Box(WIDTH, HEIGHT, WIDTH, HEIGHT)
    answer = collection.search(path, box)
    assert matches(answer) == set(built.photos.groups[3])
    assert answer.query.box == box
    low, high = answer.query.local.xy.min(axis=0), answer.query.local.xy.max(axis=0)
    assert (low >= (WIDTH, HEIGHT)).all()
    assert (high <= (2 * WIDTH, 2 * HEIGHT)).all()
    with pytest.raises(UsageError, match=f"outside the image, which is {2 * WIDTH} x {2 * HEIGHT}"):
        collection.search(path, Box(5000, 0, 10, 10))


def test_a_box_of_an_indexed_photo(collection):
    half = Box(0, 0, WIDTH / 2, HEIGHT)
    answer = collection.search("003-0.jpg", half)
    assert {"003-1.jpg", "003-2.jpg"} == matches(answer)
    assert "003-0.jpg" not in {result.id for result in answer.results}
    transform = answer.results[0].verification.transform
    whole = collection.search("003-0.jpg").results
    expected = next(r for r in whole if r.id == answer.results[0].id).verification.transform
    corner = np.array([40, 100, 1.0])
    there, here = transform @ corner, expected @ corner
    assert np.hypot(*(there[:2] / there[2] - here[:2] / here[2])) < 6


def test_queries_that_cannot_be(built, collection, tmp_path):
    with pytest.raises(UsageError, match="neither a file nor the id"):
        collection.search("nosuch.jpg")
    with pytest.raises(ImageError, match="is a folder"):
        collection.search(tmp_path)
    (tmp_path / "text.jpg").write_text("hello, this is not a photo")
    with pytest.raises(ImageError):
        collection.search(tmp_path / "text.jpg")
    with pytest.raises(UsageError, match=f"{built.broken[0]} cannot be a query"):
        collection.search(built.broken[0])


def test_a_plain_photo_finds_nothing_surely(collection, tmp_path):
    answer = collection.search(save(tmp_path / "grey.png", np.full((80, 90, 3), 99, np.uint8)))
    assert not answer.confident
    boxed = collection.search(tmp_path / "grey.png", Box(0, 0, 40, 40))
    assert not boxed.confident


def test_names_that_are_not_utf8(collection, tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"b\xff.jpg")
    with open(path, "wb") as file, open(save(tmp_path / "x.jpg", picture(1)), "rb") as source:
        file.write(source.read())
    answer = collection.search(os.fsdecode(path), top=1)
    assert answer.query.name.endswith("b%FF.jpg")
    assert answer.confident


def test_explain_has_all_stages(collection):
    explanation = collection.explain("002-0.jpg", "002-1.jpg")
    assert explanation.result.match
    assert explanation.result.rank in (1, 2)
    assert [item.stage for item in explanation.evidence][:2] == ["AsmkSearch", "SpatialRerank"]
    assert "HammingExpansion" in {item.stage for item in explanation.evidence}
    found = next(r for r in collection.search("002-0.jpg").results if r.id == "002-1.jpg")
    assert (explanation.result.rank, explanation.result.score) == (found.rank, pytest.approx(found.score))
    other = collection.explain("002-0.jpg", "000-0.jpg")
    assert not other.result.match
    assert other.result.inliers == 0


def test_explain_what_cannot_be(built, collection):
    with pytest.raises(UsageError, match="no photo with id 'nosuch'"):
        collection.explain("002-0.jpg", "nosuch")
    with pytest.raises(UsageError, match=f"{built.broken[0]} could not be read"):
        collection.explain("002-0.jpg", built.broken[0])


def test_explain_the_query_itself(collection):
    assert collection.explain("002-0.jpg", "002-0.jpg").result.match


def test_info(built, collection):
    info = collection.info()
    assert (info.photos, info.broken, info.pending, info.missing) == (19, 4, 0, 0)
    assert (info.words, info.recipe, info.binary) == (64, "classic", True)
    assert info.parameters == SMALL
    assert info.features == sum(
        len(collection.snapshot.features(row)) for row in collection.snapshot.tables.feature_rows
    )
    assert info.bytes_per_image == pytest.approx(info.index_bytes / 15)
    assert info.path == str(built.path)


def test_errors_are_rows(built, collection):
    for name in built.broken:
        photo = collection.snapshot.photo(collection.snapshot.row_of(name))
        assert photo["error_kind"]
        assert name in photo["error"]
        assert photo["path"] == str(built.photos.folder / name)


def test_add_reports_and_repeats_nothing(fresh):
    collection, photos = fresh
    spoil(photos.folder)
    (photos.folder / "notes.txt").write_text("no photo")
    report = collection.add([photos.folder])
    assert (report.added, report.updated, report.unchanged, report.skipped) == (9, 0, 0, 1)
    kinds = {os.path.basename(problem.path): problem.kind for problem in report.problems}
    assert kinds == {
        "empty.jpg": "empty",
        "text.jpg": "not-an-image",
        "noise.png": "not-an-image",
        "half.jpg": "truncated",
    }
    again = collection.add([photos.folder])
    assert (again.added, again.updated, again.unchanged, again.problems) == (0, 0, 13, [])
    more = make_photos(photos.folder, 1, first=7)
    assert collection.add([photos.folder / more.names[0], photos.folder]).added == 3
    assert matches(collection.search("007-0.jpg")) == {"007-1.jpg", "007-2.jpg"}


def test_the_rank_of_a_photo_does_not_depend_on_the_order_of_adding(fresh):
    collection, photos = fresh
    for name in reversed(photos.names):
        collection.add([photos.folder / name])
    assert len(collection.snapshot.tables) == 9
    for group in photos.groups:
        assert matches(collection.search(group[0])) == set(group[1:])


def test_a_changed_file_is_read_again(fresh):
    collection, photos = fresh
    collection.add([photos.folder])
    row = collection.snapshot.row_of("000-1.jpg")
    save(photos.folder / "000-1.jpg", view(picture(1), 33))
    report = collection.add([photos.folder])
    assert (report.added, report.updated, report.unchanged) == (0, 1, 8)
    assert collection.snapshot.row_of("000-1.jpg") != row
    assert matches(collection.search("000-0.jpg")) == {"000-2.jpg"}
    assert matches(collection.search("001-0.jpg")) == {"000-1.jpg", "001-1.jpg", "001-2.jpg"}
    assert len(collection.snapshot.index) == 9


def test_a_touched_file_is_not_decoded_again(fresh):
    collection, photos = fresh
    collection.add([photos.folder])
    os.utime(photos.folder / "000-1.jpg", (1, 1))
    rows = collection.snapshot.tables.feature_rows.tolist()
    assert collection.add([photos.folder]).unchanged == 9
    assert collection.snapshot.tables.feature_rows.tolist() == rows


def test_a_repaired_file_is_taken_in(fresh):
    collection, photos = fresh
    spoil(photos.folder)
    collection.add([photos.folder])
    save(photos.folder / "half.jpg", view(picture(2), 5))
    report = collection.add([photos.folder])
    assert (report.updated, report.unchanged) == (1, 12)
    assert "half.jpg" in matches(collection.search("002-0.jpg"))


def test_a_file_that_breaks_leaves_the_results(fresh):
    collection, photos = fresh
    collection.add([photos.folder])
    (photos.folder / "000-1.jpg").write_bytes(b"")
    (problem,) = collection.add([photos.folder]).problems
    assert problem.kind == "empty"
    assert "000-1.jpg" not in {result.id for result in collection.search("000-0.jpg").results}
    assert open_collection(collection.path).info().broken == 1


def test_remove(fresh):
    collection, photos = fresh
    collection.add([photos.folder])
    assert collection.remove(["000-1.jpg", "002-0.jpg", "000-1.jpg"]) == 2
    assert matches(collection.search("000-0.jpg")) == {"000-2.jpg"}
    for view_of in (collection, open_collection(collection.path)):
        assert len(view_of.snapshot.tables) == 7
        assert len(view_of.snapshot.index) == 7
        assert "002-0.jpg" not in view_of.ids
    assert (photos.folder / "000-1.jpg").exists()
    assert collection.add([photos.folder]).added == 2
    assert matches(collection.search("000-0.jpg")) == {"000-1.jpg", "000-2.jpg"}


def test_remove_is_all_or_nothing(fresh):
    collection, photos = fresh
    collection.add([photos.folder])
    with pytest.raises(UsageError, match="no photo with id 'nosuch'"):
        collection.remove(["000-0.jpg", "nosuch"])
    assert len(open_collection(collection.path).snapshot.tables) == 9


def test_remove_everything_and_begin_again(fresh):
    collection, photos = fresh
    collection.add([photos.folder])
    assert collection.remove(photos.names) == 9
    with pytest.raises(CollectionError, match="holds no photos with features"):
        collection.search(photos.folder / photos.names[0])
    assert collection.info().photos == 0
    assert collection.add([photos.folder]).added == 9
    assert matches(collection.search("000-0.jpg")) == {"000-1.jpg", "000-2.jpg"}


def test_a_stopped_removal_is_finished_by_the_same_call(fresh):
    collection, photos = fresh
    collection.add([photos.folder])
    with writing(collection.path, "test") as writer:
        writer.remove_rows([collection.snapshot.row_of("000-1.jpg")])
    half = open_collection(collection.path)
    assert not half.snapshot.finished
    assert matches(half.search("000-0.jpg", top=50)) == {"000-2.jpg"}
    assert "000-1.jpg" not in {r.id for r in half.search("001-0.jpg", where="width > 0").results}
    assert half.remove(["000-1.jpg"]) == 0
    assert open_collection(collection.path).snapshot.finished
    with pytest.raises(UsageError, match="no photo with id '000-1"):
        half.remove(["000-1.jpg"])


def test_an_open_collection_survives_another_writer(fresh):
    collection, photos = fresh
    collection.add([photos.folder])
    reader = open_collection(collection.path)
    make_photos(photos.folder, 2, first=20)
    collection.add([photos.folder])
    assert matches(reader.search("000-0.jpg")) == {"000-1.jpg", "000-2.jpg"}
    assert len(open_collection(collection.path).search("000-0.jpg", top=99).results) == 14


def test_the_same_id_in_two_folders(fresh, tmp_path):
    collection, photos = fresh
    shutil.copytree(photos.folder, tmp_path / "other" / "photos")
    make_photos(tmp_path / "third", 1, first=40)
    os.rename(tmp_path / "third" / "040-0.jpg", tmp_path / "third" / "000-0.jpg")
    report = collection.add([photos.folder, tmp_path / "other" / "photos", tmp_path / "third"])
    assert report.added == 9 + 9 + 3
    assert len(collection.ids) == 21
    paths = {collection.snapshot.photo(row)["path"]: id_ for id_, row in collection.ids.items()}
    assert paths[str(photos.folder / "000-0.jpg")] == "000-0.jpg"
    assert paths[str(tmp_path / "other" / "photos" / "000-0.jpg")] == "photos/000-0.jpg"
    assert paths[str(tmp_path / "third" / "000-0.jpg")] == "third/000-0.jpg"
    assert "photos/000-0.jpg" in matches(collection.search("000-0.jpg"))
    assert collection.add([tmp_path / "third", tmp_path / "other" / "photos", photos.folder]).unchanged == 21
    shutil.copytree(photos.folder, tmp_path / "more" / "photos")
    assert collection.add([tmp_path / "more"]).added == 9
    assert {collection.snapshot.photo(row)["path"]: id_ for id_, row in collection.ids.items()}.items() >= paths.items()


def test_pending_photos_are_counted_and_indexed_later(fresh):
    collection, photos = fresh
    collection.add([photos.folder])
    derived_path(collection.path, "asmk.safetensors").unlink()
    late = open_collection(collection.path)
    assert late.pending == 9
    with pytest.raises(CollectionError, match="its index is not ready"):
        late.search("000-0.jpg")
    assert late.add([photos.folder]).unchanged == 9
    assert late.pending == 0
    assert late.search("000-0.jpg").pending == 0


def test_a_given_codebook_is_used_and_kept(fresh):
    collection, photos = fresh
    words = Codebook.fit(np.random.default_rng(0).random((500, 128), np.float32), 40)
    collection.add([photos.folder], codebooks={"": words})
    again = open_collection(collection.path)
    assert len(again.snapshot.index.codebook) == 40
    assert again.snapshot.index.codebook.fingerprint == words.fingerprint
    assert matches(again.search("001-0.jpg")) == {"001-1.jpg", "001-2.jpg"}


def test_the_calibration_follows_the_collection(fresh):
    collection, photos = fresh
    collection.add([photos.folder])
    first = CONFIDENCE.path(collection.path).read_bytes()
    make_photos(photos.folder, 4, first=60)
    collection.add([photos.folder])
    assert CONFIDENCE.path(collection.path).read_bytes() != first


def test_the_codebook_grows_with_the_collection(tmp_path):
    photos = make_photos(tmp_path / "photos", 2, 1)
    collection = create_collection(tmp_path / "c.resight", "classic", {"count": 150, "enlarge_below": 0})
    collection.add([photos.folder])
    few = len(collection.snapshot.index.codebook)
    make_photos(tmp_path / "photos", 6, 2, first=10)
    collection.add([photos.folder])
    assert len(collection.snapshot.index.codebook) >= 4 * few
    assert len(collection.snapshot.index) == 14
    assert len(Codebook.load(CODEBOOK.path(collection.path))) == len(collection.snapshot.index.codebook)
    assert "010-1.jpg" in matches(collection.search("010-0.jpg"))


def test_open_what_is_not_there(tmp_path):
    with pytest.raises(CollectionNotFound, match="does not exist"):
        resight.open(tmp_path / "nosuch.resight")
    with pytest.raises(CollectionNotFound, match="not a collection"):
        resight.open(tmp_path)


def test_create_and_reopen(tmp_path):
    path = tmp_path / "c.resight"
    made = open_or_create(path, None, {"words": 64})
    assert made.settings.local.indexing.words == 64
    assert open_or_create(path).settings.local.indexing.words == 64
    assert open_or_create(path, "classic", {"words": 64}).settings.local.indexing.words == 64
    with pytest.raises(StampMismatch, match="words = 64, not with = 65"):
        open_or_create(path, None, {"words": 65})
    with pytest.raises(StampMismatch, match="recipe classic, not with recipe other"):
        open_or_create(path, "other")
    with pytest.raises(UsageError, match="already exists"):
        create_collection(path)
    with pytest.raises(UsageError, match="no option 'wrods'"):
        create_collection(tmp_path / "d.resight", "classic", {"wrods": 3})
    assert not (tmp_path / "d.resight").exists()


def test_a_collection_of_an_unknown_recipe(copied):
    stamp = copied.path / "stamp.json"
    stamp.write_text(stamp.read_text().replace('"classic"', '"tomorrow"'))
    with pytest.raises(
        StampMismatch, match=r"copy\.resight was made by another resight.*'tomorrow' cannot index photos"
    ):
        open_collection(copied.path)


def test_add_what_is_not_there(fresh, tmp_path):
    collection, photos = fresh
    with pytest.raises(UsageError, match="cannot be scanned"):
        collection.add([photos.folder, tmp_path / "nosuch"])
    assert len(collection.snapshot.tables) == 0


def test_collections_inside_the_photos_are_no_photos(tmp_path):
    photos = make_photos(tmp_path / "photos", 1)
    collection = create_collection(photos.folder / "c.resight", "classic", SMALL)
    assert collection.add([photos.folder]).added == 3
    assert collection.add([photos.folder]).unchanged == 3


def test_progress_is_told(fresh):
    collection, photos = fresh
    told = {}
    collection.add([photos.folder], progress=lambda step, done, total: told.update({step: (done, total)}))
    assert told["reading photos"] == (9, 9)
    assert told["indexing"] == (9, 9)
    assert told["calibrating"] == (1, 1)
    assert all(done == total for done, total in told.values())


def test_an_interrupt_keeps_what_was_read(fresh):
    collection, photos = fresh

    def stop(step, done, _):
        if step == "reading photos" and done == 4:
            raise KeyboardInterrupt

    report = collection.add([photos.folder], progress=stop)
    assert report.interrupted
    assert report.added == 4
    assert len(open_collection(collection.path).snapshot.index) == 4
    report = collection.add([photos.folder])
    assert (report.added, report.unchanged, report.interrupted) == (5, 4, False)


def test_scratch_of_a_killed_run_is_cleared_after_an_hour(fresh):
    collection, photos = fresh
    collection.add([photos.folder])
    old, new = (collection.path / "derived" / f"asmk.safetensors.{pid}.part" for pid in (1, 2))
    for path in (old, new):
        path.write_bytes(b"half an index")
    os.utime(old, (1, 1))
    collection.remove(["000-0.jpg"])
    assert (old.exists(), new.exists()) == (False, True)


def test_derived_files_are_as_open_as_the_others(fresh):
    collection, photos = fresh
    collection.add([photos.folder])
    modes = {path.stat().st_mode for path in (collection.path / "derived").rglob("*") if path.is_file()}
    assert modes == {(collection.path / "stamp.json").stat().st_mode}
