"""Every product of `resight export` is opened with the tool it is for."""

import json
from pathlib import Path
from typing import Any

import faiss
import h5py
import numpy as np
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from photo_factory import SMALL, picture, save
from resight.cli import app
from resight.collection import Collection, create_collection, open_collection
from resight.errors import UsageError
from resight.evaluation.named import read_pairs
from resight.exchange.formats import FORMATS, export
from resight.exchange.photos import named_photos
from resight.exchange.request import Request


@pytest.fixture(scope="module")
def classic(world: Any) -> Collection:
    return open_collection(world.path("classic"))


@pytest.fixture(scope="module")
def hybrid(world: Any) -> Collection:
    return open_collection(world.path("hybrid"))


def written(to: str, collection: Collection, out: Path, top: int = 5) -> Path:
    assert export(to, Request(collection, out, top))
    return out


def test_names_are_paths_below_one_folder(tmp_path: Path) -> None:
    for folder, seed in (("a", 1), ("b/c", 2)):
        (tmp_path / folder).mkdir(parents=True)
        save(tmp_path / folder / "1.jpg", picture(seed))
    collection = create_collection(tmp_path / "x.resight", "classic", SMALL)
    collection.add([tmp_path / "a", tmp_path / "b" / "c"])
    photos = named_photos(collection.snapshot)
    assert (photos.folder, photos.names) == (tmp_path, ("a/1.jpg", "b/c/1.jpg"))
    assert photos.sizes.tolist() == [[320, 240], [320, 240]]


def test_hloc_pairs_are_the_answers_of_a_search(classic: Collection, tmp_path: Path) -> None:
    pairs = read_pairs(written("hloc-pairs", classic, tmp_path / "pairs.txt", top=3))
    names = named_photos(classic.snapshot).names
    assert len(pairs) == 3 * len(names)
    for name in names[:4]:
        assert [b for a, b in pairs if a == name] == [r.id for r in classic.search(name, top=3).results]


def test_hloc_features(hybrid: Collection, tmp_path: Path) -> None:
    """As `hloc.utils.io.get_keypoints`, `match_features` and `pairs_from_retrieval` read them."""
    rows, vectors = hybrid.vectors()
    photos = named_photos(hybrid.snapshot)
    with h5py.File(written("hloc-h5", hybrid, tmp_path / "f.h5"), "r", libver="latest") as file:
        assert sorted(file) == sorted(photos.names)
        for row, name in zip(photos.rows.tolist(), photos.names, strict=True):
            own, features = file[name], hybrid.snapshot.features(row)
            np.testing.assert_allclose(own["keypoints"][()] + 0.5, features.xy, atol=1e-4)
            np.testing.assert_allclose(own["descriptors"][()].T, features.descriptors, atol=5e-4)
            np.testing.assert_array_equal(own["scores"][()], features.strength)
            assert own["image_size"][()].tolist() == [320, 240]
            np.testing.assert_array_equal(own["global_descriptor"][()], vectors[rows == row][0])
            assert "uncertainty" in own["keypoints"].attrs


def test_the_database_opens_in_colmap(classic: Collection, tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    photos, snapshot = named_photos(classic.snapshot), classic.snapshot
    with pycolmap.Database.open(written("colmap-db", classic, tmp_path / "x.db")) as database:
        assert (database.num_images(), database.num_cameras()) == (len(photos), len(photos))
        assert (database.num_rigs(), database.num_frames()) == (len(photos), len(photos))
        assert database.num_keypoints() == database.num_descriptors() == snapshot.tables.counts(photos.rows).sum()
        for row, name in zip(photos.rows.tolist(), photos.names, strict=True):
            image, features = database.read_image_with_name(name), snapshot.features(row)
            camera = database.read_camera(image.camera_id)
            assert (camera.width, camera.height, camera.focal_length) == (320, 240, 1.2 * 320)
            points = database.read_keypoints(image.image_id)
            np.testing.assert_array_equal(points[:, :2], features.xy)
            np.testing.assert_array_equal(points[:, 2:], np.stack([features.scale / 2, features.angle], axis=1))
        pairs, geometries = database.read_two_view_geometries()
        assert len(geometries) >= len(photos.names)  # of three views each, at least
        first, second = pycolmap.pair_id_to_image_pair(pairs[0])
        left, right = (database.read_image(number).name for number in (first, second))
        proof = snapshot.verifier(snapshot.features(snapshot.row_of(left)), [snapshot.row_of(right)])[0]
        assert proof.verified
        inliers, matches = geometries[0].inlier_matches, database.read_matches(first, second)
        assert {*map(tuple, inliers)} <= {*map(tuple, matches)}
        a, b = (database.read_keypoints(number)[:, :2] for number in (first, second))
        moved = np.column_stack([a[inliers[:, 0]], np.ones(len(inliers))]) @ geometries[0].H.T
        errors = np.linalg.norm(moved[:, :2] / moved[:, 2:] - b[inliers[:, 1]], axis=1)
        assert np.median(errors) < 4


def test_vectors_for_faiss_and_numpy(hybrid: Collection, tmp_path: Path) -> None:
    _, vectors = hybrid.vectors()
    index = faiss.read_index(str(written("faiss", hybrid, tmp_path / "x.faiss")))
    ids = (tmp_path / "x.ids.txt").read_text().splitlines()
    array = np.load(written("npy", hybrid, tmp_path / "y.npy"))
    assert (tmp_path / "y.ids.txt").read_text().splitlines() == ids
    np.testing.assert_array_equal(array, vectors)
    _, found = index.search(array, 1)
    assert found[:, 0].tolist() == list(range(len(ids)))
    np.testing.assert_array_equal(index.reconstruct_n(0, index.ntotal), vectors)
    assert set(ids) == set(hybrid.ids)


def test_parquet(hybrid: Collection, tmp_path: Path) -> None:
    table = pyarrow.parquet.read_table(written("parquet", hybrid, tmp_path / "x.parquet"))
    photos, (_, vectors) = named_photos(hybrid.snapshot), hybrid.vectors()
    assert table["id"].to_pylist() == list(photos.ids)
    np.testing.assert_array_equal(np.stack(table["vector"].to_pylist()), vectors)
    features = hybrid.snapshot.features(int(photos.rows[3]))
    points = np.array(table["keypoints"][3].as_py(), np.float32)
    np.testing.assert_array_equal(points, np.column_stack([features.xy, features.scale, features.angle]))
    np.testing.assert_array_equal(np.array(table["descriptors"][3].as_py(), np.float32), features.descriptors)
    assert Path(table["path"][0].as_py()).is_file()


def test_fiftyone(hybrid: Collection, tmp_path: Path) -> None:
    """Its samples as documented (https://docs.voxel51.com, FiftyOneDataset); by its importer, where it is installed."""
    folder = written("fiftyone", hybrid, tmp_path / "fo", top=2)
    metadata, content = (json.loads((folder / name).read_text()) for name in ("metadata.json", "samples.json"))
    assert metadata["media_type"] == "image"
    assert "version" not in metadata  # else FiftyOne would take it for a dump of its database
    samples = content["samples"]
    assert [sample["resight_id"] for sample in samples] == list(named_photos(hybrid.snapshot).ids)
    assert all(Path(sample["filepath"]).is_file() and len(sample["embedding"]) == 24 for sample in samples)
    near = samples[0]["neighbours"]["classifications"]
    answer = hybrid.search(samples[0]["resight_id"], top=2)
    assert [(n["_cls"], n["label"]) for n in near] == [("Classification", r.id) for r in answer.results]
    importers = pytest.importorskip("fiftyone.utils.data.importers", reason="fiftyone is not installed")
    with importers.LegacyFiftyOneDatasetImporter(str(folder)) as importer:
        found = list(importer)
    assert [sample.resight_id for sample in found] == [sample["resight_id"] for sample in samples]


@pytest.mark.filterwarnings("ignore")  # of libraries that datasets loads
def test_hugging_face(hybrid: Collection, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    folder = written("hf-dataset", hybrid, tmp_path / "hf")
    found = datasets.load_from_disk(str(folder))
    assert found["id"] == list(named_photos(hybrid.snapshot).ids)
    assert found[0]["image"].size == (320, 240)
    np.testing.assert_allclose(np.stack(found["vector"]), hybrid.vectors()[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf"]


@pytest.mark.parametrize("to", FORMATS)
def test_what_exists_is_not_overwritten(to: str, classic: Collection, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        export(to, Request(classic, tmp_path / "there"))
    assert (tmp_path / "there").read_text() == "mine"
    with pytest.raises(UsageError, match="there is no folder"):
        export(to, Request(classic, tmp_path / "no" / "there"))


@pytest.mark.parametrize("to", ["faiss", "npy"])
def test_vectors_need_vectors(to: str, classic: Collection, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="keeps no global descriptors"):
        export(to, Request(classic, tmp_path / "x"))
    assert list(tmp_path.iterdir()) == []


def test_names_that_a_format_cannot_hold(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("a b.jpg", "c.jpg"):
        save(tmp_path / "photos" / name, picture(len(name)))
    collection = create_collection(tmp_path / "x.resight", "classic", SMALL)
    collection.add([tmp_path / "photos"])
    with pytest.raises(UsageError, match=r"1 photos hold blanks.*'a b.jpg'"):
        export("hloc-pairs", Request(collection, tmp_path / "pairs.txt"))
    with pytest.raises(UsageError, match="is unknown: choose one of hloc-pairs"):
        export("docx", Request(collection, tmp_path / "x"))


def test_the_command(world: Any, tmp_path: Path) -> None:
    arguments = ["export", str(world.path("classic")), "--to", "hloc-pairs", "--top", "2", "--out"]
    printed = CliRunner().invoke(app, [*arguments, str(tmp_path / "a.txt")])
    assert printed.exit_code == 0, printed.output
    assert "48 pairs of 24 photos" in " ".join(printed.output.split())
    content = json.loads(CliRunner().invoke(app, [*arguments, str(tmp_path / "b.txt"), "--json"]).stdout)
    assert content["format"] == "hloc-pairs"
    assert (tmp_path / "a.txt").read_text() == (tmp_path / "b.txt").read_text()
    again = CliRunner().invoke(app, [*arguments, str(tmp_path / "a.txt")])
    assert again.exit_code == 2
    assert "exists already" in again.output
