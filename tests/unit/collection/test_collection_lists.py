"""The lists of an inverted file within a collection: bits, old files, and damage."""

import json
import shutil
from dataclasses import asdict

import numpy as np
import pytest
from safetensors.numpy import save_file

from photo_factory import make_photos
from resight.artifacts.files import INVERTED_FILE
from resight.collection.check import check_collection, repair_collection
from resight.collection.open import create_collection, open_collection, open_or_create
from resight.errors import CollectionError, StampMismatch, UsageError
from resight.index.asmk import Codebook
from resight.index.asmk_files import lists_folder

OPTIONS = {"count": 150, "enlarge_below": 0}
QUERY = "001-0.jpg"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lists")
    photos = make_photos(folder / "photos", 3)
    collection = create_collection(folder / "c.resight", "classic", OPTIONS)
    collection.add([photos.folder])
    return folder / "c.resight", photos.folder


@pytest.fixture
def copied(world, tmp_path):
    shutil.copytree(world[0], tmp_path / "c.resight")
    return tmp_path / "c.resight"


def answers(path):
    return [(result.id, result.score) for result in open_collection(path).search(QUERY).results]


def test_bits_are_kept_in_the_stamp_and_another_number_is_refused(tmp_path, world):
    path = tmp_path / "few.resight"
    collection = create_collection(path, "classic", {**OPTIONS, "bits": 64})
    collection.add([world[1]])
    index, whole = (open_collection(each).snapshot.index for each in (path, world[0]))
    assert (index.codebook.bits, whole.codebook.bits) == (64, 128)
    assert index.memory_bytes / index.postings < whole.memory_bytes / whole.postings - 7.9
    assert {name for name, _ in answers(path)[:2]} == {"001-1.jpg", "001-2.jpg"}
    with pytest.raises(StampMismatch, match=r"parameter bits = 64, not with = 96.*into a new collection"):
        open_or_create(path, "classic", {**OPTIONS, "bits": 96})


@pytest.mark.parametrize("settings", [{"bits": 0}, {"bits": 100}, {"bits": 64, "binary": False}])
def test_bits_that_make_no_sense_are_refused(tmp_path, settings):
    with pytest.raises(UsageError, match=f"bits={settings['bits']}"):
        create_collection(tmp_path / "c.resight", "classic", {**OPTIONS, **settings})


def test_a_given_codebook_must_have_the_bits_of_the_collection(tmp_path, world):
    words = Codebook.fit(np.random.default_rng(0).random((500, 128), np.float32), 40, bits=96)
    with pytest.raises(UsageError, match=r"signatures of 96 bits, and .* was made for 128: .*--set bits=96"):
        open_collection(world[0]).add([world[1]], codebooks={"": words})
    collection = create_collection(tmp_path / "c.resight", "classic", {**OPTIONS, "bits": 96})
    collection.add([world[1]], codebooks={"": words})
    assert collection.snapshot.index.codebook.fingerprint == words.fingerprint


def write_as_before(path):
    """The inverted file of a collection as the format before held it."""
    index = open_collection(path).snapshot.index
    (segment,) = index._snapshot.segments
    lanes = segment.plain_values().astype(np.uint64)
    tensors = {
        "0.rows": segment.rows,
        "0.offsets": segment.offsets.astype(np.int64),
        "0.images": segment.images(),
        "0.values": lanes[:, 0::2] << np.uint64(32) | lanes[:, 1::2],
    }
    stamp = {"kernel": json.dumps(asdict(index.kernel)), "codebook": index.codebook.fingerprint}
    file = INVERTED_FILE.path(path)
    shutil.rmtree(lists_folder(file))
    save_file(tensors, file, {**stamp, "format": "resight-asmk-2"})


def test_an_old_inverted_file_is_searched_and_written_anew_by_the_next_index(copied, world):
    before, file = answers(copied), INVERTED_FILE.path(copied)
    write_as_before(copied)
    assert answers(copied) == before
    assert not lists_folder(file).exists()
    open_collection(copied).add([world[1]])
    assert len(list(lists_folder(file).iterdir())) == 1
    assert open_collection(copied).snapshot.index.stored
    assert answers(copied) == before
    assert all(finding.ok for finding in check_collection(copied))


@pytest.mark.parametrize("damage", ["gone", "cut", "changed"])
def test_damaged_lists_are_named_and_mended(copied, damage):
    before = answers(copied)
    (file,) = lists_folder(INVERTED_FILE.path(copied)).iterdir()
    content = bytearray(file.read_bytes())
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    if damage != "changed":
        with pytest.raises(CollectionError, match=rf"{file.name} .*resight check --repair"):
            answers(copied)
    (finding,) = [finding for finding in check_collection(copied) if not finding.ok]
    assert finding.name == INVERTED_FILE.name
    assert file.name in finding.message
    assert all(finding.ok for finding in repair_collection(copied))
    assert answers(copied) == before
