"""Training photos as pixels and as batches of tensors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from resight.errors import ImageError, UsageError
from resight.features.networks.backbone import IMAGENET_MEAN, IMAGENET_STD, Triple
from resight.images.decode import decode
from resight.images.loader import map_ordered
from resight.training.tuples.augmentation import Pixels
from resight.types import Float32, Int64

KEPT_BYTES = 1 << 30  # of decoded photos that are kept for the next epoch
BATCH_PIXELS = 2**20  # of one forward pass without gradients
AHEAD = 32  # photos decoded beyond the ones the network has


@dataclass(frozen=True, eq=False)
class Photos:
    """Photo `files`, decoded with their longest side at most `side`; the first `kept` bytes of them stay in memory.

    `mean` and `std` of RGB in [0, 1] are removed from what a network sees.
    """

    files: Sequence[str]
    side: int
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    kept: int = KEPT_BYTES
    _held: dict[int, Pixels] = field(default_factory=dict, repr=False)
    _room: list[int] = field(default_factory=list, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def pixels(self, row: int) -> Pixels:
        """Pixels (H, W, 3) uint8 of a photo; may be called in threads. Raises `UsageError` when it cannot be decoded:
        what is left out of a training without a word would make its result another one."""
        found = self._held.get(row)
        if found is not None:
            return found
        try:
            pixels = decode(self.files[row], max_side=self.side).pixels
        except ImageError as error:
            raise UsageError(
                f"{error}; until then training cannot go on, or leave the photo out of the data"
            ) from error
        with self._lock:
            if not self._room:
                self._room.append(self.kept)
            if row not in self._held and pixels.nbytes <= self._room[0]:
                self._room[0] -= pixels.nbytes
                self._held[row] = pixels
        return pixels

    def tensor(self, images: Sequence[Pixels]) -> Tensor:
        """Images of one size as a network takes them, (N, 3, H, W) float32, in memory with the channels last."""
        mean, std = (torch.tensor(three, dtype=torch.float32)[:, None, None] for three in (self.mean, self.std))
        stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        return (stacked.float() / 255 - mean) / std


def by_size(images: Sequence[Pixels], pixels: int | None = None) -> list[list[int]]:
    """Places of `images` in batches of one size, of up to so many `pixels`, in the order of their first ones."""
    batches: dict[tuple[int, ...], list[list[int]]] = {}
    for place, image in enumerate(images):
        lists = batches.setdefault(image.shape, [[]])
        most = len(images) if pixels is None else max(1, pixels // (image.shape[0] * image.shape[1]))
        if len(lists[-1]) == most:
            lists.append([])
        lists[-1].append(place)
    return [places for lists in batches.values() for places in lists]


def forward(
    network: Callable[[Tensor], Tensor],
    photos: Photos,
    images: Sequence[Pixels],
    device: torch.device,
    pixels: int | None = None,
) -> Tensor:
    """Descriptors (n, D) of images of any size, with gradients: those of equal size go through the network together, up
    to so many `pixels`, or one image."""
    groups = by_size(images, pixels)
    rows = [network(photos.tensor([images[place] for place in group]).to(device)) for group in groups]
    order = torch.tensor([place for group in groups for place in group]).argsort()
    return torch.cat(rows)[order.to(device)]


def describe(
    network: nn.Module,
    photos: Photos,
    rows: Int64,
    device: torch.device,
    on_photo: Callable[[int], None] | None = None,
) -> Float32:
    """Descriptors (n, D) float32 of the photos of `rows` (n,), without gradients; decoded ahead in threads.

    Memory beside the descriptors: 32 decoded photos, and a forward pass of about one million pixels.
    """
    training = network.training
    network.eval()
    found: list[tuple[int, Float32]] = []
    with torch.inference_mode():
        for start, images in _blocks(photos, rows):
            for group in by_size(images, BATCH_PIXELS):
                batch = photos.tensor([images[place] for place in group]).to(device)
                vectors = network(batch).float().cpu().numpy()
                found += [(start + place, vector) for place, vector in zip(group, vectors, strict=True)]
            if on_photo is not None:
                on_photo(start + len(images))
    network.train(training)
    return np.stack([vector for _, vector in sorted(found, key=lambda one: one[0])])


def _blocks(photos: Photos, rows: Int64) -> Iterator[tuple[int, list[Pixels]]]:
    start, block = 0, list[Pixels]()
    for pixels in map_ordered(photos.pixels, rows.tolist(), ahead=AHEAD):
        block.append(pixels)
        if len(block) == AHEAD:
            yield start, block
            start, block = start + len(block), []
    if block:
        yield start, block
