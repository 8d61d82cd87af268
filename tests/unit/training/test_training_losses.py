import math

import pytest
import torch

from resight.errors import ArrayError, UsageError
from resight.training import losses

torch.set_num_threads(1)
LABELS = torch.tensor([-1, 1, 0, 0, -1, 1, 0])


@pytest.fixture
def rows():
    return torch.nn.functional.normalize(torch.randn(7, 4, generator=torch.Generator().manual_seed(0)).double())


@pytest.mark.parametrize("loss", [losses.contrastive, losses.triplet, losses.second_order])
def test_gradients_of_tuple_losses(loss, rows):
    assert torch.autograd.gradcheck(
        lambda x: loss(x, LABELS, *((2.0,) if loss is losses.triplet else ())), (rows.requires_grad_(),)
    )


@pytest.mark.parametrize("loss", [losses.contrastive, losses.triplet, losses.second_order])
def test_gradients_of_equal_vectors_are_finite(loss):
    x = torch.ones(7, 4, requires_grad=True)
    loss(x, LABELS).backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("loss", [losses.contrastive, losses.triplet, losses.second_order])
def test_a_perfect_tuple_costs_nothing(loss):
    x = torch.tensor([[1.0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 0, 1]])
    assert loss(x, torch.tensor([-1, 1, 0, 0])).item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("form", ["plain", "tie-aware", "simplified"])
def test_average_precision_of_separated_scores(form):
    scores = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]])
    perfect, worst = torch.tensor([1, 1, 0, 0]), torch.tensor([0, 0, 1, 1])
    assert losses.average_precision(scores[:1], perfect[None], 11, form=form).item() == pytest.approx(0, abs=1e-6)
    assert losses.average_precision(scores[:1], worst[None], 11, form=form).item() >= 0.5
    both = losses.average_precision(scores, torch.stack([perfect, torch.zeros(4, dtype=int)]), 11, form=form)
    assert both.item() == pytest.approx(0, abs=1e-6)  # a query without relevant rows is left out


@pytest.mark.parametrize("form", ["plain", "tie-aware", "simplified"])
def test_gradients_of_average_precision(form):
    generator = torch.Generator().manual_seed(1)
    scores = torch.rand(2, 9, generator=generator).double().requires_grad_()
    labels = torch.tensor([[1, 0, 1, 1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, 1, 0, 0, 0]])
    assert torch.autograd.gradcheck(lambda x: losses.average_precision(x, labels, 5, form=form), (scores,))


def test_arcface_margin_stops_at_pi():
    angle = torch.tensor([0.3, math.pi - 0.05])
    x = torch.stack([angle.cos(), angle.sin()], 1)
    logits = losses.arcface_logits(x, torch.tensor([[2.0, 0.0], [0.0, 5.0]]), torch.tensor([0, 0]), 0.1, 10)
    expected = [[10 * math.cos(0.4), 10 * math.sin(0.3)], [10 * math.cos(math.pi - 0.05), 10 * math.sin(0.05)]]
    torch.testing.assert_close(logits, torch.tensor(expected), atol=1e-4, rtol=0)


def test_arcface_is_the_cross_entropy_of_its_logits():
    x, weight = torch.eye(3), torch.eye(3)[:2].clone().requires_grad_()
    loss = losses.arcface(x, weight, torch.tensor([0, 1, 1]), 0.2, 4)
    near, far = 4 * math.cos(0.2), 4 * math.cos(math.pi / 2 + 0.2)
    rows = [math.log(1 + math.exp(-near)), math.log(1 + math.exp(-near)), math.log(1 + math.exp(-far))]
    assert loss.item() == pytest.approx(sum(rows) / 3, abs=1e-4)
    loss.backward()
    assert torch.isfinite(weight.grad).all()  # the cosine is exactly 1 for two rows


def test_progress_of_curricularface_is_no_path_of_gradients():
    x, weight = torch.eye(3).requires_grad_(), torch.eye(3)[:2].clone().requires_grad_()
    logits, progress = losses.curricularface_logits(x, weight, torch.tensor([0, 1, 1]), 0.5)
    assert not progress.requires_grad
    assert progress.item() == pytest.approx(0.99 * 0.5 + 0.01 * 2 / 3)
    logits.logsumexp(1).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(weight.grad).all()


def settled_curricularface(x, weight, classes):
    return losses.curricularface_logits(x, weight, classes, 0.2, momentum=1.0)[0]  # else differences see it move


@pytest.mark.parametrize("logits", [losses.arcface_logits, settled_curricularface])
def test_gradients_of_class_logits(logits, rows):
    weight = torch.randn(5, 4, generator=torch.Generator().manual_seed(2)).double().requires_grad_()
    classes = torch.tensor([0, 1, 2, 3, 4, 0, 1])
    assert torch.autograd.gradcheck(lambda w: logits(rows, w, classes), (weight,))


def test_superfeature_ratio_and_its_fault():
    query = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    positive = torch.tensor([[0.8, 0.6], [0.6, 0.8], [-1.0, 0.0]])
    assert losses.superfeature_matches(query, positive, 0.9).tolist() == [0, 1, 2]
    assert losses.superfeature_matches(query, positive, 0.5).tolist() == [2]
    # second nearest have the indices 1, 0 and 1: division by 0 refuses the second
    assert losses.superfeature_matches(query, positive, 0.9, faithful=True).tolist() == [0, 2]


def test_superfeature_without_matches_costs_nothing():
    x = torch.eye(3)[None].repeat(3, 1, 1).requires_grad_()
    loss = losses.superfeature(torch.stack([x[0], x[1].roll(1, 0), x[2]]))
    loss.backward()
    assert loss.item() == 0
    assert not x.grad.any()


def test_decorrelation_of_equal_and_of_disjoint_maps():
    maps = torch.rand(1, 1, 3, 4).repeat(2, 5, 1, 1)
    assert losses.decorrelation(maps, weight=1).item() == pytest.approx(2, abs=1e-5)
    disjoint = torch.eye(12).reshape(1, 12, 3, 4)
    assert losses.decorrelation(disjoint).item() == 0


def test_bad_arguments(rows):
    with pytest.raises(ArrayError, match=r"expected \(n, D\) and \(n,\)"):
        losses.contrastive(rows, LABELS[:3])
    with pytest.raises(ArrayError, match="-1 "):
        losses.contrastive(rows, LABELS + 1)
    with pytest.raises(ArrayError, match="first row"):
        losses.contrastive(rows[1:], LABELS[1:])
    with pytest.raises(ArrayError, match="exactly one"):
        losses.triplet(rows, LABELS.clamp(max=0))
    with pytest.raises(ArrayError, match="exactly one"):
        losses.second_order(rows, torch.tensor([-1, 1, 1, 0, -1, 0, 0]))
    scores = torch.rand(2, 5)
    with pytest.raises(ArrayError, match="one shape"):
        losses.average_precision(scores, scores[:, :3])
    with pytest.raises(ArrayError, match="not defined"):
        losses.average_precision(scores, torch.zeros(2, 5))
    for bins, lowest in ((1, 0), (5, 1)):
        with pytest.raises(UsageError, match="bins"):
            losses.average_precision(scores, scores > 0, bins, lowest)
    with pytest.raises(UsageError, match="form='other'"):
        losses.average_precision(scores, scores >= 0, form="other")
    with pytest.raises(ArrayError, match=r"\(C, D\)"):
        losses.arcface(rows, rows[:, :2], LABELS)
    with pytest.raises(ArrayError, match=r"\(C, D\)"):
        losses.curricularface_logits(rows, rows, LABELS[:2], 0.0)
    with pytest.raises(ArrayError, match="negatives"):
        losses.superfeature(rows)
    with pytest.raises(ArrayError, match="N of at least 2"):
        losses.superfeature_matches(rows, rows[:3])
    with pytest.raises(ArrayError, match="attention maps"):
        losses.decorrelation(torch.rand(2, 1, 3, 3))
