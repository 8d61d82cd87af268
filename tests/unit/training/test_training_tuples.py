"""Photos on their way to a network: changed, sorted by size, mined, and propagated in three stages."""

import numpy as np
import pytest
import torch
from torch import nn

from photo_factory import make_photos
from resight.errors import UsageError
from resight.training.mining import hard_negatives, joined, proven_negatives
from resight.training.tuples.augmentation import Augmentation
from resight.training.tuples.batches import Batches, Drawn
from resight.training.tuples.photos import Photos, by_size, describe, forward
from resight.training.tuples.three_stage import three_stage

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    made = make_photos(tmp_path_factory.mktemp("photos"), objects=3)
    names = [name for group in made.groups for name in group]
    return Photos([str(made.folder / name) for name in names], 96)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.layer = nn.Conv2d(3, 8, 8, 8)
        self.seen = []

    def forward(self, images):
        if torch.is_grad_enabled():
            self.seen.append(images.shape[0] * images.shape[2] * images.shape[3])
        found = self.layer(images).relu().mean((2, 3))
        return found / found.norm(dim=1, keepdim=True)


def test_nothing_changes_unless_asked():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    assert Augmentation()(pixels, np.random.default_rng(0)) is pixels


def test_the_same_generator_gives_the_same_photo():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    change = Augmentation(0.5, 0.2, 0.2, 0.2, 0.2, 0.2, 10, 0.3, 0.3, 5)
    first, again, other = (change(pixels, np.random.default_rng(seed)) for seed in (4, 4, 5))
    assert np.array_equal(first, again)
    assert first.dtype == np.uint8
    assert first.shape != other.shape or not np.array_equal(first, other)


def test_flips_mirror_and_grey_takes_all_colour():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    rng = np.random.default_rng(0)
    assert np.array_equal(Augmentation(flip=1)(pixels, rng), pixels[:, ::-1])
    grey = Augmentation(grey=1)(pixels, rng)
    assert np.ptp(grey.astype(int), axis=2).max() == 0


@pytest.mark.parametrize("seed", range(8))
def test_crops_keep_what_must_stay_visible(seed):
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[30:60, 50:120] = 255
    region = np.float32([50 / 200, 30 / 100, 120 / 200, 60 / 100])
    cut = Augmentation(crop=0.99)(pixels, np.random.default_rng(seed), region)
    assert cut.size < pixels.size
    assert (cut == 255).sum() == (pixels == 255).sum()


def test_rotation_and_zoom_are_about_the_centre():
    pixels = np.zeros((101, 151, 3), np.uint8)
    pixels[40:61, 65:86] = 255
    for seed in range(4):
        found = Augmentation(rotation=20, zoom=0.5)(pixels, np.random.default_rng(seed)).astype(float)[..., 0]
        rows, columns = np.nonzero(found > 127)
        assert abs(rows.mean() - (found.shape[0] - 1) / 2) < 1
        assert abs(columns.mean() - (found.shape[1] - 1) / 2) < 1


@pytest.mark.parametrize("bad", [{"flip": 1.5}, {"crop": 1.0}, {"noise": -1.0}])
def test_changes_that_cannot_be_are_refused(bad):
    with pytest.raises(UsageError, match="is no augmentation"):
        Augmentation(**bad)


def test_images_are_batched_by_size_in_order():
    shapes = [(10, 20), (20, 10), (10, 20), (10, 20), (20, 10), (10, 20)]
    images = [np.zeros((*shape, 3), np.uint8) for shape in shapes]
    assert by_size(images) == [[0, 2, 3, 5], [1, 4]]
    assert by_size(images, 600) == [[0, 2, 3], [5], [1, 4]]
    assert by_size(images, 1) == [[0], [2], [3], [5], [1], [4]]


def test_descriptors_do_not_depend_on_batches(photos):
    network = Small()
    rows = np.array([5, 0, 3])
    found = describe(network, photos, rows, CPU)
    alone = [network(photos.tensor([photos.pixels(row)])).detach().numpy()[0] for row in rows]
    np.testing.assert_allclose(found, alone, atol=1e-6)
    images = [photos.pixels(0), photos.pixels(1)[:, :40], photos.pixels(2)]
    together = forward(network, photos, images, CPU).detach().numpy()
    each = [forward(network, photos, [image], CPU).detach().numpy()[0] for image in images]
    np.testing.assert_allclose(together, each, atol=1e-6)


@pytest.mark.parametrize("pixels", [1, 20_000, None])
def test_gradients_do_not_depend_on_how_many_go_together(photos, pixels):
    images = [photos.pixels(0), photos.pixels(1)[:, :40], photos.pixels(2), photos.pixels(3), photos.pixels(4)]
    weights = torch.linspace(-1, 1, 5)[:, None]
    torch.manual_seed(0)
    network = Small()
    (forward(network, photos, images, CPU, pixels) * weights).sum().backward()
    found = [weight.grad.clone() for weight in network.parameters()]
    network.zero_grad()
    for image, weight in zip(images, weights, strict=True):
        (network(photos.tensor([image])) * weight).sum().backward()
    for one, weight in zip(found, network.parameters(), strict=True):
        torch.testing.assert_close(one, weight.grad, rtol=1e-4, atol=1e-6)


def test_decoded_photos_are_kept_as_long_as_there_is_room(photos):
    size = photos.pixels(0).nbytes
    small = Photos(photos.files, 96, kept=int(2.5 * size))
    assert small.pixels(0) is small.pixels(0)
    assert small.pixels(1) is small.pixels(1)
    assert small.pixels(2) is not small.pixels(2)


def test_a_photo_that_cannot_be_decoded_is_named(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff nothing")
    with pytest.raises(UsageError, match=r"bad\.jpg"):
        Photos([str(tmp_path / "bad.jpg")], 96).pixels(0)


def test_batches_are_made_alike_whole_in_part_and_shared(photos):
    rows = np.random.default_rng(0).integers(0, 9, (7, 4))
    drawn = Drawn(rows, np.arange(28).reshape(7, 4))
    change = Augmentation(flip=0.5, crop=0.4)
    batches = Batches(drawn, 3, photos, change)
    whole = list(batches)
    assert [len(batch) for batch in whole] == [3, 3, 1]
    rest = list(batches[1:])
    assert [batch.drawn.rows.tolist() for batch in rest] == [batch.drawn.rows.tolist() for batch in whole[1:]]
    for one, other in zip(whole[1:], rest, strict=True):
        for left, right in zip(one.images, other.images, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))
    parts = [list(Batches(drawn, 3, photos, change, share=(rank, 2))) for rank in range(2)]
    for batch, even, odd in zip(whole, *parts, strict=True):
        for place, images in enumerate(batch.images):
            here, there = (even, odd) if place % 2 == 0 else (odd, even)
            assert there.images[place] == ()
            assert all(np.array_equal(a, b) for a, b in zip(images, here.images[place], strict=True))
    assert whole[0].drawn.labels.tolist() == [-1, 1, 0, 0] * 3


@pytest.mark.parametrize("pixels", [1, 10**4, 10**9])
def test_three_stages_give_the_gradient_of_the_whole_batch(photos, pixels):
    def loss(x):
        return ((x @ x.T).square().sum() - x[0].sum()) / len(x)

    images = [photos.pixels(row)[: 60 + 10 * (row % 2)] for row in range(9)]
    network = Small()
    value = loss(forward(network, photos, images, CPU))
    value.backward()
    expected = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    network.seen.clear()
    found = three_stage(network, photos, images.__getitem__, 9, loss, CPU, pixels=pixels)
    assert found == pytest.approx(float(value.detach()), rel=1e-5)
    for parameter, other in zip(network.parameters(), expected, strict=True):
        np.testing.assert_allclose(parameter.grad, other, atol=1e-5 * float(other.abs().max()))
    assert max(network.seen) <= max(pixels, 96 * 96)


def test_three_stages_leave_no_gradient_of_nan(photos):
    network = Small()
    found = three_stage(network, photos, photos.pixels, 4, lambda x: x.sum() * torch.nan, CPU)
    assert np.isnan(found)
    assert all(parameter.grad is None for parameter in network.parameters())


def unit(rows):
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def walked(queries, own, pool, clusters, count):
    """Hard negatives by a plain loop."""
    found = []
    for query, mine in zip(queries, own, strict=True):
        taken = []
        for place in np.argsort(-(pool.astype(np.float64) @ query), kind="stable"):
            if clusters[place] != mine and clusters[place] not in [clusters[other] for other in taken]:
                taken.append(place)
        found.append(taken[:count])
    return np.array(found)


def test_negatives_are_the_nearest_of_distinct_clusters():
    rng = np.random.default_rng(2)
    pool, queries = unit(rng.normal(size=(400, 6))), unit(rng.normal(size=(30, 6)))
    clusters, own = rng.integers(0, 12, 400), rng.integers(0, 12, 30)
    clusters[rng.permutation(400)[:300]] = 3  # so many of one cluster that the first results do not do
    expected = walked(queries, own, pool, clusters, 5)
    assert np.array_equal(hard_negatives(queries, own, pool, clusters, 5), expected)


def test_too_few_clusters_for_negatives_are_refused():
    pool = unit(np.eye(4))
    with pytest.raises(UsageError, match="the pool of 4 photos holds 2 clusters"):
        hard_negatives(pool[:1], np.array([0]), pool, np.array([0, 0, 1, 1]), 2)


def test_what_geometry_proves_is_no_negative():
    rng = np.random.default_rng(4)
    vectors = unit(rng.normal(size=(40, 5)))
    truth = np.repeat(np.arange(10), 4)
    clusters = np.arange(40)
    clusters[1::4] = clusters[::4]  # only two of each thing are known to be one
    asked = []

    def proven(queries, others):
        asked.append(len(queries))
        return truth[queries] == truth[others]

    rows = np.arange(0, 40, 4)
    found, known = proven_negatives(vectors[rows], rows, vectors, np.arange(40), clusters, 6, proven)
    assert (truth[found] != truth[rows][:, None]).all()
    assert all(len({truth[other] for other in row}) >= 4 for row in found)
    assert len(np.unique(known)) < len(np.unique(clusters))
    assert len(asked) > 1
    plain, same = proven_negatives(vectors[rows], rows, vectors, np.arange(40), clusters, 6, None)
    assert same is clusters
    assert (truth[plain] == truth[rows][:, None]).any()


def test_joined_clusters_are_one():
    assert joined(np.array([0, 0, 1, 2, 3]), np.array([[1, 3], [3, 2]])).tolist() == [0, 0, 0, 0, 1]
