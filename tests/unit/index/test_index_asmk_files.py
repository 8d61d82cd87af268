import json
import os
from dataclasses import asdict

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from resight.errors import ArrayError, CollectionError
from resight.index import asmk_files, inverted
from resight.index.asmk import Asmk, Codebook, aggregate
from resight.index.asmk_files import check_segments, lists_folder
from resight.index.inverted import from_plain

RNG = np.random.default_rng(7)
CODEBOOK = Codebook(RNG.standard_normal((16, 32)))
ROWS = np.repeat(np.array([3, 5, 9, 10, 40]), 30)
DESCRIPTORS = RNG.standard_normal((150, 32)).astype(np.float32)
QUERIES = np.repeat([0, 1, 2], 50)


def filled(**options):
    index = Asmk(CODEBOOK, **options)
    index.add(ROWS, DESCRIPTORS)
    return index


def saved(path, **options):
    index = filled(**options)
    index.save(path)
    return index


def segment_files(path):
    return sorted(lists_folder(path).iterdir())


def test_a_loaded_index_is_mapped_and_answers_the_same(tmp_path):
    index = saved(tmp_path / "index")
    assert index.stored
    again = Asmk.load(tmp_path / "index", CODEBOOK)
    (segment,) = again._snapshot.segments
    assert segment.file == segment_files(tmp_path / "index")[0]
    assert not segment.values.flags.owndata
    np.testing.assert_array_equal(again.scores(QUERIES, DESCRIPTORS), index.scores(QUERIES, DESCRIPTORS))


def test_adding_and_removing_leave_other_segments_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(inverted, "IMAGES_PER_SEGMENT", 5)
    index = saved(tmp_path / "index")
    (first,) = segment_files(tmp_path / "index")
    written = first.stat().st_mtime_ns
    index.add([50] * 30, DESCRIPTORS[:30])
    assert not index.stored
    index.remove([9])
    index.save(tmp_path / "index")
    assert first.stat().st_mtime_ns == written
    assert len(segment_files(tmp_path / "index")) == 2
    again, fresh = Asmk.load(tmp_path / "index", CODEBOOK), Asmk(CODEBOOK)
    kept = ROWS != 9
    fresh.add(np.append(ROWS[kept], [50] * 30), np.vstack([DESCRIPTORS[kept], DESCRIPTORS[:30]]))
    assert again.rows.tolist() == [3, 5, 10, 40, 50]
    np.testing.assert_array_equal(again.scores(QUERIES, DESCRIPTORS), fresh.scores(QUERIES, DESCRIPTORS))
    again.add([9] * 30, DESCRIPTORS[60:90])
    whole = Asmk(CODEBOOK)
    whole.add(np.append(ROWS, [50] * 30), np.vstack([DESCRIPTORS, DESCRIPTORS[:30]]))
    np.testing.assert_array_equal(again.scores(QUERIES, DESCRIPTORS), whole.scores(QUERIES, DESCRIPTORS))


@pytest.mark.parametrize("idf", [False, True])
@pytest.mark.parametrize("binary", [False, True])
def test_the_dead_leave_no_trace(binary, idf, tmp_path):
    index, fresh = filled(binary=binary, idf=idf), Asmk(CODEBOOK, binary=binary, idf=idf)
    index.remove([10])
    (segment,) = index._snapshot.segments
    assert segment.dead.tolist() == [False, False, False, True, False]
    fresh.add(ROWS[ROWS != 10], DESCRIPTORS[ROWS != 10])
    index.save(tmp_path / "index")
    for one in (index, Asmk.load(tmp_path / "index", CODEBOOK)):
        assert one.rows.tolist() == [3, 5, 9, 40]
        np.testing.assert_array_equal(one.scores(QUERIES, DESCRIPTORS), fresh.scores(QUERIES, DESCRIPTORS))
        found, expected = (i.search(QUERIES, DESCRIPTORS, 3) for i in (one, fresh))
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_array_equal(found.scores, expected.scores)
    index.remove([3])
    (segment,) = index._snapshot.segments
    assert not segment.dead.any()
    assert segment.rows.tolist() == [5, 9, 40]


def test_files_of_old_segments_are_deleted_but_readers_keep_theirs(tmp_path):
    index = saved(tmp_path / "index")
    reader = Asmk.load(tmp_path / "index", CODEBOOK)
    before = reader.scores(QUERIES, DESCRIPTORS)
    index.remove([3, 5])
    index.save(tmp_path / "index")
    assert len(segment_files(tmp_path / "index")) == 1
    np.testing.assert_array_equal(reader.scores(QUERIES, DESCRIPTORS), before)


def test_segments_whose_files_another_writer_deleted_are_written_again(tmp_path):
    first = saved(tmp_path / "index")
    second = Asmk.load(tmp_path / "index", CODEBOOK)
    second.remove([3, 5])
    second.save(tmp_path / "index")
    first.save(tmp_path / "index")
    again = Asmk.load(tmp_path / "index", CODEBOOK)
    np.testing.assert_array_equal(again.scores(QUERIES, DESCRIPTORS), first.scores(QUERIES, DESCRIPTORS))


def test_a_list_replaced_while_it_is_read_is_read_again(tmp_path, monkeypatch):
    path, plain = tmp_path / "index", asmk_files._map
    index = saved(path)

    def slow(*arguments):
        monkeypatch.setattr(asmk_files, "_map", plain)
        index.remove([3, 5])
        index.save(path)
        return plain(*arguments)

    monkeypatch.setattr(asmk_files, "_map", slow)
    assert Asmk.load(path, CODEBOOK).rows.tolist() == [9, 10, 40]


def old_format(path, index):
    """Write as the format before did: plain arrays, all in one file."""
    aggregated = aggregate(CODEBOOK, ROWS, CODEBOOK.assign(DESCRIPTORS), DESCRIPTORS, binary=index.kernel.binary)
    order = np.lexsort((aggregated.rows, aggregated.words))
    rows = np.unique(ROWS)
    tensors = {
        "0.rows": rows,
        "0.offsets": np.append(0, np.cumsum(np.bincount(aggregated.words, minlength=16))),
        "0.images": np.searchsorted(rows, aggregated.rows[order]).astype(np.uint16),
        "0.values": aggregated.values[order],
    }
    stamp = {"kernel": json.dumps(asdict(index.kernel)), "codebook": CODEBOOK.fingerprint, "format": "resight-asmk-2"}
    save_file(tensors, path, stamp)
    return tensors, stamp


@pytest.mark.parametrize("binary", [True, False])
def test_the_old_format_is_read_and_written_anew(tmp_path, binary):
    path, index = tmp_path / "index", filled(binary=binary)
    old_format(path, index)
    old = Asmk.load(path, CODEBOOK)
    assert not old.stored
    np.testing.assert_array_equal(old.scores(QUERIES, DESCRIPTORS), index.scores(QUERIES, DESCRIPTORS))
    old.save(path)
    assert old.stored
    new = Asmk.load(path, CODEBOOK)
    np.testing.assert_array_equal(new.scores(QUERIES, DESCRIPTORS), index.scores(QUERIES, DESCRIPTORS))


def break_image(tensors):
    tensors["0.images"][0] = 5


def break_offsets(tensors):
    tensors["0.offsets"][3] = -4


def break_words(tensors):
    tensors["0.offsets"] = np.append(tensors["0.offsets"], tensors["0.offsets"][-1])


def break_values(tensors):
    tensors["0.values"] = tensors["0.values"].astype(np.float32)


def break_rows(tensors):
    tensors["0.rows"][:] = 1


def repeat_segment(tensors):
    tensors.update({name.replace("0.", "1."): array for name, array in list(tensors.items())})


def lose_array(tensors):
    del tensors["0.images"]
    tensors["0.else"] = np.zeros(1)


@pytest.mark.parametrize(
    "damage", [break_image, break_offsets, break_words, break_values, break_rows, repeat_segment, lose_array]
)
def test_damaged_files_of_the_old_format_are_refused(tmp_path, damage):
    tensors, stamp = old_format(tmp_path / "index", filled())
    damage(tensors)
    save_file(tensors, tmp_path / "index", stamp)
    with pytest.raises(CollectionError, match="damaged"):
        Asmk.load(tmp_path / "index", CODEBOOK)


def test_a_word_that_names_an_image_twice_is_no_segment():
    values = np.zeros((2, 1), np.uint64)
    with pytest.raises(ArrayError, match="twice"):
        from_plain(np.array([4]), np.array([0, 2]), np.zeros(2, np.uint16), values, 64)


def changed(name, change):
    def damage(path):
        (file,) = segment_files(path)
        tensors = load_file(file)
        tensors[name] = change(tensors[name].copy())
        save_file(tensors, file, {"format": "resight-asmk-lists-1"})

    return damage


def with_last(array, value):
    array[-1] = value
    return array


@pytest.mark.parametrize(
    "damage",
    [
        changed("runs", lambda runs: runs[::-1].copy()),
        changed("run_lengths", lambda lengths: lengths - 1),
        changed("run_lengths", lambda lengths: with_last(lengths, 1 << 40)),
        changed("counts", lambda counts: with_last(counts, 60000)),
        changed("counts", lambda counts: counts[:-1].copy()),
        changed("counts", lambda counts: with_last(counts.astype(np.uint32), (1 << 32) - 1)),
        changed("lengths", lambda lengths: with_last(lengths, 60000)),
        changed("lengths", lambda lengths: lengths.astype(np.int64) - 1),
        changed("sizes", lambda sizes: sizes + 1),
        changed("values", lambda values: values[:-1].copy()),
        changed("values", lambda values: values.astype(np.float32)),
        changed("values", lambda values: values.astype(np.int16)),
        lambda path: os.truncate(segment_files(path)[0], 700),
        lambda path: os.truncate(segment_files(path)[0], 0),
        lambda path: segment_files(path)[0].unlink(),
        lambda path: segment_files(path)[0].write_bytes(b"junk" * 100),
    ],
)
def test_damaged_lists_are_named_when_they_are_opened(tmp_path, damage):
    path = tmp_path / "index"
    saved(path)
    (file,) = segment_files(path)
    damage(path)
    with pytest.raises(CollectionError) as error:
        Asmk.load(path, CODEBOOK)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(CollectionError, match=file.name):
        check_segments(path)


@pytest.mark.parametrize("binary", [True, False])
def test_lists_that_are_none_are_named_when_they_are_read(tmp_path, binary):
    path = tmp_path / "index"
    saved(path, binary=binary)
    (file,) = segment_files(path)
    changed("codes", np.zeros_like)(path)
    index = Asmk.load(path, CODEBOOK)
    for ask in (
        lambda: index.search(QUERIES, DESCRIPTORS),
        lambda: index.scores(QUERIES, DESCRIPTORS),
        lambda: index.score(5, DESCRIPTORS, CODEBOOK.assign(DESCRIPTORS, 2)),
        lambda: index.remove([3, 5]),
    ):
        with pytest.raises(CollectionError, match=rf"{file.name} is damaged \(its list of word \d+ is not"):
            ask()
    with pytest.raises(CollectionError, match="checksum"):
        check_segments(path)


def test_a_link_to_elsewhere_is_not_written_to(tmp_path):
    index, elsewhere = saved(tmp_path / "index"), tmp_path / "elsewhere"
    lists_folder(tmp_path / "index").rename(elsewhere)
    (elsewhere / "else.safetensors").write_bytes(b"not ours")
    lists_folder(tmp_path / "index").symlink_to(elsewhere)
    for ask in (lambda: Asmk.load(tmp_path / "index", CODEBOOK), lambda: index.save(tmp_path / "index")):
        with pytest.raises(CollectionError, match="is a link"):
            ask()
    assert (elsewhere / "else.safetensors").exists()


def test_names_that_lead_elsewhere_are_refused(tmp_path):
    path = tmp_path / "index"
    saved(path)
    for name in ("../index", "/etc/passwd", "x/y.safetensors", 5):
        stamp = {"kernel": "{}", "codebook": CODEBOOK.fingerprint, "format": "resight-asmk-3"}
        save_file({"dead.0": np.zeros(0, np.int64)}, path, {**stamp, "segments": json.dumps([name])})
        with pytest.raises(CollectionError, match="names no files of segments"):
            Asmk.load(path, CODEBOOK)


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_answers_do_not_depend_on_threads(threads, monkeypatch):
    monkeypatch.setattr(inverted, "IMAGES_PER_SEGMENT", 2)
    index = filled()
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    one = index.search(QUERIES, DESCRIPTORS, 4)
    monkeypatch.setattr("os.cpu_count", lambda: threads)
    many = index.search(QUERIES, DESCRIPTORS, 4)
    np.testing.assert_array_equal(one.ids, many.ids)
    np.testing.assert_array_equal(one.scores, many.scores)
