from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from onnx_factory import write_network
from resight.errors import ArrayError, UsageError
from resight.features.extraction import Blend, extract
from resight.features.global_descriptor import GlobalDescriptor
from resight.features.networks.open import open_backbone
from resight.features.pooling import gem, mac


@pytest.fixture(scope="module")
def descriptor(tmp_path_factory):
    network = open_backbone(write_network(tmp_path_factory.mktemp("network") / "net.onnx"))
    return GlobalDescriptor(network, gem, "gem", max_side=64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(100):
        size = (40, 56) if number % 3 else (48, 40)
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(place / f"{number:03}.png")
    (place / "010.png").write_bytes(b"")
    (place / "047.png").write_bytes((place / "047.png").read_bytes()[:900])
    (place / "099.png").write_bytes(b"no photo at all")
    return place


def test_of_100_photos_with_3_broken_ones_97_have_a_vector(descriptor, folder):
    paths = sorted(str(path) for path in folder.iterdir())
    seen = []
    found = extract(descriptor, paths, progress=lambda *step: seen.append(step[1:]))
    assert (found.vectors.shape, len(found.problems)) == ((97, 16), 3)
    assert [path[-7:] for path, _ in found.problems] == ["010.png", "047.png", "099.png"]
    assert [problem.kind for _, problem in found.problems] == ["empty", "truncated", "not-an-image"]
    assert found.places.tolist() == [place for place in range(100) if place not in (10, 47, 99)]
    pixels = np.asarray(Image.open(folder / "050.png"))
    np.testing.assert_allclose(found.vectors[48], descriptor(pixels), atol=1e-5)
    assert seen[-1] == (100, 100)


def test_vectors_are_written_into_a_given_array(descriptor, folder):
    paths = sorted(str(path) for path in folder.iterdir())[:9]
    out = np.empty((9, 16), np.float32)
    assert np.shares_memory(extract(descriptor, paths, out=out).vectors, out)
    with pytest.raises(ArrayError, match=r"expected \(9, 16\)"):
        extract(descriptor, paths, out=np.empty((9, 15), np.float32))
    assert extract(descriptor, []).vectors.shape == (0, 16)


def test_a_blend_stands_side_by_side(descriptor, folder):
    other = GlobalDescriptor(descriptor.backbone, mac, "mac", max_side=64)
    blend = Blend((descriptor, other))
    pixels = np.asarray(Image.open(folder / "050.png"))
    vector, small = blend.describe([pixels, np.zeros((2, 50, 3), np.uint8)])
    np.testing.assert_allclose(vector, np.r_[descriptor(pixels), other(pixels)] / np.sqrt(2), atol=1e-6)
    assert (blend.dim, small.kind) == (32, "too-small")
    assert blend.fingerprint != Blend((other, descriptor)).fingerprint
    with pytest.raises(UsageError, match="at least two"):
        Blend((descriptor,))
