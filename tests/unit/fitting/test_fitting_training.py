"""Training on one's own collection, without labels: what geometry proves is what is learned from."""

import shutil

import numpy as np
import pytest

from resight.collection import open_collection
from resight.errors import CollectionError, ResightError, UsageError
from resight.fitting.proven import proven_examples
from resight.fitting.training import Asked, data_of, train_network
from resight.training.recipes import RECIPES
from resight.training.run import Place

SMALL = {"epochs": 1, "side": 96, "batch": 2, "queries": 4, "negatives": 2, "rate": 1e-3, "share": 0.3}


@pytest.fixture(scope="module")
def examples(world):
    return proven_examples(open_collection(world.path("classic")))


def groups_in(world):
    return {name: number for number, group in enumerate(world.photos.groups) for name in group}


def test_proven_pairs_are_right_and_go_both_ways(world, examples):
    group = groups_in(world)
    assert len(examples) == len(group)
    pairs = {(examples.names[a], examples.names[b]) for a, b in examples.pairs}
    assert len(pairs) == len(examples.pairs) > len(group)
    assert {(b, a) for a, b in pairs} == pairs
    assert all(group[a] == group[b] for a, b in pairs)
    examples.check_files()


def test_regions_hold_what_matches(examples):
    left, top, right, bottom = examples.regions.reshape(-1, 4).T
    assert ((left >= 0) & (top >= 0) & (right <= 1) & (bottom <= 1)).all()
    assert ((right - left) * (bottom - top)).min() > 0.2  # the views show the whole picture


def test_geometry_is_asked_about_negatives(world, examples):
    group = groups_in(world)
    queries, others = np.meshgrid(np.arange(0, len(examples), 3), np.arange(len(examples)), indexing="ij")
    apart = queries.ravel() != others.ravel()
    queries, others = queries.ravel()[apart], others.ravel()[apart]
    proven = examples.proven(queries, others)
    same = np.array([group[examples.names[a]] == group[examples.names[b]]
                     for a, b in zip(queries, others, strict=True)])  # fmt: skip
    assert proven[same].mean() > 0.8
    assert not proven[~same].any()
    assert np.array_equal(examples.proven(queries, others), proven)


def test_few_photos_may_be_asked(world, examples):
    few = proven_examples(open_collection(world.path("classic")), photos=2, seed=1)
    assert 0 < len(few.pairs) < len(examples.pairs)
    assert len(few) == len(examples)


def test_collections_without_proof_are_refused(world):
    with pytest.raises(UsageError, match="keeps no local features"):
        proven_examples(open_collection(world.path("gem")))


def test_a_collection_without_pairs_is_refused(tmp_path, world):
    from resight.collection import create_collection

    photos = [world.photos.folder / group[0] for group in world.photos.groups]
    alone = create_collection(tmp_path / "c.resight", "classic", world.parameters("classic"))
    alone.add(photos)
    with pytest.raises(UsageError, match="nothing can be learned"):
        proven_examples(alone)


def test_the_file_of_a_training_is_indexed(tmp_path, world):
    from resight.collection import create_collection

    out = tmp_path / "out.safetensors"
    asked = Asked("descriptor", "gem", out, source=world.path("classic"), backbone=world.network, settings=SMALL)
    told = []
    training = train_network(asked, Place(), on_epoch=told.append)
    assert training.files == (out,)
    assert [epoch.number for epoch in told] == [1]
    assert all(0 < value <= 1 for value in training.gain)
    found = create_collection(tmp_path / "c.resight", "gem", {"weights": str(out), "max_side": 96})
    found.add([world.photos.folder])
    first = world.photos.groups[0]
    assert found.search(first[0], top=2).results[0].id in first


def test_data_is_asked_for_once(tmp_path, world):
    recipe = RECIPES["gem"]
    for more in ({}, {"data": tmp_path, "source": world.path("classic")}):
        with pytest.raises(UsageError, match="learns from one thing"):
            data_of(Asked("descriptor", "gem", tmp_path / "x", **more), recipe)


def test_a_file_that_cannot_be_written_is_told_before_training(tmp_path, world):
    for out in (tmp_path, tmp_path / "none" / "x"):
        with pytest.raises(UsageError, match="cannot be written"):
            train_network(Asked("descriptor", "gem", out, data=tmp_path, backbone=world.network), Place())


def test_a_training_that_only_diverges_writes_nothing(tmp_path, world):
    out = tmp_path / "out.safetensors"
    settings = {**SMALL, "rate": 1e30, "epochs": 2}
    asked = Asked("descriptor", "gem", out, source=world.path("classic"), backbone=world.network, settings=settings)
    with pytest.raises(ResightError, match=r"diverged before it gained anything: .*give a smaller rate"):
        train_network(asked, Place())
    assert not out.exists()


def test_a_disk_that_is_full_at_the_end_loses_nothing(tmp_path, world, monkeypatch):
    import resight.training.output as output

    out, place, told = tmp_path / "out.safetensors", Place(checkpoint=tmp_path / "state"), []
    asked = Asked("descriptor", "gem", out, source=world.path("classic"), backbone=world.network, settings=SMALL)
    write = output.write_tensors

    def full(path, *_):
        raise CollectionError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(output, "write_tensors", full)
    with pytest.raises(CollectionError, match="No space left"):
        train_network(asked, place, on_epoch=told.append)
    assert len(told) == 1
    assert not out.exists()
    monkeypatch.setattr(output, "write_tensors", write)
    train_network(asked, place, on_epoch=told.append)
    assert len(told) == 1, "the epoch is not trained again"
    assert out.exists()


def test_data_that_was_moved_between_runs_goes_on_from_its_checkpoint(tmp_path, world):
    place, told = Place(checkpoint=tmp_path / "state"), []

    def asked(folder):
        lines = [f"{name},{number}\n" for number, group in enumerate(world.photos.groups) for name in group]
        shutil.copytree(world.photos.folder, folder)
        (folder / "labels.csv").write_text("photo,label\n" + "".join(lines))
        out = tmp_path / "out.safetensors"
        return Asked("descriptor", "gem", out, data=folder / "labels.csv", backbone=world.network, settings=SMALL)

    train_network(asked(tmp_path / "here"), place, on_epoch=told.append)
    shutil.rmtree(tmp_path / "here")
    train_network(asked(tmp_path / "there"), place, on_epoch=told.append)
    assert len(told) == 1, "the epoch is not trained again"
