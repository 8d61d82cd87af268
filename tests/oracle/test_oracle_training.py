"""A training step of GeM and of HOW, against plain loops: one photo after the other, one pair after the other."""

import math

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional

from onnx_factory import write_network
from photo_factory import make_photos
from resight.features.networks.onnx_trunk import open_onnx_trunk
from resight.training.data import of_groups
from resight.training.descriptor import train_descriptor
from resight.training.local import train_local
from resight.training.networks import open_start
from resight.training.recipes import RECIPES
from resight.training.run import Data, Place

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
QUERIES, BATCH, NEGATIVES, SIDE, RATE = 4, 2, 2, 320, 1e-3


def data_in(folder):
    photos = make_photos(folder, objects=5, views=2)
    names = [name for group in photos.groups for name in group]
    files = [str(photos.folder / name) for name in names]
    return of_groups(names, files, np.repeat(np.arange(5), 2), "here")


def image(file):
    pixels = torch.from_numpy(np.array(Image.open(file)))
    return ((pixels / 255 - MEAN) / STD).permute(2, 0, 1)[None]


def drawn(examples, vectors):
    """The tuples of epoch 1: random pairs, and the nearest photos of other clusters, each of another one."""
    order = np.random.default_rng((0, 1)).permutation(len(examples.pairs))[:QUERIES]
    tuples = []
    for query, positive in examples.pairs[order]:
        negatives = []
        for other in np.argsort(-(vectors @ vectors[query]), kind="stable"):
            taken = [examples.clusters[row] for row in (query, *negatives)]
            if examples.clusters[other] not in taken and len(negatives) < NEGATIVES:
                negatives.append(other)
        tuples.append((query, positive, *negatives))
    return tuples


def contrastive(vectors, margin):
    query, positive, *negatives = vectors
    total = (query - positive + 1e-6).norm() ** 2 / 2
    for negative in negatives:
        total = total + max(torch.zeros(()), margin - (query - negative + 1e-6).norm()) ** 2 / 2
    return total


class Adam:
    """Kingma and Ba, ICLR 2015, with the decay added to the gradient."""

    def __init__(self):
        self.first, self.second, self.steps = {}, {}, 0

    def step(self, parameters):
        """`parameters`: (tensor, rate, decay) each."""
        self.steps += 1
        for place, (tensor, rate, decay) in enumerate(parameters):
            gradient = tensor.grad + decay * tensor.detach()
            self.first[place] = 0.9 * self.first.get(place, 0) + 0.1 * gradient
            self.second[place] = 0.999 * self.second.get(place, 0) + 0.001 * gradient**2
            mean = self.first[place] / (1 - 0.9**self.steps)
            spread = self.second[place] / (1 - 0.999**self.steps)
            with torch.no_grad():
                tensor -= rate * mean / (spread.sqrt() + 1e-8)
            tensor.grad = None


def trained_by_loops(examples, describe, parameters, margin):
    with torch.no_grad():
        vectors = np.stack([describe(image(file)).double().numpy() for file in examples.files])
    tuples, adam, losses = drawn(examples, vectors), Adam(), []
    for first in range(0, QUERIES, BATCH):
        for rows in tuples[first : first + BATCH]:
            loss = contrastive([describe(image(examples.files[row])) for row in rows], margin)
            loss.backward()
            losses.append(float(loss.detach()))
        adam.step(parameters)
    return float(np.mean(losses))


def settings(**more):
    few = {"epochs": 1, "side": SIDE, "queries": QUERIES, "batch": BATCH, "negatives": NEGATIVES, "rate": RATE}
    return {**few, "pool": None, **more}


def close(found, expected, start):
    """Whether the steps, which are some `RATE`, agree to a hundredth of them."""
    assert float((expected.detach() - start).abs().max()) > 0.5 * RATE
    np.testing.assert_allclose(found.detach(), expected.detach(), atol=0.01 * RATE)


def test_a_step_of_gem(tmp_path):
    examples = data_in(tmp_path / "photos")
    network = write_network(tmp_path / "n.onnx", channels=8)
    trunk = open_onnx_trunk(network)
    weight, p = next(trunk.parameters()), torch.tensor([3.0], requires_grad=True)

    def describe(one):
        maps = functional.conv2d(one, weight, stride=8).clamp(min=0)[0]
        pooled = torch.stack([(channel.clamp(min=1e-6) ** p).mean() ** (1 / p) for channel in maps])[:, 0]
        return pooled / (pooled.norm() + 1e-6)

    before = weight.detach().clone()
    loss = trained_by_loops(examples, describe, [(weight, RATE, 1e-6), (p, 10 * RATE, 0.0)], 0.85)
    recipe = RECIPES["gem"].with_settings(settings())
    place = Place(checkpoint=tmp_path / "state.safetensors")
    outcome = train_descriptor(recipe, open_start(network, None), Data(examples, examples), place)
    assert math.isclose(outcome.trained.epochs[1].loss, loss, rel_tol=1e-4)
    found = load_file(place.checkpoint)  # whether or not this epoch was better than the start
    close(found["now/trunk.weight0"], weight, before)
    close(found["now/p"], p, torch.tensor([3.0]))


def test_a_step_of_how(tmp_path):
    examples = data_in(tmp_path / "photos")
    network = write_network(tmp_path / "n.onnx", channels=8)
    trunk = open_onnx_trunk(network)
    weight = next(trunk.parameters())
    rows = []
    with torch.no_grad():
        for file in examples.files:
            maps = functional.conv2d(image(file), weight, stride=8).clamp(min=0)[0]
            strength, smooth = maps.norm(dim=0).flatten(), averaged(maps).flatten(1).T
            rows.append(smooth[strength.argsort(descending=True, stable=True)[:1000]].double().numpy())
    cells = np.concatenate(rows)
    mean = cells.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(cells.T, bias=True))
    projection = torch.from_numpy((vectors[:, ::-1][:, :4] / np.sqrt(values[::-1][:4])).T.copy())
    offset = torch.from_numpy(mean)

    def describe(one):
        maps = functional.conv2d(one, weight, stride=8).clamp(min=0)[0]
        smooth, total = averaged(maps), torch.zeros(4)
        for row in range(maps.shape[1]):
            for column in range(maps.shape[2]):
                strength = (maps[:, row, column].square().sum() + 1e-10).sqrt()
                local = (projection @ (smooth[:, row, column].double() - offset)).float()
                total = total + strength * local
        return total / (total.norm() + 1e-6)

    before = weight.detach().clone()
    loss = trained_by_loops(examples, describe, [(weight, RATE, 1e-4)], 0.8)
    recipe = RECIPES["how"].with_settings(settings(dim=4, every=1, count=40))
    place = Place(checkpoint=tmp_path / "state.safetensors")
    outcome = train_local(recipe, open_start(network, None), Data(examples, examples), place)
    assert math.isclose(outcome.trained.epochs[1].loss, loss, rel_tol=1e-4)
    close(load_file(place.checkpoint)["now/trunk.weight0"], weight, before)


def averaged(maps):
    """Mean of each 3 x 3 window, of the positions that exist."""
    found = torch.zeros_like(maps)
    height, width = maps.shape[1:]
    for row in range(height):
        for column in range(width):
            window = maps[:, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            found[:, row, column] = window.mean((1, 2))
    return found
