"""Robust accuracy: attacks on a labelled set, counted by what the model predicts on the images that come back.

A sample that the model gets wrong is not attacked, one that an attack of a cascade has turned not again. From Python::

    from nas.attacking.evaluation import evaluate

    result = evaluate(model, images, labels, ["fgsm", "pgd-20", "autoattack"], epsilon=8 / 255)
    print(result.accuracy("AA"))
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nas.attacking.attacks import adversarial, untouched
from nas.attacking.samples import Block, SampleStore
from nas.attacking.settings import DEFAULT_ATTACKS, DEFAULT_EPSILON, REFERENCE_STEPS, Attack, Member, Norm, make_attack

#: called before the first and after each block: attack, samples done, of how many, correct among those done
Watch = Callable[[Attack, int, int, int], None]


@dataclass(frozen=True, eq=False, kw_only=True)
class AttackResult:
    """What one attack left: ``correct`` ``(N,)`` says for each sample whether it withstood.

    :param broken_by: samples that each member was the first to turn. :param seconds: of computing, whenever done.
    """

    attack: Attack
    correct: Tensor
    broken_by: dict[str, int]
    seconds: float

    @property
    def accuracy(self) -> float:
        return float(self.correct.float().mean())

    def to_json(self) -> dict[str, Any]:
        count, samples = int(self.correct.sum()), len(self.correct)
        value: dict[str, Any] = {
            "attack": self.attack.name,
            "correct": count,
            "samples": samples,
            "accuracy": count / samples,
            "interval": list(wilson_interval(count, samples)),
            "settings": [{"name": member.name, **member.to_json()} for member in self.attack.members],
            "broken_by": self.broken_by,
            "seconds": round(self.seconds, 3),
        }
        return {**value, "note": self.attack.note} if self.attack.note else value


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluation:
    """Every attack's result, and ``warnings``: signs that the gradients mislead the attacks, a sentence each."""

    results: list[AttackResult]
    warnings: list[str]

    @property
    def worst_case(self) -> Tensor:
        """``(N,)``: the samples that withstood every attack."""
        return torch.stack([result.correct for result in self.results]).all(0)

    def accuracy(self, name: str) -> float:
        """Of the attack shown under ``name``, such as ``PGD-20`` or ``AA``; KeyError if it was not run."""
        return {result.attack.name: result.accuracy for result in self.results}[name]

    def to_json(self) -> dict[str, Any]:
        count, samples = int(self.worst_case.sum()), len(self.worst_case)
        return {
            "attacks": [result.to_json() for result in self.results],
            "worst_case": {
                "correct": count,
                "samples": samples,
                "accuracy": count / samples,
                "interval": list(wilson_interval(count, samples)),
            },
            "warnings": self.warnings,
        }


def evaluate(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    attacks: Sequence[str] = DEFAULT_ATTACKS,
    *,
    norm: Norm = "Linf",
    epsilon: float = DEFAULT_EPSILON,
    step_size: float | None = None,
    autoattack_steps: int = REFERENCE_STEPS,
    batch: int = 64,
    seed: int = 0,
    checks: bool = True,
    store: SampleStore | None = None,
    watch: Watch | None = None,
) -> Evaluation:
    """Attacks ``model`` by name (:func:`~nas.attacking.settings.make_attack`); it stays as it is.

    :param model: images -> logits ``(N, classes)``, normalisation inside; attacked where its parameters are.
    :param images: ``(N, C, H, W)``, float in [0, 1]. :param labels: ``(N,)``, whole numbers.
    :param checks: also look for signs of gradient masking (:mod:`nas.attacking.masking`).
    :param store: results already known, and where new ones go.
    :raises ValueError: images or labels that do not fit each other or the model, or an attack that cannot be.
    """
    evaluator = Evaluator(model, images, labels, batch=batch, seed=seed, store=store)
    options: dict[str, Any] = {"norm": norm, "epsilon": epsilon, "classes": evaluator.classes}
    made = [make_attack(name, **options, step_size=step_size, autoattack_steps=autoattack_steps) for name in attacks]
    results = [evaluator.run(attack, watch=watch) for attack in made]
    if not checks:
        return Evaluation(results=results, warnings=[])
    from nas.attacking.masking import masking_signs

    return Evaluation(results=results, warnings=masking_signs(evaluator, results, norm))


class Evaluator:
    """A model, labelled images, and what is known of them."""

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        batch: int = 64,
        seed: int = 0,
        store: SampleStore | None = None,
    ):
        check_images(images, labels)
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        self.model, self.images, self.labels = model, images, labels
        self.batch, self.seed = batch, seed
        self.store = SampleStore() if store is None else store
        self.device = next((each.device for each in model.parameters()), images.device)
        self.classes = self._logits(images[:1]).shape[1]
        if int(labels.max()) >= self.classes:
            raise ValueError(f"labels must be below the model's {self.classes} classes, got {int(labels.max())}")

    def run(self, attack: Attack, samples: int | None = None, watch: Watch | None = None) -> AttackResult:
        """The attack on the first ``samples`` samples, by default all."""
        samples = len(self.labels) if samples is None else min(samples, len(self.labels))
        correct: list[bool] = []
        left = [0] * (len(attack.members) + 1)  # after the first so many members
        seconds = 0.0
        if watch is not None:
            watch(attack, 0, samples, 0)
        for first in range(0, samples, self.batch):
            block = first, min(first + self.batch, samples)
            for count in range(len(left)):
                last, taken = self._after(attack.members[:count], block)
                left[count] += sum(last)
                seconds += taken
            correct += last
            if watch is not None:
                watch(attack, len(correct), samples, left[-1])
        broken = {member.name: left[i] - left[i + 1] for i, member in enumerate(attack.members)}
        return AttackResult(attack=attack, correct=torch.tensor(correct), broken_by=broken, seconds=seconds)

    def _after(self, members: tuple[Member, ...], block: Block) -> tuple[list[bool], float]:
        """Which samples of the block are correct after the last of ``members``, and the seconds that one took."""
        found = self.store.find(members, block)
        if found is None:
            before = self._after(members[:-1], block)[0] if members else None
            started = time.perf_counter()
            correct = self._correct(members, block, before)
            found = correct, time.perf_counter() - started
            self.store.add(members, block, *found)
        return found

    def _correct(self, members: tuple[Member, ...], block: Block, before: list[bool] | None) -> list[bool]:
        images, labels = (each[slice(*block)].to(self.device) for each in (self.images, self.labels))
        if before is None:
            return self._right(images, labels).tolist()
        correct = torch.tensor(before, device=self.device)
        if correct.any():
            seed = block_seed(self.seed, block)
            changed = adversarial(self.model, images[correct], labels[correct], members[-1], seed)
            correct[correct.clone()] = self._right(changed, labels[correct])
        return correct.tolist()

    def _right(self, images: Tensor, labels: Tensor) -> Tensor:
        return self._logits(images).argmax(1) == labels

    def _logits(self, images: Tensor) -> Tensor:
        with untouched(self.model, self.seed), torch.no_grad():
            logits = self.model(images.to(self.device))
        if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < 2:
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(f"the model must return logits (N, classes) of at least 2 classes, got {got}")
        return logits


def check_images(images: Tensor, labels: Tensor) -> None:
    """:raises ValueError: not float images ``(N, C, H, W)`` in [0, 1] with as many labels, or none at all."""
    if images.ndim != 4 or not images.is_floating_point() or not len(images):
        raise ValueError(f"images must be float (N, C, H, W), N at least 1, got {images.dtype} {tuple(images.shape)}")
    low, high = float(images.min()), float(images.max())
    if not 0 <= low <= high <= 1:
        raise ValueError(f"images must be in [0, 1], got {low:.6g} to {high:.6g}")
    if labels.shape != images.shape[:1] or labels.dtype != torch.int64 or int(labels.min()) < 0:
        got = f"{labels.dtype} {tuple(labels.shape)}"
        raise ValueError(f"labels must be torch.int64 ({len(images)},) from 0, got {got}")


def block_seed(seed: int, block: Block) -> int:
    """The seed of an attack on a block: it does not depend on what else is attacked."""
    return int.from_bytes(hashlib.sha256(f"{seed} {block[0]}".encode()).digest()[:4], "big") >> 1


def wilson_interval(correct: int, samples: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson, 1927)."""
    from scipy.stats import binomtest

    interval = binomtest(correct, samples).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)
