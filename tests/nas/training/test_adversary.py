"""Projected gradient descent against torchattacks, and that it leaves no trace."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
import torchattacks
from torch import Tensor, nn

from nas.errors import UserError
from nas.models.architecture import Architecture
from nas.training.adversary import PGD, logits_of
from tests.nas.training.slow_formulas import SmallNet, batch

EPSILON = 8 / 255


def ours(model: nn.Module, images: Tensor, labels: Tensor, start: Tensor | None = None, **options: Any) -> Tensor:
    attack = PGD(**{"epsilon": EPSILON, "step_size": 2 / 255, "steps": 7, **options})
    return attack(model, images, partial(F.cross_entropy, target=labels), start=images if start is None else start)


def cell_classifier(**options: Any) -> nn.Module:
    options = {"channels": 2, "layers": 3, "genotype": "DARTS_V2", "image_size": (8, 8), **options}
    architecture = Architecture(family="darts", classes=tuple("abcde"), mean=(0.5,) * 3, std=(0.2,) * 3, **options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return architecture.build().double()


def trained_a_little(model: nn.Module) -> nn.Module:
    """With running statistics that are not those of initialisation."""
    with torch.no_grad():
        for seed in range(5):
            model.train()(batch(seed)[0])
    return model.eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_equals_torchattacks(norm: Literal["Linf", "L2"], steps: int, dtype: torch.dtype) -> None:
    model = trained_a_little(SmallNet()).to(dtype)
    images, labels = batch(1, dtype=dtype)
    reference = {"Linf": torchattacks.PGD, "L2": torchattacks.PGDL2}[norm]
    epsilon, step = (EPSILON, 2 / 255) if norm == "Linf" else (0.5, 0.15)
    expected = reference(model, eps=epsilon, alpha=step, steps=steps, random_start=False)(images, labels)
    found = ours(model, images, labels, norm=norm, epsilon=epsilon, step_size=step, steps=steps)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert (found - images).abs().max() > 0.007


def test_equals_torchattacks_from_a_random_start(monkeypatch: pytest.MonkeyPatch) -> None:
    model, (images, labels) = trained_a_little(SmallNet()), batch(1)
    attack = PGD(epsilon=EPSILON, step_size=2 / 255, steps=7)
    start = attack.random_start(images, torch.Generator().manual_seed(5))
    noise = torch.empty_like(images).uniform_(-EPSILON, EPSILON, generator=torch.Generator().manual_seed(5))
    monkeypatch.setattr(Tensor, "uniform_", lambda self, low, high: self.copy_(noise))
    expected = torchattacks.PGD(model, eps=EPSILON, alpha=2 / 255, steps=7, random_start=True)(images, labels)
    torch.testing.assert_close(ours(model, images, labels, start), expected, atol=1e-6, rtol=0)
    monkeypatch.undo()
    drawn = attack(model, images, partial(F.cross_entropy, target=labels), generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(drawn, expected, atol=1e-6, rtol=0)


def test_equals_torchattacks_on_a_cell_with_folded_batch_norms() -> None:
    model, (images, labels) = trained_a_little(cell_classifier()), batch(2)
    expected = torchattacks.PGD(model, eps=EPSILON, alpha=0.01, steps=5, random_start=False)(images, labels)
    torch.testing.assert_close(ours(model, images, labels, step_size=0.01, steps=5), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("epsilon", [0.0, 0.03, 0.9])
def test_stays_in_the_ball_and_in_the_image(norm: Literal["Linf", "L2"], epsilon: float) -> None:
    model, (images, labels) = SmallNet().eval(), batch(3)
    images[0] = 0
    images[1] = 1
    attack = PGD(epsilon=epsilon, step_size=0.5, steps=3, norm=norm)
    for steps in (0, 3):
        made = PGD(epsilon=epsilon, step_size=0.5, steps=steps, norm=norm)
        found = made(model, images, partial(F.cross_entropy, target=labels), generator=torch.Generator().manual_seed(0))
        change = (found - images).flatten(1)
        assert found.min() >= 0 and found.max() <= 1 and not found.isnan().any()
        assert change.norm(dim=1, p=float("inf") if norm == "Linf" else 2).max() <= epsilon + 1e-12
    starts = [attack.random_start(images, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(starts[0], starts[1])
    assert torch.equal(starts[0], starts[2]) == (epsilon == 0)


def test_a_flat_loss_moves_nothing() -> None:
    model, (images, _) = SmallNet().eval(), batch(3)
    for norm in ("Linf", "L2"):
        attack = PGD(epsilon=0.1, step_size=0.1, steps=2, norm=norm)  # type: ignore[arg-type]
        assert torch.equal(attack(model, images, lambda logits: 0 * logits.sum(), start=images), images)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_leaves_no_trace(mode: Literal["eval", "train"]) -> None:
    model = cell_classifier().train()
    model.network.cells[1].eval()  # type: ignore[index, union-attr]
    images, labels = batch(0)
    frozen = next(model.parameters()).requires_grad_(False)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    seen: list[bool] = []
    model.register_forward_hook(lambda module, *_: seen.append(module.training))
    ours(model, images, labels, mode=mode, steps=2)
    assert seen == 2 * [mode == "train"]
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(each.grad is None and each.requires_grad == (each is not frozen) for each in model.parameters())


def test_leaves_no_trace_of_an_attack_that_fails() -> None:
    model, (images, _) = cell_classifier().train(), batch(0)

    def broken(logits: Tensor) -> Tensor:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        PGD(epsilon=0.1, step_size=0.1, steps=2)(model, images, broken, start=images)
    assert model.training and all(each.requires_grad for each in model.parameters())
    assert all(getattr(module, "folded_tensors", None) is None for module in model.modules())


def test_parameters_get_no_gradients_while_images_are_crafted() -> None:
    model, (images, labels) = SmallNet().train(), batch(0)
    seen: list[bool] = []
    model.register_forward_hook(lambda module, *_: seen.extend(each.requires_grad for each in module.parameters()))
    ours(model, images, labels, steps=1)
    assert seen and not any(seen)


def test_train_mode_uses_the_statistics_of_the_batch() -> None:
    model, (images, labels) = trained_a_little(SmallNet()), batch(1)
    found = {mode: ours(model, images, labels, mode=mode) for mode in ("eval", "train")}
    assert not torch.equal(found["eval"], found["train"])


def test_logits_of_an_auxiliary_pair() -> None:
    logits = torch.ones(2, 3, dtype=torch.bfloat16)
    assert logits_of((logits, torch.zeros(2, 3))).equal(torch.ones(2, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 8}, "--epsilon must be from 0 to 1, got 8"),
        ({"epsilon": -0.1, "norm": "L2"}, "--epsilon must be at least 0, got -0.1"),
        ({"step_size": 2}, "--step-size must be from 0 to 1, got 2"),
        ({"norm": "linf"}, "--norm must be Linf or L2, got linf"),
        ({"mode": "test"}, "--attack-mode must be eval or train, got test"),
        ({"steps": 1.5}, "--attack-steps must be a whole number"),
    ],
)
def test_settings_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PGD(**{"epsilon": 0.1, "step_size": 0.1, "steps": 2, **options})


def test_fractions_are_read() -> None:
    attack = PGD(epsilon="8/255", step_size="2/255", steps=7)  # type: ignore[arg-type]
    assert (attack.epsilon, attack.step_size) == (8 / 255, 2 / 255)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_under_autocast_weights_are_cast_once_to_the_same_effect(
    mode: Literal["eval", "train"], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, (images, labels) = trained_a_little(cell_classifier()).float(), batch(1, dtype=torch.float32)
    before = [(each, each.clone()) for each in model.parameters()]

    def crafted() -> tuple[Tensor, int]:
        with torch.profiler.profile() as profile, torch.autocast("cpu", torch.bfloat16):
            found = ours(model, images, labels, mode=mode)
        return found, sum(each.count for each in profile.key_averages() if each.key == "aten::_to_copy")

    found, casts = crafted()
    for now, (was, value) in zip(model.parameters(), before, strict=True):
        assert now is was and torch.equal(now, value)
    monkeypatch.setattr("nas.training.adversary.weights_cast", lambda *_: nullcontext())
    expected, more_casts = crafted()
    assert torch.equal(found, expected) and not torch.equal(found, images)
    layers = sum(isinstance(module, nn.Conv2d | nn.Linear) for module in model.modules())
    assert more_casts - casts >= 5 * layers  # seven passes forward instead of one
