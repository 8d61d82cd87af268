"""DELF and DELG as encoders: small networks with random weights, and files of the public program's layout."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.torch
import torch

from onnx_factory import STRIDE, write_network
from resight.errors import UsageError
from resight.features.local.delf import choose
from resight.features.local.delf_encoder import FIELD, by_norm, centres
from resight.features.local.delg import LocalAttention
from resight.features.local.encoders import open_encoder
from resight.features.local.reduction import Moments, Reducible, Reduction
from resight.features.local.trunk import NotFinite, ScaleMaps
from resight.features.networks.resnet import ResNet
from resight.types import Encoder

torch.set_num_threads(1)
SIZES = {"max_side": 96, "enlarge_below": 0, "scales": (1.0, 0.5)}


def photo(height=64, width=96, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("delf")


@pytest.fixture(scope="module")
def network(folder):
    return str(write_network(folder / "net.onnx", channels=12))


def learnt(encoder, path, dim=5):
    moments = Moments(encoder.channels)
    moments.add(encoder.sample([photo(seed=seed) for seed in range(4)]))
    moments.whitening(dim).save(path)
    return str(path)


def head(path, channels=12, hidden=8):
    torch.manual_seed(0)
    safetensors.torch.save_file(LocalAttention(channels, hidden).state_dict(), path)
    return str(path)


@pytest.fixture(scope="module")
def checkpoint(folder):
    """As DELG-PyTorch writes it: pycls layers, and the attention as localmodel.*"""
    torch.manual_seed(0)
    state = {f"globalmodel.{name}": tensor for name, tensor in pycls(ResNet("resnet50", "C5", width=4)).items()}
    state |= {f"localmodel.{name}": tensor for name, tensor in LocalAttention(64, 8).state_dict().items()}
    path = folder / "delg.pyth"
    torch.save({"model_state": state}, path)
    return str(path)


def pycls(trunk):
    """The weights of a ResNet under the names of pycls."""
    names = {"conv": "", "bn": "_bn"}
    state = {}
    for name, tensor in trunk.state_dict().items():
        parts = name.split(".")
        if parts[0] in ("conv1", "bn1"):
            state[f"stem.{'conv' if parts[0] == 'conv1' else 'bn'}.{parts[1]}"] = tensor
            continue
        start = f"s{parts[0][-1]}.b{int(parts[1]) + 1}"
        if parts[2] == "downsample":
            state[f"{start}.{'proj' if parts[3] == '0' else 'bn'}.{parts[4]}"] = tensor
        else:
            kind, place = parts[2][:-1], "abc"[int(parts[2][-1]) - 1]
            state[f"{start}.f.{place}{names[kind]}.{parts[3]}"] = tensor
    return state


def test_delf_is_its_formula_at_every_scale(network, folder):
    options = {"backbone": network, "head": head(folder / "head.safetensors"), **SIZES}
    path = learnt(open_encoder("delf", **options), folder / "delf.safetensors")
    encoder, image = open_encoder("delf", **options, reduction=path, count=30), photo()
    assert isinstance(encoder, Encoder)
    features = encoder(image)
    ((_, scales),) = encoder.trunk.batches([image])
    attention = LocalAttention(12, 8).eval()
    attention.load_state_dict(safetensors.torch.load_file(options["head"]))
    found = []
    for one in scales:
        with torch.no_grad():
            scores = attention(torch.from_numpy(one.maps))[0].numpy()
        for row, column in np.ndindex(*scores.shape[1:]):
            cell = one.maps[0, :, row, column]
            rows = encoder.reduction.weight @ (cell / np.linalg.norm(cell)) + encoder.reduction.bias
            centre = (np.array([column, row]) + 0.5 / STRIDE) * one.step
            found.append((scores[0, row, column], *centre, *(rows / np.linalg.norm(rows))))
    expected = np.array(sorted(found, key=lambda one: -one[0])[:30])
    np.testing.assert_allclose(features.strength, expected[:, 0], rtol=1e-5)
    np.testing.assert_allclose(features.xy, expected[:, 1:3], rtol=1e-5)
    np.testing.assert_allclose(features.descriptors, expected[:, 3:], atol=1e-4)


def test_without_an_attention_the_norm_chooses(network, folder):
    options = {"backbone": network, "count": 20, **SIZES}
    fresh = open_encoder("delf", **options, dim=5)
    assert isinstance(fresh, Reducible)
    assert (fresh.reduction, fresh.dim, fresh.channels) == (None, 5, 12)
    with pytest.raises(UsageError, match="reduction=FILE"):
        fresh.describe([photo()])
    path = learnt(fresh, folder / "norm.safetensors")
    encoder = open_encoder("delf", **options, reduction=path)
    ((_, scales),) = encoder.trunk.batches([photo()])
    norms = np.concatenate([by_norm(one.maps)[0].ravel() for one in scales])
    np.testing.assert_allclose(encoder(photo()).strength, np.sort(norms)[::-1][:20], rtol=1e-6)
    assert np.linalg.norm(encoder(photo()).descriptors, axis=1) == pytest.approx(np.ones(20), abs=1e-5)


def test_threshold_and_overlap_leave_features_out(network, folder):
    path = learnt(open_encoder("delf", backbone=network, **SIZES), folder / "few.safetensors")
    options = {"backbone": network, "reduction": path, **SIZES}
    everything = open_encoder("delf", **options)(photo())
    middle = float(everything.strength[len(everything) // 2])
    above = open_encoder("delf", **options, threshold=middle)(photo())
    assert (above.strength > middle).all()
    assert len(above) == (everything.strength > middle).sum()
    apart = open_encoder("delf", **options, overlap=0.9)(photo())
    side = FIELD * everything.scale / STRIDE
    chosen = choose(everything.xy, side, everything.strength, 1000, 0.0, 0.9)
    np.testing.assert_array_equal(apart.xy, everything.xy[chosen])
    assert 0 < len(apart) < len(everything)


def test_centres_of_the_receptive_fields_of_a_resnet():
    """The gradient of one cell of the fourth stage lies around the pixel where the cell is said to be."""
    torch.manual_seed(0)
    trunk = ResNet("resnet18", "C4", width=4).eval()
    trunk.maxpool = torch.nn.AvgPool2d(3, 2, 1)  # of equal values, the maximum would take one alone
    image = torch.zeros(1, 3, 320, 320, requires_grad=True)
    for parameter in trunk.parameters():
        parameter.data.abs_()  # no ReLU closes
    trunk(image + 1)[0, :, 11, 9].sum().backward()
    field = image.grad.abs().sum(dim=(0, 1)).numpy()
    rows, columns = np.nonzero(field)
    middle = (columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2
    place = centres(ScaleMaps(np.zeros((1, 1, 20, 20), np.float32), 1.0, (16.0, 16.0)), 16)[11 * 20 + 9]
    np.testing.assert_allclose(place, middle)


def test_delg_of_a_checkpoint(checkpoint, folder):
    options = {"weights": checkpoint, **SIZES}
    fresh = open_encoder("delg", **options)
    assert (fresh.channels, fresh.dim) == (8, 128), "of the features that the attention is trained with"
    path = learnt(fresh, folder / "hidden.safetensors", 5)
    with pytest.raises(UsageError, match="takes 8 dimensions, and delg-resnet50 gives 64"):
        open_encoder("delg", **options, reduction=path)
    encoder = open_encoder("delg", **options, dim=5).reduced(Reduction.load(path))
    features = encoder(photo())
    assert len(features) == 24 + 6
    assert np.linalg.norm(features.descriptors, axis=1) == pytest.approx(np.ones(30), abs=1e-5)
    assert (np.diff(features.strength) <= 0).all()
    autoencoder = learnt(open_encoder("delf", **options), folder / "auto.safetensors", 6)
    assert open_encoder("delg", **options, reduction=autoencoder)(photo()).dim == 6


def test_files_that_do_not_fit(network, checkpoint, folder):
    with pytest.raises(UsageError, match="DELG is a trained network"):
        open_encoder("delg", backbone=network)
    wide = head(folder / "wide.safetensors", channels=20)
    with pytest.raises(UsageError, match=r"wide.safetensors has an attention for maps of 20 channels, and .* gives 12"):
        open_encoder("delf", backbone=network, head=wide)
    with pytest.raises(UsageError, match=r"delg.pyth holds no weights of DELG's attention"):
        open_encoder("delf", backbone=network, head=checkpoint)
    for bad in ({"count": 0}, {"overlap": 1.5}, {"threshold": np.inf}):
        with pytest.raises(UsageError, match=next(iter(bad))):
            open_encoder("delf", backbone=network, **bad)


def test_small_photos_and_nan(network, folder):
    path = learnt(open_encoder("delf", backbone=network, **SIZES), folder / "nan.safetensors")
    encoder = open_encoder("delf", backbone=network, reduction=path, **SIZES)
    assert len(encoder(photo(3, 90))) == 0
    state = LocalAttention(12, 8).state_dict()
    state["conv1.weight"] = 3e38 * torch.sign(state["conv1.weight"])
    safetensors.torch.save_file(state, folder / "large.safetensors")
    broken = open_encoder(
        "delf", backbone=network, reduction=path, head=str(folder / "large.safetensors"), **SIZES
    ).describe([photo(), photo(3, 90)])
    assert isinstance(broken[0], NotFinite)
    assert len(broken[1]) == 0
