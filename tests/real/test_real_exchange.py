"""Exported databases against COLMAP's own features of real photos; skipped where they are not at hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resight.collection import create_collection
from resight.exchange.formats import export
from resight.exchange.request import Request

PHOTOS = Path(__file__).parents[2] / "../shared/data/landmarks/sacre_coeur"
PHOTO = "60584745_2207571072.jpg"


@pytest.fixture(scope="module")
def pycolmap() -> Any:
    if not PHOTOS.exists():
        pytest.skip(f"{PHOTOS} is not at hand")
    return pytest.importorskip("pycolmap")


@pytest.fixture(scope="module")
def exported(pycolmap: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of ten photos, and its pairs."""
    del pycolmap  # skipped without it
    base = tmp_path_factory.mktemp("colmap")
    collection = create_collection(base / "x.resight")
    collection.add([PHOTOS])
    export("colmap-db", Request(collection, base / "x.db"))
    export("hloc-pairs", Request(collection, base / "pairs.txt"))
    return base / "x.db"


def read(pycolmap: Any, path: Path) -> tuple[Any, ...]:
    """Positions, scales, angles and normalised descriptors of the photo."""
    with pycolmap.Database.open(path) as database:
        image = database.read_image_with_name(PHOTO).image_id
        points = database.read_keypoints(image)
        descriptors = np.asarray(database.read_descriptors(image).data, np.float32)
    if points.shape[1] == 6:  # an affine shape, by rows
        scale = np.sqrt(np.abs(points[:, 2] * points[:, 5] - points[:, 3] * points[:, 4]))
        angle = np.arctan2(points[:, 4], points[:, 2])
    else:
        scale, angle = points[:, 2], points[:, 3]
    return points[:, :2], scale, angle, descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)


@pytest.mark.slow
def test_keypoints_mean_what_those_of_colmap_mean(pycolmap: Any, exported: Path, tmp_path: Path) -> None:
    options = pycolmap.FeatureExtractionOptions()
    options.num_threads, options.use_gpu = 1, False
    pycolmap.extract_features(tmp_path / "own.db", PHOTOS, image_names=[PHOTO], extraction_options=options,
                              device=pycolmap.Device.cpu)  # fmt: skip
    xy, scale, angle, descriptors = read(pycolmap, exported)
    theirs = read(pycolmap, tmp_path / "own.db")
    nearest = (descriptors @ theirs[3].T).argmax(axis=1)
    moved = xy - theirs[0][nearest]
    same = np.linalg.norm(moved, axis=1) < 2
    assert same.mean() > 0.6
    assert np.abs(np.median(moved[same], axis=0)).max() < 0.25  # half a pixel would be another convention
    assert np.median(scale[same] / theirs[1][nearest][same]) == pytest.approx(1, abs=0.05)
    turned = np.angle(np.exp(1j * (angle[same] - theirs[2][nearest][same])))
    assert abs(np.median(turned)) < 0.02
    cosines = (descriptors * theirs[3][nearest]).sum(axis=1)[same]
    assert np.median(cosines) > 0.97


@pytest.mark.slow
def test_colmap_verifies_the_matches_itself(pycolmap: Any, exported: Path) -> None:
    with pycolmap.Database.open(exported) as database:
        before = database.num_verified_image_pairs(), database.num_inlier_matches()
    assert before[0] >= 20
    pycolmap.verify_matches(exported, exported.with_name("pairs.txt"))
    with pycolmap.Database.open(exported) as database:
        assert database.num_verified_image_pairs() >= before[0]
        assert database.num_inlier_matches() > before[1]
