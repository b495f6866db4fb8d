"""Attacks on a model whose passes are replayed, on the CPU: a tape stands for the CUDA graphs."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from nas.attacking.crafting import adversarial
from nas.attacking.evaluation import evaluate
from nas.attacking.replay import KEPT, PLAIN, ReplayedModel, replaying
from nas.training.adversary import undisturbed
from tests.nas.attacking.members import only_member
from tests.nas.trained_networks import sample_images
from tests.nas.training.tape import Refusing, Tape

ATTACKS = [
    ("pgd-30", "L2"), ("apgd-ce", "Linf"), ("apgd-t", "L2"), ("fab", "Linf"), ("fab-t", "L2"), ("square", "Linf"),
    ("cw", "Linf"), ("cw", "L2"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "norm"), ATTACKS)
@pytest.mark.usefixtures("few_steps")
def test_an_attack_finds_the_same_images(
    name: str, norm: Literal["Linf", "L2"], network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.attacking.replay.PLAIN", 4)
    images, labels = sample_images(12)
    member = only_member(name, norm=norm, epsilon=0.1 if norm == "Linf" else 1.0)
    expected = adversarial(network, images, labels, member, 0)
    tape = Tape()
    with undisturbed(network, "eval"):
        called = ReplayedModel(network, tape, pytest.fail)
        assert torch.equal(adversarial(network, images, labels, member, 0, called), expected)
        again = adversarial(network, images, labels, member, 0, called)
    assert torch.equal(again, expected) and tape.replays > 20 and not torch.equal(expected, images)


def replayed(model: nn.Module, recorder: Tape, shape: tuple[int, ...] = (2, 3, 8, 8)) -> ReplayedModel:
    """A model that has been called so often that the next call with this shape is recorded."""
    made = ReplayedModel(model, recorder, lambda line: lines.append(line))
    lines.clear()
    for _ in range(PLAIN):
        made(torch.rand(shape))
    return made


lines: list[str] = []


class Curved(nn.Module):
    """Logits that are no linear function of the pixels: a gradient tells where it was taken."""

    def forward(self, images: Tensor) -> Tensor:
        return images.pow(3).mean(dim=(2, 3))


def test_gradients_belong_to_the_pass_that_they_are_asked_of() -> None:
    tape = Tape()
    model = replayed(Curved(), tape)
    points = [torch.full((2, 3, 8, 8), value).requires_grad_() for value in (0.25, 0.5)]
    first, second = (model(each) for each in points)  # the second pass writes over the first one's activations
    for _ in range(2):
        for logits, point in zip((first, second), points, strict=True):
            (found,) = torch.autograd.grad(logits[:, 1].sum(), point, retain_graph=True)
            expected = torch.zeros_like(point)
            expected[:, 1] = 3 * point.detach()[:, 1] ** 2 / 64
            torch.testing.assert_close(found, expected)
    assert torch.equal(first, Curved()(points[0])) and torch.equal(second, Curved()(points[1]))
    with torch.no_grad():
        assert not model(points[0]).requires_grad
    assert not model(points[0].detach()).requires_grad
    assert len(tape.operations) == 2 and tape.replays == 2 + 4 + 4 + 2  # passes, gradients, passes again, passes


def test_only_a_few_shapes_are_kept() -> None:
    tape = Tape()
    model = ReplayedModel(Curved(), tape, pytest.fail)
    for number in range(1, KEPT + 3):
        for _ in range(PLAIN + 2):
            images = torch.rand(number, 3, 4, 4)
            assert torch.equal(model(images), Curved()(images))
    assert len(model._recorded) == KEPT and len(tape.operations) == 2 * (KEPT + 2)
    before = tape.replays
    model(torch.rand(KEPT + 2, 3, 4, 4)), model(torch.rand(1, 3, 4, 4))  # the latter was dropped
    assert tape.replays == before + 1


class Reading(nn.Module):
    """Reads a value back in each pass."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3)) * images.max().item()


@pytest.mark.parametrize(("model", "recorder"), [(Reading(), Tape()), (Curved(), Refusing())])
def test_what_cannot_be_recorded_runs_plainly(model: nn.Module, recorder: Tape) -> None:
    made = replayed(model, recorder)
    images = torch.rand(2, 3, 8, 8).requires_grad_()
    for _ in range(3):
        assert torch.equal(made(images), model(images))
    (found,) = torch.autograd.grad(made(images).sum(), images)
    assert torch.equal(found, torch.autograd.grad(model(images).sum(), images)[0])
    start = "warning: attacks run without CUDA graphs, recording one failed: RuntimeError: "
    assert len(lines) == 1 and lines[0].startswith(start) and lines[0].endswith("when stream is capturing")


def test_on_a_cpu_nothing_is_replayed(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    with replaying(network, True) as called:
        assert called is network
    seen: list[Any] = []
    monkeypatch.setattr(
        "nas.attacking.evaluator.adversarial", lambda *given: (seen.append(given[-1]), adversarial(*given))[1]
    )
    result = evaluate(network, *sample_images(20), ["fgsm"], epsilon=0.1, checks=False, cuda_graphs=True)
    assert seen == [network] and 0 <= result.accuracy("FGSM") < 1
