"""FIRe's super-features against the numbers of the authors' program, and against plain loops."""

from pathlib import Path

import numpy as np
import pytest
import torch

from resight.features.local.fire import FeatureIntegration

REFERENCE = Path(__file__).parents[2] / "../shared/reference/cirtorch_how_dir_fire.npz"
needs_reference = pytest.mark.skipif(not REFERENCE.exists(), reason=f"no reference numbers at {REFERENCE}")
torch.set_num_threads(1)


@needs_reference
@torch.no_grad()
def test_superfeatures():
    reference = dict(np.load(REFERENCE, allow_pickle=False))
    network = FeatureIntegration(channels=12, templates=6, dim=10, iterations=3)
    weights = {name[6:]: torch.tensor(value) for name, value in reference.items() if name.startswith("lit_w_")}
    network.load_state_dict(weights)
    superfeatures, attention = network(torch.tensor(reference["how_f1"]))
    np.testing.assert_allclose(superfeatures.mT[..., None], reference["lit_out"], atol=1e-5)
    np.testing.assert_allclose(attention, reference["lit_attn"], atol=1e-5)


@torch.no_grad()
def test_one_round_is_its_formula():
    generator = torch.Generator().manual_seed(0)
    network = FeatureIntegration(channels=3, templates=2, dim=4, iterations=1).double()
    for parameter in network.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    maps = torch.randn(1, 3, 2, 2, generator=generator).double()
    values = {name: tensor.numpy() for name, tensor in network.state_dict().items()}

    def layer_norm(x, name):
        scaled = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
        return scaled * values[f"{name}.weight"] + values[f"{name}.bias"]

    local = [layer_norm(maps[0, :, y, x].numpy(), "norm_inputs") for y in range(2) for x in range(2)]
    start = values["templates_init"][0]
    share = np.zeros((2, 4))
    for position, feature in enumerate(local):
        key = values["project_k.weight"] @ feature
        logits = [key @ values["project_q.weight"] @ layer_norm(t, "norm_templates") / 2 for t in start]
        share[:, position] = np.exp(logits) / np.exp(logits).sum() + 1e-8
    share /= share.sum(axis=1, keepdims=True)
    expected = []
    for t, weights in zip(start, share, strict=True):
        moved = t + sum(w * (values["project_v.weight"] @ f) for w, f in zip(weights, local, strict=True))
        hidden = values["mlp.0.weight"] @ layer_norm(moved, "norm_mlp") + values["mlp.0.bias"]
        expected.append(moved + values["mlp.2.weight"] @ np.maximum(hidden, 0) + values["mlp.2.bias"])
    superfeatures, attention = network(maps)
    np.testing.assert_allclose(superfeatures[0], expected, atol=1e-10)
    np.testing.assert_allclose(attention[0].reshape(2, 4), share, atol=1e-10)
