"""Which attacks there are, and what each is given."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor, nn

from nas.attacking.crafting import adversarial
from nas.attacking.evaluation import evaluate
from nas.attacking.registry import get_attack
from nas.errors import UserError
from tests.nas.attacking.members import only_member
from tests.nas.trained_networks import sample_images, small_network


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
    attack = get_attack("autoattack", classes=10, autoattack_steps=10)
    assert attack.name == "AA-10" and attack.members[0].settings()["steps"] == 10


def test_many_classes_have_nine_targets() -> None:
    attack = get_attack("autoattack", classes=100)
    assert attack.members[1].settings()["targets"] == attack.members[2].settings()["targets"] == 9


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_go_without_targeted_apgd(classes: int) -> None:
    attack = get_attack("autoattack", classes=classes)
    assert [member.name for member in attack.members] == ["APGD-CE", "FAB-T", "Square"]
    assert attack.name == "AA (no APGD-T)" and f"at least 4 classes: the model has {classes}" in attack.note
    assert attack.members[1].settings()["targets"] == classes - 1
    images, labels = sample_images(40)
    chosen = labels < classes
    assert classes <= int(chosen.sum()) < 20
    result = evaluate(
        small_network(classes, epochs=2), images[chosen], labels[chosen], ["natural", "autoattack"], checks=False
    )
    assert result.accuracy("AA (no APGD-T)") <= result.accuracy("natural")
    with pytest.raises(UserError, match=f"apgd-t needs at least 4 classes, the model has {classes}"):
        get_attack("apgd-t", classes=classes)


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
        get_attack(name, classes=10)
    assert all(part in str(error.value) for part in parts)
