"""Signs of gradient masking: a model whose gradients mislead the attacks only seems robust.

The signs are those of Athalye et al. (ICML 2018, https://arxiv.org/abs/1802.00420) and Carlini et al. (2019,
https://arxiv.org/abs/1902.06705). Attacks are compared on the same samples, by a sign test on those that only one of
the two turned (made the model misclassify).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

from nas.attacking.attacks.apgd import APGD
from nas.attacking.attacks.natural import Natural
from nas.attacking.attacks.pgd import FGSM, PGD
from nas.attacking.attacks.square import Square
from nas.attacking.base import Attack
from nas.attacking.evaluator import Evaluator
from nas.attacking.results import AttackResult
from nas.norms import Norm

A = TypeVar("A", bound=Attack)

LARGE_EPSILON = 128 / 255  # every image can become grey: nothing is left to recognise
LARGE_SAMPLES = 100
LARGE_STEPS = 40
LEVEL = 0.01  # of each sign test
FEWEST_SAMPLES = 20  # on which a model that is right on a single class is told
SQUARE_SHARE = 0.02  # of the samples; on models of RobustBench Square turns next to none that the others left


def masking_signs(evaluator: Evaluator, results: Sequence[AttackResult], norm: Norm) -> list[str]:
    """A sentence for each sign that the results show, or that a quick attack with a very large epsilon shows."""
    fgsm = _first(results, FGSM)
    steps = {result: found.steps for result in results if (found := _only(result, PGD))}
    pgd = sorted(steps, key=lambda result: steps[result])
    signs = []
    if fgsm is not None and pgd and turns_more(fgsm, pgd[-1]):
        signs.append(f"{_shown(fgsm)} is stronger than {_shown(pgd[-1])}: one step should not do more than many")
    for fewer, more in pairwise(pgd):
        if steps[fewer] < steps[more] and turns_more(fewer, more):
            signs.append(f"{_shown(more)} is weaker than {_shown(fewer)}: more steps should not do less")
    signs += [*_square_signs(results), *_one_class(evaluator)]
    large = large_epsilon_attack(norm, evaluator.images[0].numel())
    left = evaluator.run(large, samples=LARGE_SAMPLES)
    if bool(left.correct.any()):
        count, samples = int(left.correct.sum()), len(left.correct)
        signs.append(
            f"{count} of {samples} samples withstand {large.name} at epsilon 128/255 a pixel, where every image can"
            " become grey: none should"
        )
    return signs


def _square_signs(results: Sequence[AttackResult]) -> list[str]:
    signs = []
    square, apgd = _first(results, Square), _first(results, APGD)
    if square is not None and apgd is not None and turns_more(square, apgd):
        signs.append(f"{_shown(square)} is stronger than {_shown(apgd)}, although it sees no gradients")
    for result in results:
        count = result.broken_by.get("Square", 0) if len(result.attack.members) > 1 else 0
        if count > SQUARE_SHARE * len(result.correct):
            signs.append(
                f"in {result.attack.name} Square turns {count} of {len(result.correct)} samples that withstood every"
                " attack with gradients, although it sees none"
            )
    return signs


def _one_class(evaluator: Evaluator) -> list[str]:
    """A sentence if the model has learned nothing: it is right on one class only, and there always."""
    correct, labels = evaluator.run(Natural()).correct, evaluator.labels.cpu()
    right = set(labels[correct].tolist())
    enough = len(labels) >= FEWEST_SAMPLES and len(set(labels.tolist())) > 1
    if enough and len(right) == 1 and bool(correct[labels == min(right)].all()):
        return [
            f"the model gives class {min(right)} for every natural image of it and is right on no other: it seems to"
            " have learned nothing, and its accuracy under attack is that class's share"
        ]
    return []


def large_epsilon_attack(norm: Norm, pixels: int) -> Attack:
    """PGD with an epsilon of 128/255; in L2 the distance at which each of ``pixels`` has changed by so much."""
    epsilon = LARGE_EPSILON * (math.sqrt(pixels) if norm == "L2" else 1.0)
    return PGD(norm=norm, epsilon=epsilon, steps=LARGE_STEPS)


def turns_more(one: AttackResult, other: AttackResult) -> bool:
    """Whether ``one`` turns more of the samples than ``other``, beyond chance."""
    from scipy.stats import binomtest

    only_one = int((~one.correct & other.correct).sum())
    only_other = int((one.correct & ~other.correct).sum())
    discordant = only_one + only_other
    return bool(discordant and binomtest(only_one, discordant, alternative="greater").pvalue < LEVEL)


def _first(results: Sequence[AttackResult], kind: type[Attack]) -> AttackResult | None:
    return next((result for result in results if _only(result, kind)), None)


def _only(result: AttackResult, kind: type[A]) -> A | None:
    """The attack, if it is of this kind and no cascade of several; otherwise None."""
    members = result.attack.members
    return members[0] if len(members) == 1 and isinstance(members[0], kind) else None


def _shown(result: AttackResult) -> str:
    return f"{result.attack.name} ({100 * result.accuracy:.1f} % left)"
