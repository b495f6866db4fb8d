"""Which attacks there are, and the settings each one runs with. Importing this imports no torch."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from nas.errors import UserError, unknown

Norm = Literal["Linf", "L2"]
DEFAULT_ATTACKS = ("natural", "fgsm", "pgd-7", "pgd-20", "pgd-100", "apgd-ce", "autoattack")
ATTACK_NAMES = (*DEFAULT_ATTACKS, "apgd-t", "fab", "fab-t", "square", "cw")
DEFAULT_EPSILON = 8 / 255
REFERENCE_STEPS = 100  # iterations of APGD and FAB in the reference's AutoAttack
REFERENCE_TARGETS = 9  # classes that its targeted members aim at, the likeliest first
REFERENCE_QUERIES = 5000  # of its Square
CW_STEPS = 100
PGD_STEPS_PER_RADIUS = 4  # a step of 2/255 at epsilon 8/255 (Madry et al., ICLR 2018)


@dataclass(frozen=True, kw_only=True)
class Member:
    """One attack with all its settings. ``epsilon`` is in pixel units of [0, 1], the radius in ``norm``."""

    name: str
    method: str
    norm: Norm
    epsilon: float
    settings: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """All that the result depends on besides model, images and seed; the name is not among it."""
        return {"method": self.method, "norm": self.norm, "epsilon": self.epsilon, **self.settings}


@dataclass(frozen=True, kw_only=True)
class Attack:
    """Members one after the other, each on the samples that are still classified correctly; none: natural accuracy."""

    name: str
    members: tuple[Member, ...] = ()
    note: str = ""


def make_attack(
    name: str,
    *,
    classes: int,
    norm: Norm = "Linf",
    epsilon: float = DEFAULT_EPSILON,
    step_size: float | None = None,
    autoattack_steps: int = REFERENCE_STEPS,
) -> Attack:
    """The attack called ``name``, one of ``ATTACK_NAMES`` or ``pgd-K``.

    :param classes: number of the model's classes.
    :param step_size: of PGD and CW, by default a quarter of epsilon.
    :param autoattack_steps: iterations of AutoAttack's APGD and FAB; other than 100 is named: AA-10.
    :raises UserError: unknown name, or an attack that this norm or number of classes does not allow.
    """
    make = _Maker(classes, norm, epsilon, epsilon / PGD_STEPS_PER_RADIUS if step_size is None else step_size)
    if name == "natural":
        return Attack(name="natural")
    if name == "autoattack":
        return make.autoattack(autoattack_steps)
    if match := re.fullmatch(r"pgd-([1-9]\d{0,5})", name):
        return make.alone(make.pgd(int(match[1])))
    single: dict[str, Callable[[], Member]] = {
        "fgsm": make.fgsm,
        "apgd-ce": lambda: make.apgd_ce(REFERENCE_STEPS),
        "apgd-t": lambda: make.apgd_t(REFERENCE_STEPS),
        "fab": lambda: make.fab(REFERENCE_STEPS),
        "fab-t": lambda: make.fab_t(REFERENCE_STEPS),
        "square": make.square,
        "cw": make.cw,
    }
    if name not in single:
        raise unknown("attack", name, (*ATTACK_NAMES, "pgd-K"))
    if name == "apgd-t" and classes < 4:
        raise UserError(f"attack apgd-t needs at least 4 classes, the model has {classes}; fab-t takes any number")
    return make.alone(single[name]())


@dataclass(frozen=True)
class _Maker:
    classes: int
    norm: Norm
    epsilon: float
    step_size: float

    def alone(self, member: Member) -> Attack:
        return Attack(name=member.name, members=(member,))

    def _member(self, name: str, method: str, **settings: Any) -> Member:
        return Member(name=name, method=method, norm=self.norm, epsilon=self.epsilon, settings=settings)

    def fgsm(self) -> Member:
        return self._member("FGSM" if self.norm == "Linf" else "FGM", "fgsm")

    def pgd(self, steps: int) -> Member:
        return self._member(f"PGD-{steps}", "pgd", steps=steps, step_size=self.step_size, random_start=True)

    def apgd_ce(self, steps: int) -> Member:
        return self._member("APGD-CE", "apgd-ce", steps=steps, restarts=1)

    def apgd_t(self, steps: int) -> Member:
        return self._member("APGD-T", "apgd-t", steps=steps, restarts=1, targets=self.targets)

    def fab(self, steps: int) -> Member:
        return self._member("FAB", "fab", steps=steps, restarts=1)

    def fab_t(self, steps: int) -> Member:
        return self._member("FAB-T", "fab-t", steps=steps, restarts=1, targets=self.targets)

    def square(self) -> Member:
        return self._member("Square", "square", queries=REFERENCE_QUERIES, restarts=1, rescale_schedule=False)

    def cw(self) -> Member:
        if self.norm == "L2":
            return self._member("CW", "cw", c=10.0, kappa=0.0, steps=CW_STEPS, learning_rate=0.01)
        return self._member("CW-PGD", "cw", steps=CW_STEPS, step_size=self.step_size, random_start=True)

    @property
    def targets(self) -> int:
        return min(REFERENCE_TARGETS, self.classes - 1)

    def autoattack(self, steps: int) -> Attack:
        name = "AA" if steps == REFERENCE_STEPS else f"AA-{steps}"
        if self.classes >= 4:
            return Attack(
                name=name, members=(self.apgd_ce(steps), self.apgd_t(steps), self.fab_t(steps), self.square())
            )
        return Attack(
            name=f"{name} (no APGD-T)",
            members=(self.apgd_ce(steps), self.fab_t(steps), self.square()),
            note=f"AutoAttack without APGD-T, whose loss needs at least 4 classes: the model has {self.classes}",
        )
