"""Trains cells as trials of Ray Tune under the ASHA scheduler. The only module of retraining that uses ray.

A trial trains in its cell's own directory, where each finished epoch is stored. If a trial is started again, by Tune
after its worker has died or by a later process, it resumes after the last finished epoch and reports the earlier epochs
to Tune again.

A retraining is resumed from these directories only. ``Tuner.restore`` of Ray 2.60 is not suitable: it loses the results
that the scheduler has seen, so cells would no longer be compared with cells that ended before; it fails if the driver
was killed while it wrote its state; and that state is a pickle. Tune's own files are deleted at the end.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from ray import tune
from ray.tune.schedulers import ASHAScheduler

from nas.device import worker_gpus
from nas.errors import UserError
from nas.executors.failures import machine_failure
from nas.executors.ray import RayCrew
from nas.images.data import ImageSplit
from nas.retraining.config import RetrainConfig
from nas.retraining.halving import METRIC, SCRATCH, Contender, Watch
from nas.training.course import Epoch

#: file in the directory of a cell which marks that the cell was cut
CUT = "cut"
#: number of times that a trial is started again after its worker has died
RETRIES = 2
#: size in bytes of a private cluster's object store, in addition to that of the images
ROOM = 128 * 2**20


class Trials:
    """The contenders as trials of Ray Tune. A context manager: on entry it joins a cluster or starts a private one.

    :param path: directory of the retraining, on storage that all machines of the cluster mount.
    :raises UserError: (on entry) no cluster can be reached, or a private one has no room for a worker.
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
        os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # this program handles Ctrl-C itself
        os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # Ray's new output prints a table even with verbose=0
        os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # each cell's training writes its own files
        self._crew.connect(object_store=ROOM + 2 * self.images.images.numel())
        return self

    def __exit__(self, *exception: object) -> None:
        self._crew.close()

    def run(self) -> None:
        """Train in parallel all cells that have not been trained to the last epoch and have not been cut.

        :raises MachineFailed: cells could not be trained, which is not their fault.
        """
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
            with self._crew.attended(f"python -m nas.retrain --resume {shlex.quote(str(self.config.run))}"):
                results = self._tuner([number for number in histories if number not in ended], ended).fit()
        finally:
            shutil.rmtree(self.path / SCRATCH, ignore_errors=True)
        failures = []
        for result in (results[index] for index in range(len(results))):
            if result.error is not None and (failure := machine_failure(result.error)):
                failures.append(failure)
            elif result.error is not None:  # the worker died, and again in each retry
                self.contenders[(result.config or {})["number"]].fail(" ".join(str(result.error).split())[-300:])
        if failures:
            raise failures[0]

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
        """Called when a trial has ended after ``epoch`` epochs; one that ended early without a failure was cut."""
        contender = self.contenders[number]
        if epoch < self.config.epochs and contender.failure() is None:
            (contender.out / CUT).touch()


def know(scheduler: ASHAScheduler, ended: dict[int, list[Epoch]]) -> None:
    """Enter the accuracies of cells that have ended into a new scheduler, so that it compares other cells with them."""
    for bracket in scheduler._brackets:
        for milestone, recorded in bracket._rungs:
            for number, history in ended.items():
                reached = [epoch[METRIC] for epoch in history if epoch["epoch"] >= milestone]
                if reached:
                    recorded[f"cell {number}"] = reached[0]


class _Told(tune.Callback):
    """Passes finished epochs on to :class:`Trials`.

    ``trials`` is an attribute of the class, not of the object: Tune pickles its callbacks, and a progress bar cannot be
    pickled.
    """

    trials: ClassVar[Trials]

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **_: Any) -> None:
        type(self).trials.watch(trial.config["number"], result)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        type(self).trials.ended(trial.config["number"], (trial.last_result or {}).get("epoch", 0))


def _trial(
    choice: dict[str, int], contenders: dict[int, Contender], images: ImageSplit, epochs: int, gpus: float
) -> None:
    """The function that Tune runs in a worker: trains one cell and reports each epoch."""
    contender = contenders[choice["number"]]
    if not contender.out.parent.is_dir():
        raise UserError(f"{contender.out.parent} is not there: the run must lie on storage that all machines mount")
    if 0 < gpus < 1:
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_per_process_memory_fraction(gpus)
    contender.train(images, epochs, tune.report)
