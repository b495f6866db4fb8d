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

import nas.attack_settings
from nas import attacks
from nas.attack_samples import SampleStore
from nas.attack_settings import Member, make_attack
from nas.attacks import adversarial, targeted_dlr_loss
from nas.data import balanced_order, load_data, probe_batch
from nas.errors import AttackFailed, UserError
from nas.evaluation import Evaluator, evaluate, wilson_interval
from tests.nas.trained_networks import sample_images, small_network

EVERY = ["fgsm", "pgd-7", "apgd-ce", "apgd-t", "fab", "fab-t", "square", "cw"]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return small_network()


@pytest.fixture(autouse=True)
def _few_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nas.attack_settings, "REFERENCE_QUERIES", 200)


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nas.attack_settings, "REFERENCE_STEPS", 10)
    monkeypatch.setattr(nas.attack_settings, "CW_STEPS", 40)


def only_member(name: str, **options: Any) -> Member:
    (member,) = make_attack(name, **{"classes": 10, **options}).members
    return member


# The settings of each attack


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every attack object of torchattacks that is called; none changes an image."""
    import torchattacks.attack

    called: list[Any] = []

    def record(self: Any, images: Tensor, labels: Tensor) -> Tensor:
        called.append(self)
        return images

    monkeypatch.setattr(torchattacks.attack.Attack, "__call__", record)
    return called


def options_of(attack: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(attack, name) for name in names}


def test_autoattack_is_the_reference_s(network: nn.Module, calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the full number of queries
    import torchattacks.attack

    monkeypatch.setattr(torchattacks.attack.Attack, "__call__", lambda self, x, y: calls.append(self) or x)
    result = evaluate(network, *sample_images(20), ["autoattack"], checks=False)
    for call in calls:
        print(call)
    assert [type(call).__name__ for call in calls] == ["APGD", "APGDT", "FAB", "Square"]
    apgd, targeted, fab, square = calls
    common = {"norm": "Linf", "eps": 8 / 255, "n_restarts": 1}
    assert options_of(apgd, *common, "steps", "loss", "eot_iter", "thr_decr") == {
        **common, "steps": 100, "loss": "ce", "eot_iter": 1, "thr_decr": 0.75,
    }  # fmt: skip
    assert options_of(targeted, *common, "steps", "n_target_classes") == {
        **common, "steps": 100, "n_target_classes": 9,
    }  # fmt: skip
    assert options_of(fab, *common, "steps", "n_target_classes", "multi_targeted", "alpha_max", "eta", "beta") == {
        **common, "steps": 100, "n_target_classes": 9, "multi_targeted": True, "alpha_max": 0.1, "eta": 1.05,
        "beta": 0.9,
    }  # fmt: skip
    assert options_of(square, *common, "n_queries", "rescale_schedule", "p_init", "loss") == {
        **common, "n_queries": 5000, "rescale_schedule": False, "p_init": 0.8, "loss": "margin",
    }  # fmt: skip
    assert result.results[0].attack.name == "AA"
    assert [member["name"] for member in result.results[0].to_json()["settings"]] == [
        "APGD-CE", "APGD-T", "FAB-T", "Square",
    ]  # fmt: skip


def test_another_number_of_steps_is_named() -> None:
    attack = make_attack("autoattack", classes=10, autoattack_steps=10)
    assert attack.name == "AA-10" and attack.members[0].settings["steps"] == 10


def test_many_classes_have_nine_targets() -> None:
    attack = make_attack("autoattack", classes=100)
    assert attack.members[1].settings["targets"] == attack.members[2].settings["targets"] == 9


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_go_without_targeted_apgd(classes: int) -> None:
    attack = make_attack("autoattack", classes=classes)
    assert [member.name for member in attack.members] == ["APGD-CE", "FAB-T", "Square"]
    assert attack.name == "AA (no APGD-T)" and f"at least 4 classes: the model has {classes}" in attack.note
    assert attack.members[1].settings["targets"] == classes - 1
    images, labels = sample_images(40)
    chosen = labels < classes
    assert classes <= int(chosen.sum()) < 20
    result = evaluate(
        small_network(classes, epochs=2), images[chosen], labels[chosen], ["natural", "autoattack"], checks=False
    )
    assert result.accuracy("AA (no APGD-T)") <= result.accuracy("natural")
    with pytest.raises(UserError, match=f"apgd-t needs at least 4 classes, the model has {classes}"):
        make_attack("apgd-t", classes=classes)


@pytest.mark.parametrize(
    ("name", "norm", "kind", "expected"),
    [
        ("fgsm", "Linf", "FGSM", {"eps": 0.1}),
        ("fgsm", "L2", "PGDL2", {"eps": 0.1, "alpha": 0.1, "steps": 1, "random_start": False}),
        ("pgd-7", "Linf", "PGD", {"eps": 0.1, "alpha": 0.025, "steps": 7, "random_start": True}),
        ("pgd-20", "L2", "PGDL2", {"eps": 0.1, "alpha": 0.025, "steps": 20, "random_start": True}),
        ("apgd-ce", "L2", "APGD", {"eps": 0.1, "norm": "L2", "steps": 100, "loss": "ce"}),
        ("apgd-t", "Linf", "APGDT", {"eps": 0.1, "steps": 100, "n_target_classes": 9}),
        ("fab", "L2", "FAB", {"eps": 0.1, "norm": "L2", "steps": 100, "multi_targeted": False}),
        ("square", "L2", "Square", {"eps": 0.1, "norm": "L2", "n_queries": 200, "rescale_schedule": False}),
        ("cw", "L2", "CW", {"c": 10.0, "kappa": 0.0, "steps": 100, "lr": 0.01}),
    ],
)
def test_options(
    name: str, norm: Any, kind: str, expected: dict[str, Any], network: nn.Module, calls: list[Any]
) -> None:
    adversarial(network, *sample_images(4), only_member(name, norm=norm, epsilon=0.1), 5)
    (call,) = calls
    print(call)
    assert type(call).__name__ == kind and options_of(call, *expected) == expected
    assert getattr(call, "seed", 5) == 5


@pytest.mark.parametrize(
    ("name", "parts"),
    [("pgd20", ["unknown attack 'pgd20'", "did you mean pgd-20"]), ("pgd-0", ["unknown"]), ("auto", ["autoattack"])],
)
def test_unknown_attacks(name: str, parts: list[str]) -> None:
    with pytest.raises(UserError) as error:
        make_attack(name, classes=10)
    assert all(part in str(error.value) for part in parts)


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
    monkeypatch.setitem(attacks._METHODS, "pgd", lambda model, images, *rest: broken(images))
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
    monkeypatch.setitem(attacks._METHODS, "pgd", lambda *given: returned)
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
        with pytest.raises(ZeroDivisionError):
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


# What is counted


def test_only_what_is_still_correct_is_attacked(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    attacked: list[tuple[str, int]] = []
    original = attacks.adversarial

    def spy(model: nn.Module, images: Tensor, labels: Tensor, member: Member, seed: int) -> Tensor:
        attacked.append((member.name, len(images)))
        return original(model, images, labels, member, seed)

    monkeypatch.setattr("nas.evaluation.adversarial", spy)
    images, labels = sample_images(50)
    options = {"epsilon": 0.03, "batch": 50, "checks": False, "autoattack_steps": 10}
    result = evaluate(network, images, labels, ["natural", "autoattack"], **options)
    natural, cascade = result.results
    sizes = [size for _, size in attacked]
    assert [name for name, _ in attacked] == ["APGD-CE", "APGD-T", "FAB-T", "Square"]
    assert sizes[0] == int(natural.correct.sum()) and sizes == sorted(sizes, reverse=True)
    left = sizes[0] - sum(cascade.broken_by.values())
    assert left == int(cascade.correct.sum()) and sizes[1] == sizes[0] - cascade.broken_by["APGD-CE"]
    assert cascade.broken_by["APGD-CE"] > 0


def test_the_worst_case_is_taken_per_sample(network: nn.Module) -> None:
    images, labels = sample_images(40)
    result = evaluate(network, images, labels, ["fgsm", "square"], epsilon=0.05, checks=False)
    both = result.results[0].correct & result.results[1].correct
    assert torch.equal(result.worst_case, both)
    assert result.to_json()["worst_case"]["correct"] == int(both.sum())


@pytest.mark.usefixtures("few_steps")
def test_a_cascade_begins_with_what_is_known(network: nn.Module) -> None:
    images, labels = sample_images(20)
    evaluator = Evaluator(network, images, labels)
    alone = evaluator.run(make_attack("apgd-ce", classes=10))
    known = len(evaluator.store._found)
    evaluator.run(make_attack("autoattack", classes=10, autoattack_steps=10))
    assert len(evaluator.store._found) == known + 3 and alone.seconds > 0


@pytest.mark.parametrize("name", ["pgd-7", "apgd-ce", "square"])
def test_an_extended_evaluation_equals_a_direct_one(name: str, network: nn.Module) -> None:
    images, labels = sample_images(60)
    store = SampleStore()
    options = {"epsilon": 0.04, "batch": 16, "checks": False}
    first = evaluate(network, images[:25], labels[:25], [name], store=store, **options)
    extended = evaluate(network, images, labels, [name], store=store, **options)
    direct = evaluate(network, images, labels, [name], **options)
    assert torch.equal(extended.results[0].correct, direct.results[0].correct)
    assert torch.equal(first.results[0].correct[:16], direct.results[0].correct[:16])


def test_the_order_begins_with_balanced_batches() -> None:
    split = load_data("digits", image_size=8).test
    order = balanced_order(split, 4)
    for n in (7, 100, 340):
        assert torch.equal(split.images[order[:n]] / 255, probe_batch(split, n, 4)[0])
    assert sorted(order.tolist()) == list(range(len(split.labels)))


def test_wilson_intervals() -> None:
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe, 1998, table I
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.rand(4, 3, 8)}, r"images must be float \(N, C, H, W\)"),
        ({"images": torch.zeros(4, 3, 8, 8, dtype=torch.uint8)}, "got torch.uint8"),
        ({"images": torch.zeros(0, 3, 8, 8)}, "N at least 1"),
        ({"images": torch.full((4, 3, 8, 8), 255.0)}, r"images must be in \[0, 1\], got 255 to 255"),
        ({"images": torch.full((4, 3, 8, 8), math.nan)}, "got nan to nan"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, "labels must be torch.int64"),
        ({"labels": torch.full((4,), 10)}, "labels must be below the model's 10 classes, got 10"),
        ({"attacks": ["pdg-20"]}, "unknown attack 'pdg-20'"),
        ({"batch": 0}, "batch must be at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str, network: nn.Module) -> None:
    given: dict[str, Any] = {"images": torch.zeros(4, 3, 8, 8), "labels": torch.zeros(4, dtype=torch.int64), **change}
    with pytest.raises(ValueError, match=message):
        evaluate(network, **given)
