"""The results of attacks: accuracies with their intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nas.attacking.base import Attack


@dataclass(frozen=True, eq=False, kw_only=True)
class AttackResult:
    """The result of one attack.

    :param correct: ``(N,)``, bool: which samples the model still classifies correctly under the attack.
    :param broken_by: by name of the attack's members, how many samples each was the first to turn.
    :param seconds: of computing, those of earlier runs included whose results were stored.
    """

    attack: Attack
    correct: Tensor
    broken_by: dict[str, int]
    seconds: float

    @property
    def accuracy(self) -> float:
        """The share of samples that the model still classifies correctly."""
        return float(self.correct.float().mean())

    def to_json(self) -> dict[str, Any]:
        """An entry of ``attacks`` in ``attack.json``."""
        count, samples = int(self.correct.sum()), len(self.correct)
        value: dict[str, Any] = {
            "attack": self.attack.name,
            "correct": count,
            "samples": samples,
            "accuracy": count / samples,
            "interval": list(wilson_interval(count, samples)),
            "settings": [{"name": member.name, **member.settings()} for member in self.attack.members],
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
        """The accuracy under the attack called ``name``, such as ``PGD-20``, ``pgd-20`` or ``AA``.

        :raises KeyError: it was not run; the message lists those that were.
        """
        found = {result.attack.name.lower(): result.accuracy for result in self.results}
        if name.lower() not in found:
            raise KeyError(f"{name}; there are {', '.join(result.attack.name for result in self.results)}")
        return found[name.lower()]

    def to_json(self) -> dict[str, Any]:
        """Part of the object of ``attack.json``."""
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


def wilson_interval(correct: int, samples: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson, 1927)."""
    from scipy.stats import binomtest

    interval = binomtest(correct, samples).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)
