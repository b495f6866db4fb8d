"""The images of a training: which are trained on, which are held out for validation, and in which order they come."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nas.errors import UserError
from nas.images.augmentation import Augmentation, to_pixels
from nas.images.data import ImageSplit, balanced_order

#: by default the lesser of this number and this share of the training images is held out
MOST_HELD_OUT = 1000
SHARE_HELD_OUT = 0.1


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """Images ``(N, H, W, C)``, uint8, and labels ``(N,)``, on the device that the training runs on."""

    images: Tensor
    labels: Tensor

    @classmethod
    def chosen(cls, split: ImageSplit, which: Tensor, device: str) -> TrainingImages:
        """The images of ``split`` at the indices ``which``, copied to ``device``."""
        images = split.images[which].permute(0, 2, 3, 1).contiguous()
        return cls(images.to(device), split.labels[which].to(device))

    def __len__(self) -> int:
        return len(self.labels)

    def shuffled(
        self, size: int, augmentation: Augmentation, order: torch.Generator, noise: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass over all images in an order drawn from ``order``, in :meth:`steps` batches of nearly equal size.

        Batch sizes differ by at most one image, so there is no small last batch. Each batch is float32 ``(n, C, H, W)``
        in [0, 1] and labels ``(n,)``; crops and flips are drawn from ``noise``.
        """
        chosen = torch.randperm(len(self), generator=order).to(self.labels.device)
        for which in chosen.tensor_split(self.steps(size)):
            yield augmentation(self.images[which], noise), self.labels[which]

    def steps(self, size: int) -> int:
        """Number of batches in one pass: as few as have at most ``size`` images each.

        One image alone has no batch statistics where maps have 1x1 pixels, as in an auxiliary head. An odd number of
        images in batches of 2 therefore has one batch of 3.
        """
        return min(math.ceil(len(self) / size), max(1, len(self) // 2))

    def in_order(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in stored order, without augmentation, in batches of at most ``size``."""
        for start in range(0, len(self), size):
            yield to_pixels(self.images[start : start + size]), self.labels[start : start + size]


def number_held_out(total: int, validation: float | None) -> int:
    """How many of ``total`` images are held out.

    :param validation: their number; below 1 their share; None: the lesser of 1,000 and a tenth.
    """
    if validation is None:
        return min(MOST_HELD_OUT, round(SHARE_HELD_OUT * total))
    return int(validation) if validation >= 1 else round(validation * total)


def held_out(split: ImageSplit, images: int | None, validation: float | None, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of the images of ``split`` to train on and of those to hold out, ``(N,)`` each, drawn class-balanced.

    :param images: number of images to train on, by default all that are not held out.
    :param validation: how many are held out, as for :func:`number_held_out`.
    :raises UserError: there are too few images, or a class is left without images to train on.
    """
    total = len(split.labels)
    held = number_held_out(total, validation)
    wanted = total - held if images is None else images
    options = {"--images": images, "--validation": validation}
    given = " and ".join(f"{name} {value:.12g}" for name, value in options.items() if value is not None)
    if held and images is not None and validation is None:
        given += f" and {held} held out"
    if held + wanted > total or wanted < 2:
        need = "need" if " and " in given else "needs"
        raise UserError(f"{given or 'a training'} {need} {held + max(wanted, 2)} training images, got {total}")
    order = balanced_order(split, seed)
    kept = order[held : held + wanted]
    counts = torch.bincount(split.labels[kept], minlength=len(split.classes))
    if images is None and int(counts.min()) == 0:
        name = split.classes[int(counts.argmin())]
        raise UserError(f"{given or f'holding out {held} images'} leaves no training images of class '{name}'")
    return kept.sort().values, order[:held].sort().values


def pixel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of uint8 images ``(N, H, W, C)``, in pixel units of [0, 1].

    Sums are integer sums, so the result is equal on every machine. A channel that is constant gets deviation 1.
    """
    pixels = images.flatten(0, 2).to(torch.int64)
    mean = (pixels.sum(0).double() / len(pixels)).tolist()
    square = (pixels.square().sum(0).double() / len(pixels)).tolist()
    variance = [max(0.0, s - m * m) for m, s in zip(mean, square, strict=True)]
    return tuple(m / 255 for m in mean), tuple(math.sqrt(v) / 255 if v > 1e-6 else 1.0 for v in variance)
