"""Learning rates as functions of the position alone, so that a resumed training needs no more than its position."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

MULTISTEP_FACTOR = 0.1
ONE_CYCLE_PEAK = 0.4  # share of the training at which the rate is highest, as of Wong et al. (ICLR 2020)

#: position in epochs, from 0 -> learning rate
Schedule = Callable[[float], float]


def multistep(position: float, *, rate: float, milestones: Sequence[int]) -> float:
    """A tenth from each milestone on: ``milestones=(99,)`` trains 99 epochs at ``rate``, the others at a tenth."""
    return rate * MULTISTEP_FACTOR ** sum(position >= milestone for milestone in milestones)


def cosine(position: float, *, rate: float, epochs: int) -> float:
    """From ``rate`` to 0 along half a cosine (Loshchilov and Hutter, ICLR 2017, without restarts)."""
    return rate * 0.5 * (1 + math.cos(math.pi * position / epochs))


def one_cycle(position: float, *, rate: float, epochs: int) -> float:
    """From 0 up to ``rate`` and down to 0, both linearly."""
    share = position / epochs
    return rate * min(share / ONE_CYCLE_PEAK, (1 - share) / (1 - ONE_CYCLE_PEAK))


def make_schedule(name: str, rate: float, epochs: int, milestones: Sequence[int]) -> Schedule:
    """The schedule called ``name``: multistep, cosine or one_cycle."""
    if name == "multistep":
        return partial(multistep, rate=rate, milestones=tuple(milestones))
    return partial({"cosine": cosine, "one_cycle": one_cycle}[name], rate=rate, epochs=epochs)
