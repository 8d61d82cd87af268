"""A collection with the conventions of scikit-learn's neighbours."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from photo_factory import SMALL, make_photos, spoil
from resight.exchange.neighbours import PhotoNeighbors


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    photos = make_photos(tmp_path_factory.mktemp("sk") / "photos", objects=4)
    return [photos.folder / name for name in reversed(photos.names)]  # not in the order of rows


@pytest.fixture(scope="module")
def fitted(paths: list[Path]) -> PhotoNeighbors:
    return PhotoNeighbors(2, parameters=SMALL, jobs=1).fit(paths)


def test_samples_find_the_others_of_their_thing(fitted: PhotoNeighbors, paths: list[Path]) -> None:
    distances, indices = fitted.kneighbors()
    assert distances.shape == indices.shape == (12, 2)
    assert (np.diff(distances, axis=1) >= 0).all()
    things = np.array([path.name[:3] for path in paths])
    assert (things[indices] == things[:, None]).all()
    assert (indices != np.arange(12)[:, None]).all()
    np.testing.assert_array_equal(fitted.kneighbors(return_distance=False), indices)


def test_a_sample_as_a_query_is_its_own_nearest(fitted: PhotoNeighbors, paths: list[Path]) -> None:
    _, indices = fitted.kneighbors(paths[:3], n_neighbors=1)
    assert indices.ravel().tolist() == [0, 1, 2]


def test_distances_are_scores(fitted: PhotoNeighbors, paths: list[Path]) -> None:
    distances, indices = fitted.kneighbors([paths[5]], n_neighbors=12)
    scores = {r.row: r.score for r in fitted.collection_.search(paths[5], top=12).results}
    for distance, row in zip(distances[0], fitted.rows_[indices[0]], strict=True):
        assert distance == (-scores[row] if row in scores else np.inf)
    assert sorted(indices[0]) == list(range(12))


def test_conventions(fitted: PhotoNeighbors, paths: list[Path], tmp_path: Path) -> None:
    assert clone(fitted).get_params() == fitted.get_params()
    assert set(fitted.get_params()) == {"n_neighbors", "recipe", "parameters", "collection", "jobs"}
    assert "n_neighbors=2" in repr(fitted)
    with pytest.raises(NotFittedError):
        PhotoNeighbors().kneighbors()
    for k in (0, 12):
        with pytest.raises(ValueError, match="give 1 to 11"):
            fitted.kneighbors(n_neighbors=k)
    kept = PhotoNeighbors(1, parameters=SMALL, collection=tmp_path / "kept.resight").fit(paths[:3])
    assert kept.set_params(n_neighbors=2).kneighbors(return_distance=False).shape == (3, 2)
    assert (tmp_path / "kept.resight").is_dir()


@pytest.mark.parametrize("wrong", ["empty", "twice", "broken"])
def test_what_cannot_be_fitted(wrong: str, paths: list[Path], tmp_path: Path) -> None:
    broken: Any = tmp_path / "bad" / spoil(tmp_path / "bad")[0]
    given = {"empty": [], "twice": [paths[0], paths[0]], "broken": [paths[0], broken]}[wrong]
    with pytest.raises(ValueError, match=r"no photos to fit|cannot be read|given twice"):
        PhotoNeighbors(1, parameters=SMALL).fit(given)
