from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from onnx_factory import write_network
from resight.cli import app
from resight.collection import create_collection
from resight.errors import UsageError
from resight.features import pooling
from resight.features.region_whitening import WhitenedRmac
from resight.features.whitening import Whitening


def test_every_region_is_whitened_before_the_sum() -> None:
    rng = np.random.default_rng(0)
    maps = np.maximum(rng.normal(size=(2, 8, 9, 13)), 0).astype(np.float32)
    whitening = Whitening(rng.normal(size=8), rng.normal(size=(5, 8)))
    expected = []
    for one in maps:
        total = np.zeros(5)
        for x0, y0, x1, y1 in pooling.rmac_regions(one[None]).tolist():
            region = one[:, y0 : y1 + 1, x0 : x1 + 1].max(axis=(1, 2))
            moved = whitening.projection @ (region / np.linalg.norm(region) - whitening.mean)
            total += moved / np.linalg.norm(moved)
        expected.append(total / np.linalg.norm(total))
    np.testing.assert_allclose(WhitenedRmac(whitening)(maps), expected, atol=1e-5)


def test_a_collection_is_indexed_with_what_the_command_learned(world, tmp_path: Path) -> None:
    network, out = write_network(tmp_path / "net.onnx", channels=24), tmp_path / "w.safetensors"
    words = ["fit", "regional", str(world.photos.folder), "--backbone", str(network), "--out", str(out), "--dim", "6"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert Whitening.load(out).dim == 6
    settings = {"backbone": str(network), "region_whitening": str(out)}
    collection = create_collection(tmp_path / "c.resight", "rmac", settings)
    collection.add([world.photos.folder])
    assert collection.vectors()[1].shape[1] == 6
    plain = create_collection(tmp_path / "p.resight", "rmac", {"backbone": str(network)})
    assert plain.snapshot.network.fingerprint != collection.snapshot.network.fingerprint
    with pytest.raises(UsageError, match="region_whitening is for pool rmac"):
        create_collection(tmp_path / "x.resight", "gem", settings)
