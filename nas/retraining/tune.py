"""Cells as trials of Ray Tune under ASHA. The one module of retraining that knows ray.

A trial trains in the cell's own directory, where every epoch is stored whole, so a trial that is started again, by Tune
after a worker's death, by ``Tuner.restore`` or by the local executor, goes on after the last finished epoch and reports
the earlier ones once more; ASHA counts each rung of a trial once. Tune's own state lies beside the cells in ``ray``: it
is pickled, as Ray has it, and nothing else of this project reads it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Ctrl-C is ours
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the cells have files of their own

from ray import tune
from ray.tune.schedulers import ASHAScheduler

from nas.data import ImageSplit
from nas.errors import UserError
from nas.executors.ray import RayCrew
from nas.retraining.config import RetrainConfig
from nas.retraining.halving import FAILED, METRIC, Contender, Watch
from nas.runs import write_json

EXPERIMENT = "ray"
#: how often a trial whose worker died is started again
RETRIES = 2
#: bytes of a private cluster's object store besides the images
ROOM = 128 * 2**20


def run_trials(
    config: RetrainConfig, contenders: Sequence[Contender], path: Path, images: ImageSplit, watch: Watch
) -> None:
    """Train the contenders, several at a time; those that ASHA finds behind at a rung are stopped there.

    :param path: directory of the retraining, on storage that all machines of the cluster mount.
    :raises UserError: there is no cluster, or no room in a private one.
    """
    on_gpu = contenders[0].config.device == "cuda"
    gpus = config.gpus_per_worker if config.gpus_per_worker is not None else float(on_gpu)
    with closing(RayCrew(config.address, config.workers, config.cpus_per_worker, gpus)) as crew:
        crew.connect(object_store=ROOM + 2 * images.images.numel())
        logging.getLogger("ray.tune").setLevel(logging.ERROR)
        _Told.watch = watch
        by_number = {each.number: each for each in contenders}
        trainable = tune.with_resources(
            tune.with_parameters(_trial, contenders=by_number, images=images, epochs=config.epochs),
            {"cpu": config.cpus_per_worker, "gpu": gpus},
        )
        results = _tuner(config, trainable, list(by_number), path.resolve()).fit()
        for result in (results[index] for index in range(len(results))):
            if result.error is not None:  # worker after worker died
                contender = by_number[(result.config or {})["number"]]
                contender.out.mkdir(parents=True, exist_ok=True)
                write_json(contender.out / FAILED, {"error": " ".join(str(result.error).split())[-300:]})


def _tuner(config: RetrainConfig, trainable: Any, numbers: list[int], path: Path) -> tune.Tuner:
    """A new one, or the one that an earlier process left in ``path``."""
    stored = str(path / EXPERIMENT)
    if tune.Tuner.can_restore(stored):
        return tune.Tuner.restore(stored, trainable, resume_errored=True)
    scheduler = ASHAScheduler(
        time_attr="epoch", max_t=config.epochs, grace_period=config.grace_epochs,
        reduction_factor=config.reduction_factor,
    )  # fmt: skip
    return tune.Tuner(
        trainable,
        param_space={"number": tune.grid_search(numbers)},
        tune_config=tune.TuneConfig(
            metric=METRIC, mode="max", scheduler=scheduler, max_concurrent_trials=config.workers
        ),
        run_config=tune.RunConfig(
            name=EXPERIMENT, storage_path=str(path), verbose=0, callbacks=[_Told()],
            failure_config=tune.FailureConfig(max_failures=RETRIES),
        ),
    )  # fmt: skip


class _Told(tune.Callback):
    """Tells of each epoch. Tune pickles its callbacks, and a progress bar cannot be: hence the class attribute."""

    watch: ClassVar[Watch]

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **_: Any) -> None:
        type(self).watch(trial.config["number"], result)


def _trial(choice: dict[str, int], contenders: dict[int, Contender], images: ImageSplit, epochs: int) -> None:
    """What a worker does."""
    contender = contenders[choice["number"]]
    if not contender.out.parent.is_dir():
        raise UserError(f"{contender.out.parent} is not there: the run must lie on storage that all machines mount")
    contender.train(images, epochs, tune.report)
