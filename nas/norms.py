"""How far an image may be changed: norms, radii and steps, in pixel units of [0, 1].

Training, attacks and transfer all read them here, from the command line and from Python, so that all have the same
bounds. Importing this imports no torch.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

from nas.cli import bounds
from nas.errors import UserError

Norm = Literal["Linf", "L2"]
NORMS: tuple[str, ...] = get_args(Norm)
DEFAULT_EPSILON = 8 / 255


def check_norm(norm: Any) -> None:
    """:raises UserError: ``norm`` is neither Linf nor L2."""
    bounds.word("norm", norm, NORMS)


def radius(epsilon: Any, norm: Norm) -> float:
    """``epsilon`` as a number; it may be written as ``8/255``.

    :raises UserError: it is no number, is negative, or is above 1 in Linf, where images in [0, 1] cannot move so far.
    """
    return _distance("epsilon", epsilon, norm)


def step_length(step_size: Any, norm: Norm) -> float:
    """The length of an attack's step as a number, with the bounds of :func:`radius`.

    :raises UserError: as there, or it is 0: an attack that stays where it is makes a model look robust.
    """
    value = _distance("step_size", step_size, norm)
    bounds.positive("step_size", value)
    return value


def _distance(name: str, given: Any, norm: Norm) -> float:
    value = bounds.fraction(name, given)
    try:
        bounds.number(name, value, 0, 1 if norm == "Linf" else math.inf, shown=given)
    except UserError as error:
        raise UserError(f"{error}, in pixel units of [0, 1], such as 8/255") from None
    return value
