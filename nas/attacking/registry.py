"""Attacks by name. Importing this imports no torch.

To add one: a subclass of :class:`~nas.attacking.base.Attack` in a file of its own, a line in ``ATTACKS``, a row in the
table of ``tests/nas/attacking/test_conformance.py``.
"""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

from nas.attacking.base import Attack
from nas.errors import UserError, as_user_error, unknown
from nas.norms import DEFAULT_EPSILON, Norm
from proxies.spelling import check_options, parsed, spelled

#: name -> module and class. Keywords ``classes`` and ``step_size`` of a class are filled in from the evaluation.
ATTACKS: dict[str, tuple[str, str]] = {
    "natural": ("nas.attacking.attacks.natural", "Natural"),
    "fgsm": ("nas.attacking.attacks.pgd", "FGSM"),
    "pgd": ("nas.attacking.attacks.pgd", "PGD"),
    "apgd-ce": ("nas.attacking.attacks.apgd", "APGD"),
    "apgd-t": ("nas.attacking.attacks.apgd", "APGDT"),
    "fab": ("nas.attacking.attacks.fab", "FAB"),
    "fab-t": ("nas.attacking.attacks.fab", "FABT"),
    "square": ("nas.attacking.attacks.square", "Square"),
    "cw": ("nas.attacking.attacks.carlini_wagner", "CarliniWagner"),
    "autoattack": ("nas.attacking.attacks.autoattack", "AutoAttack"),
}
DEFAULT_ATTACKS = ("natural", "fgsm", "pgd-7", "pgd-20", "pgd-100", "apgd-ce", "autoattack")
REFERENCE_STEPS = 100  # iterations of APGD and FAB in the reference implementation of AutoAttack
FORM = "pgd(steps=20, step_size=0.01)"


def get_attack(
    name: str,
    *,
    classes: int,
    norm: Norm = "Linf",
    epsilon: str | float = DEFAULT_EPSILON,
    step_size: str | float | None = None,
    autoattack_steps: int = REFERENCE_STEPS,
) -> Attack:
    """The attack of that name.

    :param name: one of ``ATTACKS``, ``pgd-K`` for PGD of K steps, or one of these with options of its class, such as
        ``square(queries=1000)``; results are then shown under that text.
    :param classes: number of the model's classes. :param epsilon: in pixel units of [0, 1]; ``8/255`` will do.
    :param step_size: of PGD and CW, likewise; by default a quarter of epsilon.
    :param autoattack_steps: iterations of AutoAttack's APGD and FAB; other than 100 its name says so: AA-10.
    :raises UserError: unknown name or option (with the nearest ones), or an attack that this norm or number of classes
        does not allow.
    """
    base, own, text = _read(name)
    module, attribute = ATTACKS[base]
    make = getattr(importlib.import_module(module), attribute)
    as_user_error(lambda: check_options(base, make, own, "attack"))
    options: dict[str, Any] = {"norm": norm, "epsilon": epsilon, "classes": classes, "step_size": step_size}
    if base == "autoattack":
        options["steps"] = autoattack_steps
    known = inspect.signature(make).parameters
    options = {option: value for option, value in options.items() if option in known} | own
    attack: Attack = as_user_error(lambda: make(**options))
    if text is None:
        return attack
    from nas.attacking.cascade import Renamed

    return Renamed(norm=attack.norm, epsilon=attack.epsilon, text=text, attack=attack)


def _read(name: str) -> tuple[str, dict[str, Any], str | None]:
    """The key in ``ATTACKS``, the options, and the text under which an attack with options in brackets is shown."""
    text, own = as_user_error(lambda: parsed(name, "attack", FORM))
    steps = re.fullmatch(r"pgd-([1-9]\d{0,5})", text)
    base = "pgd" if steps else text
    if base not in ATTACKS:
        raise unknown("attack", base, dict.fromkeys((*DEFAULT_ATTACKS, *ATTACKS, "pgd-K")))
    for option in ("norm", "epsilon", "classes"):
        if option in own:
            raise UserError(f"{option} is the same for all attacks of an evaluation: '{name}' cannot have its own")
    if steps and "steps" in own:
        raise UserError(f"'{name}' names the number of steps twice")
    shown = spelled(text, own) if own else None
    return base, {**own, "steps": int(steps[1])} if steps else own, shown
