"""A COLMAP database: cameras, images, keypoints, descriptors, matches, and pairs that geometry verified.

COLMAP puts the centre of the top-left pixel at (0.5, 0.5), as resight does, and a feature's scale is its standard
deviation, half of OpenCV's diameter; angles turn from x to y in both. Each photo has a camera of its own with COLMAP's
guess of its focal length, 1.2 times the longer side. Matches are the tentative ones; a verified pair keeps the inliers
of the one transform that resight proves, and that transform as homography (`PLANAR_OR_PANORAMIC`). Inliers of one plane
are a safe start, not all that two views share: `pycolmap.verify_matches` finds the rest from the tentative matches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import UsageError
from resight.exchange.hloc_h5 import DIAMETER
from resight.exchange.lists import ranked_lists
from resight.exchange.photos import NamedPhotos, local_features, named_photos
from resight.exchange.request import Request, appearing
from resight.extras import needed
from resight.matching.geometry import Verification
from resight.types import LocalFeatures

FOCAL = 1.2  # times the longer side: COLMAP's default_focal_length_factor
SIFT_LEVELS = 512  # by which COLMAP multiplies a component of RootSIFT to store it as a byte


def write_database(request: Request) -> str:
    """Write the database. Raises `UsageError` without local features or pycolmap."""
    snapshot = request.collection.snapshot
    with needed("a COLMAP database"):
        import pycolmap as colmap
    photos = named_photos(snapshot)
    if snapshot.settings.local is None:
        raise UsageError(f"{snapshot.path} keeps no local features: index the photos with a recipe that has them")
    sift = snapshot.settings.local.features == "rootsift" and not snapshot.imported
    with appearing(request.out) as scratch, colmap.Database.open(scratch) as database:
        for position, features in local_features(snapshot, photos):
            image = _write_image(colmap, database, photos, position)
            database.write_keypoints(image, _keypoints(features))
            if sift and len(features):
                database.write_descriptors(image, _descriptors(colmap, features))
            request.progress("writing features", position + 1, len(photos))
        pairs, verified = 0, 0
        for a, b, proof in _proofs(request, photos):
            pairs += 1
            verified += proof.verified
            _write_pair(colmap, database, a + 1, b + 1, proof)
    return f"{len(photos)} images below {photos.folder}, {pairs} matched pairs, {verified} of them verified"


def _write_image(colmap: Any, database: Any, photos: NamedPhotos, position: int) -> int:
    """Camera, rig, image and frame of a photo, all with its number: its position and 1."""
    number, (width, height) = position + 1, photos.sizes[position].tolist()
    camera = colmap.Camera.create_from_model_name(number, "SIMPLE_RADIAL", FOCAL * max(width, height), width, height)
    database.write_camera(camera, use_camera_id=True)
    rig = colmap.Rig(rig_id=number)
    rig.add_ref_sensor(camera.sensor_id)
    database.write_rig(rig, use_rig_id=True)
    image = colmap.Image(name=photos.names[position], camera_id=number, image_id=number)
    database.write_image(image, use_image_id=True)
    frame = colmap.Frame(frame_id=number, rig_id=number)
    frame.add_data_id(image.data_id)
    database.write_frame(frame, use_frame_id=True)
    return number


def _keypoints(features: LocalFeatures) -> NDArray[np.float32]:
    """x, y, scale and angle, (n, 4)."""
    columns = (features.xy, features.scale[:, None] / DIAMETER, features.angle[:, None])
    return np.concatenate(columns, axis=1).astype(np.float32)


def _descriptors(colmap: Any, features: LocalFeatures) -> Any:
    """RootSIFT as COLMAP stores it, (n, 128) uint8."""
    stored = np.clip(np.rint(features.descriptors * SIFT_LEVELS), 0, 255).astype(np.uint8)
    return colmap.FeatureDescriptors(type=colmap.FeatureExtractorType.SIFT, data=stored)


def _proofs(request: Request, photos: NamedPhotos) -> Iterator[tuple[int, int, Verification]]:
    """Every pair of photos of which one is in the other's list, once, with what geometry says about it."""
    snapshot = request.collection.snapshot
    done: set[tuple[int, int]] = set()
    for position, found, _ in ranked_lists(request, photos):
        pairs = {(position, other): (min(position, other), max(position, other)) for other in found.tolist()}
        new = [pair[1] for pair, ordered in pairs.items() if ordered not in done]
        done.update(pairs.values())
        if new and snapshot.verifier is not None:
            proofs = snapshot.verifier(snapshot.features(int(photos.rows[position])), photos.rows[new])
            yield from ((position, other, proof) for other, proof in zip(new, proofs, strict=True))


def _write_pair(colmap: Any, database: Any, a: int, b: int, proof: Verification) -> None:
    matches = proof.correspondences.astype(np.uint32)
    database.write_matches(a, b, matches)
    if proof.verified:
        plane = colmap.TwoViewGeometryConfiguration.PLANAR_OR_PANORAMIC
        geometry = colmap.TwoViewGeometry(config=plane, H=proof.transform, inlier_matches=matches[proof.mask])
        database.write_two_view_geometry(a, b, geometry)
