"""Training on real photos, by a real network, without labels: the loss falls, and the file is what was trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from resight.collection import create_collection
from resight.features.checkpoints import load_descriptor
from resight.fitting.proven import proven_examples
from resight.images.decode import decode
from resight.training.data import hold_out
from resight.training.descriptor import train_descriptor
from resight.training.networks import open_start
from resight.training.output import write_network
from resight.training.recipes import RECIPES
from resight.training.run import Data

DATA = Path(__file__).parents[3] / "shared" / "data"
NETWORK = DATA / "backbones" / "mobilenetv2.onnx"
PHOTOS = DATA / "holidays" / "images"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not NETWORK.is_file(), reason=f"no network {NETWORK}"),
    pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"no photos in {PHOTOS}"),
]


def test_proven_pairs_of_real_photos_are_right_and_teach(tmp_path):
    files = sorted(PHOTOS.glob("*.jpg"))[:60]
    collection = create_collection(tmp_path / "c.resight", "classic")
    collection.add(files)
    examples = proven_examples(collection)
    groups = np.array([int(Path(name).stem) // 100 for name in examples.names])
    right = groups[examples.pairs[:, 0]] == groups[examples.pairs[:, 1]]
    assert len(examples.pairs) >= 10
    assert right.all()
    settings = {"epochs": 3, "side": 160, "queries": None, "negatives": 2, "rate": 1e-5, "p_rate": 100.0}
    recipe = RECIPES["gem"].with_settings(settings)
    start = open_start(NETWORK, None)
    outcome = train_descriptor(recipe, start, Data(*hold_out(examples, 0.3)))
    losses = [epoch.loss for epoch in outcome.trained.epochs[1:]]
    assert losses[-1] < losses[0]
    assert outcome.after.map >= outcome.before.map
    (path,) = write_network(tmp_path / "out.safetensors", outcome.network, recipe, start, {})
    vectors = load_descriptor(path, scales=(1.0,), max_side=160).describe([decode(files[0]).pixels])
    assert np.linalg.norm(vectors[0]) == pytest.approx(1, abs=1e-3)
