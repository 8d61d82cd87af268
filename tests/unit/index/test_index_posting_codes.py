import numpy as np
import pytest

from resight.index.posting_codes import PADDING, decode, encode, find_image, from_lanes, lanes_of, to_lanes

RNG = np.random.default_rng(5)


def lists(count, sizes):
    """Offsets and images of random lists of these sizes among `count` images."""
    images = [np.sort(RNG.choice(count, size, replace=False)) for size in sizes]
    return np.append(0, np.cumsum(sizes)).astype(np.uint32), np.concatenate(images).astype(np.uint16)


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (1, [1, 0, 1]),
        (65536, [65536, 0, 1, 2, 300, 7000]),
        (65536, [0, 0]),
        (65536, [1] * 50),
        (500, list(RNG.integers(0, 501, 40))),
        (4097, list(RNG.integers(0, 30, 300))),
    ],
)
def test_what_is_coded_is_read_back(count, sizes):
    offsets, images = lists(count, sizes)
    begins, codes = encode(offsets, images, count)
    found = np.full(len(images), 7, np.uint16)
    assert decode(offsets, begins.astype(np.uint32), codes, count, found) == -1
    np.testing.assert_array_equal(found, images)


def test_codes_come_close_to_what_random_gaps_need():
    count, sizes = 65536, [60, 250, 1000, 4000]
    offsets, images = lists(count, sizes)
    begins, _ = encode(offsets, images, count)
    chance = np.array(sizes) / count
    least = -(chance * np.log2(chance) + (1 - chance) * np.log2(1 - chance)) * count
    np.testing.assert_array_less(np.diff(begins), 1.05 * least + 16)


def test_an_image_is_found_where_it_is():
    offsets, images = lists(3000, [0, 5, 900, 3000])
    begins, codes = encode(offsets, images, 3000)
    words, found = np.array([0, 1, 2, 3]), np.empty(4, np.int64)
    for image in (0, 17, 2999, int(images[3]), int(images[100])):
        assert find_image(offsets, begins.astype(np.uint32), codes, 3000, image, words, found) == -1
        for word in words:
            held = np.flatnonzero(images[offsets[word] : offsets[word + 1]] == image)
            assert found[word] == (held[0] if len(held) else -1)


def test_damaged_codes_are_noticed_or_read_within_bounds():
    offsets, images = lists(1000, [300, 0, 200, 50])
    begins, codes = encode(offsets, images, 1000)
    begins, found = begins.astype(np.uint32), np.empty(len(images), np.uint16)
    assert decode(offsets, begins, np.zeros_like(codes), 1000, found) == 0
    shorter = begins.copy()
    shorter[3:] = shorter[2] + 100
    assert decode(offsets, shorter, codes, 1000, found) == 2
    assert decode(offsets, begins, codes, 900, found) >= 0
    for _ in range(200):
        broken = codes.copy()
        broken[RNG.integers(len(codes))] ^= np.uint64(RNG.integers(1 << 62))
        if decode(offsets, begins, broken, 1000, found) < 0:
            assert found.max() < 1000


@pytest.mark.parametrize(("bits", "width"), [(128, 4), (96, 3), (64, 2), (40, 2), (24, 1)])
def test_lanes_hold_the_bits_of_signatures(bits, width):
    plain = RNG.integers(0, 2, (9, 3, bits))
    octets = np.pad(np.packbits(plain, axis=2), ((0, 0), (0, 0), (0, -(-bits // 64) * 8 - -(-bits // 8))))
    values = octets.view(">u8").astype(np.uint64).reshape(9, -1)
    lanes = lanes_of(values, bits, 3)
    assert lanes.shape == (9, 3 * width)
    bits_of = np.unpackbits(lanes.astype(">u4").view(np.uint8), axis=1).reshape(9, 3, -1)[:, :, :bits]
    np.testing.assert_array_equal(bits_of, plain)


def test_lanes_lie_together_within_a_word():
    offsets = np.array([0, 2, 2, 5], np.uint32)
    plain = np.arange(15, dtype=np.uint32).reshape(5, 3)
    lanes = np.zeros(15 + PADDING, np.uint32)
    to_lanes(offsets, plain, lanes)
    assert lanes[:15].tolist() == [0, 3, 1, 4, 2, 5, 6, 9, 12, 7, 10, 13, 8, 11, 14]
    back = np.empty_like(plain)
    from_lanes(offsets, lanes, back)
    np.testing.assert_array_equal(back, plain)
