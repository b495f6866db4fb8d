"""Cells as trials of Ray Tune under ASHA. The one module of retraining that knows ray.

A trial trains in the cell's own directory, where every epoch is stored whole, so one that is started again, by Tune
after a worker's death or by a later process, goes on after the last finished epoch and reports the earlier ones again.

Those directories are all that a retraining goes on from. ``Tuner.restore`` of Ray 2.60 would not do: it forgets what
the scheduler has seen, so that cells are no longer compared with those that ended before; it cannot go on from a state
that was being written when the driver was killed; and that state is pickled. What Tune keeps is removed at the end.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Ctrl-C is ours
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the new one prints a table even when it is asked not to
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the cells have files of their own

from ray import tune
from ray.tune.schedulers import ASHAScheduler

from nas.device import worker_gpus
from nas.errors import UserError
from nas.executors.ray import RayCrew
from nas.images.data import ImageSplit
from nas.retraining.config import RetrainConfig
from nas.retraining.halving import METRIC, Contender, Watch
from nas.training.course import Epoch

#: Tune's own files, in the directory of the retraining
SCRATCH = "ray"
#: marks, in its directory, a cell that was cut
CUT = "cut"
#: how often a trial whose worker died is started again
RETRIES = 2
#: bytes of a private cluster's object store besides the images
ROOM = 128 * 2**20


class Trials:
    """The contenders as trials; also a context manager, which joins the cluster or starts a private one.

    :param path: directory of the retraining, on storage that all machines of the cluster mount.
    :raises UserError: there is no cluster, or no room in a private one.
    """

    def __init__(
        self, config: RetrainConfig, contenders: Sequence[Contender], path: Path, images: ImageSplit, watch: Watch
    ):
        self.config = config
        self.contenders = {each.number: each for each in contenders}
        self.path = path.resolve()
        self.images = images
        self.watch = watch
        self.gpus = worker_gpus(contenders[0].config.device, config.gpus_per_worker)
        self._crew = RayCrew(config.address, config.workers, config.cpus_per_worker, self.gpus)

    def __enter__(self) -> Trials:
        self._crew.connect(object_store=ROOM + 2 * self.images.images.numel())
        return self

    def __exit__(self, *exception: object) -> None:
        self._crew.close()

    def run(self) -> None:
        """Train, several at a time, all that were not trained to the end and not cut before."""
        logging.getLogger("ray.tune").setLevel(logging.ERROR)
        logging.getLogger("ray.tune.execution.insufficient_resources_manager").setLevel(logging.WARNING)
        histories = {number: each.history() for number, each in self.contenders.items()}
        ended = {
            number: history
            for number, history in histories.items()
            if len(history) == self.config.epochs or (self.contenders[number].out / CUT).exists()
        }
        for number, history in ended.items():
            if history:
                self.watch(number, history[-1])
        if len(ended) == len(self.contenders):
            return
        _Told.trials = self
        shutil.rmtree(self.path / SCRATCH, ignore_errors=True)
        try:
            results = self._tuner([number for number in histories if number not in ended], ended).fit()
        finally:
            shutil.rmtree(self.path / SCRATCH, ignore_errors=True)
        for result in (results[index] for index in range(len(results))):
            if result.error is not None:  # worker after worker died
                self.contenders[(result.config or {})["number"]].fail(" ".join(str(result.error).split())[-300:])

    def _tuner(self, numbers: list[int], ended: dict[int, list[Epoch]]) -> tune.Tuner:
        config = self.config
        scheduler = ASHAScheduler(
            time_attr="epoch", max_t=config.epochs, grace_period=config.grace_epochs,
            reduction_factor=config.reduction_factor,
        )  # fmt: skip
        know(scheduler, ended)
        trainable = tune.with_resources(
            tune.with_parameters(
                _trial, contenders=self.contenders, images=self.images, epochs=config.epochs, gpus=self.gpus
            ),
            {"cpu": config.cpus_per_worker, "gpu": self.gpus},
        )
        return tune.Tuner(
            trainable,
            param_space={"number": tune.grid_search(numbers)},
            tune_config=tune.TuneConfig(
                metric=METRIC, mode="max", scheduler=scheduler, max_concurrent_trials=config.workers
            ),
            run_config=tune.RunConfig(
                name=SCRATCH, storage_path=str(self.path), verbose=0, callbacks=[_Told()],
                failure_config=tune.FailureConfig(max_failures=RETRIES),
            ),
        )  # fmt: skip

    def ended(self, number: int, epoch: int) -> None:
        """A trial has ended, perhaps before the last epoch."""
        contender = self.contenders[number]
        if epoch < self.config.epochs and contender.failure() is None:
            (contender.out / CUT).touch()


def know(scheduler: ASHAScheduler, ended: dict[int, list[Epoch]]) -> None:
    """Tell a new scheduler what cells have reached that are not trained any more."""
    for bracket in scheduler._brackets:
        for milestone, recorded in bracket._rungs:
            for number, history in ended.items():
                reached = [epoch[METRIC] for epoch in history if epoch["epoch"] >= milestone]
                if reached:
                    recorded[f"cell {number}"] = reached[0]


class _Told(tune.Callback):
    """Tells of epochs. Tune pickles its callbacks, and a progress bar cannot be: hence the class attribute."""

    trials: ClassVar[Trials]

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **_: Any) -> None:
        type(self).trials.watch(trial.config["number"], result)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        type(self).trials.ended(trial.config["number"], (trial.last_result or {}).get("epoch", 0))


def _trial(
    choice: dict[str, int], contenders: dict[int, Contender], images: ImageSplit, epochs: int, gpus: float
) -> None:
    """What a worker does."""
    contender = contenders[choice["number"]]
    if not contender.out.parent.is_dir():
        raise UserError(f"{contender.out.parent} is not there: the run must lie on storage that all machines mount")
    if 0 < gpus < 1:
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_per_process_memory_fraction(gpus)
    contender.train(images, epochs, tune.report)
