"""Adversarial training speed: one PGD-7 step compared with a plain implementation, on the same cell and threads.

    python -m benchmarks.training [--channels 16] [--layers 8] [--rounds 3] [--threads 1] [--isa avx2|sse4]

Both train the same cell on the embedded images, in turn (A B A B), on the CPU. In a step a batch is drawn and augmented
and attacked, its loss is computed, and the weights are updated:

* plain: DARTS' own modules in contiguous layout (:mod:`nas.testing.literal`), ``torchattacks.PGD``, a ``DataLoader``
  that crops and flips image by image with Pillow;
* ours: :class:`nas.training.learner.Learner`, as a training runs it.

Seconds are CPU time of the process divided by the number of threads: the time of a step on a machine that runs nothing
else. The mean losses of both sides are printed as well; they agree only roughly, since crops and noise differ.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
import torchattacks
from PIL import Image, ImageOps
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks import machine
from nas.executors.allocator import keep_freed_memory
from nas.images.augmentation import Augmentation
from nas.images.data import ImageSplit, load_data
from nas.models.architecture import Architecture, Classifier
from nas.testing.literal import literal_network
from nas.training.config import TrainConfig
from nas.training.images import TrainingImages, pixel_statistics
from nas.training.learner import Learner, generator


class PlainImages(Dataset[tuple[Tensor, int]]):
    """Pillow images, padded, cropped and flipped one at a time."""

    def __init__(self, split: ImageSplit):
        self.pixels, self.labels = split.images.permute(0, 2, 3, 1).numpy(), split.labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.pixels[index])
        width, height = image.size
        left, top = random.randrange(9), random.randrange(9)
        image = ImageOps.expand(image, 4).crop((left, top, left + width, top + height))
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        array = np.array(image).transpose(2, 0, 1)
        return torch.from_numpy(array.copy()).float().div(255), self.labels[index]


def plain_step(architecture: Architecture, split: ImageSplit, config: TrainConfig) -> Callable[[], float]:
    """A function that trains one step and returns its loss."""
    torch.manual_seed(0)
    model = architecture.build()
    network: nn.Module = Classifier(literal_network(model.network), architecture.mean, architecture.std)
    network = network.to(memory_format=torch.contiguous_format).train()
    optimizer = torch.optim.SGD(
        network.parameters(), lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
    )
    attack = torchattacks.PGD(network, eps=config.epsilon, alpha=config.step_size, steps=config.attack_steps)
    loader = DataLoader(PlainImages(split), config.batch_size, shuffle=True, drop_last=True)

    def forever() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from loader

    batches = forever()

    def step() -> float:
        images, labels = next(batches)
        adversarial = attack(images, labels)
        loss = F.cross_entropy(network(adversarial), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def our_step(
    architecture: Architecture, split: ImageSplit, config: TrainConfig, device: str = "cpu"
) -> Callable[[], float]:
    """A function that trains one step and returns its loss."""
    learner = Learner(config, architecture, device)
    learner.model.train()
    data = TrainingImages.chosen(split, torch.arange(len(split.labels)), device)
    draws = [generator(0, "order"), generator(0, "augmentation"), generator(0, "noise", learner.device)]

    def forever() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from data.shuffled(config.batch_size, Augmentation(), *draws[:2])

    batches = forever()

    def step() -> float:
        images, labels = next(batches)
        loss, _ = learner.step(images, labels, draws[2], config.learning_rate)
        return loss.item()

    return step


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description="a PGD-7 step, two ways")
    parser.add_argument("--cell", default="DARTS_V2", help="published cell (default: DARTS_V2)")
    for name, default in (("channels", 16), ("layers", 8), ("batch-size", 64), ("rounds", 3), ("steps", 1)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"(default: {default})")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads on both sides (default: 1)")
    arguments = machine.parse(parser, "benchmarks.training", argv)
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # has an effect on both, as they share the process
    split = load_data("digits").train
    config = TrainConfig(
        cell=arguments.cell, preset="tiny_robustbench", channels=arguments.channels, layers=arguments.layers,
        batch_size=arguments.batch_size, learning_rate=0.01,
    )  # fmt: skip
    mean, std = pixel_statistics(split.images.permute(0, 2, 3, 1))
    architecture = Architecture(
        family="darts", genotype=arguments.cell, channels=arguments.channels, layers=arguments.layers,
        classes=split.classes, mean=mean, std=std,
    )  # fmt: skip
    sides = [side(architecture, split, config) for side in (plain_step, our_step)]
    for side in sides:  # warm up
        side()
    seconds: list[list[float]] = [[], []]
    losses: list[list[float]] = [[], []]
    for _ in range(arguments.rounds):
        for side, times, found in zip(sides, seconds, losses, strict=True):
            started = time.process_time()
            found += [side() for _ in range(arguments.steps)]
            times.append((time.process_time() - started) / arguments.steps / arguments.threads)
    show(seconds, losses, arguments)
    return 0


def show(seconds: list[list[float]], losses: list[list[float]], arguments: argparse.Namespace) -> None:
    """Prints the table, and under it threads, rounds, versions, hardware and commit."""
    size = f"{arguments.channels} channels, {arguments.layers} layers, batch {arguments.batch_size}"
    table = Table(title=f"one PGD-7 training step of {arguments.cell}, CPU seconds ({size})")
    for column in ("", "median", "min..max", "images a second", "mean loss"):
        table.add_column(column, justify="right")
    for name, times, found in zip(("plain", "ours"), seconds, losses, strict=True):
        median = statistics.median(times)
        spread, rate = f"{min(times):.3f}..{max(times):.3f}", f"{arguments.batch_size / median:.1f}"
        table.add_row(name, f"{median:.3f}", spread, rate, f"{statistics.mean(found):.3f}")
    ratios = [a / b for a, b in zip(*seconds, strict=True)]
    spread = f"{min(ratios):.2f}..{max(ratios):.2f}"
    table.add_row("ratio", f"{statistics.median(ratios):.2f}", spread, "", "")
    console = Console(width=120)
    console.print(table)
    rounds = f"{arguments.threads} threads, {arguments.rounds} rounds"
    console.print(f"{rounds}; {machine.description()}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    raise SystemExit(main())
