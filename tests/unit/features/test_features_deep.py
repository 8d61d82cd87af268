"""HOW and FIRe as encoders: small networks with random weights."""

import numpy as np
import pytest
import safetensors.torch
import torch

from onnx_factory import STRIDE, write_network
from resight.errors import ImageError, UsageError
from resight.features.local import how
from resight.features.local.encoders import ENCODERS, open_encoder
from resight.features.local.fire import FeatureIntegration
from resight.features.local.fire_encoder import where
from resight.features.local.reduction import Moments, Reducible, Reduction
from resight.features.local.trunk import ScaleMaps, open_trunk
from resight.features.networks.resnet import ResNet
from resight.types import Encoder

torch.set_num_threads(1)
SIZES = {"max_side": 96, "enlarge_below": 0, "scales": (1.0, 0.5)}


def photo(height=64, width=96, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return str(write_network(tmp_path_factory.mktemp("net") / "net.onnx", channels=12))


@pytest.fixture(scope="module")
def reduction(network, tmp_path_factory):
    moments, encoder = Moments(12), open_encoder("how", backbone=network, **SIZES)
    moments.add(encoder.sample([photo(seed=seed) for seed in range(4)]))
    path = tmp_path_factory.mktemp("reduction") / "r.safetensors"
    moments.whitening(5).save(path)
    return str(path)


@pytest.fixture(scope="module")
def encoder(network, reduction):
    return open_encoder("how", backbone=network, reduction=reduction, count=50, **SIZES)


@pytest.fixture(scope="module")
def fire_checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    trunk, lit = ResNet("resnet18", "C4", width=4), FeatureIntegration(16, 6, 8, 2)
    layers = [trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool, *(getattr(trunk, name) for name in trunk.layers)]
    state = {f"features.{name}": tensor for name, tensor in torch.nn.Sequential(*layers).state_dict().items()}
    state |= {f"lit.{name}": tensor for name, tensor in lit.state_dict().items()}
    state |= {"dim_reduction.weight": torch.randn(5, 8, 1, 1), "dim_reduction.bias": torch.randn(5)}
    path = tmp_path_factory.mktemp("fire") / "fire.safetensors"
    safetensors.torch.save_file(state, path)
    return str(path)


@pytest.mark.parametrize("name", ENCODERS)
def test_every_kind_has_settings_that_open(name):
    assert callable(ENCODERS[name].load().open)


def test_how_is_the_formula_at_every_scale(encoder):
    image = photo()
    features = encoder(image)
    assert isinstance(encoder, Encoder)
    assert features.dim == encoder.dim == 5
    assert len(features) == 50
    ((_, scales),) = encoder.trunk.batches([image])
    attention = how.relative_attention([how.attention(one.maps) for one in scales])
    reduced = [how.reduce(one.maps, encoder.reduction.weight, encoder.reduction.bias) for one in scales]
    expected = how.strongest(reduced, attention, [one.scale for one in scales], 50)
    np.testing.assert_allclose(features.strength, expected.strength, rtol=1e-6)
    np.testing.assert_allclose(features.descriptors, expected.descriptors, atol=1e-5)
    np.testing.assert_allclose(features.xy, expected.in_pixels(STRIDE).xy, rtol=1e-6)
    assert features.strength[0] == 1
    assert set(features.scale.tolist()) <= {STRIDE, 2 * STRIDE}


def test_smoothing_after_reduction_is_smoothing_before(network, reduction):
    smooth = open_encoder("how", backbone=network, reduction=reduction, smoothing="average", count=30, **SIZES)
    image = photo(seed=3)
    features = smooth(image)
    ((_, scales),) = smooth.trunk.batches([image])
    weights = how.relative_attention([how.attention(one.maps) for one in scales])
    r = smooth.reduction
    maps = [how.reduce(how.smooth(one.maps), r.weight, r.bias) for one in scales]
    expected = how.strongest(maps, weights, [1, 0.5], 30)
    np.testing.assert_allclose(features.descriptors, expected.descriptors, atol=1e-4)


def test_many_images_are_described_as_each_alone_in_order(encoder):
    images = [photo(seed=1), photo(48, 72, 2), photo(seed=3), photo(3, 200, 4), photo(seed=5)]
    found = encoder.describe(images)
    assert [len(one) for one in found][3] == 0
    for image, features in zip(images, found, strict=True):
        alone = encoder(image)
        np.testing.assert_allclose(features.descriptors, alone.descriptors, atol=1e-4)
        np.testing.assert_array_equal(features.xy, alone.xy)


def test_small_images_are_enlarged_and_large_ones_reduced_to_one_size(network, reduction):
    options = {"max_side": 96, "enlarge_below": 96, "scales": (1.0,)}
    encoder = open_encoder("how", backbone=network, reduction=reduction, count=500, **options)
    large, small = encoder(photo(256, 384)), encoder(photo(32, 48))
    assert len(large) == len(small) == (64 // STRIDE) * (96 // STRIDE)
    assert large.xy.max() > 300
    assert small.xy.max() < 48
    np.testing.assert_allclose(large.scale, 4 * STRIDE)


def test_without_a_reduction_it_is_learnt_from_samples(network, encoder):
    fresh = open_encoder("how", backbone=network, dim=5, count=50, **SIZES)
    assert isinstance(fresh, Reducible)
    assert fresh.reduction is None
    assert fresh.dim == 5
    with pytest.raises(UsageError, match="reduction=FILE"):
        fresh.describe([photo()])
    learnt = fresh.reduced(encoder.reduction)
    np.testing.assert_array_equal(learnt(photo()).descriptors, encoder(photo()).descriptors)
    assert fresh.fingerprint != learnt.fingerprint == encoder.fingerprint


def test_whitened_descriptors_have_unit_variance():
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(4000, 6)) * [5, 4, 3, 2, 1, 0.1] + 7).astype(np.float32)
    moments = Moments(6)
    for part in np.array_split(rows, 5):
        moments.add(part)
    reduction = moments.whitening(4)
    white = reduction(rows.T[None, :, :, None])[0, :, :, 0]
    np.testing.assert_allclose(np.cov(white, bias=True), np.eye(4), atol=1e-3)
    np.testing.assert_allclose(white.mean(axis=1), 0, atol=1e-3)


@pytest.mark.parametrize("rows", [np.zeros((0, 6)), np.ones((3, 6)), np.ones((50, 6)), np.eye(6)[[0, 1] * 20]])
def test_too_few_or_equal_descriptors_cannot_be_whitened(rows):
    moments = Moments(6)
    moments.add(rows)
    with pytest.raises(UsageError, match=r"too few|vary in"):
        moments.whitening(4)


def test_a_reduction_is_what_was_saved(tmp_path):
    made = Reduction(np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32), np.ones(3, np.float32))
    path = tmp_path / "r.safetensors"
    made.save(path)
    assert Reduction.load(path).fingerprint == made.fingerprint
    data = bytearray(path.read_bytes())
    data[-3] ^= 64
    path.write_bytes(data)
    with pytest.raises(UsageError, match="damaged"):
        Reduction.load(path)
    with pytest.raises(UsageError, match="cannot be read"):
        Reduction.load(tmp_path / "absent")


def test_nan_out_of_a_network_is_an_error_of_the_photo(network, reduction):
    encoder = open_encoder("how", backbone=network, reduction=reduction, **SIZES)
    forward = encoder.trunk.backbone.forward
    broken = lambda batch: np.where(batch[:, :1, :1, :1] > 0, np.nan, forward(batch)).astype(np.float32)  # noqa: E731
    object.__setattr__(encoder.trunk.backbone, "forward", broken)
    dark, bright = np.zeros((64, 96, 3), np.uint8), np.full((64, 96, 3), 255, np.uint8)
    good, bad = encoder.describe([dark, bright])
    assert len(good)
    assert isinstance(bad, ImageError)
    assert bad.kind == "not-finite"
    with pytest.raises(ImageError, match="NaN"):
        encoder(bright)


@pytest.mark.parametrize("output", ["vectors", "tokens"])
def test_a_network_without_maps_is_no_trunk(tmp_path, output):
    path = write_network(tmp_path / "net.onnx", output=output)
    with pytest.raises(UsageError, match=r"needs? a network that gives maps"):
        open_trunk(path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "--backbone FILE.onnx or --weights"),
        ({"count": 0}, "count=0"),
        ({"scales": ()}, "scales="),
        ({"scales": (1.0, -1.0)}, "scales="),
        ({"dim": 0}, "dim=0"),
        ({"max_side": 8}, "max_side=8"),
        ({"enlarge_below": 999}, "enlarge_below=999"),
        ({"smoothing": "median"}, "none, average, learnable"),
        ({"reweighting": "median"}, "none, graph, attention"),
        ({"backbone": "net", "smoothing": "learnable"}, "context=FILE"),
        ({"backbone": "net", "reweighting": "graph"}, "context=FILE"),
        ({"backbone": "net", "reduction": "other", "dim": 7}, "dim=7"),
        ({"backbone": "net", "reduction": "wide"}, "learnt for another network"),
        ({"backbone": "net", "weights": "x.pth"}, "x.pth"),
        ({"weights": "fire"}, "layout fire"),
    ],
)
def test_bad_settings_of_how(network, reduction, fire_checkpoint, tmp_path, settings, message):
    Reduction(np.ones((4, 99), np.float32), np.ones(4, np.float32)).save(tmp_path / "wide")
    files = {"net": network, "other": reduction, "wide": str(tmp_path / "wide"), "fire": fire_checkpoint}
    given = {name: files.get(value, value) if isinstance(value, str) else value for name, value in settings.items()}
    with pytest.raises(UsageError, match=message):
        open_encoder("how", **given)


def test_fire_is_the_transformer_at_every_scale(fire_checkpoint):
    encoder = open_encoder("fire", weights=fire_checkpoint, iterations=2, count=9, **SIZES)
    image = photo(seed=2)
    features = encoder(image)
    assert isinstance(encoder, Encoder)
    assert len(features) == 9
    assert features.dim == encoder.dim == 5
    ((_, scales),) = encoder.trunk.batches([image])
    with torch.inference_mode():
        found = torch.cat([encoder.transformer(torch.from_numpy(one.maps))[0][0] for one in scales])
    order = torch.argsort(found.norm(dim=1), descending=True, stable=True)[:9]
    expected = found[order].numpy() @ encoder.reduction.weight.T + encoder.reduction.bias
    np.testing.assert_allclose(features.descriptors, expected, atol=1e-5)
    assert (features.xy > 0).all()
    assert (features.xy < (96, 64)).all()


def test_a_superfeature_is_where_it_looks():
    attention = np.zeros((1, 2, 4, 6), np.float32)
    attention[0, 0, 1, 4] = 1
    attention[0, 1] = 1 / 24
    xy, extent = where(attention, ScaleMaps(np.zeros((1, 3, 4, 6), np.float32), 1.0, (10.0, 10.0)))
    np.testing.assert_allclose(xy[0], [[45, 15], [30, 20]], rtol=1e-6)
    assert extent[0, 0] == 10
    assert extent[0, 1] > 20


@pytest.mark.parametrize(
    ("settings", "message"), [({}, "--weights FILE"), ({"iterations": 0}, "iterations=0"), ({"count": 0}, "count=0")]
)
def test_bad_settings_of_fire(settings, message):
    with pytest.raises(UsageError, match=message):
        open_encoder("fire", **settings)


def test_torch_trunks_end_after_the_fourth_stage(tmp_path):
    state = ResNet("resnet50", "C5", width=4).state_dict()
    path = tmp_path / "resnet50.safetensors"
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    encoder = open_encoder("how", weights=str(path), dim=4, **SIZES)
    assert (encoder.trunk.stride, encoder.channels) == (16, 64)
    assert encoder.sample([photo()]).shape[1] == 64
