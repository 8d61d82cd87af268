"""Features of other tools become collections; files that lie are refused."""

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from delf_factory import delf
from photo_factory import SMALL, make_photos
from resight.cli import app
from resight.collection import Collection, create_collection, open_collection
from resight.collection.check import check_collection
from resight.errors import StampMismatch, UsageError
from resight.exchange.formats import export
from resight.exchange.imported import import_features, write_pairs
from resight.exchange.request import Request
from resight.exchange.sources import SOURCES, source_of
from resight.fitting.examples import read_pairs


@pytest.fixture(scope="module")
def classic(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    base = tmp_path_factory.mktemp("own")
    photos = make_photos(base / "photos", objects=4)
    collection = create_collection(base / "own.resight", "classic", SMALL)
    collection.add([photos.folder])
    return collection


@pytest.fixture(scope="module")
def files(classic: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """x.h5 and x.db, exported, and a folder of DELF files."""
    base = tmp_path_factory.mktemp("files")
    export("hloc-h5", Request(classic, base / "x.h5"))
    (base / "delf").mkdir()
    for id_, row in classic.ids.items():
        (base / "delf" / f"{Path(id_).stem}.delf").write_bytes(delf(classic.snapshot.features(row)))
    return base


@pytest.fixture(scope="module")
def database(classic: Collection, files: Path) -> Path:
    pytest.importorskip("pycolmap")
    export("colmap-db", Request(classic, files / "x.db"))
    return files / "x.db"


def photos_of(collection: Collection) -> Path:
    return collection.path.parent / "photos"


def same(mine: Collection, theirs: Collection, *, angles: bool, atol: float) -> None:
    assert set(mine.ids) == set(theirs.ids)
    for id_, row in mine.ids.items():
        a, b = mine.snapshot.features(row), theirs.snapshot.features(theirs.ids[id_])
        assert len(a) == len(b)
        np.testing.assert_allclose(np.sort(a.xy, axis=0), np.sort(b.xy, axis=0), atol=1e-3)
        np.testing.assert_allclose(np.sort(a.scale), np.sort(b.scale), rtol=2e-3)
        if angles:
            np.testing.assert_allclose(np.sort(a.angle), np.sort(b.angle), atol=4e-3)
        np.testing.assert_allclose(np.sort(a.descriptors, axis=0), np.sort(b.descriptors, axis=0), atol=atol)


@pytest.mark.parametrize(("name", "angles"), [("x.h5", True), ("delf", False)])
def test_features_come_back_as_they_went(
    name: str, angles: bool, classic: Collection, files: Path, tmp_path: Path
) -> None:
    made = import_features(files / name, photos_of(classic), tmp_path / "new.resight")
    assert (made.photos, made.missing) == (12, ())
    same(classic, made.collection, angles=angles, atol=0.01)


def test_a_colmap_database_comes_back(classic: Collection, database: Path, tmp_path: Path) -> None:
    made = import_features(database, photos_of(classic), tmp_path / "new.resight")
    same(classic, made.collection, angles=True, atol=0.02)
    count = write_pairs(database, tmp_path / "pairs.csv")
    pairs = read_pairs(tmp_path / "pairs.csv", made.collection.ids)
    assert count == len(pairs.left) >= 12
    assert pairs.matching.all()


def test_imported_photos_are_searched_by_id(classic: Collection, files: Path, tmp_path: Path) -> None:
    made = import_features(files / "x.h5", photos_of(classic), tmp_path / "new.resight").collection
    for id_ in list(made.ids)[:4]:
        found = [result.id[:3] for result in made.search(id_, top=2).results]
        assert found == [id_[:3]] * 2
        assert made.search(id_, top=1).results[0].inliers > 0
    more = make_photos(tmp_path / "more", objects=1, first=77)
    with pytest.raises(StampMismatch, match="imported from hloc-h5, which resight cannot extract"):
        made.search(more.folder / more.names[0])
    with pytest.raises(StampMismatch):
        made.add([more.folder])
    assert all(finding.ok for finding in check_collection(made.path))
    assert len(open_collection(made.path).ids) == 12


def test_imported_features_are_no_sift_of_colmap(classic: Collection, files: Path, tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    made = import_features(files / "x.h5", photos_of(classic), tmp_path / "new.resight").collection
    export("colmap-db", Request(made, tmp_path / "y.db", top=1))
    with pycolmap.Database.open(tmp_path / "y.db") as database:
        assert (database.num_images(), database.num_descriptors()) == (12, 0)
        assert database.num_verified_image_pairs() > 0


def test_photos_that_are_not_there(classic: Collection, files: Path, tmp_path: Path) -> None:
    shutil.copytree(photos_of(classic), tmp_path / "photos")
    (tmp_path / "photos" / "000-0.jpg").unlink()
    made = import_features(files / "x.h5", tmp_path / "photos", tmp_path / "new.resight")
    assert (made.photos, made.missing) == (11, ("000-0.jpg",))
    make_photos(tmp_path / "others", objects=1, first=50)
    with pytest.raises(UsageError, match="holds none of the 12 photos"):
        import_features(files / "x.h5", tmp_path / "others", tmp_path / "no.resight")
    assert not (tmp_path / "no.resight").exists()


def spoiled(files: Path, tmp_path: Path, change: Any) -> Path:
    shutil.copy(files / "x.h5", tmp_path / "bad.h5")
    with h5py.File(tmp_path / "bad.h5", "r+") as file:
        change(file)
    return tmp_path / "bad.h5"


def _link(file: Any) -> None:
    del file["000-0.jpg/keypoints"]
    file["000-0.jpg/keypoints"] = h5py.ExternalLink("/etc/passwd", "x")


def _replace(key: str, value: Any) -> Any:
    def change(file: Any) -> None:
        del file[f"000-1.jpg/{key}"]
        file[f"000-1.jpg/{key}"] = value

    return change


def _claim(file: Any) -> None:
    del file["000-1.jpg/descriptors"]
    file["000-1.jpg"].create_dataset("descriptors", (128, 1 << 34), "f4", chunks=(128, 1024))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_replace("keypoints", np.zeros((3, 2))), "are needed"),
        (_replace("keypoints", np.zeros(4)), "are needed"),
        (_replace("scores", np.full(3, np.nan)), "cannot be used"),
        (_replace("image_size", [3, 4]), "for 3 x 4 pixels, the photo"),
        (_claim, "claim to hold arrays"),
        (lambda file: file.clear(), "holds no groups with keypoints"),
    ],
)
def test_bad_hdf5_is_refused(change: Any, says: str, classic: Collection, files: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=says):
        import_features(spoiled(files, tmp_path, change), photos_of(classic), tmp_path / "new.resight")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.h5"]


def test_links_out_of_the_file_are_not_followed(classic: Collection, files: Path, tmp_path: Path) -> None:
    made = import_features(spoiled(files, tmp_path, _link), photos_of(classic), tmp_path / "new.resight")
    assert "000-0.jpg" not in made.collection.ids


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("UPDATE keypoints SET rows = rows + 1", "are damaged"),
        ("UPDATE keypoints SET rows = -1", "are damaged"),
        ("UPDATE keypoints SET data = 'text'", "are damaged"),
        ("UPDATE descriptors SET rows = 0, data = NULL", "keypoints and 0 descriptors"),
        ("UPDATE descriptors SET type = 9", "type 9"),
        ("UPDATE cameras SET width = 7", "for 7 x 240 pixels"),
        ("ALTER TABLE images RENAME TO old; CREATE VIEW images AS SELECT * FROM old", "no table images"),
        ("DROP TABLE descriptors", "no table descriptors"),
    ],
)
def test_bad_databases_are_refused(sql: str, says: str, classic: Collection, database: Path, tmp_path: Path) -> None:
    shutil.copy(database, tmp_path / "bad.db")
    with sqlite3.connect(tmp_path / "bad.db") as opened:
        opened.executescript(sql)
    opened.close()
    before = (tmp_path / "bad.db").read_bytes()
    with pytest.raises(UsageError, match=says):
        import_features(tmp_path / "bad.db", photos_of(classic), tmp_path / "new.resight")
    assert (tmp_path / "bad.db").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["bad.db"]


def test_bad_delf_is_refused(classic: Collection, files: Path, tmp_path: Path) -> None:
    whole = (files / "delf" / "000-0.delf").read_bytes()
    rng = np.random.default_rng(0)
    for cut in (1, len(whole) // 3 + 1, len(whole) - 1):
        (tmp_path / "000-0.delf").write_bytes(whole[:cut])
        with pytest.raises(UsageError, match="cannot read DELF features"):
            import_features(tmp_path, photos_of(classic), tmp_path / "new.resight")
    for _ in range(20):  # whatever bytes come, the error is ours
        (tmp_path / "000-0.delf").write_bytes(rng.integers(0, 256, 200, np.uint8).tobytes())
        with pytest.raises(UsageError):
            import_features(tmp_path, photos_of(classic), tmp_path / "new.resight")


def test_what_a_path_is(files: Path, database: Path, tmp_path: Path) -> None:
    assert [source_of(path) for path in (files / "x.h5", database, files / "delf")] == list(SOURCES)
    (tmp_path / "x.txt").write_text("no")
    for path in (tmp_path / "x.txt", tmp_path / "absent"):
        with pytest.raises(UsageError):
            source_of(path)


def test_the_command(classic: Collection, database: Path, tmp_path: Path) -> None:
    arguments = ["import", str(database), "--photos", str(photos_of(classic)), "--to", str(tmp_path / "a.resight")]
    printed = CliRunner().invoke(app, [*arguments, "--verified", str(tmp_path / "p.csv")])
    assert printed.exit_code == 0, printed.output
    assert "12 photos with features" in " ".join(printed.output.split())
    arguments[-1] = str(tmp_path / "b.resight")
    content = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert (content["photos"], content["missing"]) == (12, [])
    assert CliRunner().invoke(app, arguments[:2]).exit_code == 2
    assert CliRunner().invoke(app, arguments).exit_code == 2  # it is there already
