"""DELG's attention against the numbers of the public PyTorch program, and against plain loops."""

from pathlib import Path

import numpy as np
import pytest
import torch

from resight.features.local.delg import LocalAttention

REFERENCE = Path(__file__).parents[2] / "../shared/reference/misc.npz"
needs_reference = pytest.mark.skipif(not REFERENCE.exists(), reason=f"no reference numbers at {REFERENCE}")
torch.set_num_threads(1)


@needs_reference
@torch.no_grad()
def test_attention():
    reference = dict(np.load(REFERENCE, allow_pickle=False))
    network = LocalAttention(16, 512).eval()
    network.load_state_dict({n[11:]: torch.tensor(v) for n, v in reference.items() if n.startswith("delg_att_w_")})
    scores, features = network(torch.tensor(reference["soa_in"]))
    np.testing.assert_allclose(scores[:, None], reference["delg_att_score"], atol=1e-5)
    np.testing.assert_allclose(features, reference["delg_att_feat"], atol=1e-5)


@torch.no_grad()
def test_attention_is_its_formula():
    generator = torch.Generator().manual_seed(0)
    network = LocalAttention(3, 4).double().eval()
    for parameter in network.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    network.bn.running_mean.fill_(0.3)
    network.bn.running_var.fill_(2.0)
    w = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    maps = torch.randn(2, 3, 2, 2, generator=generator).double()
    scores, features = network(maps)
    for n, y, x in np.ndindex(2, 2, 2):
        hidden = w["conv1.weight"][:, :, 0, 0] @ maps[n, :, y, x].numpy() + w["conv1.bias"]
        hidden = (hidden - 0.3) / np.sqrt(2 + 1e-5) * w["bn.weight"] + w["bn.bias"]
        score = np.log1p(np.exp(w["conv2.weight"][0, :, 0, 0] @ np.maximum(hidden, 0) + w["conv2.bias"][0]))
        assert scores[n, y, x].item() == pytest.approx(score)
        np.testing.assert_allclose(features[n, :, y, x], score * hidden / np.linalg.norm(hidden), rtol=1e-9)
