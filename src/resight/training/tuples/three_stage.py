"""Three-stage back-propagation: losses over thousands of photos at once, in the memory of a few (Revaud et al., ICCV
2019).

Descriptors of all photos are made without gradients; the loss of all gives a gradient for each descriptor; then every
photo goes through the network again, and its part of the gradient on to the parameters. The sum is the gradient of the
whole batch, at the price of one more forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from resight.images.loader import map_ordered
from resight.training.tuples.augmentation import Pixels
from resight.training.tuples.photos import BATCH_PIXELS, Photos, by_size

AHEAD = 16  # photos that are decoded at a time, and sorted by size

Image = Callable[[int], Pixels]


def three_stage(
    network: Callable[[Tensor], Tensor],
    photos: Photos,
    image: Image,
    count: int,
    loss: Callable[[Tensor], Tensor],
    device: torch.device,
    *,
    pixels: int = BATCH_PIXELS,
) -> float:
    """Add the gradient of `loss` of the descriptors (count, D) of a batch to the parameters; the loss.

    `image(place)`: pixels of photo 0 to count - 1, the same at every call; called in threads. Memory beside the
    descriptors, twice: 16 decoded photos and one training pass of at most `pixels`, or of one photo, however many there
    are. No gradient is added where the loss is not finite.
    """
    with torch.no_grad():
        rows = [(places, network(batch).float()) for places, batch in _batches(photos, image, count, pixels, device)]
    order = torch.tensor([place for places, _ in rows for place in places]).argsort().to(device)
    descriptors = torch.cat([vectors for _, vectors in rows])[order].requires_grad_()
    value = loss(descriptors)
    if not bool(torch.isfinite(value)):
        return float(value.detach())
    (gradient,) = torch.autograd.grad(value, descriptors)
    for places, batch in _batches(photos, image, count, pixels, device):
        found = network(batch).float()
        (found * gradient[torch.tensor(places, device=device)]).sum().backward()  # type: ignore[no-untyped-call]
    return float(value.detach())


def _batches(
    photos: Photos, image: Image, count: int, pixels: int, device: torch.device
) -> Iterator[tuple[list[int], Tensor]]:
    """Places and images of batches of one size, from each 16 photos in turn."""
    block: list[Pixels] = []
    start = 0
    for found in map_ordered(image, range(count), ahead=AHEAD):
        block.append(found)
        if len(block) == AHEAD or start + len(block) == count:
            for group in by_size(block, pixels):
                yield [start + place for place in group], photos.tensor([block[place] for place in group]).to(device)
            start, block = start + len(block), []
