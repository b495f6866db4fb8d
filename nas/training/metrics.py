"""Clean and robust accuracy of a model on held-out images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

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
    """
    clean = robust = 0
    with undisturbed(model, "eval"):
        for images, labels in data.in_order(BATCH):
            with torch.no_grad():
                right = logits_of(model(images)).argmax(1) == labels
            adversarial = attack(model, images, partial(F.cross_entropy, target=labels), generator=generator)
            with torch.no_grad():
                withstood = logits_of(model(adversarial)).argmax(1) == labels
            clean += int(right.sum())
            robust += int((right & withstood).sum())
    return Accuracy(clean / len(data), robust / len(data))
