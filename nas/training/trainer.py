"""A training from its configuration to the best checkpoint, and on from the last one."""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from nas import environment
from nas.config import differences
from nas.data import ImageSplit, fingerprint, load_data
from nas.device import torch_device, torch_threads
from nas.errors import TrainingStopped, UserError
from nas.executors.allocator import keep_freed_memory
from nas.models.architecture import PIXEL_STATISTICS, Architecture
from nas.models.checkpoint import BEST, LAST, Checkpoint, read_checkpoint
from nas.runs import new_run_path
from nas.training.adversary import PGD
from nas.training.config import TrainConfig
from nas.training.directory import TrainDirectory, holds_training, read_training
from nas.training.events import Events
from nas.training.images import TrainingImages, held_out, pixel_statistics
from nas.training.learner import Learner, generator
from nas.training.metrics import accuracy
from nas.training.target import architecture, as_begun, resolved

#: a record of one epoch, as metrics.jsonl holds it
Epoch = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a training left: ``best`` is the record of the best epoch, ``history`` all of them, in order."""

    path: Path
    checkpoint: Path
    best: Epoch
    history: list[Epoch]


class Trainer:
    """One training.

    :param out: run directory, whose folder ``train`` is written; by default that of the search that found the cell, or
        a new one in ``runs/``.
    :param resume: go on with the training in ``out``.
    :param images: the training part of the configuration's data set, where somebody has read it already.
    :raises UserError: an option that cannot be, in one line.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        out: str | Path | None = None,
        resume: bool = False,
        images: ImageSplit | None = None,
    ):
        out = config.run if out is None else out
        self.out = None if out is None else Path(out)
        self.resume = resume
        self.images = images
        if resume and self.out is None:
            raise UserError("resume needs the run directory, got no out")
        self.config = as_begun(config, self.out) if resume and self.out else resolved(config)
        self.device = torch_device(config.device)
        check_precision(config, self.device)

    def run(
        self,
        watch: Callable[[Epoch], None] | None = None,
        watch_step: Callable[[float], None] | None = None,
        *,
        until: int | None = None,
    ) -> TrainResult:
        """Train to the last epoch, or to the end of epoch ``until``, from which a resumed training goes on.

        What is finished is on disk at every moment.

        :param watch: called with the record of each epoch, the stored ones of a resumed training included.
        :param watch_step: called now and then with the share of the current epoch that is done.
        :raises TrainingStopped: a loss is not finite.
        :raises KeyboardInterrupt: with a message that says how to resume.
        """
        config = self.config
        name = config.model or f"{config.space}-cell"
        path = self.out or new_run_path(Path("runs"), f"train-{name}-{config.method}-seed{config.seed}")
        self._check_path(path)
        split = self.images or training_images(config)
        trained, validation = held_out(split, config.images, config.validation, config.seed)
        data = TrainingImages.chosen(split, trained, self.device)
        held = TrainingImages.chosen(split, validation, self.device)
        manifest = self._manifest(path, split, data, held)
        with torch_threads(config.threads), TrainDirectory(path) as directory:
            self._check_path(path)  # once more: nobody else can write now
            learner = Learner(config, Architecture.from_json(manifest["architecture"]), self.device)
            history = self._restore(learner, directory) if self.resume else []
            course = _Course(self, learner, directory, manifest, history)
            directory.write_manifest(manifest)
            directory.write_metrics(history)
            for epoch in history if watch else ():
                assert watch is not None
                watch(epoch)
            return course.run(data, held, config.epochs if until is None else until, watch, watch_step)

    def _check_path(self, path: Path) -> None:
        """Refuse a directory that holds another training."""
        if not self.resume:
            if holds_training(path):
                raise UserError(f"{path} already holds a training; pass --resume to go on with it, or another --out")
            return
        differing = differences(read_training(path)["configuration"], self.config)
        if differing:
            raise UserError(f"cannot resume {path} with another configuration: {', '.join(differing)}")

    def _restore(self, learner: Learner, directory: TrainDirectory) -> list[Epoch]:
        """Loads the last checkpoint, if an epoch was finished; the records of the epochs before."""
        last = directory.path / LAST
        if not last.exists():
            return []
        checkpoint = read_checkpoint(last)
        try:
            learner.load(checkpoint.weights, checkpoint.training)
        except UserError as error:
            raise UserError(f"{last}: {error}") from None
        history = checkpoint.facts.get("history")
        if not isinstance(history, list) or len(history) != learner.epochs_done:
            raise UserError(f"{last}: the checkpoint to go on from is damaged: it does not tell its epochs")
        return history

    def _manifest(self, path: Path, split: ImageSplit, data: TrainingImages, held: TrainingImages) -> dict[str, Any]:
        """A new manifest, or the resumed training's own."""
        height, width = split.images.shape[2:]
        facts = {
            "classes": list(split.classes),
            "image_size": [height, width],
            "fingerprint": fingerprint(split),
            "name": self.config.dataset,
            "train_images": len(data),
            "validation_images": len(held),
        }
        program = {
            "versions": environment.versions(),
            "hardware": environment.hardware(self.device),
            "git_commit": environment.git_commit(),
        }
        if self.resume:
            stored = read_training(path)
            try:
                for name, value in facts.items():
                    if stored["data"][name] != value:
                        raise UserError(
                            f"cannot resume {path} with other images: {name} is {value!r:.80},"
                            f" expected {stored['data'][name]!r:.80}"
                        )
                manifest = {**stored, "status": "running", "seconds": float(stored["seconds"])}
                manifest["resumed"] = [*stored["resumed"], {"at": _now(), **program}]
            except (KeyError, TypeError) as error:
                raise UserError(f"the manifest of {path} is damaged: {type(error).__name__} {error}") from None
            return manifest
        known = PIXEL_STATISTICS.get(self.config.dataset)
        wanted = architecture(self.config, split.classes, (height, width), known or pixel_statistics(data.images))
        cost = wanted.cost()
        return {
            "command": "train",
            "status": "running",
            "configuration": self.config.to_json(),
            "architecture": wanted.to_json(),
            "params": cost.params,
            "macs": cost.macs,
            "data": facts,
            **program,
            "started": _now(),
            "ended": None,
            "seconds": 0.0,
            "resumed": [],
            "summary": {},
        }


def training_images(config: TrainConfig) -> ImageSplit:
    """All training images of the configuration's data set."""
    return load_data(
        config.dataset, data_dir=config.data_dir, download=config.download, image_size=config.image_size
    ).train


def best_epoch(history: Sequence[Epoch], config: TrainConfig) -> Epoch | None:
    """The first epoch with the greatest accuracy; the last epoch where no images are held out; None of none."""
    if not history or config.validation == 0 or "validation_accuracy" not in history[-1]:
        return history[-1] if history else None
    names = ("validation_robust_accuracy", "validation_accuracy")
    if config.method == "none":  # near 0 % robust, where the count of a few lucky images says nothing
        names = names[::-1]
    return max(history, key=lambda epoch: tuple(epoch[name] for name in names))


def check_precision(config: TrainConfig, device: str) -> None:
    """:raises UserError: the device cannot compute in that precision."""
    if config.precision == "bfloat16" and not device.startswith("cuda"):
        raise UserError(f"--precision bfloat16 needs cuda, got --device {device}")


class _Course:
    """The epochs of a training, and what is written after each."""

    def __init__(
        self,
        trainer: Trainer,
        learner: Learner,
        directory: TrainDirectory,
        manifest: dict[str, Any],
        history: list[Epoch],
    ):
        self.config = trainer.config
        self.path = directory.path.parent
        self.learner = learner
        self.directory = directory
        self.manifest = manifest
        self.history = history
        self.architecture = Architecture.from_json(manifest["architecture"])
        config = trainer.config
        self.attack = PGD(
            epsilon=config.epsilon, step_size=2.5 * config.epsilon / config.validation_steps,
            steps=config.validation_steps, norm=config.norm,
        )  # fmt: skip

    def run(
        self,
        data: TrainingImages,
        held: TrainingImages,
        until: int,
        watch: Callable[[Epoch], None] | None,
        watch_step: Callable[[float], None] | None,
    ) -> TrainResult:
        self._started, status = time.perf_counter() - self.manifest["seconds"], "paused"
        events = Events(self.directory.path, len(self.history))
        self.manifest["tensorboard"] = events.available
        if self.learner.device.type == "cpu":
            keep_freed_memory()
        try:
            while len(self.history) < min(until, self.config.epochs):
                epoch = self._epoch(data, held, watch_step)
                self._store(epoch)
                self._note("finished" if len(self.history) == self.config.epochs else "running")
                events.add(epoch)
                if watch is not None:
                    watch(epoch)
        except KeyboardInterrupt:
            status = "interrupted"
            raise KeyboardInterrupt(
                f"interrupted after {len(self.history)} of {self.config.epochs} epochs; to go on:"
                f" python -m nas.train --resume {shlex.quote(str(self.path))}"
            ) from None
        except TrainingStopped as error:
            status = "failed"
            raise TrainingStopped(f"{error}; {self._last_good()}") from None
        except Exception:
            status = "failed"
            raise
        finally:
            events.close()
            self._note("finished" if len(self.history) == self.config.epochs else status)
        best = self._best()
        assert best is not None
        return TrainResult(path=self.path, checkpoint=self.directory.path / BEST, best=best, history=list(self.history))

    def _note(self, status: str) -> None:
        """Bring the manifest up to date."""
        self.manifest.update(
            status=status, ended=_now(), seconds=round(time.perf_counter() - self._started, 3),
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
            noise = generator(self.config.seed, "validation", self.learner.device)  # the same start every time
            with self.learner.averaged() as model:
                measured = accuracy(model, held, self.attack, noise)
            epoch |= {"validation_accuracy": measured.clean, "validation_robust_accuracy": measured.robust}
        return epoch | {
            "images_per_second": round(len(data) / trained, 1),
            "seconds": round(time.perf_counter() - started, 3),
        }

    def _store(self, epoch: Epoch) -> None:
        """Metrics first, the checkpoint to go on from last: an epoch torn in between is done again, to the same end."""
        self.history.append(epoch)
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
        if self._best() is epoch:
            checkpoint.save(self.directory.path / BEST)
        state = self.learner.state()
        last = dataclasses.replace(checkpoint, facts={**facts, "history": self.history}, training=state)
        last.save(self.directory.path / LAST)

    def _best(self) -> Epoch | None:
        return best_epoch(self.history, self.config)

    def _last_good(self) -> str:
        if not self.history:
            return "no epoch was finished; a lower --learning-rate or --gradient-clip may help"
        return f"the last good checkpoint, of epoch {len(self.history)}, is {self.directory.path / LAST}"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
