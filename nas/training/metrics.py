"""Clean and robust accuracy of a model on held-out images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.errors import TrainingStopped
from nas.models.logits import not_finite
from nas.training.adversary import PGD, logits_of, undisturbed
from nas.training.images import TrainingImages

BATCH = 256  # images per batch


@dataclass(frozen=True)
class Accuracy:
    """Shares of images, in [0, 1], that are classified correctly: clean, and also after the attack."""

    clean: float
    robust: float


def accuracy(model: nn.Module, data: TrainingImages, attack: PGD, generator: torch.Generator) -> Accuracy:
    """The accuracy of ``model`` in eval mode on all of ``data``; ``generator`` draws the random starts of the attack.

    An image counts as robust if it is classified correctly both before and after the attack.

    :raises TrainingStopped: logits are not finite.
    """
    clean = robust = done = 0
    with undisturbed(model, "eval"):
        for images, labels in data.in_order(BATCH):
            right = _predicted(model, images, done, "natural") == labels
            adversarial = attack(model, images, partial(F.cross_entropy, target=labels), generator=generator)
            withstood = _predicted(model, adversarial, done, f"PGD-{attack.steps}") == labels
            clean += int(right.sum())
            robust += int((right & withstood).sum())
            done += len(labels)
    return Accuracy(clean / len(data), robust / len(data))


def _predicted(model: nn.Module, images: Tensor, first: int, made_by: str) -> Tensor:
    """Classes ``(N,)``; ``first`` is the number of the first image, for the error."""
    with torch.no_grad():
        logits = logits_of(model(images))
    found = not_finite(logits)
    if found is not None:
        raise TrainingStopped(f"logits are not finite: {found[1]} for held-out image {first + found[0]} ({made_by})")
    return logits.argmax(1)
