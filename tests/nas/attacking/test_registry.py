"""Which attacks there are, and what each is given."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import pytest
from torch import Tensor, nn

from nas.attacking.crafting import adversarial
from nas.attacking.evaluation import evaluate
from nas.attacking.registry import ATTACKS, get_attack
from nas.attacking.samples import SampleStore
from nas.errors import UserError
from tests.nas.attacking.members import only_member
from tests.nas.attacking.test_conformance import Noise
from tests.nas.commands import ROOT
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
    ("name", "shown", "changed"),
    [
        ("pgd(steps=20, step_size=0.01)", "pgd(step_size=0.01, steps=20)", {"steps": 20, "step_size": 0.01}),
        ("pgd-3(random_start=False)", "pgd-3(random_start=False)", {"steps": 3, "random_start": False}),
        ("apgd-t(targets=2)", "apgd-t(targets=2)", {"targets": 2}),
        ("square(queries=7)", "square(queries=7)", {"queries": 7}),
        ("pgd", "PGD-20", {"steps": 20}),
    ],
)
def test_options_in_the_name(name: str, shown: str, changed: dict[str, Any]) -> None:
    attack = get_attack(name, classes=10, epsilon="16/255")
    (member,) = attack.members
    assert attack.name == shown and attack.epsilon == member.settings()["epsilon"] == 16 / 255
    plain = get_attack(name.partition("(")[0], classes=10, epsilon=16 / 255)
    assert member.settings() == {**plain.settings(), **changed}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pgd(step=3)", "the attack pgd has no option 'step'; did you mean steps"),
        ("pgd(steps=0)", "steps of PGD-0 must be a whole number from 1, got 0"),
        ("square(queries=many)", "queries of the attack square must be a whole number, got many"),
        ("pgd(step_size=0)", "--step-size must be above 0"),
        ("fab-t(targets=0)", "targets of FAB-T must be a whole number from 1, got 0"),
        ("pgd(epsilon=0.1)", "epsilon is the same for all attacks of an evaluation"),
        ("pgd-20(steps=3)", "names the number of steps twice"),
        ("sqare(queries=3)", "unknown attack 'sqare'; did you mean square"),
        ("apgd-ce(3)", "cannot read the attack 'apgd-ce(3)': '3' names no option; expected a form such as pgd(steps"),
    ],
)
def test_options_that_cannot_be(name: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        get_attack(name, classes=10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "linf"}, "--norm must be Linf or L2, got linf"),
        ({"epsilon": 1.5}, "--epsilon must be from 0 to 1, got 1.5"),
        ({"epsilon": "300/255"}, "--epsilon must be from 0 to 1, got 300/255"),
        ({"epsilon": -0.1, "norm": "L2"}, "--epsilon must be at least 0, got -0.1"),
        ({"epsilon": "eight"}, "--epsilon must be a number or a fraction such as 8/255, got 'eight'"),
        ({"step_size": 0.0}, "--step-size must be above 0, got 0.0"),
    ],
)
def test_norms_and_lengths_that_cannot_be(options: dict[str, Any], message: str, network: nn.Module) -> None:
    for call in (
        lambda: get_attack("pgd-7", classes=10, **options),
        lambda: evaluate(network, *sample_images(4), ["pgd-7"], **options),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            call()


#: under which key ``SampleStore`` keeps each attack: those of results that were stored by earlier versions
KEYS = {
    ("natural", "Linf"): "bd662bca80bd758f", ("natural", "L2"): "bd662bca80bd758f",
    ("fgsm", "Linf"): "a8c96087d32d34f1", ("fgsm", "L2"): "b361b874fabed514",
    ("pgd-7", "Linf"): "d642d1a165740327", ("pgd-7", "L2"): "3721d26ce1f2500a",
    ("pgd-20", "Linf"): "6f78b6d0b757a1ff", ("pgd-20", "L2"): "777bbf1a8f991669",
    ("pgd-100", "Linf"): "c64bdf9b4200eb17", ("pgd-100", "L2"): "e171ef28ec52659c",
    ("apgd-ce", "Linf"): "fd6053d129f1d6ef", ("apgd-ce", "L2"): "6c0bfaccaae6bbe5",
    ("apgd-t", "Linf"): "aab3c2ce347b861e", ("apgd-t", "L2"): "73ac68a5c1f31ff9",
    ("fab", "Linf"): "6a1793b743bc1137", ("fab", "L2"): "d7f958c23af29fe7",
    ("fab-t", "Linf"): "24201592222e0d68", ("fab-t", "L2"): "191490d2c827bbc7",
    ("square", "Linf"): "306a72ef69682753", ("square", "L2"): "6bc7cc35feea0e9c",
    ("cw", "Linf"): "6be73800989640f2", ("cw", "L2"): "3883a0615f4dc3a9",
    ("autoattack", "Linf"): "0ee3ed4ae1ea66fa", ("autoattack", "L2"): "c7edfcf995967692",
}  # fmt: skip
OTHER_KEYS = [
    ({"classes": 3}, "94bc9c6e66db7ea8"),
    ({"classes": 100}, "0ee3ed4ae1ea66fa"),
    ({"classes": 10, "autoattack_steps": 10}, "a41371cfd6036e5b"),
    ({"classes": 3, "autoattack_steps": 10}, "00f89daa43dcd8df"),
]


def test_results_that_earlier_versions_stored_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the full number of queries
    identity = {"model": "0123456789abcdef", "images": "fedcba9876543210", "seed": 0, "batch": 64}
    key = SampleStore(None, identity)._key
    assert {(name, norm): key(get_attack(name, classes=10, norm=norm).members) for name, norm in KEYS} == KEYS  # type: ignore[arg-type]
    for options, expected in OTHER_KEYS:
        assert key(get_attack("autoattack", **options).members) == expected
    members = get_attack("autoattack", classes=10).members
    assert [key(members[:count]) for count in (1, 2, 3)] == ["fd6053d129f1d6ef", "f6deb991b31ac1de", "4c2a80c5ed216123"]
    other = get_attack("pgd-20", classes=10, epsilon=4 / 255, step_size=0.01)
    assert key(other.members) == "dd98646211d8926a"


def test_names_need_no_torch() -> None:
    program = "import sys, nas.attacking.registry; print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "False"


def test_an_attack_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ATTACKS, "noise", (Noise.__module__, "Noise"))
    attack = get_attack("noise(share=0.5)", classes=10, norm="L2", epsilon=0.5)
    (member,) = attack.members
    assert isinstance(member, Noise) and (member.share, member.norm, member.epsilon) == (0.5, "L2", 0.5)
    with pytest.raises(UserError, match="unknown attack 'nois'; did you mean noise"):
        get_attack("nois", classes=10)


@pytest.mark.parametrize(
    ("name", "parts"),
    [("pgd20", ["unknown attack 'pgd20'", "did you mean pgd-20"]), ("pgd-0", ["unknown"]), ("auto", ["autoattack"])],
)
def test_unknown_attacks(name: str, parts: list[str]) -> None:
    with pytest.raises(UserError) as error:
        get_attack(name, classes=10)
    assert all(part in str(error.value) for part in parts)
