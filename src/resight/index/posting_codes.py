"""How the postings of a word lie in memory and on disk: image numbers by Rice codes, signatures lane by lane.

The images of a word ascend, so their gaps say all. Of every gap the low bits come first, one image after the other,
then for every image as many zeros as the rest of its gap says, and a one. How many bits are low follows from the number
of images and postings alone. This takes a few percent more than the least that any code of random gaps can.

Lane l of a signature is its l-th 32 bits. Lane 0 of all postings of a word lie together, then lane 1, and so on, so
that a kernel compares 16 postings with one instruction.

Paper: Rice and Plaunt, "Adaptive variable-length coding for efficient compression of spacecraft television data", IEEE
Transactions on Communication Technology 1971; Witten, Moffat and Bell, "Managing Gigabytes", 1999, chapter 3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from resight.bits import bits_from, trailing_zeros

Array = NDArray[Any]
U = np.uint64
LANE_BITS = 32
PADDING = 64  # lanes behind the last, which a kernel that takes many postings at a time may read
CHUNK = 256  # postings that a kernel decodes at a time


def given(kind: Any, dimensions: int = 1) -> Any:
    """The type of a C-contiguous argument that is only read, so that frozen arrays need no second compilation."""
    return types.Array(kind, dimensions, "C", readonly=True)


STARTS, CODES, LANES = given(types.uint32), given(types.uint64), given(types.uint32)
IMAGES, ROWS = given(types.uint16), given(types.int64)


@njit(inline="always")
def low_bits(images: Any, postings: Any) -> Any:
    """Low bits of every gap in a list of so many `postings` of `images`: ln 2 times the mean gap, as a power of two."""
    gap = (U(images) * U(693)) // (U(postings) * U(1000))
    bits = U(0)
    while gap > U(1):
        gap >>= U(1)
        bits += U(1)
    return bits


@njit(types.Tuple((types.int64[::1], types.uint64[::1]))(STARTS, IMAGES, types.int64), cache=True, nogil=True)
def encode(offsets: Array, images: Array, count: int) -> tuple[Array, Array]:
    """Codes of `images` (P,) of words `offsets` (W + 1,), among `count` images: where each word begins, in bits,
    (W + 1,) int64, and the codes, uint64, the last of which is 0.
    """
    begins = np.zeros(len(offsets), np.int64)
    for w in range(len(offsets) - 1):
        size, before = np.int64(0), np.int64(-1)
        low = np.int64(low_bits(count, max(offsets[w + 1] - offsets[w], 1)))
        for p in range(offsets[w], offsets[w + 1]):
            size += low + 1 + ((np.int64(images[p]) - before - 1) >> low)
            before = np.int64(images[p])
        begins[w + 1] = begins[w] + size
    codes = np.zeros((begins[-1] >> 6) + 2, np.uint64)
    for w in range(len(offsets) - 1):
        postings, before = np.int64(offsets[w + 1]) - np.int64(offsets[w]), np.int64(-1)
        low = np.int64(low_bits(count, max(postings, 1)))
        place, unary = begins[w], begins[w] + postings * low
        for p in range(offsets[w], offsets[w + 1]):
            gap = np.int64(images[p]) - before - 1
            before = np.int64(images[p])
            unary += gap >> low
            codes[unary >> 6] |= U(1) << U(unary & 63)
            unary += 1
            rest = U(gap & ((1 << low) - 1))
            codes[place >> 6] |= rest << U(place & 63)
            if (place & 63) + low > 64:
                codes[(place >> 6) + 1] |= rest >> U(64 - (place & 63))
            place += low
    return begins, codes


@njit(inline="always")
def open_list(offsets: Array, begins: Array, codes: Array, word: Any, count: Any) -> Any:
    """The state of a reader at the start of the list of `word`: its low bits, the place of the next low bits, the place
    of the last one that was read, the bits that are at hand, their place / 64, the last place / 64, the image before.

    The low bits are 64 where the list cannot be one: it ends before its low bits do.
    """
    postings = U(offsets[word + 1]) - U(offsets[word])
    low = low_bits(count, max(postings, U(1)))
    place = U(begins[word])
    unary = place + postings * low
    if unary + postings > U(begins[word + 1]):
        return U(64), place, unary, U(0), U(0), U(0), U(0)
    at = unary >> U(6)
    hand = codes[at] & ((U(0) - U(1)) << (unary & U(63)))
    return low, place, unary - U(1), hand, at, (U(begins[word + 1]) - U(1)) >> U(6), U(0) - U(1)


@njit(inline="always")
def read_chunk(codes: Array, state: Any, size: Any, images: Array) -> Any:
    """Write the next `size` images of a list, and give the state behind them; its low bits are 64 where the list ends
    too early."""
    low, place, last, hand, at, end, image = state
    mask = (U(1) << low) - U(1)
    for j in range(size):
        while hand == U(0):
            at += U(1)
            if at > end:
                return U(64), place, last, hand, at, end, image
            hand = codes[at]
        found = (at << U(6)) + trailing_zeros(hand)
        hand &= hand - U(1)
        image += U(1) + (((found - last - U(1)) << low) | (bits_from(codes, place) & mask))
        last = found
        place += low
        images[j] = image
    return low, place, last, hand, at, end, image


@njit(types.int64(STARTS, STARTS, CODES, types.int64, types.uint16[::1]), cache=True, nogil=True)
def decode(offsets: Array, begins: Array, codes: Array, count: int, images: Array) -> int:
    """Write the images of all postings, (P,), and give -1, or the first word whose list is no list."""
    chunk = np.empty(CHUNK, np.uint32)
    for w in range(len(offsets) - 1):
        start, size = np.int64(offsets[w]), np.int64(offsets[w + 1]) - np.int64(offsets[w])
        if size == 0:
            continue
        state = open_list(offsets, begins, codes, w, count)
        for first in range(0, size, CHUNK):
            part: Any = min(CHUNK, size - first)
            if state[0] < U(64):
                state = read_chunk(codes, state, U(part), chunk)
            if state[0] == U(64) or state[-1] >= U(count):
                return int(w)
            for j in range(part):
                images[start + first + j] = chunk[j]
    return -1


@njit(types.int64(STARTS, STARTS, CODES, types.int64, types.int64, ROWS, types.int64[::1]), cache=True, nogil=True)
def find_image(offsets: Array, begins: Array, codes: Array, count: int, image: int, words: Array, found: Array) -> int:
    """Write where among the postings of each of `words` (w,) `image` stands, -1 where not. Gives as `decode`."""
    chunk = np.empty(CHUNK, np.uint32)
    for i in range(len(words)):
        w = words[i]
        found[i] = -1
        size = np.int64(offsets[w + 1]) - np.int64(offsets[w])
        if size == 0:
            continue
        state = open_list(offsets, begins, codes, w, count)
        for first in range(0, size, CHUNK):
            part: Any = min(CHUNK, size - first)
            if state[0] < U(64):
                state = read_chunk(codes, state, U(part), chunk)
            if state[0] == U(64) or state[-1] >= U(count):
                return int(w)
            if state[-1] >= U(image):
                place = np.searchsorted(chunk[:part], np.uint32(image))
                if chunk[place] == image:
                    found[i] = first + place
                break
    return -1


@njit(types.void(STARTS, given(types.uint32, 2), types.uint32[::1]), cache=True, nogil=True)
def to_lanes(offsets: Array, signatures: Array, lanes: Array) -> None:
    """Write `signatures` (P, L) uint32 lane by lane within every word, (P * L + `PADDING`,)."""
    width = signatures.shape[1]
    for w in range(len(offsets) - 1):
        start, size = np.int64(offsets[w]), np.int64(offsets[w + 1]) - np.int64(offsets[w])
        for lane in range(width):
            for j in range(size):
                lanes[start * width + lane * size + j] = signatures[start + j, lane]


@njit(types.void(STARTS, LANES, types.uint32[:, ::1]), cache=True, nogil=True)
def from_lanes(offsets: Array, lanes: Array, signatures: Array) -> None:
    """What `to_lanes` was given."""
    width = signatures.shape[1]
    for w in range(len(offsets) - 1):
        start, size = np.int64(offsets[w]), np.int64(offsets[w + 1]) - np.int64(offsets[w])
        for lane in range(width):
            for j in range(size):
                signatures[start + j, lane] = lanes[start * width + lane * size + j]


def lanes_of(values: NDArray[np.uint64], bits: int, planes: int = 1) -> NDArray[np.uint32]:
    """Signatures (m, planes * ceil(B / 64)) uint64, first bit highest, in lanes (m, planes * ceil(B / 32)) uint32."""
    halves = np.stack([values >> U(32), values & U(0xFFFFFFFF)], axis=-1).astype(np.uint32)
    width = -(-bits // LANE_BITS)
    by_plane = halves.reshape(len(values), planes, 2 * values.shape[1] // planes)[:, :, :width]
    return np.ascontiguousarray(by_plane.reshape(len(values), planes * width))
