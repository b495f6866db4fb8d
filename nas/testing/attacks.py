"""The conformance suite of attacks, both the project's own and a user's."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas.attacking.base import Attack
from nas.attacking.crafting import adversarial
from nas.device import torch_threads
from nas.norms import Norm

CLASSES = 6
EPSILON = {"Linf": 0.1, "L2": 0.5}


def check_attack(make_attack: Callable[..., Attack], norms: Sequence[Norm] = ("Linf", "L2")) -> None:
    """Check the contract of :class:`~nas.attacking.base.Attack` on a small untrained network of 6 classes.

    :param make_attack: makes the attack from the keywords ``norm`` and ``epsilon``, as a subclass of ``Attack`` does.
    :param norms: the norms that the attack supports.
    :raises AssertionError: the attack breaks its contract; the message says how.
    :raises AttackFailed: it returned an image outside the ball or outside [0, 1].
    """
    with torch_threads(1):
        for norm in norms:
            attack = make_attack(norm=norm, epsilon=EPSILON[norm])
            _check_settings(make_attack, attack)
            model, images, labels = _example()
            _check_images(attack, model, images, labels)
            _check_limits(make_attack, attack, model, images, labels)
            _check_traces(attack)


def _check_settings(make_attack: Callable[..., Attack], attack: Attack) -> None:
    norm, epsilon = attack.norm, attack.epsilon
    _expect(bool(attack.name) and isinstance(attack.name, str), f"name must be a text, got {attack.name!r}")
    _expect(epsilon == EPSILON[norm], f"epsilon must be the one that was asked for, {EPSILON[norm]}, got {epsilon}")
    for member in attack.members:
        settings = member.settings()
        try:
            same = json.loads(json.dumps(settings)) == settings
        except (TypeError, ValueError):
            same = False
        _expect(same, f"settings() must be plain values for JSON, with lists for tuples, got {settings}")
    again = make_attack(norm=norm, epsilon=epsilon)
    _expect(_settings(attack) == _settings(again), "settings() must be the same for attacks made in the same way")
    told = not attack.members or _settings(attack) != _settings(make_attack(norm=norm, epsilon=epsilon / 2))
    _expect(told, "settings() must tell epsilon: results are stored under them")


def _settings(attack: Attack) -> list[dict[str, Any]]:
    return [member.settings() for member in attack.members]


def _check_images(attack: Attack, model: nn.Module, images: Tensor, labels: Tensor) -> None:
    given = images.clone(), labels.clone()
    changed = adversarial(model, images, labels, attack, seed=3)
    _expect(torch.equal(images, given[0]) and torch.equal(labels, given[1]), "the caller's images must not change")
    _expect(changed.dtype == images.dtype, f"the images must stay {images.dtype}, got {changed.dtype}")
    again = adversarial(model, images, labels, attack, seed=3)
    _expect(torch.equal(again, changed), "equal seeds must give equal images")
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            inside = adversarial(model, images, labels, attack, seed=3)
        name = type(context).__name__
        _expect(torch.equal(inside, changed), f"the images must not depend on whether the caller is in {name}")


def _check_limits(
    make_attack: Callable[..., Attack], attack: Attack, model: nn.Module, images: Tensor, labels: Tensor
) -> None:
    none = adversarial(model, images[:0], labels[:0], attack, seed=0)
    _expect(none.shape == images[:0].shape, f"no images must give none, got {tuple(none.shape)}")
    still = adversarial(model, images, labels, make_attack(norm=attack.norm, epsilon=0.0), seed=0)
    _expect(torch.equal(still, images), "epsilon 0 must change nothing")
    one = adversarial(model, images[:1], labels[:1], attack, seed=0)
    _expect(one.shape == images[:1].shape, f"one image must give one, got {tuple(one.shape)}")


def _check_traces(attack: Attack) -> None:
    model, images, labels = _example()
    model.train()
    model[1].eval()
    first = next(model.parameters())
    first.requires_grad_(False)
    first.grad = torch.ones_like(first)
    before, random_before = _state(model), _random_numbers(restore=True)
    adversarial(model, images, labels, attack, seed=5)
    after = _state(model)
    for what, value in before.items():
        _expect(_equal(value, after[what]), f"{what} of the model must be as before the attack")
    _expect(_random_numbers() == random_before, "random states must be as before the attack")


def _state(model: nn.Module) -> dict[str, Any]:
    """Everything in the model that an attack could leave changed, each part by its name for messages."""
    modules = dict(model.named_modules())
    hooks = [key for module in modules.values() for key in vars(module) if "hook" in key]
    return {
        "parameters and buffers": {name: value.clone() for name, value in model.state_dict().items()},
        "gradients": {name: None if (g := p.grad) is None else g.clone() for name, p in model.named_parameters()},
        "requires_grad": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        "modes": {name: module.training for name, module in modules.items()},
        "modules": {name: type(module) for name, module in modules.items()},
        "attributes": {name: sorted(vars(module)) for name, module in modules.items()},
        "hooks": {name: [len(vars(each).get(key) or ()) for key in hooks] for name, each in modules.items()},
    }


def _equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    def same(a: Any, b: Any) -> bool:
        return torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else bool(a is b or a == b)

    return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())


def _random_numbers(*, restore: bool = False) -> tuple[float, ...]:
    """The next random number of each global generator; with ``restore``, their states are put back afterwards."""
    python, numpy, torchs = random.getstate(), np.random.get_state(), torch.get_rng_state()
    numbers = random.random(), float(np.random.rand()), float(torch.rand(()))
    if restore:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(torchs)
    return numbers


def _example() -> tuple[nn.Sequential, Tensor, Tensor]:
    """An untrained network with batch norm, images ``(8, 3, 8, 8)``, and the classes ``(8,)`` that it predicts."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, CLASSES)
        ).eval()
    images = torch.rand(8, 3, 8, 8, generator=generator)
    with torch.no_grad():
        labels = model(images).argmax(1)
    return model, images, labels


def _expect(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)
