"""Successive halving (Jamieson and Talwalkar, AISTATS 2016; ASHA: Li et al., MLSys 2020, https://arxiv.org/abs/1810.05934).

All cells train to the first rung, of which the best go on to the next, and so on to the last epoch. What each cell has
done lies in its own directory, so cells go on wherever they were left, under whichever executor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nas.errors import Stopped, UserError
from nas.images.data import ImageSplit
from nas.models.checkpoint import LAST, TRAIN, read_checkpoint
from nas.runs.directory import read_json, write_json
from nas.training.config import TrainConfig
from nas.training.course import Epoch
from nas.training.directory import holds_training
from nas.training.trainer import Trainer
from search_spaces.base import SearchSpace

#: what cells compete by: robust accuracy on images held out of training
METRIC = "validation_robust_accuracy"
FAILED = "failed.json"

#: called with the number of a cell and the record of an epoch that it has finished
Watch = Callable[[int, Epoch], None]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One cell's training. ``number`` is its rank in the search, from 1; ``out`` its run directory,
    ``space`` its search space where that is none of this program's."""

    number: int
    config: TrainConfig
    out: Path
    space: SearchSpace[Any] | None = None

    def trainer(self, images: ImageSplit | None = None) -> Trainer:
        """The training, or what is left of it."""
        return Trainer(self.config, out=self.out, resume=holds_training(self.out), images=images, space=self.space)

    def train(self, images: ImageSplit, until: int, watch: Callable[[Epoch], None]) -> bool:
        """Train to the end of epoch ``until``; False, with the reason on disk, where that cannot be done.

        :param watch: called with every epoch's record, those of before included.
        :raises UserError: the reason cannot be written.
        """
        (self.out / FAILED).unlink(missing_ok=True)
        try:
            self.trainer(images).run(watch, until=until)
        except (Stopped, UserError) as error:
            self.fail(str(error))
        except Exception as error:  # of this cell; the others go on
            self.fail(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
            if self.config.device.startswith("cuda"):
                torch.cuda.empty_cache()
        else:
            return True
        return False

    def fail(self, reason: str) -> None:
        """Keep the reason why the cell goes no further.

        :raises UserError: it cannot be written.
        """
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            write_json(self.out / FAILED, {"error": reason})
        except OSError as error:
            raise UserError(f"{self.out / FAILED} cannot be written: {error.strerror or error}") from None

    def failure(self) -> str | None:
        """Why the cell went no further, where it failed."""
        failed = read_json(self.out / FAILED)
        return None if failed is None else str(failed.get("error"))

    def history(self) -> list[Epoch]:
        """The epochs that a training would go on after."""
        last = self.out / TRAIN / LAST
        try:
            history = read_checkpoint(last, self.space).facts["history"] if last.exists() else []
            return [{**epoch, METRIC: float(epoch[METRIC])} for epoch in history]
        except (UserError, KeyError, TypeError):
            return []  # training says what is wrong with it


def survivors(accuracies: Sequence[float], factor: float) -> list[bool]:
    """Which go on: those from the quantile 1 - 1 / ``factor`` up, where ASHA cuts; at least the best."""
    return [bool(each >= np.percentile(accuracies, 100 * (1 - 1 / factor))) for each in accuracies]


def halve(
    contenders: Sequence[Contender], rungs: Sequence[int], epochs: int, factor: float, images: ImageSplit, watch: Watch
) -> None:
    """Train and cut in this process. Which cells go on depends on nothing but what each has reached at the rung."""
    racing = list(contenders)
    for until in (*rungs, epochs):
        reached: list[tuple[Contender, float]] = []
        for each in racing:
            history = each.history()
            if len(history) < until:
                if not each.train(images, until, lambda epoch, number=each.number: watch(number, epoch)):  # type: ignore[misc]
                    continue
                history = each.history()
            else:
                watch(each.number, history[-1])
            reached.append((each, history[until - 1][METRIC]))
        if not reached:
            return
        kept = survivors([accuracy for _, accuracy in reached], factor)
        racing = [each for (each, _), goes_on in zip(reached, kept, strict=True) if goes_on]
