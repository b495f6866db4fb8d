"""The losses of adversarial training against literal formulas in float64."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.models.architecture import Architecture
from nas.training.adversary import PGD
from nas.training.losses import (
    Adversarial,
    Fast,
    Mart,
    Method,
    Standard,
    Trades,
    gaussian_start,
)
from tests.nas.training.slow_formulas import (
    SmallNet,
    batch,
    cross_entropy,
    mart_loss,
    trades_loss,
)

ADVERSARY = PGD(epsilon=0.1, step_size=0.03, steps=3)
METHODS: list[Method] = [
    Standard(adversary=ADVERSARY),
    Adversarial(adversary=ADVERSARY),
    Fast(adversary=PGD(epsilon=0.1, step_size=0.125, steps=1), gradient_alignment=0.5),
    Trades(adversary=ADVERSARY),
    Mart(adversary=ADVERSARY),
]


def seed(number: int = 4) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def literal_pgd(model: nn.Module, images: Tensor, start: Tensor, objective: Any) -> Tensor:
    """PGD in eval mode on a copy."""
    model = copy.deepcopy(model).eval()
    moved = start.clone()
    for _ in range(ADVERSARY.steps):
        moved = moved.detach().requires_grad_()
        objective(model(moved)).backward()
        moved = moved.detach() + ADVERSARY.step_size * moved.grad.sign()
        moved = (images + (moved - images).clamp(-ADVERSARY.epsilon, ADVERSARY.epsilon)).clamp(0, 1)
    return moved


def test_madry() -> None:
    model, (images, labels) = SmallNet().train(), batch()
    start = ADVERSARY.random_start(images, seed())
    moved = literal_pgd(model, images, start, lambda logits: F.cross_entropy(logits, labels))
    expected = cross_entropy(copy.deepcopy(model)(moved), labels, 0.1)
    found = Adversarial(adversary=ADVERSARY, label_smoothing=0.1)(model, images, labels, seed())
    assert found.loss.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("beta", [1.0, 6.0])
def test_trades(beta: float) -> None:
    model, (images, labels) = SmallNet().train(), batch()
    with torch.no_grad():
        p = copy.deepcopy(model).eval()(images).softmax(1)
    moved = literal_pgd(
        model, images, gaussian_start(images, seed()), lambda logits: (p * (p.log() - logits.log_softmax(1))).sum()
    )
    other = copy.deepcopy(model)
    expected = trades_loss(other(images), other(moved), labels, beta)
    found = Trades(adversary=ADVERSARY, beta=beta)(model, images, labels, seed())
    assert found.loss.item() == pytest.approx(expected, rel=1e-10)
    torch.testing.assert_close(found.logits, other(moved).detach())
    assert expected != pytest.approx(cross_entropy(other(images), labels), rel=1e-3)


@pytest.mark.parametrize("beta", [1.0, 5.0])
def test_mart(beta: float) -> None:
    model, (images, labels) = SmallNet().train(), batch()
    start = gaussian_start(images, seed())
    moved = literal_pgd(model, images, start, lambda logits: F.cross_entropy(logits, labels))
    other = copy.deepcopy(model)
    expected = mart_loss(other(images), other(moved), labels, beta)
    found = Mart(adversary=ADVERSARY, beta=beta)(model, images, labels, seed())
    assert found.loss.item() == pytest.approx(expected, rel=1e-3)  # the program's constants: 1.0001 for 1


def test_mart_takes_the_strongest_wrong_class() -> None:
    class Fixed(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)[:, :3] * 0 + torch.log(torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64))

    images = torch.rand(1, 3, 2, 2, dtype=torch.float64)
    for label, wrong in ((0, 0.3), (1, 0.5), (2, 0.5)):
        found = Mart(adversary=ADVERSARY)(Fixed(), images, torch.tensor([label]))
        right = (0.5, 0.3, 0.2)[label]
        expected = -torch.log(torch.tensor(right)) - torch.log(torch.tensor(1 - wrong))
        assert found.loss.item() == pytest.approx(expected.item(), abs=1e-3)


def test_standard_sees_the_images_as_they_are() -> None:
    model, (images, labels) = SmallNet().train(), batch()
    expected = cross_entropy(copy.deepcopy(model)(images), labels)
    assert Standard(adversary=ADVERSARY)(model, images, labels).loss.item() == pytest.approx(expected, rel=1e-12)


def test_gradient_alignment() -> None:
    model, (images, labels) = SmallNet().train(), batch()
    adversary = PGD(epsilon=0.1, step_size=0.125, steps=1)
    generator = seed()
    plain = Fast(adversary=adversary)(copy.deepcopy(model), images, labels, generator).loss
    noisy = adversary.random_start(images, generator)  # the draw after that of the attack
    rows = []
    for points in (images, noisy):
        points = points.clone().requires_grad_()
        rows.append(torch.autograd.grad(F.cross_entropy(copy.deepcopy(model)(points), labels), points)[0].flatten(1))
    cosines = (rows[0] * rows[1]).sum(1) / (rows[0].norm(dim=1) * rows[1].norm(dim=1))
    found = Fast(adversary=adversary, gradient_alignment=2.0)(model, images, labels, seed()).loss
    assert found.item() == pytest.approx(plain.item() + 2 * (1 - cosines.mean().item()), rel=1e-10)
    assert 1 - cosines.mean().item() > 0.001


def test_gradient_alignment_is_differentiated() -> None:
    model, (images, labels) = SmallNet().eval(), batch()  # in eval mode, so that differences can be taken
    weight = model.layers[0].weight

    def misaligned() -> Tensor:
        method = [Fast(adversary=PGD(epsilon=0.1, step_size=0.0, steps=1), gradient_alignment=w) for w in (1.0, 0.0)]
        losses = [each(model, images, labels, seed()).loss for each in method]
        return losses[0] - losses[1]

    (gradient,) = torch.autograd.grad(misaligned(), weight)
    with torch.no_grad():
        weight[0, 0, 0, 0] += 1e-6
    above = misaligned().item()
    with torch.no_grad():
        weight[0, 0, 0, 0] -= 2e-6
    assert gradient[0, 0, 0, 0].item() == pytest.approx((above - misaligned().item()) / 2e-6, rel=1e-4)


@pytest.mark.parametrize("method", METHODS, ids=lambda each: type(each).__name__)
def test_every_method_trains_all_parameters_of_a_cell(method: Method) -> None:
    architecture = Architecture(
        family="darts", genotype="ROBUST_ZCP", channels=2, layers=3, auxiliary=True, classes=tuple("abcde"),
        image_size=(32, 32),
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = architecture.build().train()
        images, labels = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    weighted = type(method)(**{**vars(method), "auxiliary": 0.4})
    again = weighted(copy.deepcopy(model), images, labels, seed())
    without = method(copy.deepcopy(model), images, labels, seed())
    found = weighted(model, images, labels, seed())
    found.loss.backward()
    assert model.training
    assert all(each.grad is not None and each.grad.isfinite().all() for each in model.parameters())
    assert torch.equal(found.logits, again.logits) and found.logits.shape == (4, 5)
    assert found.loss > without.loss > 0


@pytest.mark.parametrize("method", METHODS, ids=lambda each: type(each).__name__)
def test_running_statistics_see_what_is_trained_on(method: Method) -> None:
    model, (images, labels) = SmallNet().train(), batch()
    method(model, images, labels, seed())
    assert int(model.layers[1].num_batches_tracked) == (2 if isinstance(method, (Trades, Mart)) else 1)
