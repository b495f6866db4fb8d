"""Images a second of an adversarial training, as ``nas.train`` runs it.

The steps are those of one epoch of :class:`nas.training.learner.Learner`, with augmentation, attack, loss, update and
all else that a training does. They are timed from within, between one batch and another, so that the beginning and the
end of an epoch do not count: a real epoch has hundreds of steps. The epoch is in the middle of the preset's training,
where paths are dropped if the preset drops any.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.kernels import Watched
from benchmarks.gpu.timing import Rounds, Steady, wait
from nas.images.augmentation import Augmentation
from nas.images.data import ImageSplit, load_data
from nas.training.config import TrainConfig
from nas.training.images import TrainingImages, pixel_statistics
from nas.training.learner import Learner
from nas.training.presets import PRESETS
from nas.training.target import architecture, resolved

CIFAR_IMAGES = 49_000  # CIFAR-10's training images without the 1,000 that are held out
BATCHES = 4  # in memory; a pass over them is drawn anew each time
PROFILED_STEPS = 2

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One training.

    :param size: channels and layers. :param options: further fields of ``TrainConfig``, which the name states.
    """

    cell: str
    preset: str
    size: tuple[int, int]
    batch: int
    precision: str = "float32"
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        more = "".join(f", {name} {str(value).lower()}" for name, value in self.options)
        return f"{self.preset}, {self.size[0]} x {self.size[1]}, batch {self.batch}, {self.precision}{more}"

    def config(self, device: torch.device) -> TrainConfig:
        """The configuration of the training. Whatever changes how a step runs on a GPU belongs here."""
        values: dict[str, Any] = {
            "cell": self.cell, "preset": self.preset, "channels": self.size[0], "layers": self.size[1],
            "batch_size": self.batch, "precision": self.precision, "epochs": PRESETS[self.preset]["epochs"],
            "learning_rate": 0.01, "flip": True, "device": str(device),
        }  # fmt: skip
        return resolved(TrainConfig(**values, **dict(self.options)))


@dataclass(frozen=True, eq=False)
class EndlessImages(TrainingImages):
    """An epoch of whole batches, as many as ``drive`` takes from all of them. The images are a multiple of a batch."""

    drive: Callable[[Iterator[Batch]], Iterator[Batch]] = dataclasses.field(kw_only=True)

    def shuffled(
        self, size: int, augmentation: Augmentation, order: torch.Generator, noise: torch.Generator
    ) -> Iterator[Batch]:
        """As of the base class, pass after pass."""
        images = TrainingImages(self.images, self.labels)
        return self.drive(batch for _ in iter(int, 1) for batch in images.shuffled(size, augmentation, order, noise))

    def steps(self, size: int) -> int:
        """More than are ever taken."""
        return 10**6


class Steps:
    """A training whose steps are timed, or looked at by the profiler."""

    def __init__(self, case: Case, device: torch.device, clock: Callable[[], float] = time.perf_counter):
        split, statistics = _digits()
        self.config = case.config(device)
        self.architecture = architecture(self.config, split.classes, (32, 32), statistics)
        self.learner = Learner(self.config, self.architecture, str(device))
        self.learner.epochs_done = self.config.epochs // 2
        which = torch.arange(BATCHES * case.batch) % len(split.labels)
        self._data = TrainingImages.chosen(split, which, str(device))
        self._device = device
        self._clock = clock

    def timed(self, rounds: Rounds) -> Steady:
        """The timing of a step."""
        found: list[Steady] = []

        def drive(batches: Iterator[Batch]) -> Iterator[Batch]:
            plan = rounds.plan()
            units = next(plan)
            while not found:
                wait(self._device)
                started = self._clock()
                for _ in range(units):
                    yield next(batches)
                wait(self._device)
                try:
                    units = plan.send(self._clock() - started)
                except StopIteration as end:
                    found.append(end.value)

        self._epoch(drive)
        return found[0]

    def watched(self, warm_up: int) -> dict[str, Any]:
        """What the device does in a step."""
        watched = Watched(self._device)

        def drive(batches: Iterator[Batch]) -> Iterator[Batch]:
            for _ in range(warm_up):
                yield next(batches)
            with watched:
                for _ in range(PROFILED_STEPS):
                    yield next(batches)

        self._epoch(drive)
        return watched.use(PROFILED_STEPS)

    def _epoch(self, drive: Callable[[Iterator[Batch]], Iterator[Batch]]) -> None:
        self.learner.epoch(EndlessImages(self._data.images, self._data.labels, drive=drive))


@cache
def _digits() -> tuple[ImageSplit, tuple[tuple[float, ...], tuple[float, ...]]]:
    split = load_data("digits").train
    return split, pixel_statistics(split.images.permute(0, 2, 3, 1))


def training(case: Case, device: torch.device, rounds: Rounds, product_rate: float | None) -> dict[str, Any]:
    """The figures of a training. A multiply-add of convolutions and linear layers counts as 2 operations; a forward
    pass, the gradients of the images and those of the weights count equally.

    :param product_rate: FLOP/s of a matrix product in the number format of the convolutions.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    started = time.perf_counter()
    steps = Steps(case, device)
    made = time.perf_counter() - started
    timing = steps.timed(rounds)
    rate = case.batch / timing.seconds
    operations = 2 * steps.architecture.cost().macs * (2 * (steps.config.attack_steps or 0) + 3)  # for one image
    return {
        "preset": case.preset, "channels": case.size[0], "layers": case.size[1], "batch": case.batch,
        "precision": case.precision, "options": dict(case.options),
        "images_per_second": rate, "images_per_second_low": case.batch / timing.high,
        "images_per_second_high": case.batch / timing.low,
        "step_seconds": timing.seconds, "steps_timed": timing.units, "make_seconds": made,
        "first_step_seconds": timing.first, "start_up_seconds": timing.start_up,
        "of_matrix_product": product_rate and rate * operations / product_rate,
        "epoch_minutes": CIFAR_IMAGES / rate / 60, "training_hours": steps.config.epochs * CIFAR_IMAGES / rate / 3600,
        "memory_gib": torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None,
    }  # fmt: skip


def device_use_of_step(
    case: Case, device: torch.device, rounds: Rounds, step_seconds: float | None
) -> dict[str, Any]:
    """What the device does in a step. :param step_seconds: of a step that nothing looked at."""
    return {"unit": "training step", "seconds": step_seconds, **Steps(case, device).watched(1 + rounds.warm_up)}
