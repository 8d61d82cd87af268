"""The small networks: FIRe's feature integration, SOLAR's and DELG's attention."""

import pytest
import torch

from resight.errors import ArrayError, UsageError
from resight.features.local import fire
from resight.features.local.delg import LocalAttention
from resight.features.networks.second_order import SecondOrderAttention

torch.set_num_threads(1)
MAPS = torch.randn(2, 6, 3, 5, generator=torch.Generator().manual_seed(0))


def test_superfeatures_of_any_map_size():
    network = fire.FeatureIntegration(6, 4, 8, 2)
    for maps in (MAPS, MAPS[:, :, :1, :1]):
        superfeatures, attention = network(maps)
        assert superfeatures.shape == (2, 4, 8)
        assert attention.shape == (2, 4, *maps.shape[2:])
        torch.testing.assert_close(attention.sum((2, 3)), torch.ones(2, 4))


def test_superfeatures_ignore_where_a_feature_is():
    network = fire.FeatureIntegration(6, 4, 8)
    there, _ = network(MAPS)
    back, _ = network(MAPS.flip(3))
    torch.testing.assert_close(back, there)


def test_strongest_superfeatures():
    rows = torch.tensor([[3.0, 4.0], [0.0, 1.0], [4.0, 3.0], [6.0, 0.0]])
    kept, strength = fire.strongest(rows, 3)
    assert kept.tolist() == [[6, 0], [3, 4], [4, 3]]
    assert strength.tolist() == [6, 5, 5]
    with pytest.raises(ArrayError, match=r"\(M, dim\)"):
        fire.strongest(rows[0], 1)
    with pytest.raises(UsageError, match="count=0"):
        fire.strongest(rows, 0)


def test_second_order_attention_starts_as_the_identity():
    block = SecondOrderAttention(6, 3)
    torch.testing.assert_close(block(MAPS), MAPS)
    block(MAPS).square().sum().backward()
    assert block.v.weight.grad.any()


def test_local_scores_are_positive():
    scores, features = LocalAttention(6, 4)(MAPS)
    assert scores.shape == (2, 3, 5)
    assert (scores > 0).all()
    torch.testing.assert_close(features.norm(dim=1), scores)


NETWORKS = [fire.FeatureIntegration(6, 4, 8), SecondOrderAttention(6, 3), LocalAttention(6, 4)]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("maps", [MAPS[0], MAPS[:, :5], MAPS[:, :, :0]])
def test_wrong_maps_are_named(network, maps):
    with pytest.raises(ArrayError, match=r", 6, H, W\)"):
        network(maps)


def test_wrong_sizes():
    with pytest.raises(UsageError, match="dim at least 2"):
        fire.FeatureIntegration(6, 4, 1)
    with pytest.raises(UsageError, match="hidden=0"):
        SecondOrderAttention(6, 0)
    with pytest.raises(UsageError, match="channels=0"):
        LocalAttention(0)
