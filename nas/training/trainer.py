"""Runs a training from its configuration to the best checkpoint, or resumes one from its last checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from nas.cli.fields import differences
from nas.device import tf32, torch_device, torch_threads
from nas.errors import UserError
from nas.files import as_path, check_free, kind
from nas.images.data import ImageSplit, fingerprint, load_data
from nas.models.architecture import PIXEL_STATISTICS, Architecture
from nas.models.checkpoint import BEST, LAST, TRAIN, read_checkpoint
from nas.runs import environment
from nas.runs.directory import new_run_path
from nas.training.config import TrainConfig
from nas.training.course import Course, Epoch, TrainResult, now
from nas.training.directory import METRICS, TrainDirectory, holds_training, read_training
from nas.training.images import TrainingImages, held_out, pixel_statistics
from nas.training.learner import Learner
from nas.training.target import architecture, as_begun, resolved
from search_spaces.base import SearchSpace


class Trainer:
    """One training.

    :param out: run directory; the training writes its folder ``train``. Default: the run directory of the search that
        found the cell, or a new one in ``runs/``.
    :param resume: resume the training in ``out``.
    :param images: the training images of the configuration's data set, if the caller has read them already.
    :param space: the network's search space, where it is not one of this program's.
    :raises UserError: an option is not valid.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        out: str | Path | None = None,
        resume: bool = False,
        images: ImageSplit | None = None,
        space: SearchSpace[Any] | None = None,
    ):
        out = config.run if out is None else out
        self.out = None if out is None else as_path("out", out)
        self.resume = resume
        self.images = images
        self.space = space
        if resume and self.out is None:
            raise UserError("resume needs the run directory, got no out")
        self.config = as_begun(config, self.out) if resume and self.out else resolved(config, space)
        self.device = torch_device(config.device)
        check_precision(config, self.device)

    def run(
        self,
        watch: Callable[[Epoch], None] | None = None,
        watch_step: Callable[[float], None] | None = None,
        *,
        until: int | None = None,
    ) -> TrainResult:
        """Train to the last epoch, or to the end of epoch ``until``, after which the training can be resumed.

        Every finished epoch is on disk before the next one starts.

        :param watch: called with the record of each epoch, including the stored epochs of a resumed training.
        :param watch_step: called at intervals with the share of the current epoch, in [0, 1], that is finished.
        :raises UserError: the directory holds another training, or files cannot be read or written.
        :raises TrainingStopped: a loss is not finite.
        :raises MachineFailed: the machine lacks memory or something else; the message says how to resume.
        :raises KeyboardInterrupt: the user interrupted the training; likewise.
        """
        config = self.config
        if self.out is not None:
            self._check_path(self.out)
        split, trained, validation = self.chosen
        data = TrainingImages.chosen(split, trained, self.device)
        held = TrainingImages.chosen(split, validation, self.device)
        manifest = self._manifest(split, data, held)
        name = f"train-{config.model or f'{config.space}-cell'}-{config.method}-seed{config.seed}"
        path = self.out or new_run_path(Path("runs"), name)
        with torch_threads(config.threads), tf32(config.tf32), TrainDirectory(path) as directory:
            self._check_path(path)  # checked again under the lock, since another process may have written before it
            learner = Learner(config, Architecture.from_json(manifest["architecture"], self.space), self.device)
            history = self._restore(learner, directory) if self.resume else []
            course = Course(config, learner, directory, manifest, history)
            directory.write_manifest(manifest)
            directory.write_metrics(history)
            for epoch in history if watch else ():
                assert watch is not None
                watch(epoch)
            return course.run(data, held, config.epochs if until is None else until, watch, watch_step)

    @cached_property
    def chosen(self) -> tuple[ImageSplit, Tensor, Tensor]:
        """The data set's training images, read on first use, and the indices of those trained on and held out.

        :raises UserError: the images cannot be read, or are too few; or the directory holds another training.
        """
        config = self.config
        if self.out is not None:
            self._check_path(self.out)  # told before images are read
        split = self.images or training_images(config)
        return split, *held_out(split, config.images, config.validation, config.seed)

    def _check_path(self, path: Path) -> None:
        """:raises UserError: the directory holds another training than the one to start or resume."""
        if not self.resume:
            if holds_training(path):
                raise UserError(f"{path} already holds a training; pass --resume to go on with it, or another --out")
            check_free(*(path / TRAIN / name for name in (BEST, LAST, METRICS)))
            return
        differing = differences(read_training(path)["configuration"], self.config)
        if differing:
            raise UserError(f"cannot resume {path} with another configuration: {', '.join(differing)}")

    def _restore(self, learner: Learner, directory: TrainDirectory) -> list[Epoch]:
        """Load the last checkpoint into ``learner``, if there is one, and return the records of the finished epochs."""
        last, best = directory.path / LAST, directory.path / BEST
        done = read_training(directory.path.parent).get("summary", {}).get("epochs", 0)
        for file in (last, best):
            if done and kind(file) is None:
                raise UserError(f"{file} is missing, although {done} epochs were finished: the training cannot go on")
        if kind(last) is None:
            return []
        checkpoint = read_checkpoint(last, self.space)
        try:
            learner.load(checkpoint.weights, checkpoint.training)
        except UserError as error:
            raise UserError(f"{last}: {error}") from None
        history = list(checkpoint.facts.get("history", []))
        in_order = all(epoch["epoch"] == number for number, epoch in enumerate(history, start=1))
        if len(history) != learner.epochs_done or not in_order or any(set(each) != set(history[0]) for each in history):
            raise UserError(f"{last}: the checkpoint to go on from is damaged: it holds no record of its epochs")
        return history

    def _manifest(self, split: ImageSplit, data: TrainingImages, held: TrainingImages) -> dict[str, Any]:
        """A new manifest, or that of the resumed training with this process added to its entry ``resumed``."""
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
            path = self.out
            assert path is not None
            stored = read_training(path)
            try:
                for name, value in facts.items():
                    if stored["data"][name] != value:
                        raise UserError(
                            f"cannot resume {path} with other images: {name} is {value!r:.80},"
                            f" expected {stored['data'][name]!r:.80}"
                        )
                manifest = {**stored, "status": "running", "seconds": float(stored["seconds"])}
                manifest["resumed"] = [*stored["resumed"], {"at": now(), **program}]
            except (KeyError, TypeError) as error:
                raise UserError(f"the manifest of {path} is damaged: {type(error).__name__} {error}") from None
            return manifest
        known = PIXEL_STATISTICS.get(self.config.dataset)
        statistics = known or pixel_statistics(data.images)
        wanted = architecture(self.config, split.classes, (height, width), statistics, self.space)
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
            "started": now(),
            "ended": None,
            "seconds": 0.0,
            "resumed": [],
            "summary": {},
        }


def training_images(config: TrainConfig) -> ImageSplit:
    """All training images of the configuration's data set, held-out images included."""
    return load_data(
        config.dataset, data_dir=config.data_dir, download=config.download, image_size=config.image_size
    ).train


def check_precision(config: TrainConfig, device: str) -> None:
    """:raises UserError: the device does not support the configured precision."""
    if config.precision == "bfloat16" and not device.startswith("cuda"):
        raise UserError(f"--precision bfloat16 needs cuda, got --device {device}")
