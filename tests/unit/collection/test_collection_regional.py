"""A collection whose features are aggregated region by region."""

from __future__ import annotations

import json

import numpy as np
import pytest

from onnx_factory import write_network
from photo_factory import HEIGHT, WIDTH, make_photos
from resight.collection import create_collection
from resight.errors import UsageError
from resight.features.local.regions import grid_regions, members, read_boxes
from resight.index.regional import aggregate_regions

OPTIONS = {"features": "delf-r", "dim": 8, "count": 200, "words": 16, "scales": [1.0, 0.5], "max_side": 320,
           "enlarge_below": 0}  # fmt: skip


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return str(write_network(tmp_path_factory.mktemp("net") / "net.onnx"))


def expected(collection, regions):
    """What the regions of each photo add up to, from the features that are stored."""
    index, snapshot = collection.snapshot.index, collection.snapshot
    from resight.artifacts.inverted_file import features_of

    features = features_of(snapshot.tables, index.rows)
    inside = [members(image.xy, boxes) for image, boxes in zip(features, regions, strict=True)]
    return aggregate_regions(index.codebook, index.rows, [image.descriptors for image in features], inside, True)


def postings(index):
    (segment,) = index._snapshot.segments
    (lane,) = segment.plain_values().astype(np.uint64).T  # the first half of a signature is enough for 8 dimensions
    return np.sort(lane << np.uint64(32))


def test_the_index_holds_the_sums_over_the_grid(network, tmp_path):
    photos = make_photos(tmp_path / "photos", 3)
    collection = create_collection(tmp_path / "c.resight", "classic", {**OPTIONS, "backbone": network})
    collection.add([photos.folder])
    index = collection.snapshot.index
    grid = [grid_regions(WIDTH, HEIGHT, 2)] * len(index.rows)
    np.testing.assert_array_equal(postings(index), np.sort(expected(collection, grid).values.ravel()))
    whole = [grid_regions(WIDTH, HEIGHT, 1)[:1]] * len(index.rows)
    assert not np.array_equal(postings(index), np.sort(expected(collection, whole).values.ravel()))
    name = photos.groups[0][0]
    assert collection.search(name).results


def test_boxes_of_a_file(network, tmp_path):
    photos = make_photos(tmp_path / "photos", 2)
    first = photos.groups[0][0]
    boxes = {first: [[20, 30, 100, 90], [-50, 10, 120, 60], [WIDTH + 5, 0, 10, 10]]}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    options = {**OPTIONS, "backbone": network, "boxes": str(tmp_path / "boxes.json")}
    collection = create_collection(tmp_path / "c.resight", "classic", options)
    collection.add([photos.folder])
    whole = [0, 0, WIDTH, HEIGHT]
    own = np.array([whole, [20, 30, 120, 120], [0, 10, 70, 70]], float)
    ids = {row: photo for photo, row in collection.ids.items()}
    index = collection.snapshot.index
    regions = [own if ids[row] == first else np.array([whole], float) for row in index.rows.tolist()]
    np.testing.assert_array_equal(postings(index), np.sort(expected(collection, regions).values.ravel()))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "holds list"),
        ('{"a.jpg": [[1, 2, 3]]}', "the boxes of a.jpg are not lists"),
        ('{"a.jpg": [[1, 2, 0, 5]]}', "a box of a.jpg is empty"),
    ],
)
def test_files_that_hold_no_boxes(tmp_path, content, message):
    path = tmp_path / "boxes.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=message):
        read_boxes(str(path))
    with pytest.raises(UsageError, match="cannot open"):
        read_boxes(str(tmp_path / "absent.json"))
