"""Each sign of gradient masking, shown by a model made to show it, and none by an ordinary one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas.attacking.attacks.apgd import APGD
from nas.attacking.attacks.square import Square
from nas.attacking.evaluation import evaluate
from tests.nas.attacking.conftest import set_default
from tests.nas.trained_networks import sample_images, small_network


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return small_network()


@pytest.fixture(autouse=True)
def _few_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    set_default(monkeypatch, Square, "queries", 300)
    set_default(monkeypatch, APGD, "steps", 20)


class Seen(nn.Module):
    """A model that sees images through a function."""

    def __init__(self, inner: nn.Module, change: Callable[[Tensor], Tensor]):
        super().__init__()
        self.inner, self.change = inner, change

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(self.change(images))
        return logits


def zero_gradient(images: Tensor) -> Tensor:
    """The gradient is zero, as that of a quantised input."""
    return (images * 64).round() / 64 + 0 * images


class Turned(torch.autograd.Function):
    """The identity; its gradient is right where the pixels are multiples of 1/255, turned round elsewhere."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        ctx.save_for_backward(images)
        return images.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (images,) = ctx.saved_tensors
        off = (images * 255 - (images * 255).round()).abs().flatten(1).amax(1) > 1e-3
        return gradient * (1 - 2 * off.float()).view(-1, 1, 1, 1)


def turned(images: Tensor) -> Tensor:
    out: Tensor = Turned.apply(images)
    return out


def signs(model: nn.Module, *attacks: str, **options: Any) -> list[str]:
    return evaluate(model, *sample_images(100), attacks, **{"epsilon": 0.1, **options}).warnings


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_an_ordinary_network_shows_none(norm: Any, network: nn.Module) -> None:
    epsilon = 0.04 if norm == "Linf" else 0.4
    attacks = ["natural", "fgsm", "pgd-7", "pgd-20", "pgd-100", "apgd-ce", "square"]
    attacks += ["autoattack"] if norm == "Linf" else []
    assert signs(network, *attacks, norm=norm, epsilon=epsilon, autoattack_steps=5) == []


def test_one_step_stronger_than_many(network: nn.Module) -> None:
    found = signs(Seen(network, turned), "natural", "fgsm", "pgd-7", "pgd-20")
    assert any(sign.startswith("FGSM (") and "is stronger than PGD-20" in sign for sign in found), found


def test_an_attack_without_gradients_stronger_than_one_with(network: nn.Module) -> None:
    found = signs(Seen(network, zero_gradient), "apgd-ce", "square", "autoattack", autoattack_steps=5)
    assert any(sign.startswith("Square (") and "is stronger than APGD-CE" in sign for sign in found), found
    assert any(sign.startswith("in AA") and "Square turns" in sign for sign in found), found


def test_a_very_large_epsilon_withstood(network: nn.Module) -> None:
    (sign,) = signs(Seen(network, zero_gradient), "natural", epsilon=0.01)
    assert "of 100 samples withstand PGD-40 at epsilon 128/255" in sign


class OneClass(nn.Module):
    """A model that says class 3 of all images but the brightest, which are of no class either."""

    def forward(self, images: Tensor) -> Tensor:
        score = images.mean((1, 2, 3)) * 0.01
        return torch.stack([score, score, score - 1, score + 1, *[score * 0 - 5] * 6], dim=1)


def test_a_model_that_has_learned_nothing() -> None:
    images, labels = sample_images(40)
    found = evaluate(OneClass(), images, labels, ["natural"])
    assert found.accuracy("Natural") == pytest.approx(0.1)
    assert any("class 3 for every natural image of it and is right on no other" in each for each in found.warnings)
    with pytest.raises(KeyError, match="pgd; there are natural"):
        found.accuracy("pgd")


def test_more_steps_weaker(network: nn.Module) -> None:
    class Tired(nn.Module):
        """Its gradients turn round after so many backward passes of a batch."""

        def __init__(self) -> None:
            super().__init__()
            self.inner, self.passes = network, 0

        def forward(self, images: Tensor) -> Tensor:
            if not images.requires_grad:
                self.passes = 0
            self.passes += 1
            sign = 1.0 if self.passes <= 20 else -1.0
            logits: Tensor = self.inner(images * sign + (images - images * sign).detach())
            return logits

    found = signs(Tired(), "pgd-20", "pgd-100")
    assert any(sign.startswith("PGD-100 (") and "is weaker than PGD-20" in sign for sign in found), found


def test_other_settings_with_as_many_steps_are_no_sign(network: nn.Module) -> None:
    assert signs(network, "pgd-20", "pgd(steps=20, step_size=0.0001)", "pgd-20(step_size=0.0002)") == []
