"""Learning-rate schedules as functions of the training position (epochs done); to resume one needs no other state."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from nas.cli import bounds

SCHEDULES = ("multistep", "cosine", "one_cycle")
MULTISTEP_FACTOR = 0.1
ONE_CYCLE_PEAK = 0.4  # share of the training after which the rate is highest, as in Wong et al. (ICLR 2020)

#: from the position in epochs, starting at 0, to the learning rate
Schedule = Callable[[float], float]


def multistep(position: float, *, rate: float, milestones: Sequence[int]) -> float:
    """``rate``, divided by 10 at each milestone; ``milestones=(99,)``: 99 epochs at ``rate``, then at a tenth of it."""
    return rate * MULTISTEP_FACTOR ** sum(position >= milestone for milestone in milestones)


def cosine(position: float, *, rate: float, epochs: int) -> float:
    """From ``rate`` down to 0 along half a cosine period (Loshchilov and Hutter, ICLR 2017, without restarts)."""
    return rate * 0.5 * (1 + math.cos(math.pi * position / epochs))


def one_cycle(position: float, *, rate: float, epochs: int) -> float:
    """Linearly from 0 up to ``rate``, reached at the share ``ONE_CYCLE_PEAK`` of the epochs, and linearly down to 0."""
    share = position / epochs
    return rate * min(share / ONE_CYCLE_PEAK, (1 - share) / (1 - ONE_CYCLE_PEAK))


def make_schedule(name: str, rate: float, epochs: int, milestones: Sequence[int]) -> Schedule:
    """The schedule called ``name``: multistep, cosine or one_cycle; only multistep uses ``milestones``.

    :raises UserError: there is no such schedule, rate or number of epochs.
    """
    bounds.word("schedule", name, SCHEDULES)
    bounds.positive("learning_rate", rate)
    bounds.whole("epochs", epochs)
    if name == "multistep":
        return partial(multistep, rate=rate, milestones=tuple(milestones))
    return partial({"cosine": cosine, "one_cycle": one_cycle}[name], rate=rate, epochs=epochs)
