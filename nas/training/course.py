"""The loop over the epochs of a training, and the files that are written after each epoch."""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from nas.errors import TrainingStopped
from nas.executors.allocator import keep_freed_memory
from nas.models.checkpoint import BEST, LAST, Checkpoint
from nas.runs.ending import next_step, noted
from nas.training.adversary import PGD
from nas.training.config import TrainConfig
from nas.training.directory import CONFIG, TrainDirectory
from nas.training.events import Events
from nas.training.images import TrainingImages
from nas.training.learner import Learner, generator
from nas.training.metrics import accuracy
from nas.training.presets import default_step_size

#: the record of one epoch: one line of metrics.jsonl
Epoch = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """The result of a training: ``best`` is the record of the best epoch, ``history`` the records of all, in order.

    ``train_images`` and ``validation_images`` are the numbers of images trained on and held out.
    """

    path: Path
    checkpoint: Path
    train_images: int
    validation_images: int
    best: Epoch
    history: list[Epoch]


class Course:
    """The loop over the epochs of a training: trains, measures accuracies, and writes records and checkpoints."""

    def __init__(
        self,
        config: TrainConfig,
        learner: Learner,
        directory: TrainDirectory,
        manifest: dict[str, Any],
        history: list[Epoch],
    ):
        self.config = config
        self.path = directory.path.parent
        self.learner = learner
        self.directory = directory
        self.manifest = manifest
        self.history = history
        self.architecture = learner.architecture
        self.attack = PGD(
            epsilon=config.epsilon, steps=config.validation_steps, norm=config.norm,
            step_size=default_step_size("pgd", config.norm, config.epsilon, config.validation_steps),
        )  # fmt: skip

    def run(
        self,
        data: TrainingImages,
        held: TrainingImages,
        until: int,
        watch: Callable[[Epoch], None] | None,
        watch_step: Callable[[float], None] | None,
    ) -> TrainResult:
        """Train to the end of epoch ``until``; arguments and errors as in :meth:`nas.training.trainer.Trainer.run`."""
        self._started = time.perf_counter() - self.manifest["seconds"]
        events = Events(self.directory.path, len(self.history))
        self.manifest["tensorboard"] = events.available
        if self.learner.device.type == "cpu":
            keep_freed_memory()
        try:
            with noted(self._note, self._how_to_go_on):
                try:
                    self._epochs(data, held, until, events, watch, watch_step)
                except TrainingStopped as error:
                    raise TrainingStopped(f"{error}; {self._last_good()}") from None
                self._note("finished" if len(self.history) == self.config.epochs else "paused")
        finally:
            events.close()
            self.learner.release()
        best = self._best()
        assert best is not None
        return TrainResult(
            path=self.path, checkpoint=self.directory.path / BEST, train_images=len(data), validation_images=len(held),
            best=best, history=list(self.history),
        )  # fmt: skip

    def _epochs(
        self,
        data: TrainingImages,
        held: TrainingImages,
        until: int,
        events: Events,
        watch: Callable[[Epoch], None] | None,
        watch_step: Callable[[float], None] | None,
    ) -> None:
        while len(self.history) < min(until, self.config.epochs):
            epoch = self._epoch(data, held, watch_step)
            self._store(epoch)
            self._note("finished" if len(self.history) == self.config.epochs else "running")
            events.add(epoch)
            if watch is not None:
                watch(epoch)

    def _how_to_go_on(self) -> str:
        again = f"python -m nas.train --resume {shlex.quote(str(self.path))}"
        return next_step(self.directory.path / CONFIG, f"{len(self.history)} of {self.config.epochs} epochs", again)

    def _note(self, status: str) -> None:
        """Write the manifest with this ``status`` and the current time, epochs and best epoch."""
        self.manifest.update(
            status=status, ended=None if status == "running" else now(),
            seconds=round(time.perf_counter() - self._started, 3),
            summary={"epochs": len(self.history), "best": self._best()},
        )  # fmt: skip
        self.directory.write_manifest(self.manifest)

    def _epoch(self, data: TrainingImages, held: TrainingImages, watch_step: Callable[[float], None] | None) -> Epoch:
        started = time.perf_counter()
        number = self.learner.epochs_done + 1
        found = self.learner.epoch(data, watch_step)
        trained = time.perf_counter() - started
        epoch: Epoch = {
            "epoch": number,
            "loss": found.loss,
            "train_accuracy": found.accuracy,
            "learning_rate": found.learning_rate,
        }
        if len(held):
            noise = generator(self.config.seed, "validation", self.learner.device)  # same random starts in every epoch
            with self.learner.averaged() as model:
                measured = accuracy(model, held, self.attack, noise)
            epoch |= {"validation_accuracy": measured.clean, "validation_robust_accuracy": measured.robust}
        return epoch | {
            "images_per_second": round(len(data) / trained, 1),
            "seconds": round(time.perf_counter() - started, 3),
        }

    def _store(self, epoch: Epoch) -> None:
        """Write the metrics first and the last checkpoint at the end.

        If the process ends in between, a resumed training repeats this epoch from the checkpoint of the epoch before,
        with the same result.
        """
        history = [*self.history, epoch]
        self.directory.append_metrics(epoch)
        facts = {
            **{name: epoch[name] for name in epoch if name not in ("images_per_second", "seconds")},
            "dataset": self.config.dataset,
            "configuration": self.config.to_json(),
            "data": self.manifest["data"],
            "versions": self.manifest["versions"],
            "git_commit": self.manifest["git_commit"],
        }
        checkpoint = Checkpoint(architecture=self.architecture, weights=self.learner.weights(), facts=facts)
        if best_epoch(history, self.config) is epoch:
            checkpoint.save(self.directory.path / BEST)
        state = self.learner.state()
        last = dataclasses.replace(checkpoint, facts={**facts, "history": history}, training=state)
        last.save(self.directory.path / LAST)
        self.history.append(epoch)

    def _best(self) -> Epoch | None:
        return best_epoch(self.history, self.config)

    def _last_good(self) -> str:
        if not self.history:
            return "no epoch was finished; a lower --learning-rate or --gradient-clip may help"
        return f"the last good checkpoint, of epoch {len(self.history)}, is {self.directory.path / LAST}"


def best_epoch(history: Sequence[Epoch], config: TrainConfig) -> Epoch | None:
    """The first epoch with the highest validation accuracy: robust, with ties decided by clean accuracy.

    Without held-out images it is the last epoch; None if there are no epochs.
    """
    if not history or config.validation == 0 or "validation_accuracy" not in history[-1]:
        return history[-1] if history else None
    names = ("validation_robust_accuracy", "validation_accuracy")
    if config.method == "none":  # robust accuracy is near 0 % then, so its differences are noise
        names = names[::-1]
    return max(history, key=lambda epoch: tuple(epoch[name] for name in names))


def now() -> str:
    """The current UTC time in ISO format, to the second, as manifests record it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
