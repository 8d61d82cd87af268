"""Learning a local descriptor: the scripts patch_pairs.py and patch_training.py of the folder benchmarks."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in ("patch_pairs", "patch_training"):
        sys.modules.pop(name, None)


@pytest.fixture
def data():
    """Patches of 200 places, each seen twice, the second time in another light and noisier."""
    rng = np.random.default_rng(0)
    places = np.stack([cv2.resize(rng.uniform(0, 255, (5, 5)), (32, 32)) for _ in range(200)])
    changed = 0.7 * places + 30 + rng.normal(0, 8, places.shape)
    return np.clip(np.stack((places, changed), axis=1), 0, 255).astype(np.uint8), np.arange(200)


def settings(**given):
    from patch_training import Settings

    return replace(Settings(pairs=16 * 24, batch=16), **given)


def weights(folder):
    return torch.load(folder / "weights.pth", weights_only=True)["state_dict"]


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_the_loss_is_that_of_plain_loops():
    from patch_training import ALIKE, hardest_in_batch

    generator = torch.Generator().manual_seed(0)
    a, b = (torch.nn.functional.normalize(torch.randn(9, 4, generator=generator), dim=1) for _ in range(2))
    b[3] = a[5]  # one place that was found twice: no negative
    total = 0.0
    for i in range(9):
        others = [torch.dist(a[i], b[j]) for j in range(9) if j != i] + [
            torch.dist(a[j], b[i]) for j in range(9) if j != i
        ]
        total += max(0.0, 1 + torch.dist(a[i], b[i]) - min(one for one in others if one >= ALIKE)).item()
    assert hardest_in_batch(a, b).item() == pytest.approx(total / 9, abs=1e-4)


def test_the_loss_falls_and_a_seed_gives_the_same_weights(data, tmp_path):
    from patch_training import train

    for name in ("one", "two"):
        train(settings(), *data, tmp_path / name)
    told = [json.loads(line) for line in (tmp_path / "one" / "losses.jsonl").read_text().splitlines()]
    assert [one["pairs"] for one in told] == [48 * k for k in range(1, 9)]
    assert told[-1]["loss"] < 0.8 * told[0]["loss"]
    assert same(weights(tmp_path / "one"), weights(tmp_path / "two"))
    train(settings(seed=1), *data, tmp_path / "three")
    assert not same(weights(tmp_path / "one"), weights(tmp_path / "three"))


def test_a_run_that_was_killed_goes_on(data, tmp_path):
    from patch_training import train

    train(settings(), *data, tmp_path / "whole")
    train(settings(), *data, tmp_path / "killed", stop=11)  # two steps after it saved
    assert not same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    train(settings(), *data, tmp_path / "killed")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    assert len((tmp_path / "killed" / "losses.jsonl").read_text().splitlines()) == 8


def test_another_run_is_not_gone_on_with(data, tmp_path):
    from patch_training import train

    from resight.errors import UsageError

    train(settings(), *data, tmp_path, stop=3)
    with pytest.raises(UsageError, match="of a run with settings"):
        train(settings(rate=1e-4), *data, tmp_path)
    with pytest.raises(UsageError, match="fewer than a batch"):
        train(settings(batch=512), *data, tmp_path / "other")


def test_no_key_point_is_drawn_twice(data):
    from patch_training import drawn

    patches, _ = data
    pairs = drawn(patches, np.arange(200) // 10, settings(batch=20), 0)
    assert pairs.shape == (40, 1, 32, 32)
    flat = patches.reshape(200, 2, -1)[:, 0].astype(np.float32)
    sums = np.sort(np.searchsorted(np.sort(flat.sum(axis=1)), pairs[:20].sum(dim=(1, 2, 3)).numpy()))
    assert len(np.unique(sums)) == 20


@pytest.mark.parametrize("network", ["hardtfeat", "hardnet"])
def test_features_of_photos_are_made_with_the_weights(data, tmp_path, network):
    if network == "hardnet":
        pytest.importorskip("kornia")
    from patch_training import train

    from resight.features.local.encoders import open_encoder

    train(settings(network=network, half=True, pairs=32), *data, tmp_path)
    encoder = open_encoder("sift-hardnet", weights=str(tmp_path / "weights.pth"))
    photo = cv2.resize(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8), (256, 192))
    found = encoder(photo)
    assert len(found.xy) > 20
    assert found.descriptors.shape[1] == 128
    np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-4)


def test_only_photos_whose_licence_allows_it_are_read(tmp_path):
    from patch_pairs import licence, licensed

    from resight.errors import UsageError

    for folder in ("boofcv_chair/a", "hill_cc0", "toys_mit", "holidays", "mit", "cc0_research", "ukbench140"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "x.jpg").touch()
    assert [str(file.relative_to(tmp_path)) for file in licensed(tmp_path)] == [
        "boofcv_chair/a/x.jpg", "hill_cc0/x.jpg", "toys_mit/x.jpg"
    ]  # fmt: skip
    assert licence("boofcv_chair") == "CC BY 4.0"
    with pytest.raises(UsageError, match="states a licence"):
        licensed(tmp_path / "holidays")


def test_pairs_show_one_place():
    from patch_pairs import pairs_of

    rng = np.random.default_rng(0)
    photo = cv2.GaussianBlur(cv2.resize(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8), (640, 480)), (0, 0), 2)
    patches, points = pairs_of(photo, 2, 400, rng)
    assert len(patches) == len(points) > 60
    assert patches.dtype == np.uint8
    flat = patches.reshape(len(patches), 2, -1).astype(np.float64)
    flat -= flat.mean(axis=2, keepdims=True)
    flat /= np.linalg.norm(flat, axis=2, keepdims=True)
    alike = flat[:, 0] @ flat[:, 1].T
    assert np.diag(alike).mean() > 0.8
    assert alike[~np.eye(len(alike), dtype=bool)].mean() < 0.2


def test_a_homography_carries_frames_as_it_carries_points():
    from patch_pairs import Frames, homography, seen_through

    rng = np.random.default_rng(1)
    matrix = homography((300, 400), rng)
    xy, shapes = rng.uniform(50, 250, (5, 2)), rng.normal(0, 1e-3, (5, 2, 2))
    places, carried = seen_through(Frames(xy, shapes, None), matrix)
    for row in range(5):
        for axis in range(2):
            here = np.array([[xy[row] - 0.5, xy[row] + shapes[row, :, axis] - 0.5]])
            there = cv2.perspectiveTransform(here, matrix)[0]
            np.testing.assert_allclose(there[0] + 0.5, places[row], atol=1e-9)
            np.testing.assert_allclose(there[1] - there[0], carried[row, :, axis], atol=1e-6)
