"""What is drawn of an encoder must be what it does: the same features, attention and edges."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from onnx_factory import STRIDE, write_network
from resight.errors import ImageError
from resight.features.local.context import Context, ContextSettings
from resight.features.local.fire import FeatureIntegration
from resight.features.local.fire_encoder import Fire
from resight.features.local.how_encoder import How
from resight.features.local.inspection import look_inside, plain
from resight.features.local.reduction import Reduction
from resight.features.local.rootsift import RootSift
from resight.features.local.trunk import open_trunk

torch.set_num_threads(1)
CHANNELS = 12


def photo(height=64, width=96, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def random_reduction(channels):
    rng = np.random.default_rng(0)
    return Reduction(rng.normal(size=(5, channels)).astype(np.float32), np.ones(5, np.float32))


def trained(**settings):
    context = Context(ContextSettings(CHANNELS, **settings))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in context.parameters():
            parameter += 0.5 * torch.randn(parameter.shape, generator=generator)
    return context


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
    path = write_network(tmp_path_factory.mktemp("net") / "net.onnx", channels=CHANNELS)
    return open_trunk(path, max_side=96, scales=(1.0, 0.5))


@pytest.fixture(scope="module")
def fire(trunk):
    torch.manual_seed(0)
    return Fire(trunk, FeatureIntegration(CHANNELS, 6, 8, 2).eval(), random_reduction(8), count=9)


def rows(xy, side):
    """Features as sorted rows, so that two orders of them can be compared."""
    return sorted(np.column_stack((xy, side)).round(3).tolist())


def drawn(inside):
    return rows(*(np.concatenate([getattr(level, name) for level in inside.levels]) for name in ("xy", "side")))


@pytest.mark.parametrize("settings", [None, {}, {"reweighting": "attention"}, {"reweighting": "none"}])
def test_features_and_attention_are_those_of_the_encoder(trunk, settings):
    context = None if settings is None else trained(**settings)
    encoder = How(trunk, random_reduction(CHANNELS), context=context, count=40)
    inside, features = look_inside(encoder, photo()), encoder(photo())
    assert drawn(inside) == rows(features.xy, features.scale)
    assert inside.count == 40
    assert [level.candidates for level in inside.levels] == [8 * 12, 4 * 6]
    for level, (scale, attention) in zip(inside.levels, encoder.attention(photo()), strict=True):
        assert level.scale == scale
        np.testing.assert_allclose(level.attention, attention, rtol=1e-5)
    assert inside.points is None


def test_a_reduction_is_not_needed(trunk):
    without, reduced = How(trunk, None, count=30), How(trunk, random_reduction(CHANNELS), count=30)
    assert drawn(look_inside(without, photo())) == drawn(look_inside(reduced, photo()))


def test_context_is_what_the_blocks_say(trunk):
    context = trained(k=3)
    inside = look_inside(How(trunk, None, context=context), photo())
    (_, scales), *_ = trunk.batches([photo()])
    with torch.inference_mode():
        seen = context.look(torch.from_numpy(scales[0].maps))
    np.testing.assert_allclose(inside.levels[0].bandwidth, seen.bandwidth[0], rtol=1e-5)
    np.testing.assert_allclose(inside.levels[0].confidence, seen.confidence[0], rtol=1e-5)
    assert inside.joined
    centres = scales[0].centres()
    cells = [int(np.flatnonzero((centres == one.xy).all(axis=1))[0]) for one in inside.edges]
    found = context.reweighting.neighbours(torch.from_numpy(scales[0].maps), np.array(cells))
    for edges, (others, weights) in zip(inside.edges, found, strict=True):
        np.testing.assert_array_equal(edges.others, centres[others])
        np.testing.assert_array_equal(edges.weights, weights)
    assert cells[0] == int(inside.levels[0].attention.argmax())
    gaps = [np.linalg.norm(a.xy - b.xy) for i, a in enumerate(inside.edges) for b in inside.edges[:i]]
    assert min(gaps) > 2 * STRIDE


def test_cells_can_be_chosen(trunk):
    inside = look_inside(How(trunk, None), photo(), at=[(1.0, 1.0), (95, 42)])
    assert [one.xy.tolist() for one in inside.edges] == [[4, 4], [92, 44]]


def test_plain_how_shows_what_a_graph_would_join(trunk):
    inside = look_inside(How(trunk, None), photo())
    assert inside.edges
    assert not inside.joined
    assert inside.levels[0].bandwidth is inside.levels[0].confidence is None


def test_superfeatures_are_those_of_the_encoder(fire):
    inside, features = look_inside(fire, photo()), fire(photo())
    assert drawn(inside) == rows(features.xy, features.scale)
    assert [level.candidates for level in inside.levels] == [6, 6]
    assert sorted(one.template for one in inside.superfeatures) == list(range(6))
    assert inside.superfeatures[0].strength == pytest.approx(features.strength[0], rel=1e-5)
    assert all(one.attention.sum() == pytest.approx(1, abs=1e-4) for one in inside.superfeatures)
    assert max(level.attention.max() for level in inside.levels) == 1


def test_key_points_are_those_of_the_encoder():
    encoder = RootSift(count=20)
    inside, features = look_inside(encoder, photo(200, 300)), encoder(photo(200, 300))
    assert np.array_equal(inside.points.xy, features.xy)
    assert inside.count == len(features) > 0
    assert inside.levels == ()


def test_encoders_that_tell_their_attention(trunk):
    how = How(trunk, random_reduction(CHANNELS), count=40)

    class Other:
        """An encoder over maps of a kind that is not known here."""

        trunk, attention, __call__ = how.trunk, how.attention, how.__call__

    other, expected = look_inside(Other(), photo()), look_inside(how, photo())
    assert [len(level.xy) for level in other.levels] == [len(level.xy) for level in expected.levels]
    assert drawn(other) == drawn(expected)


def test_plain_how_beside_others(trunk, fire):
    assert plain(fire).trunk is trunk
    assert plain(fire).count == fire.count
    assert plain(RootSift(count=7)) is None
    assert plain(RootSift(count=7), trunk).count == 7


def test_too_small_and_broken(trunk, fire):
    for encoder in (How(trunk, None), fire):
        assert look_inside(encoder, photo(4, 5)).levels == ()
        assert look_inside(encoder, photo(4, 5)).count == 0
    backbone = replace(trunk.backbone, forward=lambda _: np.full((1, CHANNELS, 2, 3), np.nan, np.float32))
    with pytest.raises(ImageError, match="NaN"):
        look_inside(How(replace(trunk, backbone=backbone), None), photo())
    one = look_inside(How(trunk, None), photo(STRIDE, STRIDE))
    assert [len(edges.others) for edges in one.edges] == [0]
