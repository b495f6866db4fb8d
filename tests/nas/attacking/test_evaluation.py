"""Accuracies from attacks: what is attacked, counted and kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nas
from nas.attacking import crafting
from nas.attacking.attacks.pgd import PGD
from nas.attacking.base import Attack
from nas.attacking.cascade import Cascade
from nas.attacking.evaluation import evaluate
from nas.attacking.evaluator import Evaluator, block_seed
from nas.attacking.registry import ATTACKS, get_attack
from nas.attacking.results import wilson_interval
from nas.attacking.samples import SampleStore
from nas.errors import AttackFailed, MachineFailed, UserError
from nas.norms import Norm
from search_spaces.cells.folding import FoldingNetwork
from tests.nas.attacking.test_conformance import Noise
from tests.nas.trained_networks import sample_images, trained_checkpoint


def test_only_what_is_still_correct_is_attacked(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    attacked: list[tuple[str, int]] = []
    original = crafting.adversarial

    def spy(model: nn.Module, images: Tensor, labels: Tensor, attack: Attack, *rest: Any) -> Tensor:
        attacked.append((attack.name, len(images)))
        return original(model, images, labels, attack, *rest)

    monkeypatch.setattr("nas.attacking.evaluator.adversarial", spy)
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
    alone = evaluator.run(get_attack("apgd-ce", classes=10))
    known = len(evaluator.store._found)
    evaluator.run(get_attack("autoattack", classes=10, autoattack_steps=10))
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
        ({"batch": 1.5}, "batch must be a whole number"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"epsilon": 8}, r"--epsilon must be from 0 to 1, got 8, in pixel units of \[0, 1\], such as 8/255"),
        ({"epsilon": -1}, "--epsilon must be from 0 to 1, got -1"),
        ({"epsilon": "9/8"}, "--epsilon must be from 0 to 1, got 9/8"),
        ({"epsilon": math.nan, "norm": "L2"}, "--epsilon must be a finite number, got nan"),
        ({"step_size": 2}, "--step-size must be from 0 to 1, got 2, in pixel units"),
        ({"step_size": "0/255"}, "--step-size must be above 0"),
        ({"attacks": ["pgd(step_size=2)"]}, "--step-size must be from 0 to 1, got 2"),
        ({"attacks": [7]}, "an attack must be a name or an Attack object, got 7"),
        ({"images": [[0.5]]}, "images must be a tensor or an array of numbers, got list"),
        ({"images": np.full((4, 3, 8, 8), "a")}, "images must be a tensor or an array of numbers, got numpy <U1"),
        ({"images": np.zeros((4, 3, 8, 8), np.uint8)}, "images must be float .*, got torch.uint8"),
        ({"labels": np.zeros(4)}, "labels must be torch.int64"),
        ({"images": torch.zeros(4, 3, 9, 8)}, r"the model cannot classify torch.float32 images \(1, 3, 9, 8\), Run"),
        ({"images": torch.zeros(4, 3, 8, 8).half()}, "the model cannot classify torch.float16 images"),
        ({"attacks": ["pgd-7", PGD(steps=7)]}, "each under a name of its own, got PGD-7, PGD-7"),
        ({"attacks": []}, "expected at least one attack"),
        ({"attacks": [Noise(norm="L2")]}, "Noise attacks in L2 with epsilon 0.0313725, expected the evaluation's Linf"),
        ({"attacks": [Noise(epsilon=0.1)]}, "expected the evaluation's Linf with 0.0313725"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str, network: nn.Module) -> None:
    given: dict[str, Any] = {"images": torch.zeros(4, 3, 8, 8), "labels": torch.zeros(4, dtype=torch.int64), **change}
    with pytest.raises(UserError, match=message):
        evaluate(network, **given)


@pytest.mark.parametrize("model", [3, None, nn.Linear, lambda images: images])
def test_what_is_no_network_is_refused(model: Any) -> None:
    with pytest.raises(UserError, match="^the model must be a torch.nn.Module, got "):
        evaluate(model, *sample_images(2))


def test_lack_of_memory_is_no_fault_of_the_model(network: nn.Module) -> None:
    def full(*_: Any) -> None:
        raise MemoryError("nothing left")

    model = nn.Sequential(network)
    model.register_forward_pre_hook(full)
    with pytest.raises(MachineFailed, match="MemoryError: nothing left"):
        evaluate(model, *sample_images(2))


def test_arrays_and_fractions_are_taken(network: nn.Module) -> None:
    images, labels = sample_images(20)
    expected = evaluate(network, images, labels, ["pgd-3"], epsilon=8 / 255, step_size=2 / 255, checks=False)
    for array in (images.numpy(), images.numpy().astype(np.float64), images.numpy()[::-1][::-1]):
        given = array, labels.numpy().astype(np.int32)
        found = evaluate(network, *given, ["pgd-3"], epsilon="8/255", step_size="2/255", checks=False)
        assert torch.equal(found.results[0].correct, expected.results[0].correct)


class Fails(Noise):
    """Raises on images that are not the first block's."""

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        if seed != block_seed(0, (0, 0)):
            raise KeyError("a\nb")
        return super().run(model, images, labels, seed)


def test_an_attack_that_raises_an_error_is_named_and_others_are_kept(network: nn.Module) -> None:
    images, labels = sample_images(20)
    store = SampleStore()
    with pytest.raises(AttackFailed, match=r"^Fails failed on \d+ images, KeyError: 'a\\nb'$") as caught:
        evaluate(network, images, labels, ["fgsm", Fails()], batch=10, store=store)
    assert isinstance(caught.value.__cause__, KeyError)
    finished = [
        (attack.name, block)
        for attack in (get_attack("fgsm", classes=10), Fails())
        for block in ((0, 10), (10, 20))
        if store.find(attack.members, block) is not None
    ]
    assert finished == [("FGSM", (0, 10)), ("FGSM", (10, 20)), ("Fails", (0, 10))]


class Interrupted(Noise):
    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        raise KeyboardInterrupt


@dataclass(kw_only=True, eq=False)
class Two(Cascade):
    second: Attack

    @property
    def members(self) -> tuple[Attack, ...]:
        return (Noise(), self.second)


def test_what_members_finished_in_an_interrupted_block_is_kept(network: nn.Module, tmp_path: Path) -> None:
    images, labels = sample_images(10)
    with SampleStore(tmp_path / "samples.jsonl") as store, pytest.raises(KeyboardInterrupt):
        evaluate(network, images, labels, [Two(second=Interrupted())], store=store)
    with SampleStore(tmp_path / "samples.jsonl") as store:
        assert store.find((Noise(),), (0, 10)) is not None and store.find((), (0, 10)) is not None


def test_two_results_of_one_block_are_refused(network: nn.Module, tmp_path: Path) -> None:
    images, labels = sample_images(10)
    with SampleStore(tmp_path / "samples.jsonl") as store:
        evaluate(network, images, labels, ["natural"], store=store)
    line = (tmp_path / "samples.jsonl").read_text()
    (tmp_path / "samples.jsonl").write_text(line + line.replace("true", "false", 1))
    with pytest.raises(UserError, match="samples.jsonl line [0-9]+: another result of the same images and attack"):
        SampleStore(tmp_path / "samples.jsonl")


def test_a_bar_is_told_after_each_member(network: nn.Module) -> None:
    images, labels = sample_images(12)
    seen: list[tuple[float, int, float]] = []
    two = Two(second=Noise(share=0.5))
    result = evaluate(
        network, images, labels, [two], batch=8, checks=False, watch=lambda _, *told: seen.append(told)
    ).results[0]  # fmt: skip
    natural = network(images).argmax(1) == labels
    assert [done for done, *_ in seen] == [0, 0, 4, 8, 8, 10, 12] and {samples for _, samples, _ in seen} == {12}
    assert seen[1][2] == float(natural[:8].float().mean()) and seen[-1][2] == pytest.approx(result.accuracy)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.usefixtures("few_steps")
def test_images_that_are_not_square(norm: Norm) -> None:
    """Every attack takes them but Square in L2, which is refused before another one is run."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(3 * 4 * 6, 4))
    images = torch.rand(6, 3, 8, 12)
    labels = model(images).argmax(1)
    others = [name for name in ATTACKS if (name not in ("square", "autoattack") or norm == "Linf")]
    result = evaluate(model, images, labels, others, norm=norm, epsilon=0.2, autoattack_steps=5, checks=False)
    assert len(result.results) == len(others) and min(each.accuracy for each in result.results) < 1
    store = SampleStore()
    for name in ("square", "autoattack") if norm == "L2" else ():
        with pytest.raises(UserError, match="^Square in L2 needs square images of at least 5x5 pixels, got 8x12$"):
            evaluate(model, images, labels, ["natural", name], norm="L2", store=store)
    assert not store._found


def test_an_attack_given_as_an_object(network: nn.Module) -> None:
    images, labels = sample_images(60)
    store = SampleStore()
    still, strong = (
        evaluate(network, images, labels, ["natural", each], epsilon=0.3, store=store, checks=False)
        for each in (Noise(share=0.0, epsilon=0.3), Noise(share=1.0, epsilon=0.3))
    )
    assert strong.accuracy("Noise") < still.accuracy("Noise") == still.accuracy("natural")
    settings = strong.to_json()["attacks"][1]["settings"]
    method = f"{Noise.__module__}.Noise"
    assert settings == [{"name": "Noise", "method": method, "norm": "Linf", "epsilon": 0.3, "share": 1.0}]


def test_settings_that_are_no_json_are_an_error(network: nn.Module) -> None:
    attack = Noise()
    attack.share = object()  # type: ignore[assignment]
    with pytest.raises(UserError, match=r"settings\(\) of Noise must be plain values for JSON"):
        evaluate(network, *sample_images(4), [attack])


class NanFor(nn.Module):
    """Returns NaN for images that ``wrong`` marks."""

    def __init__(self, inner: nn.Module, wrong: Callable[[Tensor], Tensor]):
        super().__init__()
        self.inner, self.wrong = inner, wrong

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(images)
        return logits.masked_fill(self.wrong(images).view(-1, 1), math.nan)


def test_logits_that_are_not_finite_are_an_error(network: nn.Module) -> None:
    images, labels = sample_images(30)

    def is_one(seen: Tensor) -> Tensor:
        return (seen - images[21]).flatten(1).abs().amax(1) == 0

    def is_changed(seen: Tensor) -> Tensor:
        return (seen[:, None] - images[None]).flatten(2).abs().amax(2).amin(1) > 0.03

    with pytest.raises(UserError, match=r"finite logits, got nan, nan, nan, nan, ... for image 21 \(natural\)"):
        evaluate(NanFor(network, is_one), images, labels, ["pgd-7"], batch=8)
    right = (network(images).argmax(1) == labels).nonzero()
    with pytest.raises(UserError, match=rf"finite logits, got nan, .* for image {int(right[0])} \(FGSM\)"):
        evaluate(NanFor(network, is_changed), images, labels, ["natural", "fgsm"], batch=8)


def test_batch_norms_are_folded_once_for_an_attack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folded: list[int] = []
    original = FoldingNetwork.folded

    def counted(self: FoldingNetwork) -> Any:
        folded.append(1)
        return original(self)

    monkeypatch.setattr(FoldingNetwork, "folded", counted)
    model = nas.load(trained_checkpoint(tmp_path / "model.pt", epochs=1))
    images, labels = sample_images(20)
    result = evaluate(model, images, labels, ["pgd-20"], epsilon=0.02, checks=False)
    assert len(folded) == 4  # once to count classes, for the natural images, for PGD and for what it returns
    plain = evaluate(nn.Sequential(copied_unfolded(model)), images, labels, ["pgd-20"], epsilon=0.02, checks=False)
    assert torch.equal(result.results[0].correct, plain.results[0].correct) and len(folded) == 4


def copied_unfolded(model: nn.Module) -> nn.Module:
    """The same function by the modules as they stand."""

    class Unfolded(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = model(images)
            return logits

    return Unfolded()
