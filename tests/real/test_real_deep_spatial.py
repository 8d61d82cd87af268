"""Deep spatial matching of real photographs: views of one object against views of others."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from resight.features.networks.open import open_backbone
from resight.matching.deep_spatial import describe, verify_regions

DATA = Path(__file__).parents[2] / "../shared/data"
OBJECTS = ("kermit", "et", "sacre_coeur", "lund")


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "landmarks").is_dir(), reason=f"no photographs and networks at {DATA}")
def test_views_of_one_object_have_more_inliers_than_views_of_others():
    network = open_backbone(DATA / "backbones/resnet101v2_c4.onnx")
    paths = [path for name in OBJECTS for path in sorted((DATA / "landmarks" / name).glob("*.jpg"))[:2]]
    photos = [np.ascontiguousarray(cv2.imread(str(path))[:, :, ::-1]) for path in paths]
    query, database = (
        [describe(network, photo, query=side, max_side=640) for photo in photos] for side in (True, False)
    )
    found = [verify_regions(one, database) for one in query]
    inliers = np.array([[one.inliers for one in row] for row in found])
    place = np.arange(len(paths))
    same = (place[:, None] // 2 == place // 2) & (place[:, None] != place)
    different = place[:, None] // 2 != place // 2
    assert inliers[same].min() > 1.4 * inliers[different].max(), inliers
    verified = np.array([[one.verified for one in row] for row in found])
    assert verified[same].mean() >= 0.75
    assert verified[different].mean() <= 0.05
    for i in place:
        assert np.abs(found[i][i].transform[:2, :2] - np.eye(2)).max() < 0.02
