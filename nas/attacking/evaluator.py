"""Counting what a model predicts on the images that attacks return, block by block of samples.

A sample that the model gets wrong is not attacked; in a cascade, neither is one that a member before has turned.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from nas.attacking.base import Attack
from nas.attacking.crafting import adversarial, finite_logits
from nas.attacking.results import AttackResult
from nas.attacking.samples import Block, SampleStore

#: called before the first and after each block: attack, samples done, of how many, correct among those done
Watch = Callable[[Attack, int, int, int], None]


class Evaluator:
    """Runs attacks on a model and labelled images, and keeps the results in a store.

    :param model: images -> logits ``(N, classes)``. :param images: ``(N, C, H, W)``, float in [0, 1].
    :param labels: ``(N,)``, int64. :param batch: images attacked at a time.
    :raises ValueError: images, labels or the model's logits do not fit.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        batch: int = 64,
        seed: int = 0,
        store: SampleStore | None = None,
    ):
        check_images(images, labels)
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        self.model, self.images, self.labels = model, images, labels
        self.batch, self.seed = batch, seed
        self.store = SampleStore() if store is None else store
        self.device = next((each.device for each in model.parameters()), images.device)
        self.classes = self._logits(images[:1], "natural", [0]).shape[1]
        if int(labels.max()) >= self.classes:
            raise ValueError(f"labels must be below the model's {self.classes} classes, got {int(labels.max())}")

    def run(self, attack: Attack, samples: int | None = None, watch: Watch | None = None) -> AttackResult:
        """The result of the attack on the first ``samples`` samples, by default all."""
        samples = len(self.labels) if samples is None else min(samples, len(self.labels))
        correct: list[bool] = []
        members = attack.members
        left = [0] * (len(members) + 1)  # correct samples after none, one, two... of the members
        seconds = 0.0
        if watch is not None:
            watch(attack, 0, samples, 0)
        for first in range(0, samples, self.batch):
            block = first, min(first + self.batch, samples)
            for count in range(len(left)):
                last, taken = self._after(members[:count], block)
                left[count] += sum(last)
                seconds += taken
            correct += last
            if watch is not None:
                watch(attack, len(correct), samples, left[-1])
        broken = {member.name: left[i] - left[i + 1] for i, member in enumerate(members)}
        return AttackResult(attack=attack, correct=torch.tensor(correct), broken_by=broken, seconds=seconds)

    def _after(self, members: tuple[Attack, ...], block: Block) -> tuple[list[bool], float]:
        """Which samples of the block are correct after the last of ``members``, and the seconds that one took."""
        found = self.store.find(members, block)
        if found is None:
            before = self._after(members[:-1], block)[0] if members else [True] * (block[1] - block[0])
            started = time.perf_counter()
            correct = self._correct(members, block, before)
            found = correct, time.perf_counter() - started
            self.store.add(members, block, *found)
        return found

    def _correct(self, members: tuple[Attack, ...], block: Block, before: list[bool]) -> list[bool]:
        """Which of the samples marked in ``before`` are correct after the last of ``members``, or without any."""
        correct = torch.tensor(before, device=self.device)
        if correct.any():
            images, labels = (each[slice(*block)].to(self.device)[correct] for each in (self.images, self.labels))
            numbers = [block[0] + index for index, each in enumerate(before) if each]
            if members:
                images = adversarial(self.model, images, labels, members[-1], block_seed(self.seed, block))
            made_by = members[-1].name if members else "natural"
            correct[correct.clone()] = self._logits(images, made_by, numbers).argmax(1) == labels
        return correct.tolist()

    def _logits(self, images: Tensor, made_by: str, numbers: Sequence[int]) -> Tensor:
        return finite_logits(self.model, images.to(self.device), self.seed, made_by=made_by, numbers=numbers)


def check_images(images: Tensor, labels: Tensor) -> None:
    """:raises ValueError: these are not one or more float images ``(N, C, H, W)`` in [0, 1] with a label each."""
    if images.ndim != 4 or not images.is_floating_point() or not len(images):
        raise ValueError(f"images must be float (N, C, H, W), N at least 1, got {images.dtype} {tuple(images.shape)}")
    low, high = float(images.min()), float(images.max())
    if not 0 <= low <= high <= 1:
        raise ValueError(f"images must be in [0, 1], got {low:.6g} to {high:.6g}")
    if labels.shape != images.shape[:1] or labels.dtype != torch.int64 or int(labels.min()) < 0:
        got = f"{labels.dtype} {tuple(labels.shape)}"
        raise ValueError(f"labels must be torch.int64 ({len(images)},) from 0, got {got}")


def block_seed(seed: int, block: Block) -> int:
    """The seed of an attack on a block; it depends only on the block's first sample."""
    return int.from_bytes(hashlib.sha256(f"{seed} {block[0]}".encode()).digest()[:4], "big") >> 1


