"""``autoattack``: APGD-CE, APGD-T, FAB-T and Square, each on what the ones before left.

Croce and Hein, ICML 2020 (https://arxiv.org/abs/2003.01690). The settings are those of their implementation (100
iterations, 9 targets, Square's schedule for 10,000 queries), which torchattacks' class of that name does not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nas.attacking.attacks.apgd import APGD, APGDT
from nas.attacking.attacks.fab import FABT
from nas.attacking.attacks.square import Square
from nas.attacking.base import Attack, check_counts
from nas.attacking.cascade import Cascade
from nas.attacking.registry import REFERENCE_STEPS


@dataclass(kw_only=True, eq=False)
class AutoAttack(Cascade):
    """The cascade; a model of fewer than 4 classes is attacked without APGD-T, and name and note say so.

    :param classes: of the model. :param steps: iterations of APGD and FAB; other than 100 the name says so: AA-10.
    """

    classes: int = 10
    steps: int = REFERENCE_STEPS

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "steps")

    @property
    def name(self) -> str:
        name = "AA" if self.steps == REFERENCE_STEPS else f"AA-{self.steps}"
        return name if self.classes >= 4 else f"{name} (no APGD-T)"

    @property
    def note(self) -> str:
        if self.classes >= 4:
            return ""
        return f"AutoAttack without APGD-T, whose loss needs at least 4 classes: the model has {self.classes}"

    @property
    def members(self) -> tuple[Attack, ...]:
        ball: dict[str, Any] = {"norm": self.norm, "epsilon": self.epsilon}
        first = APGD(**ball, steps=self.steps)
        targeted = [APGDT(**ball, steps=self.steps, classes=self.classes)] if self.classes >= 4 else []
        return (first, *targeted, FABT(**ball, steps=self.steps, classes=self.classes), Square(**ball))
