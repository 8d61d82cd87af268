"""Local features as bytes and back."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from photo_factory import picture
from resight.errors import CollectionError
from resight.features.local.packed import empty_features, pack, unpack
from resight.features.local.rootsift import RootSift
from resight.types import LocalFeatures


def test_pack_and_unpack():
    features = RootSift(count=200)(picture(3))
    packed = pack(features)
    again = unpack(packed)
    assert len(packed) == 20 + 200 * (14 + 128)
    assert np.array_equal(again.xy, features.xy)
    for name in ("scale", "angle"):
        assert getattr(again, name) == pytest.approx(getattr(features, name), rel=1e-3, abs=1e-3)
    assert again.strength == pytest.approx(features.strength, rel=1e-3)
    error = np.linalg.norm(again.descriptors - features.descriptors, axis=1)
    assert error.max() < 0.02
    assert pack(again) == packed


def test_pack_values_beyond_half_precision():
    big = LocalFeatures([[1e6, 2e6]], [1e6], [0], [1e30], [[1.0, 1.0]])
    again = unpack(pack(big))
    assert again.xy.tolist() == [[1e6, 2e6]]
    assert (again.scale[0], again.strength[0]) == (65504, 65504)
    assert again.descriptors.tolist() == [[1, 1]]


def test_pack_nothing():
    for dim in (0, 128):
        again = unpack(pack(empty_features(dim)))
        assert (len(again), again.dim) == (0, dim)


def damaged(packed):
    nan = struct.pack("<f", float("nan"))
    yield b""
    yield packed[:10]
    yield packed[:-1]
    yield packed + b"x"
    yield b"JUNK" + packed[4:]
    yield packed[:4] + b"\x09\x00" + packed[6:]  # version
    yield packed[:8] + b"\xff\xff\xff\xff" + packed[12:]  # count
    yield packed[:20] + nan + packed[24:]  # a position
    yield packed[:12] + nan + packed[16:]  # lowest component


def test_damaged_bytes_are_refused():
    packed = pack(RootSift(count=20)(picture(4)))
    assert len(unpack(packed)) == 20
    for data in damaged(packed):
        with pytest.raises(CollectionError, match="resight check"):
            unpack(data)


@pytest.mark.parametrize("seed", range(20))
def test_random_damage_never_gets_through_as_another_error(seed):
    rng = np.random.default_rng(seed)
    packed = bytearray(pack(RootSift(count=10)(picture(4))))
    for place in rng.integers(0, len(packed), 8):
        packed[place] = rng.integers(256)
    try:
        found = unpack(bytes(packed))
    except CollectionError:
        return
    assert np.isfinite(found.xy).all()
