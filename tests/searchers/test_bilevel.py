"""The bilevel training of a supernet: gradients against exact derivatives, and what an epoch changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces import get_space
from search_spaces.base import NetworkSpec
from searchers import bilevel
from searchers.base import SearcherStopped
from searchers.bilevel import Batch, Bilevel, gumbel_sample, halves
from searchers.darts import Darts

IMAGES = torch.randint(0, 256, (24, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(24) % 3


def made(space: str = "nasbench201", *, double: bool = False, **options: Any) -> Bilevel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        spec = NetworkSpec(channels=4, layers=3, classes=3, image_size=(8, 8))
        net = get_space(space).supernet(spec, partial_channels=options.get("partial_channels", 1))
    words = {"search_images": 24, "batch_size": 6, **options}
    return Bilevel(net.double() if double else net, Darts.Options(**words), IMAGES, LABELS, seed=0, epochs=4)


def batches() -> tuple[Batch, Batch]:
    pixels = IMAGES.double() / 255
    first, second = (Batch(images=pixels[rows], labels=LABELS[rows], noise=None) for rows in (slice(12), slice(12, 24)))
    return first, second


def exact_gradient(training: Bilevel, train: Batch, valid: Batch, rate: float) -> list[Tensor]:
    """Differentiates through the step of the network's weights."""
    net = training.supernet
    names = [name for name, _ in net.named_parameters() if not name.startswith("architecture.")]
    weights = dict(net.named_parameters())
    architecture = list(net.architecture.values())

    def loss(batch: Batch, replaced: dict[str, Tensor]) -> Tensor:
        logits = torch.func.functional_call(net, replaced, (batch.images,))
        return F.cross_entropy(logits, batch.labels)

    gradients = torch.autograd.grad(loss(train, {}), [weights[name] for name in names], create_graph=True)
    moved = {}
    for name, gradient in zip(names, gradients, strict=True):
        momentum = training.sgd.state[weights[name]]["momentum_buffer"]
        moved[name] = weights[name] - rate * (gradient + 3e-4 * weights[name] + 0.9 * momentum)
    return list(torch.autograd.grad(loss(valid, moved), architecture))


@pytest.mark.parametrize(("space", "options"), [("nasbench201", {}), ("nasbench201", {"partial_channels": 2})])
def test_the_second_order_gradient_is_that_of_the_unrolled_step(
    space: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    training, (train, valid) = made(space, double=True, order=2, **options), batches()
    for parameter in training.network:  # as after some steps
        momentum = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
        training.sgd.state[parameter]["momentum_buffer"] = 0.1 * momentum
    before = [parameter.detach().clone() for parameter in training.network]
    rate = training.sgd.param_groups[0]["lr"] = 0.5  # so that the second order counts
    exact = exact_gradient(training, train, valid, rate)
    loss, _ = training._architecture_loss(valid, curved=False)
    first_order = torch.autograd.grad(loss, training.architecture)
    monkeypatch.setattr(bilevel, "HESSIAN_STEP", 1e-5)  # of 0.01, the finite difference's error is a few percent
    found, _ = training.second_order(train, valid, curved=False)
    for one, other, crude in zip(found, exact, first_order, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)
        assert (crude - other).norm() > 0.05 * other.norm()
    assert all(torch.equal(one, other) for one, other in zip(training.network, before, strict=True))


def test_a_gumbel_sample_is_hard_and_has_the_gradient_of_the_softmax() -> None:
    random = torch.Generator().manual_seed(0)
    architecture = torch.randn(3, 5, generator=random, dtype=torch.float64, requires_grad=True)
    noise, temperature = torch.randn(3, 5, generator=random, dtype=torch.float64), 2.0
    sample = gumbel_sample(architecture, noise, temperature)
    assert sample.tolist() == F.one_hot((architecture + noise).argmax(1), 5).double().tolist()
    direction = torch.randn(3, 5, generator=random, dtype=torch.float64)
    (found,) = torch.autograd.grad((sample * direction).sum(), architecture)
    soft = ((architecture + noise) / temperature).softmax(1).detach()  # the same as with logarithms of the softmax
    expected = soft * (direction - (soft * direction).sum(1, keepdim=True)) / temperature
    torch.testing.assert_close(found, expected)


def test_with_gumbel_one_operation_an_edge_is_computed_and_all_weights_learn() -> None:
    training, ran = made("darts", gumbel=10.0), []
    for cell, module in enumerate(training.supernet.cells):
        for row, edge in enumerate(module.edges):
            for column, operation in enumerate(edge.operations[4:], start=4):  # others may be shared by edges
                operation.register_forward_hook(lambda *_, place=(cell, row, column): ran.append(place))
    (train, valid), *_ = training._pairs(torch.Generator().manual_seed(0))
    assert valid.noise is not None
    sampled = [
        (training.supernet.architecture[name] + valid.noise[name]).argmax(1) != 0 for name in training.supernet.groups
    ]
    training._move_architecture(train, valid, curved=False)
    assert ran and len({place[:2] for place in ran}) == len(ran)
    for parameter, rows in zip(training.architecture, sampled, strict=True):  # "none" has no gradient
        assert parameter.grad is not None and bool(((parameter.grad != 0).all(1) == rows).all())
    before = [parameter.detach().clone() for parameter in training.network]
    training._move_network(train)
    same = [torch.equal(one, other) for one, other in zip(training.network, before, strict=True)]
    assert any(same) and not all(same)  # the weights of operations that were not sampled stay


def test_halves_are_disjoint_and_balanced() -> None:
    labels = torch.tensor([0] * 9 + [2] * 9 + [5] * 12)
    one, other = halves(labels, 18, seed=1)
    assert len(one) == len(other) == 9 and not set(one.tolist()) & set(other.tolist())
    for half in (one, other):
        assert [int((labels[half] == each).sum()) for each in (0, 2, 5)] == [3, 3, 3]
    assert not torch.equal(halves(labels, 18, seed=2)[0], one)
    assert sum(map(len, halves(labels, 1000, seed=1))) == 30


@pytest.mark.parametrize(
    "options", [{}, {"order": 2, "inner": "fgsm"}, {"gumbel": 5.0, "partial_channels": 2, "curvature_weight": 0.1}]
)
def test_a_state_goes_on_as_if_nothing_had_happened(options: dict[str, Any]) -> None:
    whole = made(**options)
    whole.epoch(0)
    state, figures = whole.state_dict(), whole.epoch(1)
    resumed = made(**options)
    resumed.load_state_dict(state)
    assert resumed.epoch(1) == figures
    for one, other in zip(whole.supernet.state_dict().values(), resumed.supernet.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_figures_are_those_of_the_halves() -> None:
    training = made(batch_size=64, warm_up_epochs=1, learning_rate=1e-12)
    figures = training.epoch(0)
    for name, (images, labels) in zip(("train", "valid"), training.halves, strict=True):
        logits = training.supernet(images.float() / 255).detach()
        assert figures[f"{name}_loss"] == pytest.approx(float(F.cross_entropy(logits, labels)), abs=1e-5)
        accuracy = (logits.argmax(1) == labels).double().mean().item()
        assert figures[f"{name}_accuracy"] == pytest.approx(accuracy, abs=1e-6)


def test_during_the_warm_up_only_the_network_learns() -> None:
    training = made(warm_up_epochs=1)
    before = [each.detach().clone() for each in (*training.architecture, training.network[0])]
    training.epoch(0)
    assert [torch.equal(*pair) for pair in zip(before, (*training.architecture, training.network[0]), strict=True)] == [
        True, False
    ]  # fmt: skip
    training.epoch(1)
    assert not torch.equal(before[0], training.architecture[0])


def test_the_learning_rate_falls_by_a_cosine_to_a_25th() -> None:
    training, rates = made(search_images=6), []
    for number in range(4):
        training.epoch(number)
        rates.append(training.sgd.param_groups[0]["lr"])
    assert rates == pytest.approx([0.025, 0.001 + 0.024 * (1 + 2**-0.5) / 2, 0.013, 0.001 + 0.024 * (1 - 2**-0.5) / 2])


def test_adversarial_images_stay_within_8_of_255() -> None:
    training = made(inner="pgd", batch_size=64)
    (train, _), *_ = training._pairs(torch.Generator().manual_seed(0))
    clean = training.halves[0][0].float() / 255
    nearest = (train.images[:, None] - clean[None]).abs().amax((2, 3, 4)).amin(1)  # batches are in random order
    assert bool((nearest > 1 / 255).all()) and bool((nearest < 8.01 / 255).all())


def test_a_loss_that_is_not_finite_stops() -> None:
    training = made()
    with torch.no_grad():
        training.network[0].fill_(float("nan"))
    with pytest.raises(SearcherStopped, match="the loss of the supernet is not finite in epoch 1"):
        training.epoch(0)
