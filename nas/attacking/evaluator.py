"""Counting what a model predicts on the images that attacks return, block by block of samples.

A sample that the model gets wrong is not attacked; in a cascade, neither is one that a member before has turned.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nas.attacking.base import Attack
from nas.attacking.crafting import adversarial, finite_logits
from nas.attacking.results import AttackResult
from nas.attacking.samples import Block, SampleStore
from nas.cli import bounds
from nas.errors import UserError

#: called before the first block, and after each member of the attack on each block: attack, samples done (a block
#: counts in proportion to the members that are finished), of how many, and the share of those begun that withstand
Watch = Callable[[Attack, float, int, float], None]


class Evaluator:
    """Runs attacks on a model and labelled images, and keeps the results in a store.

    :param model: images -> logits ``(N, classes)``. :param images: ``(N, C, H, W)``, float in [0, 1].
    :param labels: ``(N,)``, int64. Both are tensors, or arrays of numpy. :param batch: images attacked at a time.
    :param called: what attacks that only call the model are given in its place (:mod:`nas.attacking.replay`).
    :raises UserError: model, images, labels or the model's logits do not fit.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor | npt.NDArray[Any],
        labels: Tensor | npt.NDArray[Any],
        *,
        batch: int = 64,
        seed: int = 0,
        store: SampleStore | None = None,
        called: nn.Module | None = None,
    ):
        check_model(model)
        bounds.whole("batch", batch)
        bounds.seed(seed)
        self.model, self.batch, self.seed, self.called = model, int(batch), int(seed), called
        self.images, self.labels = checked_images(images, labels)
        self.store = SampleStore() if store is None else store
        self.device = next((each.device for each in model.parameters()), self.images.device)
        self.classes = self._logits(self.images[:1], "natural", [0]).shape[1]
        if int(self.labels.max()) >= self.classes:
            raise UserError(f"labels must be below the model's {self.classes} classes, got {int(self.labels.max())}")

    def run(self, attack: Attack, samples: int | None = None, watch: Watch | None = None) -> AttackResult:
        """The result of the attack on the first ``samples`` samples, by default all."""
        samples = len(self.labels) if samples is None else min(samples, len(self.labels))
        correct: list[bool] = []
        members = attack.members
        left = [0] * (len(members) + 1)  # correct samples after none, one, two... of the members
        seconds = 0.0
        if watch is not None:
            watch(attack, 0, samples, 1)
        for first in range(0, samples, self.batch):
            block = first, min(first + self.batch, samples)
            size = block[1] - first
            for count in range(len(left)):
                last, taken = self._after(members[:count], block)
                left[count] += sum(last)
                seconds += taken
                if watch is not None and count == len(members):
                    watch(attack, block[1], samples, left[-1] / block[1])
                elif watch is not None:
                    watch(attack, first + size * count / len(members), samples, (sum(correct) + sum(last)) / block[1])
            correct += last
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
                seed = block_seed(self.seed, block)
                images = adversarial(self.model, images, labels, members[-1], seed, self.called)
            made_by = members[-1].name if members else "natural"
            correct[correct.clone()] = self._logits(images, made_by, numbers).argmax(1) == labels
        return correct.tolist()

    def _logits(self, images: Tensor, made_by: str, numbers: Sequence[int]) -> Tensor:
        return finite_logits(self.model, images.to(self.device), self.seed, made_by=made_by, numbers=numbers)


def check_model(model: Any) -> None:
    """:raises UserError: ``model`` is no network."""
    if not isinstance(model, nn.Module):
        raise UserError(f"the model must be a torch.nn.Module, got {model!r:.60}")


def checked_images(images: Tensor | npt.NDArray[Any], labels: Tensor | npt.NDArray[Any]) -> tuple[Tensor, Tensor]:
    """Images and labels as tensors; numpy's images become float32, its labels int64.

    :raises UserError: they are not one or more float images ``(N, C, H, W)`` in [0, 1] with a label each.
    """
    images, labels = _tensor("images", images), _tensor("labels", labels)
    if images.ndim != 4 or not images.is_floating_point() or not images.numel():
        raise UserError(f"images must be float (N, C, H, W), N at least 1, got {images.dtype} {tuple(images.shape)}")
    low, high = float(images.min()), float(images.max())
    if not 0 <= low <= high <= 1:
        raise UserError(f"images must be in [0, 1], got {low:.6g} to {high:.6g}")
    if labels.shape != images.shape[:1] or labels.dtype != torch.int64 or int(labels.min()) < 0:
        got = f"{labels.dtype} {tuple(labels.shape)}"
        raise UserError(f"labels must be torch.int64 ({len(images)},) from 0, got {got}")
    return images, labels


def _tensor(name: str, value: Any) -> Tensor:
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        wanted = {"f": np.float32, "i": np.int64, "u": value.dtype}[value.dtype.kind]
        return torch.from_numpy(np.require(value, wanted, ["C", "W"]))
    if not isinstance(value, Tensor):
        got = f"numpy {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise UserError(f"{name} must be a tensor or an array of numbers, got {got}")
    return value


def block_seed(seed: int, block: Block) -> int:
    """The seed of an attack on a block; it depends only on the block's first sample."""
    return int.from_bytes(hashlib.sha256(f"{seed} {block[0]}".encode()).digest()[:4], "big") >> 1


