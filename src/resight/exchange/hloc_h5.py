"""Features for hloc: an HDF5 file with a group per photo, named by its path below the folder of the photos.

| data set | holds |
|---|---|
| keypoints | (n, 2) x, y in pixels of the photo as it is |
| descriptors | (D, n) in half precision, as hloc's default is: columns are descriptors |
| scores, scales, oris | (n,) strength, pixels (standard deviation), degrees |
| image_size | (2,) width, height |
| global_descriptor | (D,) where the collection has one |

hloc counts from the centre of the top-left pixel: that is (0, 0) in its files and (0.5, 0.5) in `LocalFeatures`
(`hloc/extract_features.py` scales `keypoints + 0.5` and takes the half away again; `hloc/triangulation.py` adds it
for COLMAP). Scales are half of resight's, which are OpenCV's diameters.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from resight.evaluation.array_files import open_h5
from resight.exchange.photos import NamedPhotos, local_features, named_photos
from resight.exchange.request import Request, appearing
from resight.types import Float32, LocalFeatures

HALF_PIXEL = np.float32(0.5)  # from the centre of the top-left pixel to its corner
DIAMETER = np.float32(2)  # of a feature, in standard deviations of its scale


def write_features(request: Request) -> str:
    """Write the features. Raises `UsageError` when the collection keeps none or h5py is missing."""
    snapshot = request.collection.snapshot
    photos = named_photos(snapshot)
    vectors = _vectors(request, photos)
    with appearing(request.out) as scratch, open_h5(scratch, "w") as file:
        if snapshot.settings.local is not None:
            for position, features in local_features(snapshot, photos):
                _write_local(file.create_group(photos.names[position]), features)
                request.progress("writing features", position + 1, len(photos))
        for position, name in enumerate(photos.names):
            group = file.require_group(name)
            group["image_size"] = photos.sizes[position]
            if position in vectors:
                group["global_descriptor"] = vectors[position]
    return f"features of {len(photos)} photos, named by their paths below {photos.folder}"


def _write_local(group: Any, features: LocalFeatures) -> None:
    group["keypoints"] = features.xy - HALF_PIXEL
    group["keypoints"].attrs["uncertainty"] = 1.0  # pixels, as hloc writes for detectors that do not say
    group["descriptors"] = features.descriptors.T.astype(np.float16)
    group["scores"] = features.strength
    group["scales"] = features.scale / DIAMETER
    group["oris"] = np.rad2deg(features.angle)


def _vectors(request: Request, photos: NamedPhotos) -> dict[int, Float32]:
    """Global descriptors by position of the photo; empty without them."""
    if request.collection.snapshot.settings.vector is None:
        return {}
    rows, matrix = request.collection.vectors()
    known = np.isin(rows, photos.rows)
    places = photos.place(rows[known]).tolist()
    return dict(zip(places, np.asarray(matrix, np.float32)[known], strict=True))
