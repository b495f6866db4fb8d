"""Every attack passes the conformance suite, and the suite notices what it is there for."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas.attacking.attacks.square import Square
from nas.attacking.base import Attack
from nas.attacking.evaluation import evaluate
from nas.attacking.registry import ATTACKS, get_attack
from nas.errors import AttackFailed
from nas.testing.attacks import CLASSES, check_attack
from tests.nas.attacking.conftest import set_default

#: name of every attack in the registry -> how the suite runs it, with few steps
QUICK = {
    "natural": "natural",
    "fgsm": "fgsm",
    "pgd": "pgd-3",
    "apgd-ce": "apgd-ce(steps=5)",
    "apgd-t": "apgd-t(steps=5)",
    "fab": "fab(steps=5)",
    "fab-t": "fab-t(steps=5)",
    "square": "square(queries=20)",
    "cw": "cw(steps=10)",
    "autoattack": "autoattack(steps=5)",
}


def test_no_attack_is_left_out() -> None:
    assert QUICK.keys() == ATTACKS.keys()


@pytest.mark.parametrize("name", ATTACKS)
def test_conformance(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_default(monkeypatch, Square, "queries", 20)
    check_attack(lambda **ball: get_attack(QUICK[name], classes=CLASSES, **ball))


@dataclass(kw_only=True, eq=False)
class Noise(Attack):
    """A user's attack: a random sign for every pixel."""

    share: float = 1.0

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        signs = torch.rand(images.shape, generator=torch.Generator().manual_seed(seed)).round() * 2 - 1
        length = 1.0 if self.norm == "Linf" else images[0].numel() ** 0.5
        return (images + self.share * self.epsilon / length * signs).clamp(0, 1)


class Brighter(Attack):
    """Another one, as an ordinary class."""

    def __init__(self, share: float = 1.0, **ball: Any):
        super().__init__(**ball)
        self.share = share

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        return (images + self.share * self.epsilon / images[0].numel()).clamp(0, 1)


@pytest.mark.parametrize("kind", [Noise, Brighter])
def test_an_attack_of_a_user_s_own(kind: type[Attack]) -> None:
    check_attack(kind)


def test_settings_tell_a_user_s_options() -> None:
    assert Brighter(share=0.5).settings() == {**Brighter().settings(), "share": 0.5}
    assert Brighter().settings()["method"] != Noise().settings()["method"]


def spoiled(change: Callable[[Attack, nn.Module, Tensor], Any]) -> type[Noise]:
    """The same attack, which does something else besides; what ``change`` returns is what it returns."""

    class Spoiled(Noise):
        def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
            changed = super().run(model, images, labels, seed)
            other = change(self, model, images)
            return other if isinstance(other, Tensor) else changed

    return Spoiled


CALLS = itertools.count()


def set_weight(attack: Attack, model: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        next(model.parameters()).add_(1)


def set_hook(attack: Attack, model: nn.Module, images: Tensor) -> None:
    model.register_forward_pre_hook(lambda *_: None)


SPOILED: dict[str, Callable[[Attack, nn.Module, Tensor], Any]] = {
    "attributes of the model": lambda attack, model, images: setattr(model, "attacked", True),
    "equal seeds must give equal images": lambda attack, model, images: images * (1 - next(CALLS) / 1000),
    "must stay torch.float32": lambda attack, model, images: images.double(),
}


def test_an_attack_that_changes_the_model_is_told_and_undone() -> None:
    """The evaluation notices by itself, so that no other attack meets another model."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, CLASSES))
    before = {name: each.clone() for name, each in model.state_dict().items()}
    images = torch.rand(6, 3, 2, 2)
    labels = model(images).argmax(1)
    with pytest.raises(AttackFailed, match=r"changed the model \(1.weight\)"):
        evaluate(model, images, labels, [spoiled(set_weight)()])
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    with pytest.raises(AttackFailed, match=r"changed the model \(hooks\)"):
        evaluate(model, images, labels, [spoiled(set_hook)()])
    with pytest.raises(AttackFailed, match="changed the model"):
        check_attack(spoiled(set_weight), norms=["Linf"])


@pytest.mark.parametrize("message", SPOILED)
def test_what_an_attack_may_not_do(message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_attack(spoiled(SPOILED[message]), norms=["Linf"])


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda attack, model, images: images + 2 * attack.epsilon, "at Linf distance 0.2, expected at most epsilon"),
        (lambda attack, model, images: images.add_(2 * attack.epsilon), "at Linf distance 0.2, expected at most"),
        (lambda attack, model, images: images - attack.epsilon, "with pixels from -"),
        (lambda attack, model, images: images[1:], "expected images"),
    ],
)
def test_images_that_no_attack_may_return(returned: Any, message: str) -> None:
    with pytest.raises(AttackFailed, match=message):
        check_attack(spoiled(returned), norms=["Linf"])


def test_settings_that_do_not_tell_what_is_done() -> None:
    class Silent(Noise):
        def settings(self) -> dict[str, Any]:
            return {"method": "silent"}

    class NoJson(Noise):
        def settings(self) -> dict[str, Any]:
            return {"generator": object()}

    with pytest.raises(AssertionError, match="must tell epsilon"):
        check_attack(Silent)
    with pytest.raises(AssertionError, match="plain values for JSON"):
        check_attack(NoJson)
