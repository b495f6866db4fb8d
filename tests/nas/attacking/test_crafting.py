"""What attacks are given, what they may touch, and what is counted."""

from __future__ import annotations

import gc
import math
import random
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas.attacking.attacks.apgd import targeted_dlr_loss
from nas.attacking.attacks.pgd import PGD
from nas.attacking.crafting import adversarial
from nas.attacking.evaluation import evaluate
from nas.errors import AttackFailed, UserError
from tests.nas.attacking.members import only_member
from tests.nas.trained_networks import sample_images, small_network

EVERY = ["fgsm", "pgd-7", "apgd-ce", "apgd-t", "fab", "fab-t", "square", "cw"]


# What comes back


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.usefixtures("few_steps")
def test_every_attack_stays_in_the_ball_and_turns_samples(name: str, norm: Any, network: nn.Module) -> None:
    epsilon = 0.1 if norm == "Linf" else 1.0
    images, labels = sample_images(30)
    member = only_member(name, norm=norm, epsilon=epsilon)
    changed = adversarial(network, images, labels, member, 0)
    distance = (changed - images).flatten(1)
    assert float((distance.abs().amax(1) if norm == "Linf" else distance.norm(dim=1)).max()) <= epsilon * 1.0001
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1 and not changed.requires_grad
    before, after = ((network(each).argmax(1) == labels).sum() for each in (images, changed))
    assert after < before
    assert torch.equal(adversarial(network, images, labels, member, 0), changed)
    assert torch.equal(adversarial(network, images, labels, only_member(name, norm=norm, epsilon=0.0), 0), images)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            lambda images: images + 0.2 * (images < 0.5),
            "PGD-7 returned an image at Linf distance 0.2, expected at most",
        ),
        (lambda images: images - 0.05, "PGD-7 returned an image with pixels from -0.05"),
    ],
)
def test_an_attack_that_breaks_its_rules_is_an_error(
    broken: Callable[[Tensor], Tensor], message: str, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PGD, "run", lambda self, model, images, *rest: broken(images))
    with pytest.raises(AttackFailed, match=message):
        adversarial(network, *sample_images(2), only_member("pgd-7", epsilon=0.1), 0)


class Flat(nn.Module):
    """Classifies well, and its gradient is zero: a sign in front."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        steps = images + (images.mul(3).round().div(3) - images).detach()
        logits: Tensor = self.inner(steps.detach() + 0 * images)
        return logits


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.usefixtures("few_steps")
def test_zero_gradients_are_survived(name: str, norm: Any, network: nn.Module) -> None:
    changed = adversarial(Flat(network), *sample_images(6), only_member(name, norm=norm, epsilon=0.1), 0)
    assert bool(changed.isfinite().all())


def test_gradients_in_channels_last_are_taken() -> None:
    class Last(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.contiguous(memory_format=torch.channels_last).square().mean((2, 3)).repeat(1, 2)

    images = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for name in EVERY:
        adversarial(Last(), images, torch.arange(5) % 6, only_member(name, norm="L2", epsilon=0.1, classes=6), 0)


def test_targeted_dlr_loss_by_hand() -> None:
    logits = torch.tensor([[4.0, 1.0, 3.0, 0.0, 2.0]])
    loss = targeted_dlr_loss(logits, torch.tensor([0]), torch.tensor([2]))
    assert loss.item() == pytest.approx(-(4 - 3) / (4 - (2 + 1) / 2))


def test_autoattack_turns_at_least_what_torchattacks_does() -> None:
    import torchattacks

    network = small_network(classes=5)
    images, labels = sample_images(30)
    images, labels = images[labels < 5], labels[labels < 5]
    ours = evaluate(network, images, labels, ["natural", "autoattack"], epsilon=0.06, checks=False)
    with torch.random.fork_rng():
        default = torchattacks.AutoAttack(network, eps=0.06, seed=0, n_classes=5)
        default._autoattack.attacks[3].n_queries = 200  # as many as ours in these tests
        theirs = default(images, labels)
    left = float((network(theirs).argmax(1) == labels).float().mean())
    print(f"robust accuracy: {ours.accuracy('AA'):.3f}, of torchattacks' own: {left:.3f}")
    assert 0 < ours.accuracy("AA") <= left < ours.accuracy("natural")


def test_what_is_no_number_is_a_failure(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = sample_images(3)
    returned = images.clone()
    returned[1, 0, 0, 0] = math.nan
    monkeypatch.setattr(PGD, "run", lambda *given: returned)
    assert torch.equal(adversarial(network, images, labels, only_member("pgd-7"), 0), images)


# What stays as it was


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.usefixtures("few_steps")
def test_nothing_is_touched(name: str, fails: bool, network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(network, nn.Dropout(0.5), nn.BatchNorm1d(10)).train()
    network.eval().zero_grad()
    first = next(network.parameters())
    first.requires_grad_(False)
    second = list(network.parameters())[1]
    second.grad = torch.ones_like(second)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    expected = random.random(), np.random.rand(), torch.rand(1)
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    if fails:
        calls = iter(range(1000))
        model.register_forward_pre_hook(lambda *_: 1 / 0 if next(calls) == 1 else None)
        with pytest.raises(UserError, match=r"^the model cannot classify torch.float32 images .* ZeroDivisionError: "):
            evaluate(model, *sample_images(10), [name], checks=False)
    else:
        evaluate(model, *sample_images(10), [name], checks=False)
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected
    assert model.training and not network.training and not network[1].training and model[1].training
    assert not first.requires_grad and second.requires_grad
    assert torch.equal(second.grad, torch.ones_like(second))
    assert all(each.grad is None for each in network.parameters() if each is not second)
    assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())
    first.requires_grad_(True)
    second.grad = None


def test_torchattacks_alone_would_reset_the_random_state(network: nn.Module) -> None:
    import torchattacks

    with torch.random.fork_rng():
        torch.manual_seed(12)
        torchattacks.APGD(network, steps=1, seed=0)(*sample_images(2))
        state = torch.get_rng_state()
        torch.manual_seed(34)
        torchattacks.APGD(network, steps=1, seed=0)(*sample_images(2))
        assert torch.equal(torch.get_rng_state(), state)


def test_a_model_is_not_kept() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    images, labels = sample_images(4)
    evaluate(model, images, labels, ["fgsm", "autoattack", "cw"], autoattack_steps=1, checks=False)
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None


def test_attacks_run_inside_inference_mode(network: nn.Module) -> None:
    images, labels = sample_images(10)
    outside = evaluate(network, images, labels, ["pgd-7"], checks=False)
    with torch.inference_mode():
        inside = evaluate(network, images.clone(), labels, ["pgd-7"], checks=False)
    assert torch.equal(outside.results[0].correct, inside.results[0].correct)
