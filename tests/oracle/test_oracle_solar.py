"""SOLAR's attention block against the numbers of the authors' program, and against plain loops."""

from pathlib import Path

import numpy as np
import pytest
import torch

from resight.features.networks.second_order import SecondOrderAttention

REFERENCE = Path(__file__).parents[2] / "../shared/reference/misc.npz"
needs_reference = pytest.mark.skipif(not REFERENCE.exists(), reason=f"no reference numbers at {REFERENCE}")
torch.set_num_threads(1)


@needs_reference
@torch.no_grad()
def test_attention_block():
    reference = dict(np.load(REFERENCE, allow_pickle=False))
    block = SecondOrderAttention(16, 4).eval()
    block.load_state_dict({n[6:]: torch.tensor(v) for n, v in reference.items() if n.startswith("soa_w_")})
    np.testing.assert_allclose(block(torch.tensor(reference["soa_in"])), reference["soa_out"], atol=1e-5)


@torch.no_grad()
def test_attention_is_its_formula():
    generator = torch.Generator().manual_seed(0)
    block = SecondOrderAttention(3, 2).double().eval()
    for parameter in block.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    maps = torch.randn(1, 3, 2, 4, generator=generator).double()
    w = {name: tensor.numpy() for name, tensor in block.state_dict().items()}

    def branch(name, x):
        y = (w[f"{name}.0.weight"][:, :, 0, 0] @ x + w[f"{name}.0.bias"]) / np.sqrt(1 + 1e-5)
        return np.maximum(y * w[f"{name}.1.weight"] + w[f"{name}.1.bias"], 0)

    positions = maps[0].reshape(3, 8).T.numpy()
    got = block(maps)[0].reshape(3, 8).T
    for i, x in enumerate(positions):
        weights = np.exp([branch("f", x) @ branch("g", y) / np.sqrt(2) for y in positions])
        values = [w["h.weight"][:, :, 0, 0] @ y + w["h.bias"] for y in positions]
        seen = sum(a * v for a, v in zip(weights / weights.sum(), values, strict=True))
        np.testing.assert_allclose(got[i], x + w["v.weight"][:, :, 0, 0] @ seen + w["v.bias"], atol=1e-10)
