import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from resight.errors import ArrayError, UsageError
from resight.features.local import how
from resight.features.local.context import FORMAT, Context, ContextSettings
from resight.features.local.reweighting import AttentionReweighting, GraphReweighting, cell_graph
from resight.features.local.smoothing import LearnableSmoothing, gaussian_smooth

torch.set_num_threads(1)
ALL = [
    ContextSettings(8),
    ContextSettings(8, "attention", window=5),
    ContextSettings(8, "graph", "none", k=2),
    ContextSettings(8, "none", "learnable", window=7),
    ContextSettings(8, "graph", "average"),
    ContextSettings(8, "graph", smoothed="residual", confidence_from="residual"),
    ContextSettings(8, "none", "none"),
]


@pytest.fixture
def maps():
    return torch.randn(2, 8, 5, 6, generator=torch.Generator().manual_seed(0)).relu()


def trained(settings, seed=1):
    """A context whose weights are no longer those of its start."""
    context = Context(settings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in context.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return context


def constant(maps, a, c):
    return torch.full_like(maps[:, 0], a), torch.full_like(maps[:, 0], c)


@pytest.mark.parametrize("window", [3, 5, 7])
def test_narrow_kernels_are_the_identity(maps, window):
    for a, c in ((float("inf"), 0.2), (1e4, 0.7)):
        torch.testing.assert_close(gaussian_smooth(maps, *constant(maps, a, c), window), maps)


def test_no_self_confidence_rejects_the_centre():
    maps = torch.zeros(1, 1, 3, 3)
    maps[..., 1, 1] = 100
    assert gaussian_smooth(maps, *constant(maps, 0.0, 0.0))[0, 0, 1, 1] == 0
    assert gaussian_smooth(maps, *constant(maps, 0.0, 1.0))[0, 0, 1, 1] == pytest.approx(100 / 9)


def test_where_nothing_counts_values_stay(maps):
    maps.requires_grad_()
    smoothed = gaussian_smooth(maps, *constant(maps, 1e5, 0.0))
    assert torch.equal(smoothed, maps)
    smoothed.sum().backward()
    torch.testing.assert_close(maps.grad, torch.ones_like(maps))


@pytest.mark.parametrize("window", [3, 5, 7])
def test_without_bandwidth_it_is_the_average(maps, window):
    torch.testing.assert_close(gaussian_smooth(maps, *constant(maps, 0.0, 1.0), window), how.smooth(maps, window))


def test_smoothing_moves_with_the_picture(maps):
    smoothing = trained(ContextSettings(8, "none", window=5)).smoothing
    wide = torch.nn.functional.pad(maps, (3, 3, 3, 3))
    moved = torch.roll(wide, (1, 2), (2, 3))
    first, second = (gaussian_smooth(one, *smoothing(one), 5) for one in (wide, moved))
    torch.testing.assert_close(torch.roll(first, (1, 2), (2, 3))[..., 4:-4, 4:-4], second[..., 4:-4, 4:-4])


@pytest.mark.parametrize("kind", [GraphReweighting, AttentionReweighting])
def test_reweighting_does_not_know_where_cells_are(maps, kind):
    block = kind(8)
    with torch.no_grad():
        block.outer.normal_(generator=torch.Generator().manual_seed(2))
    order = torch.randperm(30, generator=torch.Generator().manual_seed(3))
    shuffled = maps.flatten(2)[..., order].reshape(maps.shape)
    expected = block(maps).flatten(2)[..., order].reshape(maps.shape)
    torch.testing.assert_close(block(shuffled), expected)


@pytest.mark.parametrize("settings", ALL)
def test_the_start_is_how(maps, settings):
    context = Context(settings)
    seen = context.look(maps)
    assert torch.equal(seen.reweighted, maps)
    sharp = settings.smoothing == "none" or settings.smoothed == "residual"
    expected = maps if sharp else how.smooth(maps, settings.window)
    torch.testing.assert_close(context(maps), expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("settings", ALL[:-1])
def test_gradients_reach_everything(maps, settings):
    context = trained(settings)
    maps.requires_grad_()
    (context(maps) ** 2).sum().backward()
    for name, parameter in (*context.named_parameters(), ("maps", maps)):
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_gradients_are_those_of_differences():
    maps = torch.randn(1, 4, 2, 3, generator=torch.Generator().manual_seed(5)).double().requires_grad_()
    for settings in (ContextSettings(4, k=2), ContextSettings(4, "attention", smoothed="residual")):
        assert torch.autograd.gradcheck(trained(settings).double(), (maps,), atol=1e-6)


def test_a_step_leaves_the_start(maps):
    context = Context(ContextSettings(8))
    optimiser = torch.optim.Adam(context.parameters(), 0.1)
    before = context(maps).detach()
    (context(maps)[:, 0] ** 2).sum().backward()
    optimiser.step()
    assert (context(maps) - before).abs().max() > 0.01


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1)])
@pytest.mark.parametrize("settings", ALL)
def test_small_maps(shape, settings):
    maps = torch.rand(1, 8, *shape, generator=torch.Generator().manual_seed(0))
    smoothed = trained(settings)(maps)
    assert smoothed.shape == maps.shape
    assert smoothed.isfinite().all()


def test_cells_of_nothing_have_no_neighbours():
    maps = torch.zeros(1, 8, 3, 3)
    assert all(len(cells) == 0 for cells, _ in GraphReweighting(8).neighbours(maps, np.arange(9)))
    assert trained(ContextSettings(8)).look(maps).reweighted.isfinite().all()


def test_equal_cells_are_chosen_by_their_number():
    unit = torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 1], [1, 0]])
    columns, _ = cell_graph(unit, 1).neighbours(4)
    assert columns.tolist() == [0]


def test_reduction_first_is_reduction_last(maps):
    weight, bias = torch.randn(3, 8, generator=torch.Generator().manual_seed(4)), torch.ones(3)
    for settings in ALL:
        context = trained(settings)
        early = context(maps, lambda one: how.reduce(one, weight, bias))
        torch.testing.assert_close(early, how.reduce(context(maps), weight, bias), atol=1e-4, rtol=1e-4)


def test_images_do_not_see_each_other(maps):
    context = trained(ContextSettings(8))
    torch.testing.assert_close(context(maps)[1:], context(maps[1:]))


@pytest.mark.parametrize("settings", ALL)
def test_round_trip(tmp_path, maps, settings):
    context = trained(settings)
    context.save(tmp_path / "context.safetensors")
    loaded = Context.load(tmp_path / "context.safetensors")
    assert loaded.settings == settings
    assert loaded.fingerprint == context.fingerprint != Context(ContextSettings(9)).fingerprint
    torch.testing.assert_close(loaded(maps), context(maps))
    assert [path.name for path in tmp_path.iterdir()] == ["context.safetensors"]


def test_seeds():
    one, same, other = (Context(ContextSettings(8), seed).fingerprint for seed in (0, 0, 1))
    assert one == same != other


def test_files_of_something_else(tmp_path):
    file, context = tmp_path / "weights.safetensors", Context(ContextSettings(8))

    def refused(what, tensors, settings, **metadata):
        written = {"format": FORMAT, "settings": json.dumps(settings), "sha256": context.fingerprint, **metadata}
        save_file(tensors, file, written)
        with pytest.raises(UsageError, match=what) as found:
            Context.load(file)
        assert str(file) in str(found.value)

    tensors, settings = dict(context.state_dict()), vars(context.settings)
    refused("holds resight-whitening", tensors, settings, format="resight-whitening-1")
    refused("its settings are", tensors, {"channels": 8})
    refused("its settings are", tensors, [])
    refused("choose one of", tensors, {**settings, "smoothing": "median"})
    refused("its tensors are not", tensors, {**settings, "channels": 60_000})
    refused("channels are 1 to", tensors, {**settings, "channels": 10**12})
    refused("damaged", tensors, {**settings, "channels": 8.5})
    refused("its tensors are not", {"a": torch.zeros(1)}, settings)
    refused("its checksum", {**tensors, "reweighting.outer": torch.ones(2, 8)}, settings)
    refused("NaN", {**tensors, "reweighting.outer": torch.full((2, 8), torch.nan)}, settings)
    file.write_bytes(b"no such thing")
    with pytest.raises(UsageError, match="no safetensors file"):
        Context.load(file)
    with pytest.raises(UsageError, match="cannot be read"):
        Context.load(tmp_path / "absent")


def test_wrong_values(maps):
    for wrong in ({"channels": 0}, {"window": 4}, {"start": 0.0}, {"start": 100.0}, {"reweighting": "gcn"}, {"k": 0},
                  {"power": 0.5}, {"reweighting": "none", "smoothed": "residual"}):  # fmt: skip
        with pytest.raises(UsageError):
            Context(ContextSettings(**{"channels": 8, **wrong}))
    with pytest.raises(UsageError, match="windows 3, 5 or 7"):
        LearnableSmoothing(8, 4)
    for shape in ((8, 5, 6), (1, 7, 5, 6), (1, 8, 0, 6)):
        with pytest.raises(ArrayError, match="expected"):
            Context(ContextSettings(8)).look(torch.zeros(shape))
    with pytest.raises(ArrayError, match="NaN"):
        Context(ContextSettings(8))(maps * torch.nan)
    with pytest.raises(ArrayError, match="twice"):
        gaussian_smooth(maps, maps[:1, 0], maps[:, 0])


def test_graphs_of_maps_that_do_not_change_are_made_once(maps):
    context = trained(ContextSettings(8, k=3))
    assert isinstance(context.reweighting, GraphReweighting)
    graphs = context.reweighting.graphs(maps)
    known = context.look(maps, graphs).reweighted
    torch.testing.assert_close(known, context.look(maps).reweighted, rtol=0, atol=0)
    known.square().sum().backward()
    known = context.reweighting.inner.grad.clone()
    context.zero_grad()
    context.look(maps).reweighted.square().sum().backward()
    torch.testing.assert_close(context.reweighting.inner.grad, known, rtol=0, atol=0)
    assert not torch.equal(context.look(maps, graphs[::-1]).reweighted, context.look(maps).reweighted)
    with pytest.raises(ArrayError, match="expected"):
        context.look(maps[:, :7], graphs)
