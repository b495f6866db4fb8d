"""Successive halving (Jamieson and Talwalkar, AISTATS 2016; ASHA: Li et al., MLSys 2020, https://arxiv.org/abs/1810.05934).

All cells are trained to the first rung; the best of them are trained to the second rung, and so on to the last epoch.
The state of each cell's training is in the cell's own directory, so a retraining can be resumed with any executor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nas.errors import Stopped, UserError
from nas.executors.failures import machine_failure
from nas.files import kind, make_folder, remove
from nas.images.data import ImageSplit
from nas.models.checkpoint import LAST, TRAIN, read_checkpoint
from nas.runs.directory import read_json, write_json
from nas.training.config import TrainConfig
from nas.training.course import Epoch
from nas.training.directory import holds_training
from nas.training.trainer import Trainer
from search_spaces.base import SearchSpace

#: the metric by which cells are compared: robust accuracy on images held out of training
METRIC = "validation_robust_accuracy"
FAILED = "failed.json"
#: folder of Ray Tune's own files, in the directory of the retraining; it is deleted at the end
SCRATCH = "ray"

#: function that is called with the number of a cell and the record of an epoch that it has finished
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
        """The training of the cell, resumed if it was started before."""
        return Trainer(self.config, out=self.out, resume=holds_training(self.out), images=images, space=self.space)

    def train(self, images: ImageSplit, until: int, watch: Callable[[Epoch], None]) -> bool:
        """Train to the end of epoch ``until``. If that fails, write the reason to disk and return False.

        :param watch: called with the record of every epoch, including those finished before.
        :raises MachineFailed: the machine is at fault. :raises Unwritable: a file cannot be written.
        """
        remove(self.out / FAILED)
        try:
            self.trainer(images).run(watch, until=until)
        except Exception as error:  # only this cell fails, unless the machine is at fault; the others are still trained
            if machine_failure(error) is not None:
                raise
            named = "" if isinstance(error, Stopped | UserError) else f"{type(error).__name__}: "
            self.fail(named + " ".join(str(error).split())[:300])
            if self.config.device.startswith("cuda"):
                torch.cuda.empty_cache()
        else:
            return True
        return False

    def fail(self, reason: str) -> None:
        """Write to disk the reason why the cell's training failed.

        :raises Unwritable: the operating system refused.
        """
        make_folder(self.out)
        write_json(self.out / FAILED, {"error": reason})

    def failure(self) -> str | None:
        """The reason why the cell's training failed; None if it did not fail."""
        failed = read_json(self.out / FAILED)
        return None if failed is None else str(failed.get("error"))

    def history(self) -> list[Epoch]:
        """The records of the epochs in the last checkpoint, after which a training resumes."""
        last = self.out / TRAIN / LAST
        try:
            history = read_checkpoint(last, self.space).facts["history"] if kind(last) is not None else []
            return [{**epoch, METRIC: float(epoch[METRIC])} for epoch in history]
        except (UserError, KeyError, TypeError):
            return []  # the checkpoint is damaged: resuming the training will report how


def survivors(accuracies: Sequence[float], factor: float) -> list[bool]:
    """Which cells are trained further: those at or above the quantile 1 - 1 / ``factor``, as in ASHA.

    The best cell always is.
    """
    return [bool(each >= np.percentile(accuracies, 100 * (1 - 1 / factor))) for each in accuracies]


def halve(
    contenders: Sequence[Contender], rungs: Sequence[int], epochs: int, factor: float, images: ImageSplit, watch: Watch
) -> None:
    """Train and cut the cells in this process, one after the other.

    Which cells are trained further depends only on the accuracies that the cells have at the rung. A cell whose
    training fails is left out.
    """
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
